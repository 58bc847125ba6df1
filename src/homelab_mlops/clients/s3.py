"""The client of an object store, and the meaning of its refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from homelab_mlops.clients.authority import authority_of
from homelab_mlops.errors import StorageError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.loaders import Loader
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 5
MINIO_REGION = "us-east-1"
NO_CREDENTIALS = "there are no S3 credentials"


def region() -> str:
    """The region that requests are signed for: that of the environment or of ~/.aws/config."""
    return _region(_session())


def _session(access_key: str | None = None, secret_key: str | None = None) -> Session:
    """A session of its own: the default one keeps the credentials that it saw first."""
    import boto3.session
    import botocore.session

    core = botocore.session.Session()
    core.register_component("data_loader", _loader())
    return boto3.session.Session(access_key, secret_key, botocore_session=core)


@cache
def _loader() -> Loader:
    """What reads botocore's descriptions of services, and keeps them: to read those takes most of a client's start."""
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))


def _region(session: Session) -> str:
    named = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
    return named or session.region_name or "us-east-1"


def client(
    options: dict[str, Any] | None = None,
    *,
    style: str = "",
    endpoint: str = "",
    verify: bool = True,
    keys: tuple[str, str] | None = None,
) -> S3Client:
    """A client that fails within seconds.

    Args:
        options: options of botocore, which replace those that are set here.
        style: of the addresses, `path` or `virtual`. By default it is that of MLflow's variable, so that one setting
            serves both; where nothing sets it, boto3 takes `path` with an endpoint.
        endpoint: the address of the store; by default that of the environment, or AWS.
        verify: whether the store's certificate must be valid.
        keys: the access key and the secret key of a MinIO server; by default those of the environment.
    """
    from botocore.config import Config

    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": 60,
        "retries": {"max_attempts": 2, "mode": "standard"},
        "s3": {"addressing_style": style or os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")},
    }
    config = Config(**{**defaults, **(options or {})})
    session = _session(*(keys or ()))
    return session.client(
        "s3",
        config=config,
        region_name=MINIO_REGION if keys else _region(session),
        endpoint_url=endpoint or None,
        verify=_trusted(endpoint) if verify else False,
    )


def _trusted(endpoint: str) -> str | None:
    """The clone's own authority, at its own endpoint; None leaves the authorities to AWS_CA_BUNDLE and botocore."""
    if os.environ.get("AWS_CA_BUNDLE"):
        return None
    named = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return authority_of(named) or None


# The doctor's code for each error code, or status, of a store.
ANSWERS = {
    "InvalidAccessKeyId": "STORE_WRONG_KEY",
    "InvalidClientTokenId": "STORE_WRONG_KEY",
    "SignatureDoesNotMatch": "STORE_WRONG_SECRET",
    "ExpiredToken": "STORE_EXPIRED",
    "TokenRefreshRequired": "STORE_EXPIRED",
    "InvalidToken": "STORE_WRONG_TOKEN",
    "InvalidTokenId": "STORE_WRONG_TOKEN",
    "RequestTimeTooSkewed": "STORE_CLOCK",
    "RequestInTheFuture": "STORE_CLOCK",
    "RequestExpired": "STORE_CLOCK",
    "AuthorizationHeaderMalformed": "STORE_WRONG_REGION",
    "AuthorizationQueryParametersError": "STORE_WRONG_REGION",
    "PermanentRedirect": "STORE_WRONG_REGION",
    "TemporaryRedirect": "STORE_WRONG_REGION",
    "IllegalLocationConstraintException": "STORE_WRONG_REGION",
    "InvalidRegion": "STORE_WRONG_REGION",
    "301": "STORE_WRONG_REGION",
    "307": "STORE_WRONG_REGION",
    "SecondLevelDomainForbidden": "STORE_ADDRESSING",
    "InvalidBucketName": "STORE_NO_BUCKET",
    "NoSuchBucket": "STORE_NO_BUCKET",
    "EntityTooLarge": "STORE_UPLOAD_TOO_LARGE",
    "RequestEntityTooLarge": "STORE_UPLOAD_TOO_LARGE",
    "413": "STORE_UPLOAD_TOO_LARGE",
    "405": "STORE_READ_ONLY",
    "MethodNotAllowed": "STORE_READ_ONLY",
    "XMinioReadOnlyMode": "STORE_READ_ONLY",
    "XMinioStorageFull": "STORE_FULL",
    "XMinioAdminBucketQuotaExceeded": "STORE_FULL",
    "QuotaExceeded": "STORE_FULL",
    "InsufficientStorage": "STORE_FULL",
    "507": "STORE_FULL",
}
# MLflow passes an error on without its code, in the words that all S3 stores use.
WORDS = {
    "access key id you provided does not exist": "STORE_WRONG_KEY",
    "signature we calculated does not match": "STORE_WRONG_SECRET",
    "token has expired": "STORE_EXPIRED",
    "token included in the request is expired": "STORE_EXPIRED",
    "token included in the request is invalid": "STORE_WRONG_TOKEN",
    "request time and the server's time is too large": "STORE_CLOCK",
    "request time and the current time is too large": "STORE_CLOCK",
    "the region": "STORE_WRONG_REGION",
    "bucket does not exist": "STORE_NO_BUCKET",
    "account is disabled": "STORE_WRONG_KEY",
    "access denied": "STORE_DENIED_LIST",
}
_REFUSALS = {
    "STORE_WRONG_KEY": ("the store does not know the access key", "check AWS_ACCESS_KEY_ID"),
    "STORE_WRONG_SECRET": ("the secret key is wrong", "check AWS_SECRET_ACCESS_KEY"),
    "STORE_EXPIRED": ("the credentials have expired", "get new ones; check AWS_SESSION_TOKEN"),
    "STORE_CLOCK": ("this machine's clock differs from the store's", "set the clock (NTP)"),
    "AccessDenied": ("these credentials may not read it", "grant s3:GetObject and s3:ListBucket on the bucket"),
    "STORE_NO_BUCKET": ("there is no such bucket", "check the address, and AWS_ENDPOINT_URL_S3"),
    "NoSuchKey": ("there is no such object", "check the address; `homelab data push` brings the demo's table"),
    "403": ("the store refuses to read it", "check the access key, the secret key, and the policy of the user"),
    "404": ("there is no such object or bucket", "check the address; `homelab data push` brings the demo's table"),
    "STORE_WRONG_REGION": ("the bucket is in another region", "set AWS_DEFAULT_REGION"),
    "400": ("the store rejects the request", "check the region, and whether AWS_ENDPOINT_URL_S3 is the API's port"),
}


def by_words(text: str) -> str | None:
    """The doctor's code for a store's words."""
    return next((fault for words, fault in WORDS.items() if words in text.lower()), None)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turns boto3's errors inside the block into a StorageError that says what to do."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as boto

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS itself"
    where = f"{source} at {endpoint}"
    try:
        yield
    except boto.ClientError as error:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        unknown = (f"the store refuses: {code} {answer.get('Message', '')}", "")
        what, fix = _REFUSALS.get(ANSWERS.get(code, code), unknown)
        failed = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        raise StorageError(what, where=where, fix=fix, transient=failed) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageError(
            NO_CREDENTIALS, where=where, fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except boto.SSLError as error:
        raise StorageError(
            f"the TLS connection fails: {_reason(error)}",
            where=where,
            fix="check http:// or https://, and AWS_CA_BUNDLE",
        ) from error
    except (boto.HTTPClientError, boto.EndpointConnectionError) as error:
        raise StorageError(
            f"the store cannot be reached: {_reason(error)}",
            where=where,
            fix="check AWS_ENDPOINT_URL_S3, and that it runs",
            transient=True,
        ) from error
    except (boto.BotoCoreError, Boto3Error, ValueError) as error:
        raise StorageError(f"the store cannot be used: {_reason(error)}", where=where) from error


def _reason(error: Any) -> str:
    return str(error).strip().splitlines()[0][:200]

"""The checks of the object store: MLflow's, where this is its environment, and the tables' that a retraining reads."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import ipaddress
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from homelab_mlops.doctor import connection
from homelab_mlops.doctor.checks import PATIENCE_SECONDS, NotLookedAtError, Visit, check, out_of_time
from homelab_mlops.doctor.faults import Finding

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What boto3 sends in one request at most: it cuts larger files into parts of this size.
PART = 8 * 1024 * 1024
ANSWER_SECONDS = 5
_ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_DESTINATIONS = ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT")
_ANSWERS = {
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
# The same, as MLflow passes them on: without the code, in the words that all S3 stores use.
_WORDS = {
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
NAMED_BY_MLFLOW = tuple(dict.fromkeys(_WORDS.values()))


@dataclass(frozen=True)
class Store:
    """One place of objects: ``write`` says that it is MLflow's; else it is where a table (``key``) is read."""

    endpoint: str
    bucket: str
    key: str
    write: bool

    @property
    def where(self) -> str:
        place = f"s3://{self.bucket}/{self.key}" if self.bucket else "S3"
        return f"{place} at {self.endpoint or 'AWS'}"


def stores(visit: Visit) -> list[Store]:
    """The stores that the environment names; MLflow's keys are not asked for the tables, which they may not read.

    Raises:
        NotLookedAtError: it names none.
    """
    # As boto3 takes it: with the line end that somebody left at its end.
    endpoint = next((value for name in _ENDPOINTS if (value := visit.env.get(name, ""))), "")
    if destination := visit.store or visit.variable(*_DESTINATIONS):
        if not destination.startswith("s3://"):
            raise NotLookedAtError(f"artifacts lie in {destination}, which is no bucket")
        bucket, _, key = destination.removeprefix("s3://").partition("/")
        if not bucket:
            raise Finding("STORE_NO_BUCKET", destination, f"{destination} names no bucket")
        return [Store(endpoint, bucket, key.strip("/"), write=True)]
    if visit.variable("MLFLOW_S3_ENDPOINT_URL"):
        return [Store(endpoint, "", "", write=True)]
    sources = [
        model.source.removeprefix("s3://").partition("/") for model in visit.models if model.source.startswith("s3://")
    ]
    if not endpoint and not (visit.model_given and sources and visit.variable("AWS_ACCESS_KEY_ID", "AWS_PROFILE")):
        raise NotLookedAtError(
            "no endpoint is set (MLFLOW_S3_ENDPOINT_URL with MLFLOW_ARTIFACTS_DESTINATION or --store, "
            "or AWS_ENDPOINT_URL_S3)"
        )
    tables = [Store(endpoint, bucket, key, write=False) for bucket, _, key in sources]
    return tables or [Store(endpoint, "", "", write=False)]


@check("store", "STORE_ENDPOINT", "STORE_NO_BUCKET")
def endpoint(visit: Visit) -> Iterator[Finding]:
    """Whether the variable holds an address, and that alone."""
    place = stores(visit)[0]
    where = next((f"{name}={place.endpoint!r}" for name in _ENDPOINTS if visit.env.get(name)), "")
    if place.endpoint and connection.http_address(place.endpoint) is None:
        yield Finding("STORE_ENDPOINT", where)
    elif place.bucket and place.endpoint.rstrip("/").endswith(f"/{place.bucket}"):
        what = f"the endpoint of the store ends with the bucket {place.bucket}, which the clients add themselves"
        yield Finding("STORE_ENDPOINT", where, what)


@check(
    "store",
    "STORE_DNS",
    "STORE_REFUSED",
    "STORE_TIMEOUT",
    "STORE_TLS_*",
    "STORE_HTTP_TO_TLS",
    "STORE_NOT_S3",
    "STORE_NO_ANSWER",
    "STORE_BREAKS_OFF",
    after=[endpoint],
)
def reachable(visit: Visit) -> None:
    """Whether name, port and TLS lead to an S3 store."""
    url = stores(visit)[0].endpoint
    if not url:
        return
    bundle = visit.variable("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE") if url.startswith("https:") else ""
    context = connection.tls_context("STORE", bundle, insecure=_insecure(visit, stores(visit)[0]))
    connection.connect(visit, "STORE", url, context)
    import httpx

    limits = httpx.Timeout(visit.seconds(ANSWER_SECONDS), connect=visit.seconds(connection.CONNECT_SECONDS))
    try:
        answer = httpx.get(url, verify=context, timeout=limits, follow_redirects=False)
    except httpx.TimeoutException as error:
        raise Finding("STORE_NO_ANSWER", url) from error
    except httpx.TransportError as error:
        raise connection.breaks_off("STORE", url, error) from error
    location = answer.headers.get("location", "")
    if connection.leads_to_tls(url, answer.status_code, location):
        raise Finding("STORE_HTTP_TO_TLS", url, f"the store is at {urlsplit(location).netloc} by https only")
    visit.shared["clock"] = answer.headers.get("date", "")
    is_s3 = (
        any(name.startswith("x-amz-") for name in answer.headers)
        or "<Code>" in answer.text
        or ("ListAllMyBuckets" in answer.text)
    )
    if not is_s3 and not answer.is_server_error:
        raise Finding("STORE_NOT_S3", url, f"what answers at the endpoint is no S3 store: status {answer.status_code}")


def _insecure(visit: Visit, place: Store) -> bool:
    """Whether MLflow would take any certificate of its store."""
    return place.write and visit.variable("MLFLOW_S3_IGNORE_TLS").lower() in ("true", "1")


@check("store", "STORE_NO_CREDENTIALS", "STORE_WRONG_KEY", "STORE_WRONG_TOKEN", after=[reachable])
def credentials(visit: Visit) -> Iterator[Finding]:
    """Whether there are keys to sign with."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    place = stores(visit)[0]
    try:
        keys = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        what = f"the S3 credentials cannot be used: {error}"
        fix = "unset AWS_PROFILE, or mend ~/.aws/config and ~/.aws/credentials"
        raise Finding("STORE_NO_CREDENTIALS", place.where, what, fix) from error
    if keys is None or not keys.access_key or not keys.secret_key:
        yield Finding("STORE_NO_CREDENTIALS", place.where)
    elif not connection.fits_a_header(keys.access_key):
        what = "the access key holds what no key can, such as a line end"
        yield Finding(
            "STORE_WRONG_KEY", place.where, what, "set AWS_ACCESS_KEY_ID anew, with no space or line end in it"
        )
    elif not connection.fits_a_header(keys.token or ""):
        what = "the session token holds what no token can, such as a line end"
        yield Finding("STORE_WRONG_TOKEN", place.where, what, "set AWS_SESSION_TOKEN anew, with no line end in it")


@check(
    *sorted(set(_ANSWERS.values())),
    "STORE_ADDRESSING",
    "STORE_NO_TABLE",
    "STORE_DENIED_*",
    "STORE_CHECKSUM",
    "STORE_FAILS",
    after=[credentials],
)
def usable(visit: Visit) -> Iterator[Finding]:
    """Whether what MLflow and a retraining do with their stores succeeds."""
    seen: set[str] = set()
    for place in stores(visit):
        bucket = place.bucket or (_only_bucket(visit, place) if place.write else "")
        place = Store(place.endpoint, bucket, place.key, place.write)
        if place.write:
            yield from _writing(visit, place)
        elif bucket and (visit.model_given or bucket not in seen):
            seen.add(bucket)
            yield from _reading(visit, place)
        elif not bucket:
            _only_bucket(visit, place)


def _only_bucket(visit: Visit, place: Store) -> str:
    """The one bucket that these keys see, which is MLflow's where nobody names another."""
    with _Asked(visit, place, denied="") as asked:
        buckets = [str(item.get("Name")) for item in asked.client.list_buckets().get("Buckets", [])]
        if len(buckets) == 1:
            return buckets[0]
    if place.write:
        raise NotLookedAtError("the bucket: name it in MLFLOW_ARTIFACTS_DESTINATION or --store")
    return ""


def _reading(visit: Visit, place: Store) -> Iterator[Finding]:
    """The table of a model; where nobody named the model, only whether its bucket gives its objects out."""
    if not place.key.endswith("/"):
        with _Asked(
            visit, place, denied="STORE_DENIED_GET", absent="STORE_NO_TABLE" if visit.model_given else ""
        ) as asked:
            asked.client.get_object(Bucket=place.bucket, Key=place.key, Range="bytes=0-0")["Body"].close()
        return
    with _Asked(visit, place, denied="STORE_DENIED_LIST") as asked:
        found = asked.client.list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        if visit.model_given and not found.get("Contents"):
            yield Finding("STORE_NO_TABLE", place.where)


def _writing(visit: Visit, place: Store) -> Iterator[Finding]:
    """All that MLflow does in its bucket, with one probe object that is deleted again."""
    with _Asked(visit, place, denied="STORE_DENIED_LIST") as asked:
        prefix = f"{place.key}/" if place.key else ""
        asked.client.list_objects_v2(Bucket=place.bucket, Prefix=prefix, MaxKeys=1)
    # Where MLflow itself will write its probe, so that both are one object.
    key = "/".join(part for part in (place.key, visit.shared.get("artifacts", ""), visit.probe) if part)
    written: dict[str, Any] = {}
    refused: list[Finding] = []
    undeleted: list[Finding] = []

    def remove() -> None:
        # A version that is named leaves nothing behind in a bucket that keeps old ones.
        if not refused:
            undeleted[:] = _delete(visit, place, key, written.get("VersionId"))

    with visit.removing(remove):
        try:
            written |= _put(visit, place, key)
        except Finding as finding:
            refused.append(finding)
            raise
        unread = _unreadable(visit, place, key)
    yield from (*unread, *undeleted)
    # What cannot be deleted would stay, and what is large for no use.
    if not unread and not undeleted and not visit.stopped.is_set():
        yield from _multipart(visit, place, key)


def _unreadable(visit: Visit, place: Store, key: str) -> list[Finding]:
    """Why the probe object cannot be read, if so."""
    if visit.stopped.is_set():
        return []
    try:
        with _Asked(visit, place, denied="STORE_DENIED_GET") as asked:
            asked.client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    except Finding as finding:
        return [finding]
    return []


def _put(visit: Visit, place: Store, key: str) -> dict[str, Any]:
    """Writes the probe object as boto3 does.

    Raises:
        Finding: it cannot be written; ``STORE_CHECKSUM`` where it can without checksums.
    """
    content = b"homelab\n"
    answer: dict[str, Any] = {}
    try:
        with _Asked(visit, place, denied="STORE_DENIED_PUT") as asked:
            answer = dict(asked.client.put_object(Bucket=place.bucket, Key=key, Body=content))
    except Finding as finding:
        if finding.code in ("STORE_NO_ANSWER", "STORE_BREAKS_OFF"):
            _delete(visit, place, key, None)  # it may have been written for all that
        if finding.code in ("STORE_FULL", "STORE_READ_ONLY", "STORE_NO_ANSWER"):
            raise
        if finding.code == "STORE_DENIED_PUT" and _may_put(visit, place, key):
            raise Finding("STORE_READ_ONLY", place.where) from None
        client = _client(visit, place, checksums="when_required")
        try:
            plain = client.put_object(Bucket=place.bucket, Key=key, Body=content)
        except Exception:
            raise finding from None
        _delete(visit, place, key, plain.get("VersionId"), checksums="when_required")
        raise Finding("STORE_CHECKSUM", place.where, f"{Finding('STORE_CHECKSUM', '').what} ({finding.what})") from None
    return answer


def _may_put(visit: Visit, place: Store, key: str) -> bool:
    """Whether these keys may write, by a write whose condition cannot hold: a policy is asked before the condition is,
    and a disk that is read-only, of which MinIO says no more than `AccessDenied`, after it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _client(visit, place).put_object(Bucket=place.bucket, Key=key, Body=b"", IfMatch='"none"')
    except ClientError as error:
        return error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "NoSuchKey", "412", "404")
    except BotoCoreError:
        return False
    _delete(visit, place, key, None)
    return False


def _expired(visit: Visit) -> bool:
    """Whether the session token says so itself: MinIO's is a JWT, and MinIO answers the same to one that is wrong."""
    parts = visit.variable("AWS_SESSION_TOKEN").split(".")
    if len(parts) != 3:
        return False
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) < time.time()
    except (ValueError, KeyError, TypeError):
        return False


def _delete(
    visit: Visit, place: Store, key: str, version: str | None, checksums: str = "when_supported"
) -> list[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    probe = f"s3://{place.bucket}/{key} at {place.endpoint or 'AWS'}"
    client = _client(visit, place, checksums=checksums)
    versioned = {"VersionId": version} if version and version != "null" else {}
    for which in [versioned, {}] if versioned else [{}]:
        try:
            client.delete_object(Bucket=place.bucket, Key=key, **which)  # type: ignore[arg-type]
        except BotoCoreError:
            return [out_of_time(probe, "the store did not say in time whether the probe object is deleted")]
        except ClientError:
            continue
        return []
    return [Finding("STORE_DENIED_DELETE", probe)]


def _multipart(visit: Visit, place: Store, key: str) -> Iterator[Finding]:
    """Begins an upload in parts, sends one of the largest, and ends it without an object."""
    target: dict[str, Any] = {"Bucket": place.bucket, "Key": key}
    with _Asked(visit, place, denied="STORE_DENIED_MULTIPART", unknown="STORE_DENIED_MULTIPART") as asked:
        upload = asked.client.create_multipart_upload(**target)["UploadId"]
    part: dict[str, Any] = {}
    unended: list[Finding] = []

    def end() -> None:
        unended[:] = _abort(visit, place, target, upload, part)

    with visit.removing(end):
        if not visit.stopped.is_set():
            with _Asked(visit, place, denied="STORE_DENIED_MULTIPART", large=True) as asked:
                part |= asked.client.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"\0" * PART)
    yield from unended


def _abort(visit: Visit, place: Store, target: dict[str, Any], upload: str, part: dict[str, Any]) -> list[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(visit, place)
    try:
        client.abort_multipart_upload(**target, UploadId=upload)
    except (BotoCoreError, ClientError):
        if not part:
            return []  # what has failed is told already
        # So that nothing stays: an object can be deleted, an unfinished upload of these keys cannot.
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        with contextlib.suppress(BotoCoreError, ClientError):
            done = client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
            _delete(visit, place, target["Key"], done.get("VersionId"))
        what = "these credentials may not end a multipart upload that has failed"
        return [Finding("STORE_DENIED_MULTIPART", place.where, what)]
    return []


class _Asked:
    """A client, and what becomes of its errors inside the block: a `Finding`.

    ``denied`` is the code of a refusal, ``absent`` that of a key that is not there (or "" where neither is a fault),
    ``unknown`` that of an answer with no code of its own; ``large`` says that a large body is sent.
    """

    def __init__(
        self,
        visit: Visit,
        place: Store,
        *,
        denied: str,
        absent: str = "",
        unknown: str = "STORE_FAILS",
        large: bool = False,
    ) -> None:
        self.client = _client(visit, place)
        self._visit, self._place = visit, place
        self._denied, self._absent, self._unknown, self._large = denied, absent, unknown, large

    def __enter__(self) -> _Asked:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        from botocore import exceptions as boto

        if error is None or isinstance(error, Finding):
            return False
        if isinstance(error, boto.ClientError):
            return self._refused(error)
        if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.HTTPClientError):
            raise self._unreachable(error) from error
        if isinstance(error, boto.ParamValidationError):
            raise self._misnamed(error) from error
        if isinstance(error, boto.FlexibleChecksumError):
            raise Finding("STORE_CHECKSUM", self._place.where, str(error)) from error
        if isinstance(error, boto.BotoCoreError | ValueError):
            raise Finding(self._unknown, self._place.where, f"the store cannot be used: {_reason(error)}") from error
        return False

    def _misnamed(self, error: Exception) -> Finding:
        """What no bucket or no object can be named."""
        if "Bucket" in str(error):
            return Finding("STORE_NO_BUCKET", self._place.where, f"no bucket can have the name {self._place.bucket!r}")
        return Finding("STORE_NO_TABLE", self._place.where, f"no object can have the name {self._place.key!r}")

    def _refused(self, error: Any) -> bool:
        answer = error.response.get("Error", {})
        code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in ("NoSuchKey", "404", "InvalidRange", "416"):
            if not self._absent or code in ("InvalidRange", "416"):
                return True
            raise Finding(self._absent, self._place.where) from error
        named = _ANSWERS.get(code) or _ANSWERS.get(str(status)) or _by_words(message)
        if code in ("AccessDenied", "403", "AllAccessDisabled") and named in (None, "STORE_DENIED_LIST"):
            if not self._denied:
                return True
            named = self._denied
        if named in ("STORE_WRONG_KEY", "STORE_WRONG_TOKEN") and _expired(self._visit):
            named = "STORE_EXPIRED"
        if named in (None, "STORE_NO_BUCKET", "STORE_READ_ONLY", "STORE_ADDRESSING") and self._other_style_works():
            raise self._addressing() from error
        if named is None:
            raise Finding(
                self._unknown, self._place.where, f"the store fails: {code} {message}".rstrip(), about=self._place.where
            ) from error
        raise Finding(named, self._place.where, self._what(named, error)) from error

    def _what(self, code: str, error: Any) -> str:
        answer = error.response.get("Error", {})
        title = Finding(code, "").what
        if code == "STORE_WRONG_REGION":
            from homelab_mlops.clients import s3

            region = answer.get("Region") or error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(
                "x-amz-bucket-region"
            )
            return f"{title}: it is in {region!r}, requests are for {s3.region()!r}" if region else title
        if code == "STORE_CLOCK":
            return _clocks(self._visit.shared.get("clock", "")) or title
        return title

    def _unreachable(self, error: Exception) -> Finding:
        from botocore import exceptions as boto

        if self._style == "virtual" and self._other_style_works():
            return self._addressing()
        if self._large and not isinstance(error, boto.ReadTimeoutError):
            return Finding("STORE_UPLOAD_TOO_LARGE", self._place.where)
        silent = isinstance(error, boto.ReadTimeoutError)
        if silent and getattr(self.client.meta.config, "read_timeout", ANSWER_SECONDS) < PATIENCE_SECONDS:
            return out_of_time(self._place.where)
        code = "STORE_NO_ANSWER" if silent else "STORE_BREAKS_OFF"
        return Finding(code, self._place.where, f"{Finding(code, '').what}: {_reason(error)}")

    @property
    def _style(self) -> str:
        return str((getattr(self.client.meta.config, "s3", None) or {}).get("addressing_style", "auto"))

    def _other_style_works(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        if not self._place.bucket or _is_ip(self._place.endpoint):
            return False  # an address that is a number has no virtual hosts
        other = _client(self._visit, self._place, style="path" if self._style == "virtual" else "virtual")
        try:
            other.list_objects_v2(Bucket=self._place.bucket, Prefix=self._place.key, MaxKeys=1)
        except (BotoCoreError, ClientError):
            return False
        return True

    def _addressing(self) -> Finding:
        ours, other = ("virtual", "path") if self._style == "virtual" else ("path", "virtual")
        return Finding(
            "STORE_ADDRESSING",
            self._place.where,
            f"the store answers to {other}-style addresses, and is asked by {ours}-style ones",
            f"set MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE={other}",
        )


def _client(visit: Visit, place: Store, *, style: str = "", checksums: str = "when_supported") -> S3Client:
    """A client as MLflow's or the pipeline's, that tries once and gives up soon."""
    import urllib3
    from botocore import exceptions as boto

    from homelab_mlops.clients import s3

    cached: dict[Any, S3Client] = visit.shared.setdefault("s3", {})
    which = (place.endpoint, place.write, style, checksums, visit.stopped.is_set())
    if which not in cached:
        options: dict[str, Any] = {
            "connect_timeout": visit.seconds(connection.CONNECT_SECONDS),
            "read_timeout": visit.seconds(ANSWER_SECONDS),
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
        if checksums != "when_supported":
            options |= {"request_checksum_calculation": checksums, "response_checksum_validation": checksums}
        if _insecure(visit, place):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        try:
            client = s3.client(options, style=style, endpoint=place.endpoint, verify=not _insecure(visit, place))
        except boto.InvalidRegionError as error:
            where, what = f"AWS_DEFAULT_REGION={s3.region()!r}", "no region can have this name"
            raise Finding("STORE_WRONG_REGION", where, what) from error
        except boto.InvalidS3AddressingStyleError as error:
            where, what = "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "there is no such style of addresses"
            raise Finding("STORE_ADDRESSING", where, what, "set it to `path` or `virtual`") from error
        except (boto.BotoCoreError, ValueError) as error:
            raise Finding("STORE_NO_CREDENTIALS", place.where, f"boto3 cannot be set up: {_reason(error)}") from error
        client.meta.events.register_first("needs-retry.s3", _no_redirect)
        cached[which] = client
    return cached[which]


def _no_redirect(response: tuple[Any, dict[str, Any]] | None, operation: Any, **_more: Any) -> None:
    """Raises the store's complaint of a wrong region, after which boto3 asks again in the right one: what boto3 signs
    for others to send, and other clients, have no second try."""
    from botocore.exceptions import ClientError

    answer: Any = response[1] if response else {}
    if _ANSWERS.get(answer.get("Error", {}).get("Code", "")) == "STORE_WRONG_REGION":
        raise ClientError(answer, operation.name)


def _is_ip(url: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def _by_words(text: str) -> str | None:
    return next((code for words, code in _WORDS.items() if words in text.lower()), None)


def named_by_mlflow(message: str) -> Finding | None:
    """The store's fault in what MLflow says of it, such as `Failed to list artifacts in s3://...: Access Denied.`"""
    code = _by_words(message)
    if code is None:
        return None
    place = message.partition("artifacts in ")[2].partition(": ")[0]
    return Finding(code, f"{place}, of MLflow" if place else "MLflow's store", f"MLflow: {Finding(code, '').what}")


def _clocks(date: str) -> str:
    """Whose clock is ahead, by the date of an answer of the store."""
    try:
        theirs = email.utils.parsedate_to_datetime(date)
    except ValueError:
        return ""
    seconds = (datetime.datetime.now(datetime.UTC) - theirs).total_seconds()
    if abs(seconds) < 60:
        return ""
    away = datetime.timedelta(seconds=round(abs(seconds)))
    return f"this machine's clock is {away} {'ahead of' if seconds > 0 else 'behind'} the store's"


def _reason(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""A client of the object store for one visit, and which fault each of its errors means."""

from __future__ import annotations

import base64
import datetime
import email.utils
import ipaddress
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from homelab_mlops.clients import s3
from homelab_mlops.doctor import connection
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.visit import PATIENCE_SECONDS, OutOfTimeError, Visit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ANSWER_SECONDS = 5
ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
NAMED_BY_MLFLOW = tuple(dict.fromkeys(s3.WORDS.values()))


@dataclass(frozen=True)
class Location:
    """Where objects lie. With ``write`` it is MLflow's bucket, otherwise a table (``key``) that is only read."""

    endpoint: str
    bucket: str
    key: str
    write: bool

    @property
    def where(self) -> str:
        place = f"s3://{self.bucket}/{self.key}" if self.bucket else "S3"
        return f"{place} at {self.endpoint or 'AWS'}"


def is_insecure(visit: Visit, place: Location) -> bool:
    """Whether MLflow accepts any certificate of its store."""
    return place.write and visit.variable("MLFLOW_S3_IGNORE_TLS").lower() in ("true", "1")


def _expired(visit: Visit) -> bool:
    """Whether the session token itself, a JWT, has expired: MinIO gives the same answer to a token that is wrong."""
    parts = visit.variable("AWS_SESSION_TOKEN").split(".")
    if len(parts) != 3:
        return False
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) < time.time()
    except (ValueError, KeyError, TypeError):
        return False


class Asked:
    """A client; an error inside the block becomes a `Finding`.

    ``denied`` is the code of a refusal, ``absent`` that of a key that is not there (or "" where neither is a fault),
    ``unknown`` that of an answer with no code of its own; ``large`` says that a large body is sent.
    """

    def __init__(
        self,
        visit: Visit,
        place: Location,
        *,
        denied: str,
        absent: str = "",
        unknown: str = "STORE_FAILS",
        large: bool = False,
    ) -> None:
        self.client = client_of(visit, place)
        self._visit, self._place = visit, place
        self._denied, self._absent, self._unknown, self._large = denied, absent, unknown, large

    def __enter__(self) -> Asked:
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
        """A name that no bucket, or no object, can have."""
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
        named = s3.ANSWERS.get(code) or s3.ANSWERS.get(str(status)) or s3.by_words(message)
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
            region = answer.get("Region") or error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(
                "x-amz-bucket-region"
            )
            return f"{title}: it is in {region!r}, requests are for {s3.region()!r}" if region else title
        if code == "STORE_CLOCK":
            return _clocks(self._visit.shared.get("clock", "")) or title
        return title

    def _unreachable(self, error: Exception) -> Finding | OutOfTimeError:
        from botocore import exceptions as boto

        if self._style == "virtual" and self._other_style_works():
            return self._addressing()
        if self._large and not isinstance(error, boto.ReadTimeoutError):
            return Finding("STORE_UPLOAD_TOO_LARGE", self._place.where)
        silent = isinstance(error, boto.ReadTimeoutError)
        if silent and getattr(self.client.meta.config, "read_timeout", ANSWER_SECONDS) < PATIENCE_SECONDS:
            return OutOfTimeError(f"{self._place.where} has not answered yet")
        code = "STORE_NO_ANSWER" if silent else "STORE_BREAKS_OFF"
        return Finding(code, self._place.where, f"{Finding(code, '').what}: {_reason(error)}")

    @property
    def _style(self) -> str:
        return str((getattr(self.client.meta.config, "s3", None) or {}).get("addressing_style", "auto"))

    def _other_style_works(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        if not self._place.bucket or _is_ip(self._place.endpoint):
            return False  # an address that is a number has no virtual hosts
        other = client_of(self._visit, self._place, style="path" if self._style == "virtual" else "virtual")
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


def client_of(visit: Visit, place: Location, *, style: str = "", checksums: str = "when_supported") -> S3Client:
    """A client with the settings of MLflow's or of the pipeline's, which tries once and gives up soon."""
    import urllib3
    from botocore import exceptions as boto

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
        if is_insecure(visit, place):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        try:
            client = s3.client(options, style=style, endpoint=place.endpoint, verify=not is_insecure(visit, place))
        except boto.InvalidRegionError as error:
            where, what = f"AWS_DEFAULT_REGION={s3.region()!r}", "no region can have this name"
            raise Finding("STORE_WRONG_REGION", where, what) from error
        except boto.InvalidS3AddressingStyleError as error:
            where, what = "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "there is no such style of addresses"
            raise Finding("STORE_ADDRESSING", where, what, "set it to `path` or `virtual`") from error
        except (boto.BotoCoreError, ValueError) as error:
            raise Finding("STORE_NO_CREDENTIALS", place.where, f"boto3 cannot be set up: {_reason(error)}") from error
        client.meta.events.register_first("needs-retry.s3", _no_redirect)
        client.meta.events.register("before-send.s3", lambda **_: visit.count("store"))
        cached[which] = visit.keep(client)
    return cached[which]


def _no_redirect(response: tuple[Any, dict[str, Any]] | None, operation: Any, **_more: Any) -> None:
    """Raises the store's error about a wrong region, after which boto3 would ask again in the right one.

    Other clients, and presigned requests, do not ask a second time.
    """
    from botocore.exceptions import ClientError

    answer: Any = response[1] if response else {}
    if s3.ANSWERS.get(answer.get("Error", {}).get("Code", "")) == "STORE_WRONG_REGION":
        raise ClientError(answer, operation.name)


def _is_ip(url: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def named_by_mlflow(message: str) -> Finding | None:
    """The store's fault in what MLflow says of it, such as `Failed to list artifacts in s3://...: Access Denied.`"""
    code = s3.by_words(message)
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

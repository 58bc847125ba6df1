"""The checks of the object store: of MLflow's bucket in MLflow's environment, else of the tables of a retraining."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from homelab_mlops.clients import s3
from homelab_mlops.clients.authority import authority_of
from homelab_mlops.doctor import connection
from homelab_mlops.doctor.checks import Answer, check
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.store_client import (
    ANSWER_SECONDS,
    ENDPOINTS,
    Asked,
    Location,
    client_of,
    is_insecure,
)
from homelab_mlops.doctor.visit import NotLookedAtError, OutOfTimeError, Visit

# Bytes that boto3 sends in one request at most; it uploads larger files in parts of this size.
PART = 8 * 1024 * 1024
_DESTINATIONS = ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT")


def locations(visit: Visit) -> list[Location]:
    """Where the environment names objects: MLflow's bucket, or else the tables, which MLflow's keys may not read.

    Raises:
        NotLookedAtError: it names none.
    """
    # Not stripped: boto3 takes a line end as part of the address.
    endpoint = next((value for name in ENDPOINTS if (value := visit.env.get(name, ""))), "")
    if destination := visit.store or visit.variable(*_DESTINATIONS):
        if not destination.startswith("s3://"):
            raise NotLookedAtError(f"artifacts lie in {destination}, which is no bucket")
        bucket, _, key = destination.removeprefix("s3://").partition("/")
        if not bucket:
            raise Finding("STORE_NO_BUCKET", destination, f"{destination} names no bucket")
        return [Location(endpoint, bucket, key.strip("/"), write=True)]
    if visit.variable("MLFLOW_S3_ENDPOINT_URL"):
        return [Location(endpoint, "", "", write=True)]
    sources = [
        model.source.removeprefix("s3://").partition("/") for model in visit.models if model.source.startswith("s3://")
    ]
    if not endpoint and not (visit.model_given and sources and visit.variable("AWS_ACCESS_KEY_ID", "AWS_PROFILE")):
        raise NotLookedAtError(
            "no endpoint is set (MLFLOW_S3_ENDPOINT_URL with MLFLOW_ARTIFACTS_DESTINATION or --store, "
            "or AWS_ENDPOINT_URL_S3)"
        )
    tables = [Location(endpoint, bucket, key, write=False) for bucket, _, key in sources]
    return tables or [Location(endpoint, "", "", write=False)]


@check("store", "STORE_ENDPOINT", "STORE_NO_BUCKET")
def endpoint(visit: Visit) -> Iterator[Finding]:
    """Whether the variable holds an address, without the bucket."""
    place = locations(visit)[0]
    where = next((f"{name}={place.endpoint!r}" for name in ENDPOINTS if visit.env.get(name)), "")
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
    url = locations(visit)[0].endpoint
    if not url:
        return
    bundle = visit.variable("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE") if url.startswith("https:") else ""
    bundle = bundle or authority_of(url)
    context = connection.tls_context("STORE", bundle, insecure=is_insecure(visit, locations(visit)[0]))
    connection.connect(visit, "STORE", url, context)
    import httpx

    limits = httpx.Timeout(visit.seconds(ANSWER_SECONDS), connect=visit.seconds(connection.CONNECT_SECONDS))
    visit.count("store")
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


@check("store", "STORE_NO_CREDENTIALS", "STORE_WRONG_KEY", "STORE_WRONG_TOKEN", after=[reachable])
def credentials(visit: Visit) -> Iterator[Finding]:
    """Whether there are keys to sign with."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    place = locations(visit)[0]
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
    "store",
    *sorted(set(s3.ANSWERS.values())),
    "STORE_ADDRESSING",
    "STORE_NO_TABLE",
    "STORE_DENIED_*",
    "STORE_CHECKSUM",
    "STORE_FAILS",
    after=[credentials],
)
def usable(visit: Visit) -> Iterator[Answer]:
    """Whether what MLflow and a retraining do with their stores succeeds."""
    seen: set[str] = set()
    for place in locations(visit):
        bucket = place.bucket or (_only_bucket(visit, place) if place.write else "")
        place = Location(place.endpoint, bucket, place.key, place.write)
        if place.write:
            yield from _writing(visit, place)
        elif bucket and (visit.model_given or bucket not in seen):
            seen.add(bucket)
            yield from _reading(visit, place)
        elif not bucket:
            _only_bucket(visit, place)


def _only_bucket(visit: Visit, place: Location) -> str:
    """The one bucket that these keys see; where nobody names a bucket, it is MLflow's."""
    with Asked(visit, place, denied="") as asked:
        buckets = [str(item.get("Name")) for item in asked.client.list_buckets().get("Buckets", [])]
        if len(buckets) == 1:
            return buckets[0]
    if place.write:
        raise NotLookedAtError("the bucket: name it in MLFLOW_ARTIFACTS_DESTINATION or --store")
    return ""


def _reading(visit: Visit, place: Location) -> Iterator[Finding]:
    """Whether the table of a model can be read; where nobody named the model, its table may be missing."""
    if not place.key.endswith("/"):
        with Asked(
            visit, place, denied="STORE_DENIED_GET", absent="STORE_NO_TABLE" if visit.model_given else ""
        ) as asked:
            asked.client.get_object(Bucket=place.bucket, Key=place.key, Range="bytes=0-0")["Body"].close()
        return
    with Asked(visit, place, denied="STORE_DENIED_LIST") as asked:
        found = asked.client.list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        if visit.model_given and not found.get("Contents"):
            yield Finding("STORE_NO_TABLE", place.where)


def _writing(visit: Visit, place: Location) -> Iterator[Answer]:
    """All that MLflow does in its bucket, with one probe object that is deleted again."""
    with Asked(visit, place, denied="STORE_DENIED_LIST") as asked:
        prefix = f"{place.key}/" if place.key else ""
        asked.client.list_objects_v2(Bucket=place.bucket, Prefix=prefix, MaxKeys=1)
    # Where MLflow itself will write its probe, so that both are one object.
    key = "/".join(part for part in (place.key, visit.shared.get("artifacts", ""), visit.probe) if part)
    written: dict[str, Any] = {}
    refused: list[Finding] = []
    undeleted: list[Finding] = []

    def remove() -> None:
        # In a bucket with versions, only a deletion that names the version leaves nothing behind.
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
    # Sends the large part only where it can be read and deleted again.
    if not unread and not undeleted and not visit.stopped.is_set():
        yield from _multipart(visit, place, key)


def _unreadable(visit: Visit, place: Location, key: str) -> list[Answer]:
    """Why the probe object cannot be read, if so."""
    if visit.stopped.is_set():
        return []
    try:
        with Asked(visit, place, denied="STORE_DENIED_GET") as asked:
            asked.client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    except (Finding, OutOfTimeError) as answer:
        return [answer]
    return []


def _put(visit: Visit, place: Location, key: str) -> dict[str, Any]:
    """Writes the probe object as boto3 does.

    Raises:
        Finding: it cannot be written; ``STORE_CHECKSUM`` where it can without checksums.
    """
    content = b"homelab\n"
    answer: dict[str, Any] = {}
    try:
        with Asked(visit, place, denied="STORE_DENIED_PUT") as asked:
            answer = dict(asked.client.put_object(Bucket=place.bucket, Key=key, Body=content))
    except Finding as finding:
        if finding.code in ("STORE_NO_ANSWER", "STORE_BREAKS_OFF"):
            _delete(visit, place, key, None)  # the store may have written it all the same
        if finding.code in ("STORE_FULL", "STORE_READ_ONLY", "STORE_NO_ANSWER"):
            raise
        if finding.code == "STORE_DENIED_PUT" and _may_put(visit, place, key):
            raise Finding("STORE_READ_ONLY", place.where) from None
        client = client_of(visit, place, checksums="when_required")
        try:
            plain = client.put_object(Bucket=place.bucket, Key=key, Body=content)
        except Exception:
            raise finding from None
        _delete(visit, place, key, plain.get("VersionId"), checksums="when_required")
        raise Finding("STORE_CHECKSUM", place.where, f"{Finding('STORE_CHECKSUM', '').what} ({finding.what})") from None
    return answer


def _may_put(visit: Visit, place: Location, key: str) -> bool:
    """Whether the policy of these keys lets them write.

    Sends a write whose condition cannot hold. A store checks the policy first, then the condition, and last whether its
    disk is read-only, which MinIO too calls `AccessDenied`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client_of(visit, place).put_object(Bucket=place.bucket, Key=key, Body=b"", IfMatch='"none"')
    except ClientError as error:
        return error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "NoSuchKey", "412", "404")
    except BotoCoreError:
        return False
    _delete(visit, place, key, None)
    return False


def _delete(
    visit: Visit, place: Location, key: str, version: str | None, checksums: str = "when_supported"
) -> list[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    probe = f"s3://{place.bucket}/{key} at {place.endpoint or 'AWS'}"
    client = client_of(visit, place, checksums=checksums)
    versioned = {"VersionId": version} if version and version != "null" else {}
    for which in [versioned, {}] if versioned else [{}]:
        try:
            client.delete_object(Bucket=place.bucket, Key=key, **which)  # type: ignore[arg-type]
        except BotoCoreError:
            visit.doubt("store", f"whether the probe object {probe} is deleted")
            return []
        except ClientError:
            continue
        return []
    return [Finding("STORE_DENIED_DELETE", probe)]


def _multipart(visit: Visit, place: Location, key: str) -> Iterator[Finding]:
    """Begins an upload in parts, sends one of the largest, and ends it without an object."""
    target: dict[str, Any] = {"Bucket": place.bucket, "Key": key}
    with Asked(visit, place, denied="STORE_DENIED_MULTIPART", unknown="STORE_DENIED_MULTIPART") as asked:
        upload = asked.client.create_multipart_upload(**target)["UploadId"]
    part: dict[str, Any] = {}
    unended: list[Finding] = []

    def end() -> None:
        unended[:] = _abort(visit, place, target, upload, part)

    with visit.removing(end):
        if not visit.stopped.is_set():
            with Asked(visit, place, denied="STORE_DENIED_MULTIPART", large=True) as asked:
                part |= asked.client.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"\0" * PART)
    yield from unended


def _abort(visit: Visit, place: Location, target: dict[str, Any], upload: str, part: dict[str, Any]) -> list[Finding]:
    from botocore.exceptions import BotoCoreError, ClientError

    client = client_of(visit, place)
    try:
        client.abort_multipart_upload(**target, UploadId=upload)
    except (BotoCoreError, ClientError):
        if not part:
            return []  # the part was refused, which is a finding already
        # Ends the upload as an object: these keys can delete an object, and not an unfinished upload.
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        with contextlib.suppress(BotoCoreError, ClientError):
            done = client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
            _delete(visit, place, target["Key"], done.get("VersionId"))
        what = "these credentials may not end a multipart upload that has failed"
        return [Finding("STORE_DENIED_MULTIPART", place.where, what)]
    return []

"""The buckets that are backed up, read with a user that may do nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import Identity, Object, path_of
from homelab_mlops.clients.s3 import client, explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKETS = ("mlflow", "datasets")
# What a restore keeps in a bucket while it runs, and what it found there before.
OWN_PREFIX = ".homelab/"
CHUNK = 1 << 20


class Listed(NamedTuple):
    """An object as the store lists it."""

    identity: Identity
    where: str


def store(readers: int = 4) -> S3Client:
    """The client of the platform's object store."""
    return client({"max_pool_connections": readers, "retries": {"max_attempts": 5, "mode": "standard"}})


def listed(s3: S3Client, buckets: tuple[str, ...] = BUCKETS) -> Iterator[Listed]:
    """Every object of the buckets.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    for bucket in buckets:
        with explained(f"s3://{bucket}"):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for item in page.get("Contents", []):
                    if not item["Key"].startswith(OWN_PREFIX):
                        yield _listed(bucket, item)


def _listed(bucket: str, item: Any) -> Listed:
    modified = item["LastModified"].isoformat()
    identity = Identity(bucket, item["Key"], item["Size"], item["ETag"].strip('"'), modified)
    return Listed(identity, f"s3://{bucket}/{item['Key']}")


def fetch(s3: S3Client, wanted: Listed, scratch: Path) -> Object | None:
    """Writes an object into ``scratch``, under its SHA-256; None where it was deleted since it was listed.

    Raises:
        StorageError: the store does not answer, or refuses.
        BackupError: it is not as long as the store says.
    """
    from botocore.exceptions import ClientError

    bucket, key = wanted.identity.bucket, wanted.identity.key
    with explained(wanted.where):
        try:
            answer = s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise
        partial = scratch / f"{hashlib.sha256(f'{bucket}/{key}'.encode()).hexdigest()}.partial"
        digest, size = hashlib.sha256(), 0
        with partial.open("wb") as file:
            for chunk in answer["Body"].iter_chunks(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
    if size != answer["ContentLength"]:
        raise fault(
            Fault.MISSING_OBJECT,
            f"the store says that it has {answer['ContentLength']:,} bytes, and gives {size:,}",
            where=wanted.where,
            fix="look at the store's log; the next backup tries again",
        )
    sha256 = digest.hexdigest()
    place = scratch / path_of(sha256)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(place)
    return Object(
        bucket=bucket,
        key=key,
        size=size,
        etag=answer["ETag"].strip('"'),
        # The answer has whole seconds; where it is the object that was listed, the list says it more exactly.
        modified=(
            wanted.identity.modified
            if answer["ETag"].strip('"') == wanted.identity.etag
            else answer["LastModified"].isoformat()
        ),
        sha256=sha256,
        content_type=answer.get("ContentType", ""),
        metadata=dict(answer.get("Metadata", {})),
    )

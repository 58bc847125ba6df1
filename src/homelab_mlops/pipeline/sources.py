"""Where a table comes from: a local file or folder, an object store, or a built-in table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from homelab_mlops.clients import s3
from homelab_mlops.errors import DataError, StorageError
from homelab_mlops.pipeline.tables import SUFFIXES

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def local_files(source: str) -> list[Path]:
    """The table's files: the file itself, or every CSV and Parquet file of the folder, by name.

    Raises:
        DataError: there is no such file, or the folder holds no table.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(SUFFIXES))
        if not files:
            raise DataError(
                "the folder holds no CSV or Parquet file", where=source, fix=f"endings: {', '.join(SUFFIXES)}"
            )
        return files
    if not path.exists():
        raise DataError("there is no such file", where=source, fix="check `data.source` in model.yaml, or --source")
    return [path]


@contextmanager
def s3_files(source: str, folder: Path) -> Iterator[list[Path]]:
    """Downloads the object, or every table below a prefix that ends in ``/``, for the time of the block.

    Endpoint and credentials are boto3's own settings, ``AWS_ENDPOINT_URL_S3`` among them.

    Raises:
        StorageError: the store cannot be reached, refuses, or has no such object.
    """
    address = urlsplit(source)
    bucket, key = address.netloc, address.path.lstrip("/")
    if not bucket or not key:
        raise StorageError("an S3 address is s3://BUCKET/KEY, or s3://BUCKET/PREFIX/", where=source)
    target = folder / ".download"
    target.mkdir(parents=True, exist_ok=True)
    try:
        with explained(source):
            client = s3.client()
            keys = _keys(client, bucket, key, source) if key.endswith("/") else [key]
            files = []
            for index, name in enumerate(keys):
                file = target / f"{index:06d}-{Path(name).name}"
                client.download_file(bucket, name, str(file))
                files.append(file)
        yield files
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _keys(client: S3Client, bucket: str, prefix: str, source: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = sorted(item["Key"] for page in pages for item in page.get("Contents", []) if item["Key"].endswith(SUFFIXES))
    if not keys:
        raise StorageError("no CSV or Parquet object below this prefix", where=source, fix="check `data.source`")
    return keys


_REFUSALS = {
    "InvalidAccessKeyId": ("the store does not know the access key", "check AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": ("the secret key is wrong", "check AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": ("the credentials have expired", "get new ones; check AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": ("this machine's clock differs from the store's", "set the clock (NTP)"),
    "AccessDenied": ("these credentials may not read it", "grant s3:GetObject and s3:ListBucket on the bucket"),
    "NoSuchBucket": ("there is no such bucket", "check the address, and AWS_ENDPOINT_URL_S3"),
    "NoSuchKey": ("there is no such object", "check the address; `homelab data push` brings the demo's table"),
    "403": ("the store refuses to read it", "check the access key, the secret key, and the policy of the user"),
    "404": ("there is no such object or bucket", "check the address; `homelab data push` brings the demo's table"),
    "301": ("the bucket is in another region", "set AWS_DEFAULT_REGION"),
    "400": ("the store rejects the request", "check the region, and whether AWS_ENDPOINT_URL_S3 is the API's port"),
}


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
        code = str(error.response.get("Error", {}).get("Code", ""))
        what, fix = _REFUSALS.get(
            code, (f"the store refuses: {code} {error.response.get('Error', {}).get('Message', '')}", "")
        )
        failed = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        raise StorageError(what, where=where, fix=fix, transient=failed) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageError(
            "there are no S3 credentials", where=where, fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
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

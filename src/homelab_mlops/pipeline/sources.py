"""Where a table comes from: a local file or folder, an object store, or a built-in table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
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
        with s3.explained(source):
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

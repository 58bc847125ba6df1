"""Which files a table has, in a folder or below a prefix of an object store: one rule for both.

Every file below it is read, however deep. Left out are names that begin with ``.`` or ``_``, everything in such
folders, and endings that are no table's. A folder ``month=2026-01`` gives the rows below it a column ``month``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from homelab_mlops.console import progress
from homelab_mlops.errors import DataError, StorageError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# Endings of files that people keep beside their tables.
NO_TABLES = frozenset(
    {".md", ".rst", ".pdf", ".html", ".htm", ".log", ".lock", ".crc", ".md5", ".sha256", ".tmp", ".bak"}
    | {".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml", ".ini", ".cfg", ".py", ".ipynb", ".sh", ".sql"}
    | {".png", ".jpg", ".jpeg", ".gif", ".svg", ".zip", ".tar", ".xlsx", ".xls", ".pkl", ".joblib"}
)
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file of a table: where it lies on this machine, its name for a person, and the columns that folders give it."""

    path: Path
    where: str
    partition: dict[str, str | None]


@dataclass(frozen=True)
class Files:
    """The files of a table by name, and the names of the files that are left out."""

    files: tuple[File, ...]
    left_out: tuple[str, ...] = ()


@contextmanager
def opened(source: str, folder: Path) -> Iterator[Files]:
    """The files of ``source``, a path or ``s3://``; what is downloaded lies below ``folder`` until the block ends.

    Raises:
        DataError: there is no such file, or the folder holds no table.
        StorageError: the store cannot be reached, refuses, or has no such object.
    """
    if source.startswith("s3://"):
        with _downloaded(source, folder) as files:
            yield files
    elif "://" in source:
        kind = source.partition("://")[0]
        raise DataError(f"a source of this kind is not read: {kind}", where=source, fix="use a path or s3://")
    else:
        yield local(source)


def local(source: str) -> Files:
    """The file itself, or those of the folder.

    Raises:
        DataError: there is no such file, or the folder holds no table.
    """
    path = Path(source)
    if not path.is_dir():
        if not path.exists():
            raise DataError("there is no such file", where=source, fix="check `data.source` in model.yaml, or --source")
        return Files((File(path, source, {}),))
    found = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    names, left_out = chosen(found)
    if not names:
        raise _no_table("the folder holds no CSV or Parquet file", source, left_out)
    return Files(tuple(File(found[name], str(found[name]), partition(name)) for name in names), left_out)


def chosen(names: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """The names, relative to the folder, that belong to the table, and those that are left out; both in order."""
    taken: list[str] = []
    left_out: list[str] = []
    for name in sorted(names):
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "_")) for part in path.parts)
        (left_out if hidden or path.suffix.lower() in NO_TABLES else taken).append(name)
    return taken, tuple(left_out)


def partition(name: str) -> dict[str, str | None]:
    """The columns that the folders of a name give: ``year=2026/month=1/a.csv`` is year 2026, month 1."""
    parts = [part.partition("=") for part in PurePosixPath(name).parts[:-1] if "=" in part]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, _, value in parts if key}


def _no_table(what: str, source: str, left_out: tuple[str, ...]) -> DataError:
    names = ", ".join(left_out[:4]) + (", ..." if len(left_out) > 4 else "")
    fix = (
        f"left out: {names}; what begins with . or _, or ends like that, is no part of a table"
        if left_out
        else "check `data.source`"
    )
    return DataError(what, where=source, fix=fix)


@contextmanager
def _downloaded(source: str, folder: Path) -> Iterator[Files]:
    from homelab_mlops.clients import s3

    address = urlsplit(source)
    bucket, key = address.netloc, address.path.lstrip("/")
    if not bucket or not key:
        raise StorageError("an S3 address is s3://BUCKET/KEY, or s3://BUCKET/PREFIX/", where=source)
    target = folder / ".download"
    target.mkdir(parents=True, exist_ok=True)
    try:
        with s3.explained(source):
            client = s3.client()
            if not key.endswith("/") and _is_prefix(client, bucket, key):
                key += "/"
            names, left_out = _below(client, bucket, key, source) if key.endswith("/") else ([""], ())
            files = _fetched(client, bucket, key, names, target)
        yield Files(tuple(files), left_out)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _fetched(client: S3Client, bucket: str, key: str, names: list[str], target: Path) -> list[File]:
    files: list[File] = []
    size = 0
    with progress(f"download s3://{bucket}/{key}", len(names)) as reached:

        def arrived(count: int) -> None:
            nonlocal size
            size += count
            reached(len(files), f"{size / 1e6:,.1f} MB")

        for number, name in enumerate(names):
            path = target / f"{number:06d}"
            client.download_file(bucket, key + name, str(path), Callback=arrived)
            files.append(File(path, f"s3://{bucket}/{key}{name}", partition(name)))
    return files


def _is_prefix(client: S3Client, bucket: str, key: str) -> bool:
    """Whether the address names a folder, as one of this machine may without a slash at its end."""
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "404":
            return False  # the download says why
        return bool(client.list_objects_v2(Bucket=bucket, Prefix=f"{key}/", MaxKeys=1).get("KeyCount"))
    return False


def _below(client: S3Client, bucket: str, prefix: str, source: str) -> tuple[list[str], tuple[str, ...]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    # The console of a store marks an empty folder by an object whose name ends in a slash.
    names, left_out = chosen(key.removeprefix(prefix) for key in keys if not key.endswith("/"))
    if not names:
        error = _no_table("no CSV or Parquet object below this prefix", source, left_out)
        raise StorageError(error.what, where=error.where, fix=error.fix)
    return names, left_out

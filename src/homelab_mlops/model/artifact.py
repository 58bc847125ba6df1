"""The SHA-256 of a model's files, which git names beside the version.

It is the SHA-256 of the list that ``sha256sum`` writes of them: one line ``SHA256  PATH`` a file, in the order of the
paths' bytes. Neither the store nor the order in which it lists the files changes it. In a folder with the files it is

    find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from homelab_mlops.errors import TrackingError

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Whether the text is a SHA-256 in hexadecimal, as everybody here writes it."""
    return _SHA256.fullmatch(text) is not None


def sha256_of(files: Mapping[str, bytes]) -> str:
    """The SHA-256 of a model's files, given by their paths in the model's folder.

    Raises:
        ValueError: there is no file, or a path cannot be that of a model's file.
    """
    return sha256_of_digests({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def sha256_of_digests(digests: Mapping[str, str]) -> str:
    """As `sha256_of`, of which only each file's own SHA-256 is known.

    Raises:
        ValueError: as `sha256_of`.
    """
    if not digests:
        raise ValueError("the model has no files")
    lines = []
    for path in sorted(digests, key=str.encode):
        if (
            not path.isprintable()
            or "\\" in path
            or str(PurePosixPath(path)) != path
            or {"..", ""} & {*path.split("/")}
        ):
            raise ValueError(f"a file of a model cannot be called {path[:80]!r}")
        lines.append(f"{digests[path]}  {path}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_files(version: str, stored: str, named: str, where: str) -> TrackingError:
    """The error that says that the files are not those that git names."""
    return TrackingError(
        f"{version}: its files have the SHA-256 {stored}, and git names {named}",
        where=where,
        fix="promote or revert to another version, or put the files back",
    )

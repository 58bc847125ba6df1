"""The files of a channel."""

from __future__ import annotations

from pathlib import Path

from homelab_mlops.tables.files import local


def local_files(source: str) -> list[Path]:
    """The table's files: the file itself, or those of the folder; see `homelab_mlops.tables.files`.

    Raises:
        DataError: there is no such file, or the folder holds no table.
    """
    return [file.path for file in local(source).files]

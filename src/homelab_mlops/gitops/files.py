"""Files are written whole or not at all, and those of one step all or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes ``path`` whole or not at all."""
    partial = _set_aside(path, content, mode)
    try:
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_all(files: Mapping[Path, str | None]) -> list[Path]:
    """Writes all files or none, and returns their paths; a file whose text is None is deleted.

    The new texts lie beside the files before the first of these is replaced, so a full disk changes nothing. What ends
    the replacing (a signal, a folder that cannot be written) puts back what was replaced.
    """
    before = {path: path.read_bytes() if path.is_file() else None for path in files}
    partials: dict[Path, Path] = {}
    try:
        for path, text in files.items():
            if text is not None:
                partials[path] = _set_aside(path, text.encode(), _mode(path))
        _replace(files, partials, before)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    return list(files)


def _replace(files: Mapping[Path, str | None], partials: dict[Path, Path], before: dict[Path, bytes | None]) -> None:
    begun: list[Path] = []
    try:
        for path in files:
            begun.append(path)
            if path in partials:
                partials[path].replace(path)
            else:
                path.unlink(missing_ok=True)
    except BaseException:
        for path in begun:
            if (content := before[path]) is None:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != content:
                write_file(path, content)
        raise


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.is_file() else 0o644


def _set_aside(path: Path, content: bytes, mode: int) -> Path:
    """A new file beside ``path`` that holds ``content``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial

"""Earlier renderings, by the identity of everything that they were made from.

A source whose folders have the ids of an earlier one gives the same objects, whatever the commit. The cache keeps only
successful builds without a remote base.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from homelab_mlops import __version__
from homelab_mlops.gitops.tools import TOOLS

KEPT = 500


def key(*inputs: str) -> str:
    """The name of the rendering of these inputs, with this version of kustomize."""
    return hashlib.sha256("\0".join([__version__, TOOLS["kustomize"].version, *inputs]).encode()).hexdigest()


def folder() -> Path:
    """The folder of the cache, for this user only."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "homelab-mlops" / "rendered"


def read(name: str) -> str | None:
    """The rendering that the cache has under a name, or None."""
    try:
        path = folder() / name
        text = path.read_text(encoding="utf-8")
        os.utime(path)
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None
    return text


def write(name: str, text: str) -> None:
    """Keeps a rendering. Without a writable home it does nothing."""
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=place)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(place / name)
    except (OSError, RuntimeError):
        return


def trim() -> None:
    """Drops the longest unused renderings above a limit."""
    try:
        kept = sorted(folder().iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            path.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        return

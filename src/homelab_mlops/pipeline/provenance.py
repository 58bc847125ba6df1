"""Where a model comes from: commit, code, packages, image, workflow."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import homelab_mlops
from homelab_mlops.clients import git
from homelab_mlops.errors import ToolError

# The packages that decide the bytes of a booster; all others may differ between a run and its replay.
DECISIVE = ("numpy", "pandas", "pyarrow", "scipy", "xgboost-cpu")
DECISIVE_ROOMS = ("model", "pipeline", "tables")


def provenance() -> dict[str, Any]:
    """The facts that become tags of a run, as JSON values.

    In an image they come from ``HOMELAB_GIT_COMMIT`` and ``HOMELAB_IMAGE``, in a workflow also from
    ``HOMELAB_WORKFLOW``; in a checkout the commit is git's.
    """
    commit, dirty = _git()
    return {
        "commit": os.environ.get("HOMELAB_GIT_COMMIT") or commit,
        "dirty": False if os.environ.get("HOMELAB_GIT_COMMIT") else dirty,
        "code_sha256": code_sha256(),
        "image": os.environ.get("HOMELAB_IMAGE", ""),
        "workflow": os.environ.get("HOMELAB_WORKFLOW", ""),
        "version": homelab_mlops.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """The installed versions of the packages that decide the bytes of a booster."""
    return {name: _version(name) for name in DECISIVE}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def code_sha256(package: Path | None = None) -> str:
    """SHA-256 over the Python files of the rooms that decide a model, the code that a replay has to run."""
    root = package or Path(homelab_mlops.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for room in DECISIVE_ROOMS for path in root.joinpath(room).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _git() -> tuple[str, bool]:
    """The commit of the current folder and whether anything differs from it; empty outside a checkout."""
    try:
        return git.output(Path(), "rev-parse", "HEAD"), bool(git.output(Path(), "status", "--porcelain"))
    except ToolError:
        return "", False


def origin() -> str:
    """The address of the remote ``origin`` of the current folder; empty where it has none."""
    try:
        return git.output(Path(), "remote", "get-url", "origin")
    except ToolError:
        return ""

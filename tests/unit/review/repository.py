"""Small git repositories to compare: the base tree of the fixtures, and edits of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from homelab_mlops.cli import app
from homelab_mlops.review.report import Report, review
from homelab_mlops.review.run import sides
from tests.conftest import FIXTURES, ROOT

REVIEWS = FIXTURES / "reviews"

needs_helm = pytest.mark.skipif(
    shutil.which("helm") is None and not (ROOT / ".tools/bin/helm").exists(),
    reason="no helm; `python -m homelab_mlops.gitops.tools helm` builds it",
)


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


def repository(root: Path) -> Path:
    """A repository with the base tree, not committed yet."""
    shutil.copytree(REVIEWS / "base", root)
    git(root, "init", "--quiet", "--initial-branch", "main")
    return root


def link_programs(root: Path) -> None:
    """The repository finds the programs that the checks call, and does not track them."""
    (root / ".gitignore").write_text(".tools\n")
    (root / ".tools").symlink_to((ROOT / ".tools").resolve())


def of_shape(root: Path, shape: str) -> Path:
    """A repository of somebody else's shape, which has the programs here, not committed yet."""
    shutil.copytree(REVIEWS / "shapes" / shape, root)
    link_programs(root)
    git(root, "init", "--quiet", "--initial-branch", "main")
    return root


def diffed(*arguments: str) -> dict[str, Any]:
    """What `homelab diff` reports, in the current folder."""
    result = CliRunner().invoke(app, ["diff", *arguments, "--output", "json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def edit(root: Path, edits: dict[str, Any]) -> None:
    """``replace`` file: {old: new}, ``write`` file: text, ``move`` from: to, ``remove`` files."""
    for file, texts in edits.get("replace", {}).items():
        path = root / file
        for old, new in texts.items():
            text = path.read_text()
            assert old in text, f"{file} has no {old!r}"
            path.write_text(text.replace(old, new))
    for file, text in edits.get("write", {}).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    for old, new in edits.get("move", {}).items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    for file in edits.get("remove", []):
        (root / file).unlink()


def compared(root: Path, base: str, head: str | None = None) -> Report:
    with sides(root, base, head) as (old, new):
        return review(old, new)

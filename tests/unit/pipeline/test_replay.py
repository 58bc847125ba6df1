"""Which commit's code a replay runs: the record names it, and whoever may write in MLflow writes the record."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.errors import ReplayError
from homelab_mlops.pipeline.provenance import code_sha256
from homelab_mlops.pipeline.replay import _worktree
from tests.conftest import ROOT

SETTINGS = "clusters/homelab/settings.yaml"
ADDRESS = "models:/churn/3"


def git(*arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@invalid"]
    return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def commit(text: str) -> str:
    (Path("src/homelab_mlops") / "code.py").write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message", text)
    return git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A clone with a merged commit, and one of a pull request that somebody has fetched; returns the merged one."""
    root = tmp_path / "clone"
    for folder in ("clusters/homelab", "src/homelab_mlops"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / SETTINGS, root / SETTINGS)
    monkeypatch.chdir(root)
    git("init", "--quiet", "--initial-branch=main")
    return commit("merged")


def record(commit: str) -> dict[str, Any]:
    """What MLflow gives: the code is that of the commit."""
    git("checkout", "--quiet", commit)
    then = code_sha256(Path("src/homelab_mlops"))
    git("checkout", "--quiet", "main")
    return {"provenance": {"commit": commit, "dirty": False, "code_sha256": then}}


def runs(commit: str, folder: Path, *, any_commit: bool = False) -> str:
    """The code that would run."""
    folder.mkdir()
    worktree = _worktree(record(commit), folder, ADDRESS, any_commit=any_commit)
    assert worktree is not None
    return (worktree / "src/homelab_mlops/code.py").read_text()


def test_a_merged_commit_runs(clone: str, tmp_path: Path) -> None:
    commit("merged later")
    assert runs(clone, tmp_path / "run") == "merged"


@pytest.mark.parametrize("branch", ["feature", "refs/pull/7", "origin/feature"])
@pytest.mark.usefixtures("clone")
def test_a_commit_that_nobody_merged_runs_only_when_told(branch: str, tmp_path: Path) -> None:
    git("checkout", "--quiet", "--detach")
    other = commit("evil")
    git("update-ref", branch if branch.startswith("refs/") else f"refs/remotes/{branch}", other)
    with pytest.raises(ReplayError, match=f"{other[:12]}, which is not on the branch main") as error:
        runs(other, tmp_path / "run")
    assert "--any-commit" in error.value.fix
    assert git("worktree", "list").count("\n") == 0
    assert runs(other, tmp_path / "told", any_commit=True) == "evil"


@pytest.mark.usefixtures("clone")
def test_a_commit_that_was_merged_as_last_fetched_runs(tmp_path: Path) -> None:
    git("checkout", "--quiet", "--detach")
    other = commit("merged elsewhere")
    git("update-ref", "refs/remotes/origin/main", other)
    assert runs(other, tmp_path / "run") == "merged elsewhere"


@pytest.mark.usefixtures("clone")
def test_a_commit_that_is_not_here_is_said(tmp_path: Path) -> None:
    then = {"provenance": {"commit": "f" * 40, "dirty": False, "code_sha256": "0" * 64}}
    with pytest.raises(ReplayError, match="is not in this repository"):
        _worktree(then, tmp_path, ADDRESS, any_commit=False)


@pytest.mark.parametrize("name", ["--upload-pack=touch here", "main", "HEAD", "abc"])
@pytest.mark.usefixtures("clone")
def test_what_is_no_commit_is_refused(name: str, tmp_path: Path) -> None:
    then = {"provenance": {"commit": name, "dirty": False, "code_sha256": "0" * 64}}
    with pytest.raises(ReplayError, match="which is no commit"):
        _worktree(then, tmp_path, ADDRESS, any_commit=True)

"""A second end-to-end run goes on with the fork of the first one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e import conftest as e2e


def git(folder: Path, *arguments: str) -> str:
    login = ["-c", "user.name=test", "-c", "user.email=test@invalid"]
    done = subprocess.run(["git", *login, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", f"Write {file}")


def test_it_takes_new_commits_and_is_pushed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, remote = tmp_path / "tree", tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(tree))
    commit(tree, "code", "one")
    monkeypatch.setattr(e2e, "ROOT", tree)
    monkeypatch.setitem(e2e.SETTINGS, "HOMELAB_E2E_REPOSITORY", str(remote))
    fork = e2e.Fork(tmp_path / "fork")
    git(tmp_path, "clone", "--quiet", str(tree), str(fork.root))
    fork.git("config", "user.name", "e2e")
    fork.git("config", "user.email", "e2e@invalid")
    (fork.root / "settings").write_text("mine")
    fork.push("Make it mine")

    commit(tree, "code", "two")
    git(tree, "push", "--quiet", "--force", str(remote), "HEAD:refs/heads/main")
    (fork.root / "code").write_text("an edit of a test that was broken off")
    (fork.root / "left").write_text("")
    fork.go_on()

    found = {path.name: path.read_text() for path in fork.root.iterdir() if path.is_file()}
    assert found == {"code": "two", "settings": "mine"}
    assert git(remote, "rev-parse", "main") == fork.git("rev-parse", "HEAD")

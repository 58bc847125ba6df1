"""`homelab promote` says what a push does with its commit, before it is made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab_mlops.model.promotion import Named, manifest_of, naming
from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment, refused

URL = "https://github.com/homelab-mlops/homelab-mlops.git"
FILES = ("apps/serving.yaml", "clusters/homelab/settings.yaml", str(manifest_of("churn")))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose branch main is pushed to where Argo CD reads it, as far as the clone knows."""
    root = tmp_path / "clone"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes((ROOT / file).read_bytes())
    manifest = root / manifest_of("churn")
    manifest.write_text(naming(manifest.read_text(), Named("7", "a" * 64), str(manifest)))
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "clone")
    commit(root, "The platform")
    git(root, "remote", "add", "origin", URL)
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(root, "config", "branch.main.remote", "origin")
    git(root, "config", "branch.main.merge", "refs/heads/main")
    return root


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@invalid"]
    return subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)


def promote(root: Path, roles: tuple[str, ...] = ("AUTHOR", "COMMITTER")) -> subprocess.CompletedProcess[str]:
    who = {f"GIT_{role}_{what}": "me@invalid" for role in roles for what in ("NAME", "EMAIL")}
    env = {**clean_environment(), **who, "KUBECONFIG": str(root / "none"), "GIT_CONFIG_GLOBAL": str(root / "none")}
    return forks.run(["promote", "churn", "0", "--deadline", "0"], env, root, PATIENCE)


def on_another_branch(root: Path) -> None:
    git(root, "switch", "--quiet", "--create", "feature")


def detached(root: Path) -> None:
    git(root, "switch", "--quiet", "--detach")


def behind(root: Path) -> None:
    commit(root, "Of somebody else")
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(root, "reset", "--quiet", "--hard", "HEAD~1")


def ahead(root: Path) -> None:
    commit(root, "Not pushed yet")


def dirty(root: Path) -> None:
    (root / "apps/serving.yaml").write_text((root / "apps/serving.yaml").read_text() + "# changed\n")


def without_upstream(root: Path) -> None:
    git(root, "config", "--unset", "branch.main.remote")
    git(root, "config", "push.default", "simple")
    git(root, "update-ref", "-d", "refs/remotes/origin/main")


def elsewhere(root: Path) -> None:
    git(root, "remote", "set-url", "origin", "https://forge.example.org/me/copy.git")


def followed_elsewhere(root: Path) -> None:
    text = (root / "apps/serving.yaml").read_text()
    (root / "apps/serving.yaml").write_text(text.replace("targetRevision: main", "targetRevision: refs/heads/live"))
    commit(root, "Follow live")


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        (lambda _: None, "", "`git push` makes it serve."),
        (on_another_branch, "Argo CD follows main", "serve until feature is merged into main"),
        (detached, "HEAD is detached, and Argo CD follows the branch main", "`git push` sends nothing"),
        (behind, "", "origin/main has 1 commits that are not here"),
        (ahead, "also sends 1 earlier commits", "`git push` makes it serve."),
        (dirty, "Not committed, so neither this commit nor a push has them: apps/serving.yaml", "makes it serve."),
        (without_upstream, "", "git push --set-upstream origin main"),
        (elsewhere, "`git push` sends it to https://forge.example.org/me/copy.git", "it serves once it is there"),
        (followed_elsewhere, "You are on the branch main, and Argo CD follows live", "merged into live"),
    ],
)
def test_what_a_push_does_is_said(state: Callable[[Path], None], before: str, after: str, clone: Path) -> None:
    state(clone)
    head = git(clone, "rev-parse", "HEAD")
    done = promote(clone)
    assert done.returncode == 0, done.stderr
    assert before in done.stderr
    assert after in done.stdout
    assert ("`git push` makes it serve." in done.stdout) == (after.endswith("makes it serve."))
    assert git(clone, "rev-parse", "HEAD~1") == head
    assert git(clone, "diff", "--name-only", "HEAD~1").splitlines()[-1] == str(manifest_of("churn"))


def test_an_unfinished_merge_gets_no_commit(clone: Path) -> None:
    (clone / ".git/MERGE_HEAD").write_text(git(clone, "rev-parse", "HEAD"))
    before = git(clone, "rev-parse", "HEAD")
    refused(promote(clone), "a git merge is not finished here")
    assert git(clone, "rev-parse", "HEAD") == before
    assert git(clone, "diff", "--", str(manifest_of("churn"))) == ""


def test_without_a_name_git_is_told_one_first(clone: Path) -> None:
    git(clone, "config", "user.useConfigOnly", "true")
    before = git(clone, "rev-parse", "HEAD")
    refused(
        promote(clone, roles=()), "fix:   git config --global user.name NAME; git config --global user.email ADDRESS"
    )
    assert git(clone, "rev-parse", "HEAD") == before
    assert git(clone, "status", "--porcelain") == ""

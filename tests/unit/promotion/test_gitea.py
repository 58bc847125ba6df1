"""A real Gitea takes the bot's branch and pull request, refuses its other pushes, and merges by itself after the check.

``HOMELAB_TEST_FORGE`` is its address, ``HOMELAB_TEST_FORGE_TOKEN`` the token of an administrator.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from homelab_mlops.clients.forge import on_forge
from homelab_mlops.clients.git_remote import Remote
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.promotion_branch import promotion_violations
from homelab_mlops.model.promotion import Named, named_by
from homelab_mlops.pipeline.propose import propose
from tests.conftest import ROOT
from tests.unit.promotion.test_propose import AUTOMATIC, CHURN, MANIFEST, git, sha256_of, work

CHECK = "review / success"
# Read before a test has a plain environment.
ADDRESS, ADMINISTRATOR = (os.environ.get(f"HOMELAB_TEST_FORGE{part}", "") for part in ("", "_TOKEN"))
DEADLINE = 60.0


class Gitea:
    """A repository of the administrator, with a bot that may write, and what is said of it."""

    def __init__(self, http: httpx.Client, folder: Path) -> None:
        self.origin, self._http = ADDRESS.rstrip("/"), http
        suffix, self.password = secrets.token_hex(4), secrets.token_urlsafe(16)
        self.bot, self.name = f"bot-{suffix}", f"homelab-{suffix}"
        self.owner = self.api("GET", "/user")["login"]
        self.api("POST", "/user/repos", {"name": self.name, "default_branch": "main"})
        self.repo = f"/repos/{self.owner}/{self.name}"
        mail = f"{self.bot}@invalid.example"
        account = {"username": self.bot, "password": self.password, "email": mail, "must_change_password": False}
        self.api("POST", "/admin/users", account)
        self.api("PUT", f"{self.repo}/collaborators/{self.bot}", {"permission": "write"})
        granted = {"name": "propose", "scopes": ["write:repository"]}
        self.token = self.api("POST", f"/users/{self.bot}/tokens", granted, (self.bot, self.password))["sha1"]
        self.url = f"{self.origin}/{self.owner}/{self.name}.git"
        self.clone = folder / "clone"
        shutil.copytree(ROOT / "overlays/homelab/serving", self.clone / "overlays/homelab/serving")
        git(self.clone, "init", "--quiet", "--initial-branch=main")
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "--message", "Begin")
        login = base64.b64encode(f"{self.owner}:{ADMINISTRATOR}".encode()).decode()
        self._as_owner = ["-c", f"http.extraHeader=Authorization: Basic {login}"]
        git(self.clone, *self._as_owner, "push", "--quiet", self.url, "main")

    def api(self, method: str, path: str, body: Any = None, login: tuple[str, str] | None = None) -> Any:
        if login is not None:
            with httpx.Client(auth=login, trust_env=False, timeout=30) as other:
                answer = other.request(method, f"{self.origin}/api/v1{path}", json=body)
        else:
            answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def protect(self, name: str, who: str, **rules: Any) -> None:
        rule = {
            "rule_name": name,
            "enable_push": True,
            "enable_push_whitelist": True,
            "push_whitelist_usernames": [who],
        }
        self.api("POST", f"{self.repo}/branch_protections", {**rule, **rules})

    def named(self, branch: str = "main") -> Named:
        text = self.api("GET", f"{self.repo}/contents/{MANIFEST}?ref={branch}")["content"]
        return named_by(base64.b64decode(text).decode(), MANIFEST)

    def checked(self, commit: str) -> str:
        """What the forge's workflow does: the tool of main judges the branch, and its verdict is a status."""
        git(self.clone, *self._as_owner, "fetch", "--quiet", self.url, "+refs/heads/*:refs/remotes/origin/*")
        found, _ = promotion_violations(self.clone, f"origin/main..{commit}")
        state = "failure" if found else "success"
        self.api("POST", f"{self.repo}/statuses/{commit}", {"context": CHECK, "state": state})
        return state

    def remove(self) -> None:
        self._http.delete(self.repo)
        self._http.delete(f"/admin/users/{self.bot}")


@pytest.fixture
def gitea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gitea]:
    if not ADDRESS:
        pytest.skip("HOMELAB_TEST_FORGE names no Gitea")
    login = {"Authorization": f"token {ADMINISTRATOR}"}
    with httpx.Client(base_url=f"{ADDRESS}/api/v1", headers=login, trust_env=False, timeout=30) as http:
        made = Gitea(http, tmp_path)
        try:
            steers(made, monkeypatch)
            yield made
        finally:
            made.remove()


def steers(made: Gitea, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the step propose has in its environment."""
    monkeypatch.setenv("HOMELAB_REPOSITORY", made.url)
    monkeypatch.setenv("HOMELAB_BRANCH", "main")
    monkeypatch.setenv("HOMELAB_FORGE", "gitea")
    monkeypatch.setenv("GIT_USERNAME", made.bot)
    monkeypatch.setenv("GIT_TOKEN", made.token)


def protected(gitea: Gitea) -> None:
    gitea.protect("main", gitea.owner, enable_status_check=True, status_check_contexts=[CHECK])
    gitea.protect("promote/**", gitea.bot, enable_force_push=True, enable_force_push_allowlist=False)
    gitea.protect("**", gitea.owner)


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def push(gitea: Gitea, branch: str, text: str = "a: b\n") -> str:
    """The bot pushes another text of the manifest to a branch, on top of main."""
    remote = Remote(gitea.url, gitea.bot, gitea.token)
    try:
        main, tip = remote.tips(PurePosixPath(MANIFEST), "main", branch)
        assert main is not None
        path = PurePosixPath(MANIFEST)
        return remote.push(branch, tip.commit if tip else None, main.commit, path, text, "A push of the bot")
    finally:
        remote.close()


def test_the_forge_merges_what_the_bot_may_not(gitea: Gitea, tmp_path: Path) -> None:
    protected(gitea)
    proposal = propose(AUTOMATIC, work(tmp_path / "work", 3))
    assert proposal["outcome"] == "pushed"
    assert proposal["merge"].startswith("by the forge")
    assert urlsplit(proposal["url"]).path.startswith(f"/{gitea.owner}/{gitea.name}/pulls/")
    assert gitea.named().version == "0"

    # Once more asks for nothing new; and the bot's own login reaches no other branch.
    assert propose(AUTOMATIC, tmp_path / "work")["outcome"] == "proposed already"
    for branch in ("main", "other", "promote"):
        with pytest.raises(RepositoryError, match="refuses the push"):
            push(gitea, branch)
    with on_forge("gitea", gitea.url, gitea.token) as forge:
        guard = forge.protection("main")
    assert (guard.is_protected, guard.checks, guard.may_push) == (True, (CHECK,), False)
    assert gitea.named().version == "0"

    assert gitea.checked(proposal["commit"]) == "success"
    until("the forge has merged", lambda: gitea.named() == Named("3", sha256_of(3)))
    assert propose(AUTOMATIC, tmp_path / "work")["outcome"] == "named already"


def test_another_change_of_the_bot_is_not_merged(gitea: Gitea, tmp_path: Path) -> None:
    protected(gitea)
    propose(AUTOMATIC, work(tmp_path / "work", 3))
    evil = push(gitea, "promote/churn", (ROOT / MANIFEST).read_text().replace("image: serving", "image: evil"))
    assert gitea.checked(evil) == "failure"
    merge = f"/api/v1{gitea.repo}/pulls/1/merge"
    with httpx.Client(headers={"Authorization": f"token {gitea.token}"}, trust_env=False) as bot:
        for asked in ({"Do": "merge"}, {"Do": "merge", "force_merge": True}):
            assert not bot.post(f"{gitea.origin}{merge}", json=asked).is_success
    assert gitea.named().version == "0"


def test_a_main_without_a_required_check_is_refused(gitea: Gitea, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="main requires no check"):
        propose(AUTOMATIC, work(tmp_path / "work", 3))
    with on_forge("gitea", gitea.url, gitea.token) as forge:
        guard = forge.protection("main")
    assert (guard.is_protected, guard.checks, guard.may_push) == (False, (), True)
    assert gitea.named().version == "0"
    assert "url" in propose(CHURN, tmp_path / "work")

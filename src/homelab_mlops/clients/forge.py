"""GitHub, Gitea or Forgejo, and GitLab: a pull request per model, kept up to date, and what guards the branch below."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from homelab_mlops.errors import RepositoryError

FORGES = ("none", "github", "gitea", "gitlab")
HOSTS = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "gitea"}
MERGING = ("github", "gitea")
"""The forges that merge a pull request by themselves once its required checks have passed."""
SECONDS = 20.0
# Gitea takes some seconds to record a push, and until then it has no pull request for the branch.
RECORDED_SECONDS = 15.0
NOT_FOUND, CONFLICT = 404, 409
_AUTO_MERGE = """mutation($id: ID!) {
  enablePullRequestAutoMerge(input: {pullRequestId: $id, mergeMethod: MERGE}) { pullRequest { number } }
}"""


def forge_of(repository: str, given: str) -> str:
    """The kind of forge: the one given, or that of a well-known host, or ``none``.

    Raises:
        RepositoryError: ``given`` is no kind of forge.
    """
    if given and given not in FORGES:
        raise RepositoryError(
            f"{given!r} is no forge", where="the ConfigMap promotion", fix=f"one of {', '.join(FORGES)}"
        )
    return given or HOSTS.get(urlsplit(repository).hostname or "", "none")


@dataclass(frozen=True)
class Protection:
    """What a forge says of a branch.

    Attributes:
        is_protected: whether not everybody who may write may push to it.
        checks: what has to pass before a pull request is merged into it.
        may_push: whether the asker may push to it; None where the forge does not say.
    """

    is_protected: bool
    checks: tuple[str, ...]
    may_push: bool | None = None


class Forge:
    """A repository on a forge, asked with a token, or without one where everybody may read it."""

    def __init__(self, kind: str, repository: str, token: str = "", seconds: float = SECONDS) -> None:
        address = urlsplit(repository)
        path = address.path.strip("/").removesuffix(".git")
        origin = f"{address.scheme}://{address.hostname}{f':{address.port}' if address.port else ''}"
        self.kind, self.owner = kind, path.partition("/")[0]
        self._graphql, headers = "", {}
        if kind == "github":
            api = "https://api.github.com" if address.hostname == "github.com" else f"{origin}/api/v3"
            self._graphql = f"{api.removesuffix('/v3')}/graphql"
            self._api, self._pulls = f"{api}/repos/{path}", "pulls"
            headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
            login = {"Authorization": f"Bearer {token}"}
        elif kind == "gitea":
            self._api, self._pulls = f"{origin}/api/v1/repos/{path}", "pulls"
            login = {"Authorization": f"token {token}"}
        else:
            self._api, self._pulls = f"{origin}/api/v4/projects/{quote(path, safe='')}", "merge_requests"
            login = {"PRIVATE-TOKEN": token}
        self._client = httpx.Client(headers={**headers, **(login if token else {})}, timeout=seconds)

    def close(self) -> None:
        self._client.close()

    def pull_request(self, branch: str, base: str, title: str, body: str) -> dict[str, Any]:
        """Opens the pull request from ``branch``, or brings the open one up to date; returns it.

        Raises:
            RepositoryError: the forge refuses, or is away.
        """
        api = f"{self._api}/{self._pulls}"
        if self.kind == "gitlab":
            query = {"state": "opened", "source_branch": branch, "target_branch": base}
            update = {"title": title, "description": body}
            new = {"source_branch": branch, "target_branch": base, **update}
        else:
            mine = {"head": f"{self.owner}:{branch}", "base": base} if self.kind == "github" else {"limit": "50"}
            query, update = {"state": "open", **mine}, {"title": title, "body": body}
            new = {"head": branch, "base": base, **update}
        change = "PUT" if self.kind == "gitlab" else "PATCH"
        for item in _content(self._recorded("GET", api, params=query)):
            if _head(item) == branch:
                return dict(self._ask(change, f"{api}/{_number(item)}", json=update))
        return dict(_content(self._recorded("POST", api, json=new)))

    def _recorded(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """The answer of the forge once it has recorded the push of the branch."""
        until = time.monotonic() + (RECORDED_SECONDS if self.kind == "gitea" else 0)
        while True:
            answer = self._answer(method, url, **arguments)
            if answer.status_code != NOT_FOUND or time.monotonic() > until:
                return answer
            time.sleep(1)

    def merge_when_checked(self, pull: dict[str, Any]) -> None:
        """Lets the forge merge a pull request by itself once its required checks have passed.

        Raises:
            RepositoryError: the forge refuses, or is away.
        """
        if self.kind == "github":
            asked = {"query": _AUTO_MERGE, "variables": {"id": pull["node_id"]}}
            answer = self._ask("POST", self._graphql, json=asked)
            if answer.get("errors"):
                said = "; ".join(str(item.get("message")) for item in answer["errors"])
                raise self._refusal(f"the forge does not merge by itself: {said[:200]}", pull)
            return
        url = f"{self._api}/{self._pulls}/{_number(pull)}/merge"
        answer = self._answer("POST", url, json={"Do": "merge", "merge_when_checks_succeed": True})
        # Gitea answers 409 where this has been asked before.
        if not answer.is_success and answer.status_code != CONFLICT:
            raise self._refusal(f"the forge does not merge by itself: {answer.text.strip()[:200]}", pull)

    def _refusal(self, what: str, pull: dict[str, Any]) -> RepositoryError:
        return RepositoryError(
            what,
            where=link_of(pull),
            fix="the pull request is open; allow auto-merge in the repository's settings, or merge it by hand",
        )

    def protection(self, branch: str) -> Protection:
        """What guards a branch.

        Raises:
            RepositoryError: the forge refuses, or is away.
        """
        name = quote(branch, safe="")
        if self.kind == "gitlab":
            found = self._ask("GET", f"{self._api}/repository/branches/{name}")
            return Protection(bool(found["protected"]), (), found.get("can_push"))
        found = self._ask("GET", f"{self._api}/branches/{name}")
        if self.kind == "gitea":
            checks = found.get("status_check_contexts") or [] if found.get("enable_status_check") else []
            return Protection(bool(found["protected"]), tuple(checks), found.get("user_can_push"))
        # GitHub refuses this for a private repository of a plan without rulesets, and then there are none.
        answer = self._answer("GET", f"{self._api}/rules/branches/{name}")
        rules = answer.json() if answer.is_success else []
        required = (found.get("protection") or {}).get("required_status_checks") or {}
        checks = [*(required.get("contexts") or []), *_required(rules)]
        guarded = any(item.get("type") in ("pull_request", "required_status_checks", "update") for item in rules)
        return Protection(bool(found["protected"]) or guarded, tuple(dict.fromkeys(checks)))

    def _ask(self, method: str, url: str, **arguments: Any) -> Any:
        return _content(self._answer(method, url, **arguments))

    def _answer(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            return self._client.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise _away(url, error) from error


@contextmanager
def on_forge(kind: str, repository: str, token: str = "", seconds: float = SECONDS) -> Iterator[Forge]:
    """A repository on a forge, while the block lasts; each answer may take ``seconds``."""
    forge = Forge(kind, repository, token, seconds)
    try:
        yield forge
    finally:
        forge.close()


def link_of(pull: dict[str, Any]) -> str:
    """The address of a pull request."""
    return str(pull["web_url"] if "web_url" in pull else pull["html_url"])


def _content(answer: httpx.Response) -> Any:
    url = str(answer.request.url)
    if answer.is_success:
        try:
            return answer.json()
        except ValueError as error:
            raise _away(url, error) from error
    raise RepositoryError(
        f"the forge refuses ({answer.status_code}): {answer.text.strip()[:200]}",
        where=f"{answer.request.method} {url}",
        fix="allow the token to read the repository and to open pull requests; a branch that is pushed stays",
        transient=answer.status_code >= 500 or answer.status_code == 429,
    )


def _away(url: str, error: Exception) -> RepositoryError:
    return RepositoryError(
        f"the forge does not answer: {type(error).__name__}", where=url, fix="look whether it runs", transient=True
    )


def _required(rules: list[dict[str, Any]]) -> list[str]:
    """The checks that the rulesets of GitHub require."""
    parameters = [item.get("parameters") or {} for item in rules if item.get("type") == "required_status_checks"]
    return [str(check["context"]) for item in parameters for check in item.get("required_status_checks") or []]


def _head(item: dict[str, Any]) -> Any:
    return item["source_branch"] if "source_branch" in item else item["head"]["ref"]


def _number(item: dict[str, Any]) -> Any:
    return item["iid"] if "iid" in item else item["number"]

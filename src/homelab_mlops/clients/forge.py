"""Pull requests on GitHub, Gitea or Forgejo, and GitLab: one per model, opened once and then kept up to date."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from homelab_mlops.errors import RepositoryError

FORGES = ("none", "github", "gitea", "gitlab")
HOSTS = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "gitea"}
SECONDS = 20.0


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


def pull_request(kind: str, repository: str, token: str, branch: str, base: str, title: str, body: str) -> str:
    """Opens the pull request from ``branch``, or brings the open one up to date; returns its address.

    Raises:
        RepositoryError: the forge refuses, or is away.
    """
    address = urlsplit(repository)
    path = address.path.strip("/").removesuffix(".git")
    origin = f"{address.scheme}://{address.hostname}{f':{address.port}' if address.port else ''}"
    owner = path.partition("/")[0]
    if kind == "github":
        api = "https://api.github.com" if address.hostname == "github.com" else f"{origin}/api/v3"
        api, headers = f"{api}/repos/{path}/pulls", {"Authorization": f"Bearer {token}"}
        headers |= {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        query = {"state": "open", "head": f"{owner}:{branch}", "base": base}
        new, number, change = {"head": branch, "base": base, "title": title, "body": body}, "number", "PATCH"
        update, link = {"title": title, "body": body}, "html_url"
    elif kind == "gitea":
        api, headers = f"{origin}/api/v1/repos/{path}/pulls", {"Authorization": f"token {token}"}
        query = {"state": "open", "limit": "50"}
        new, number, change = {"head": branch, "base": base, "title": title, "body": body}, "number", "PATCH"
        update, link = {"title": title, "body": body}, "html_url"
    else:
        api = f"{origin}/api/v4/projects/{quote(path, safe='')}/merge_requests"
        headers = {"PRIVATE-TOKEN": token}
        query = {"state": "opened", "source_branch": branch, "target_branch": base}
        new = {"source_branch": branch, "target_branch": base, "title": title, "description": body}
        number, change, update, link = "iid", "PUT", {"title": title, "description": body}, "web_url"
    with httpx.Client(headers=headers, timeout=SECONDS) as client:
        found = [item for item in _ask(client, "GET", api, params=query) if _head(item) == branch]
        if found:
            return str(_ask(client, change, f"{api}/{found[0][number]}", json=update)[link])
        return str(_ask(client, "POST", api, json=new)[link])


def _head(item: dict[str, Any]) -> Any:
    return item["source_branch"] if "source_branch" in item else item["head"]["ref"]


def _ask(client: httpx.Client, method: str, url: str, **arguments: Any) -> Any:
    try:
        answer = client.request(method, url, **arguments)
        if answer.is_success:
            return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise RepositoryError(
            f"the forge does not answer: {type(error).__name__}", where=url, fix="look whether it runs", transient=True
        ) from error
    raise RepositoryError(
        f"the forge refuses ({answer.status_code}): {answer.text.strip()[:200]}",
        where=f"{method} {url}",
        fix="the branch is pushed; allow the token to open pull requests, or open it by hand",
        transient=answer.status_code >= 500 or answer.status_code == 429,
    )

"""The address of this clone's remote `origin`, as Argo CD reads it."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_mlops.clients import git
from homelab_mlops.errors import ToolError, without_login
from homelab_mlops.gitops import names

# Where forges answer SSH on port 443, and where they answer HTTPS.
_BY_SSH = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}


def origin(root: Path) -> str:
    """What git calls ``origin`` in the clone whose top is ``root``; empty where there is none."""
    try:
        top = git.run(root, "rev-parse", "--show-toplevel")
        url = git.run(root, "remote", "get-url", "origin")
    except ToolError:
        return ""
    if top.returncode or url.returncode or Path(top.stdout.rstrip("\n")).resolve() != root.resolve():
        return ""
    return url.stdout.strip()


def readable(url: str) -> str:
    """The https:// or http:// address of a remote, without a login; empty where Argo CD could not read it so."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if separator and scheme in {"https", "http"}:
        found = _complete(without_login(f"{scheme}://{rest}").rstrip("/"))
    elif separator and scheme in {"ssh", "git+ssh"}:
        host, _, path = rest.rpartition("@")[2].partition("/")
        found = _by_https(re.sub(r":\d+$", "", host), path)
    elif not separator and (match := re.fullmatch(r"(?:[^@/:\s]+@)?([^/:\s]+):(.+)", url)):
        found = _by_https(match[1], match[2])
    else:
        return ""
    try:
        return names.repository(found)
    except ValueError:
        return ""


def _by_https(host: str, path: str) -> str:
    # A host without a dot may be a name of the SSH configuration; Azure has other paths by SSH.
    if "." not in host or host.endswith((".visualstudio.com", "ssh.dev.azure.com")):
        return ""
    return f"https://{_BY_SSH.get(host, host)}/{path.strip('/').removesuffix('.git')}.git"


def _complete(url: str) -> str:
    """The address with ``.git`` where GitLab would redirect, which Argo CD does not follow."""
    host = url.split("/")[2] if url.count("/") > 2 else ""
    return url if url.endswith(".git") or "gitlab" not in host else f"{url}.git"

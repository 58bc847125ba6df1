"""Addresses and revisions of git repositories: the many ways to write one."""

from __future__ import annotations

import re


def same_address(url: object) -> str:
    """The part of an address that tells repositories apart: no scheme, login, usual port or ``.git``; the host in small
    letters."""
    text = str(url or "").strip()
    scp = re.match(r"^(?:[^@/\s]+@)?([^:/\s]+):(?!//)(.+)$", text)
    if scp and "://" not in text:
        host, path = scp[1], scp[2]
    else:
        rest = re.sub(r"^[a-z+]+://", "", text, flags=re.IGNORECASE)
        host, _, path = re.sub(r"^[^/@]*@", "", rest).partition("/")
        host = re.sub(r":(443|80|22)$", "", host)
    return f"{host.lower()}/{path.strip('/').removesuffix('.git').rstrip('/')}"


def branch(revision: object) -> str:
    """A revision without ``refs/heads/``; ``HEAD`` where it is empty."""
    return str(revision or "HEAD").removeprefix("refs/heads/").removeprefix("refs/tags/") or "HEAD"

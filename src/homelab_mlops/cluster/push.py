"""What `git push` does with a commit from here, as far as this clone knows without asking the remote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from homelab_mlops.clients import git
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.argo_cd.addresses import branch, same_address
from homelab_mlops.gitops.render import applications


class Push(NamedTuple):
    """What a push does.

    Attributes:
        arrives: whether Argo CD deploys what is pushed from here.
        does: what it does, and what to do where that is not enough; a sentence a line.
        beside: what a person should know beside that, before the commit.
    """

    arrives: bool
    does: str
    beside: list[str]


def followed(root: Path, path: str) -> tuple[str, str]:
    """Repository and branch that Argo CD follows for the folder ``path``.

    Raises:
        RepositoryError: no Application renders it.
    """
    for application in applications(root):
        source = application["spec"].get("source") or {}
        if str(source.get("path", "")).strip("/") == path:
            return str(source["repoURL"]), branch(source.get("targetRevision"))
    raise RepositoryError(f"no Application renders {path}", where="apps", fix="bring its file back from git")


def push_of(root: Path, path: str) -> Push:
    """What a push does with a change of the folder ``path`` that is committed here.

    Raises:
        RepositoryError: no Application renders it, or the commit would have no place: a merge or a rebase goes on.
    """
    repository, target = followed(root, path)
    _refuse_unfinished(root)
    here = _said(root, "symbolic-ref", "--short", "HEAD")
    beside = _uncommitted(root)
    if not here:
        does = (
            f"HEAD is detached, and Argo CD follows the branch {target}: `git push` sends nothing. "
            f"`git push origin HEAD:{target}` makes it serve, `git switch -c NAME` keeps it on a branch."
        )
        return Push(False, does, beside)
    if target not in (here, "HEAD"):
        does = (
            f"You are on the branch {here}, and Argo CD follows {target}: `git push` makes nothing serve "
            f"until {here} is merged into {target}."
        )
        return Push(False, does, beside)
    upstream = _said(root, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{push}")
    if not upstream:
        does = f"The branch {here} has no upstream: `git push --set-upstream origin {here}` makes it serve."
        return Push(True, does, beside)
    remote = _said(root, "config", f"branch.{here}.pushRemote") or _said(root, "config", f"branch.{here}.remote")
    url = _said(root, "remote", "get-url", "--push", remote) if remote else ""
    sent_to = upstream.removeprefix(f"{remote}/")
    if url and same_address(url) != same_address(repository):
        does = f"`git push` sends it to {url}, and Argo CD reads {repository}: it serves once it is there."
        return Push(False, does, beside)
    if target != "HEAD" and sent_to != target:
        does = (
            f"`git push` sends it to the branch {sent_to}, and Argo CD follows {target}: "
            f"`git push {remote} HEAD:{target}` makes it serve."
        )
        return Push(False, does, beside)
    if behind := int(_said(root, "rev-list", "--count", f"HEAD..{upstream}") or 0):
        does = (
            f"{upstream} has {behind} commits that are not here, as of the last fetch, so `git push` is refused: "
            "`git pull --rebase && git push` makes it serve."
        )
        return Push(True, does, beside)
    ahead = int(_said(root, "rev-list", "--count", f"{upstream}..HEAD") or 0)
    if ahead:
        beside.append(f"`git push` also sends {ahead} earlier commits of {here} that {upstream} does not have.")
    return Push(True, "`git push` makes it serve.", beside)


def _refuse_unfinished(root: Path) -> None:
    """Raises RepositoryError in the middle of a merge or a rebase, where a commit of one file has no place."""
    folder = Path(_said(root, "rev-parse", "--absolute-git-dir"))
    for file, what in (
        ("MERGE_HEAD", "merge"),
        ("rebase-merge", "rebase"),
        ("rebase-apply", "rebase"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("BISECT_LOG", "bisect"),
    ):
        if (folder / file).exists():
            fix = "git bisect reset" if what == "bisect" else f"git {what} --continue, or git {what} --abort"
            raise RepositoryError(f"a git {what} is not finished here", where=str(root), fix=fix)


def _uncommitted(root: Path) -> list[str]:
    listed = git.output(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if not listed:
        return []
    first = re.sub(r"^.. ?", "", listed[0].strip())
    more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return [f"Not committed, so neither this commit nor a push has them: {first}{more}."]


def _said(root: Path, *arguments: str) -> str:
    """What git answers; nothing where it has no answer."""
    done = git.run(root, *arguments)
    return "" if done.returncode else done.stdout.strip()

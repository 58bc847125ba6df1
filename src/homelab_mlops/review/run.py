"""Finds the two sides of a review."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.argo_cd.trees import WORKING_TREE, Git, Tree
from homelab_mlops.location import SETTINGS, find_root
from homelab_mlops.review.visible import visible

_FETCH = "fetch it (`git fetch --unshallow origin`), or name a commit: `homelab diff BASE`"


@contextmanager
def sides(root: Path, base: str | None, head: str | None) -> Iterator[tuple[Tree, Tree]]:
    """The two trees to compare, until the block ends; nothing of the clone changes.

    Raises:
        RepositoryError: the folder is no clone, or the clone lacks a commit.
    """
    base, head, is_forked = split_range(base, head)
    with (
        tempfile.TemporaryDirectory(prefix="homelab-diff-", dir=_fast_folder()) as folder,
        Git(root, Path(folder).resolve()) as git,
    ):
        git.named = [name for name in (base, head) if name]
        last = tip = git.commit("HEAD") if head is None else _commit(git, head)
        if base is None:
            base_commit = _merge_base(git, root, last)
        else:
            base_commit = _commit(git, base)
            if is_forked and last is not None:
                base_commit = git.merge_base(base_commit, last) or base_commit
        with ThreadPoolExecutor(max_workers=1) as pool:
            label = "merge base" if base is None else base
            writing = pool.submit(_written, git, _label(label, base_commit), base_commit, base_commit)
            if head is None or tip is None:
                new = _written(git, WORKING_TREE, git.snapshot(), None)
            elif tip == base_commit:
                new = replace(writing.result(), label=_label(head, tip))
            else:
                new = _written(git, _label(head, tip), tip, tip)
            old = writing.result()
        yield old, new


def _written(git: Git, label: str, name: str, commit: str | None) -> Tree:
    """A tree whose files are being written into a folder of their own."""
    tree = git.tree(label, name, commit)
    git.begin(tree)
    return tree


def here() -> Path:
    """The repository around the current folder: that of a cluster, or any other one that Argo CD follows."""
    try:
        return find_root()
    except RepositoryError:
        here = Path.cwd()
        top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
        if top is None:
            raise
        return top


def _fast_folder() -> str | None:
    """A folder in memory, where there is plenty, since hundreds of small files are written and deleted."""
    memory = Path("/dev/shm")  # noqa: S108
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30:
        return str(memory)
    return None


def _commit(git: Git, name: str) -> str:
    commit = git.commit(name) or git.commit(f"origin/{name}")
    if commit is None:
        raise RepositoryError(f"the commit {name!r} is not here", where=str(git.root), fix=_FETCH)
    return commit


def _label(name: str, commit: str) -> str:
    return commit[:10] if commit.startswith(name) else f"{visible(name)} ({commit[:10]})"


def _merge_base(git: Git, root: Path, last: str | None) -> str:
    settings = root / SETTINGS
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    declared = re.search(r"^branch:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    branch = declared[1] if declared else "main"
    main = git.commit(f"origin/{branch}") or git.commit(branch)
    found = git.merge_base(main, last) if main and last else None
    if found is None:
        what = f"the branch {branch!r} is not here" if main is None else f"no common commit with {branch!r} is here"
        raise RepositoryError(what, where=str(git.root), fix=_FETCH)
    return found


def split_range(base: str | None, head: str | None) -> tuple[str | None, str | None, bool]:
    """The names of both sides, and whether the base is their common commit: ``A..B`` and ``A...B`` name two commits.

    Raises:
        RepositoryError: a range and a second commit are given.
    """
    dots = re.fullmatch(r"(.*?)(\.{2,3})(.*)", base or "")
    if dots is None:
        return base, head, False
    if head is not None:
        raise RepositoryError(f"{base} names two commits already", where=head, fix=f"`homelab diff {base}`")
    return dots[1] or "HEAD", dots[3] or "HEAD", dots[2] == "..."

"""Holds a branch of the bot to what it is for: one commit that names a newer version of one model, and its bytes.

The forge merges such a branch by itself once this has passed, so it refuses whatever it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from homelab_mlops.clients import git
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.policies import Violation
from homelab_mlops.model.promotion import FOLDER, Named, named_by, naming

FILE = "100644"
_FETCH = "git fetch origin, or name other commits"


def promotion_violations(root: Path, span: str) -> tuple[list[Violation], str]:
    """What of the commits ``BASE..HEAD`` is no promotion, and a line that says what was looked at.

    Raises:
        RepositoryError: ``span`` names no two commits of the repository, or the registry was asked in vain.
    """
    base, head = _commits(root, span)
    start = _merge_base(root, base, head)
    found = [Violation("promotion", where, what) for where, what in _history(root, start, head)]
    changes = _changes(root, start, head)
    found += [Violation("promotion", where, what) for where, what in _files(changes)]
    if found:
        return found, ""
    path = changes[0].path
    problems, now = _lines(root, path, (start, base), head)
    found = [Violation("promotion", path, what) for what in problems]
    if found or now is None:
        return found, ""
    model = Path(path).stem
    missing, looked = _registered(model, now)
    found = [Violation("promotion", path, missing)] if missing else []
    return found, f"promotion: {model} to version {now.version}, sha256 {now.sha256}; {looked}"


def _commits(root: Path, span: str) -> tuple[str, str]:
    base, dots, head = span.partition("..")
    if not base or not dots or not head or head.startswith("."):
        raise RepositoryError(f"{span!r} names no two commits", fix="homelab check --promotion origin/main..HEAD")
    return _commit(root, base), _commit(root, head)


def _commit(root: Path, name: str) -> str:
    done = git.run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise RepositoryError(f"the commit {name!r} is not here", where=str(root), fix=_FETCH)
    return done.stdout.strip()


def _merge_base(root: Path, base: str, head: str) -> str:
    done = git.run(root, "merge-base", base, head)
    if done.returncode:
        raise RepositoryError("the two have no common commit here", where=f"{base[:10]}..{head[:10]}", fix=_FETCH)
    return done.stdout.strip()


def _history(root: Path, start: str, head: str) -> Iterator[tuple[str, str]]:
    """Each commit of the branch becomes one of main's, and code of it could be run: so there is one, of one parent."""
    commits = git.output(root, "rev-list", "--parents", f"{start}..{head}").splitlines()
    if len(commits) != 1 or commits[0].split() != [head, start]:
        yield head[:10], f"the branch has {len(commits)} commits beyond {start[:10]}; a promotion is exactly one"


class _Change:
    """A file that differs, with its modes and the letter that git has for what happened."""

    def __init__(self, fields: str, path: str) -> None:
        self.before, self.after, _, _, self.letter = fields.lstrip(":").split()
        self.path = path


def _changes(root: Path, start: str, head: str) -> list[_Change]:
    raw = git.output(root, "diff-tree", "-r", "-z", "--no-renames", "--raw", start, head).strip("\0")
    parts = raw.split("\0") if raw else []
    return [_Change(fields, path) for fields, path in zip(parts[::2], parts[1::2], strict=True)]


def _files(changes: list[_Change]) -> Iterator[tuple[str, str]]:
    if not changes:
        yield "the branch", "it changes nothing"
    for change in changes:
        path = Path(change.path)
        if path.parent.as_posix() != str(FOLDER) or path.suffix != ".yaml":
            yield change.path, f"a promotion changes a model's manifest in {FOLDER} only"
        elif change.letter != "M" or (change.before, change.after) != (FILE, FILE):
            yield change.path, "it is added, removed, or another kind of file"
    if len(changes) > 1:
        yield "the branch", f"it changes {len(changes)} files; a promotion changes one"


def _lines(root: Path, path: str, before: tuple[str, ...], head: str) -> tuple[list[str], Named | None]:
    """What is wrong with the change of a model's manifest, against each commit of ``before``; and what it names now."""
    text = _text(root, head, path)
    try:
        now = named_by(text, path)
        was = [(_text(root, commit, path), named_by(_text(root, commit, path), path)) for commit in before]
        # By git's own hash of the bytes: a text that is read has no carriage returns.
        expected = git.run(root, "hash-object", "--stdin", data=naming(was[0][0], now, path)).stdout.strip()
        same = expected == git.output(root, "rev-parse", f"{head}:{path}")
    except RepositoryError as error:
        return [f"it is no manifest whose version may change: {error.what}"], None
    problems = [] if same else ["other lines than the version and the SHA-256 change"]
    newest = max(int(named.version) for _, named in was)
    if int(now.version) <= newest:
        problems.append(f"it goes from version {newest} to {now.version}, not forward; `git revert` is the way back")
    if now.unpinned:
        problems.append(f"it names version {now.version} without the SHA-256 of its files")
    return problems, now


def _text(root: Path, commit: str, path: str) -> str:
    done = git.run(root, "cat-file", "blob", f"{commit}:{path}")
    if done.returncode:
        raise RepositoryError(f"{commit[:10]} has no {path}", where=str(root), fix=_FETCH)
    return done.stdout


def _registered(model: str, now: Named) -> tuple[str, str]:
    """Why the registry does not know the version, or nothing; and whether it was asked."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return "", "whether the registry has it was not asked: MLFLOW_TRACKING_URI is not set, and a pod asks again"
    from homelab_mlops.clients.mlflow import ModelRegistry

    with ModelRegistry.of_environment() as registry:
        known = {item.version: item for item in registry.versions(model)}
    if now.version not in known:
        return f"the registry has no version {now.version} of {model}", ""
    recorded = known[now.version].sha256
    if recorded != now.sha256:
        return f"its training recorded the SHA-256 {recorded or 'of no files'}, not {now.sha256}", ""
    return "", "the registry has it"

"""The two sides of a review as git trees: a commit, or the working tree with what is not committed yet.

Nothing of the user's clone is touched: git hashes the working tree into an index and an object database of our own.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from homelab_mlops.clients import git
from homelab_mlops.errors import RepositoryError

_OWN = "src/homelab_mlops/__init__.py"
WORKING_TREE = "working tree"
# Argo CD reads the pointers of git-lfs, and what git-crypt has encrypted, as they are.
_UNFILTERED = [
    f"filter.{name}.{key}" for name in ("lfs", "git-crypt") for key in ("smudge=", "process=", "required=false")
]
SYMLINK, SUBMODULE = "120000", "160000"


class Entry(NamedTuple):
    """A file or folder of a tree."""

    mode: str
    kind: str
    id: str


class Git:
    """Runs git in a clone, with an object database of its own for what is not committed, until the block ends."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.work = work
        top, prefix, index, objects = self._line(
            "rev-parse", "--show-toplevel", "--show-prefix", "--git-path", "index", "--git-path", "objects"
        ).split("\n")
        self.top = Path(top)
        self.named: list[str] = []
        self.prefix = prefix
        self._index = root / index
        self._objects = root / objects
        self._commits: dict[str, str | None] = {}
        self._indexes: dict[str, Future[Path]] = {}
        self._folders: dict[str, Future[Path]] = {}
        self._first: Tree | None = None
        self.texts: dict[tuple[str, Entry, str], str] = {}
        self.marked: dict[tuple[str, Entry, str, str], bool] = {}
        self._reader = ThreadPoolExecutor(max_workers=4)
        self._origin = self._reader.submit(self, "config", "--get", "remote.origin.url", ok=1)
        (work / "objects").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __call__(self, *arguments: str, data: str | None = None, index: Path | None = None, ok: int = 0) -> str:
        """What a git command prints; exit codes up to ``ok`` are answers.

        Raises:
            RepositoryError: it fails.
        """
        environment = {}
        if index is not None:
            alternates = [str(self._objects.resolve()), os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")]
            environment = {
                "GIT_INDEX_FILE": str(index),
                "GIT_OBJECT_DIRECTORY": str(self.work / "objects"),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(filter(None, alternates)),
            }
        quiet = ("-c", "core.fsmonitor=false", "-c", "advice.addEmbeddedRepo=false")
        done = git.run(self.root, *quiet, *arguments, seconds=None, environment=environment, data=data)
        if done.returncode > ok or done.returncode < 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            name = next(item for item in arguments if item != "-c" and "=" not in item)
            raise RepositoryError(f"git {name} fails: {reason.removeprefix('fatal: ')}", where=str(self.root))
        return done.stdout

    def _line(self, *arguments: str) -> str:
        return self(*arguments).removesuffix("\n")

    def commit(self, name: str) -> str | None:
        """The id of a commit by its name, or None where there is none."""
        if name not in self._commits:
            found = self("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", ok=1).strip()
            self._commits[name] = found or None
        return self._commits[name]

    def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that both build on, or None where there is none here."""
        return self("merge-base", one, other, ok=1).strip() or None

    @property
    def origin(self) -> str:
        """The address that the clone fetches from; empty where it has none."""
        return self._origin.result().strip()

    @property
    def branches(self) -> list[str]:
        """The branches of the review: those that were named, and the one of the clone."""
        own = self("symbolic-ref", "--quiet", "--short", "HEAD", ok=1).strip()
        return [name.removeprefix("origin/") for name in (*self.named, own)]

    def is_shallow(self) -> bool:
        """Whether the clone lacks older commits."""
        return self._line("rev-parse", "--is-shallow-repository") == "true"

    def snapshot(self) -> str:
        """The id of a tree that holds the working tree: changed, staged and untracked files, without ignored ones."""
        index = self.work / "index"
        if self._index.is_file():
            shutil.copy2(self._index, index)
        self("add", "--all", "--", ":/", index=index)
        name = self("write-tree", "--missing-ok", index=index).strip()
        self._indexes[name] = self._reader.submit(lambda: index)
        return name

    def tree(self, label: str, name: str, commit: str | None) -> Tree:
        """The tree ``name``, below the folder of the repository's root."""
        if name not in self._indexes:
            self._indexes[name] = self._reader.submit(self._index_of, name)
        listed = self("ls-tree", "-r", "-t", "-z", "--full-tree", name, index=self.work / "index")
        entries = {}
        for line in listed.split("\0"):
            if line:
                meta, _, path = line.partition("\t")
                if path.startswith(self.prefix):
                    entries[path.removeprefix(self.prefix)] = Entry(*meta.split(" "))
        return Tree(self, label, name, commit, entries)

    def _index_of(self, name: str) -> Path:
        """An index with the files of a tree."""
        index = self.work / f"index-{name}"
        self("read-tree", name, index=index)
        return index

    def begin(self, tree: Tree) -> Future[Path]:
        """The folder of the files of a tree, which are being written from the first call on."""
        if tree.id not in self._folders:
            self._folders[tree.id] = self._reader.submit(self._export, tree, self._first)
            self._first = self._first or tree
        return self._folders[tree.id]

    def _export(self, tree: Tree, other: Tree | None) -> Path:
        """Writes the files of ``tree`` into a folder, as a checkout would. What ``other`` has too becomes a link to its
        file."""
        folder = self.work / tree.id
        folder.mkdir()
        files = [path for path, entry in tree.entries.items() if entry.kind == "blob" and tree.is_needed(path)]
        if other is not None and other.attributes == tree.attributes:
            source = self._folders[other.id].result()
            same = {path for path in files if _is_same_file(other.entries.get(path), tree.entries[path])}
            files = [path for path in files if path not in same or not _linked(self.prefix + path, source, folder)]
        try:
            self._check_out(folder, files, self._indexes[tree.id].result())
            is_whole = all(os.path.lexists(folder / self.prefix / path) for path in files)
        except RepositoryError:
            is_whole = False
        if not is_whole:  # the index of a sparse checkout has files that are not checked out
            self._check_out(folder, files, self._index_of(tree.id))
        return folder

    def _check_out(self, folder: Path, files: list[str], index: Path) -> None:
        names = "\0".join(f"{self.prefix}{path}" for path in files)
        options = (part for item in _UNFILTERED for part in ("-c", item))
        command = (*options, "checkout-index", "--force", "--quiet", "-z", "--stdin", f"--prefix={folder}/")
        if files:
            self(*command, data=names, index=index)


def _is_same_file(one: Entry | None, other: Entry) -> bool:
    return one == other and other.mode != SYMLINK


def _linked(path: str, source: Path, target: Path) -> bool:
    """Makes a file of one folder one of another folder, too. Nothing may write into it."""
    file = target / path
    try:
        if not file.parent.is_dir():
            file.parent.mkdir(parents=True)
        file.hardlink_to(source / path)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Tree:
    """One side: the files of a commit or of the working tree."""

    git: Git
    label: str
    id: str
    commit: str | None
    entries: dict[str, Entry] = field(repr=False)
    kustomizations: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def folder(self) -> Path:
        """The folder of its files, which is written on first use."""
        return self.git.begin(self).result() / self.git.prefix

    def is_needed(self, path: str) -> bool:
        """Whether a file may be part of what is rendered or reviewed; this tool's own tests, code and pages are not."""
        return not (_OWN in self.entries and path.startswith(("tests/", "src/", "docs/")))

    def read(self, path: str) -> str | None:
        """The text of a file, or None where the side has none; a link out of the repository is none."""
        if path not in self.entries or self.is_outside(path):
            return None
        if self.links or self.entries[path].kind != "blob":
            linked = self.folder / path
            return linked.read_text(encoding="utf-8", errors="replace") if linked.is_file() else None
        key = path, self.entries[path], self._written
        if key not in self.git.texts and self.is_needed(path):
            self.git.texts[key] = (self.folder / path).read_text(encoding="utf-8", errors="replace")
        return self.git.texts.get(key)

    @cached_property
    def links(self) -> set[str]:
        """The symbolic links, and the submodules."""
        return {path for path, entry in self.entries.items() if entry.mode in (SYMLINK, SUBMODULE)}

    @cached_property
    def attributes(self) -> dict[str, Entry]:
        """The files that say how git writes the others."""
        return {path: entry for path, entry in self.entries.items() if path.endswith(".gitattributes")}

    @cached_property
    def _written(self) -> str:
        """The way in which git writes files: where it is the same, a path and an id stand for one content."""
        return repr(sorted(self.attributes.items()))

    def has_links(self, folder: str) -> bool:
        """Whether a symbolic link or a submodule lies below a folder."""
        start = "" if folder in ("", ".") else f"{folder.rstrip('/')}/"
        return any(path.startswith(start) for path in self.links)

    def is_outside(self, path: str) -> bool:
        """Whether a link leads out of the repository."""
        linked = any(part in self.links for part in _prefixes(path)) if self.links else False
        return linked and not (self.folder / path).resolve().is_relative_to(self.folder.resolve())

    def declaring(self, text: str) -> list[str]:
        """The needed YAML and JSON files that contain a text."""
        files = (path for path, entry in self.entries.items() if entry.kind == "blob" and entry.mode != SYMLINK)
        wanted = (path for path in files if path.endswith((".yaml", ".yml", ".json")) and self.is_needed(path))
        return [path for path in wanted if self._has(path, text)]

    def _has(self, path: str, text: str) -> bool:
        key = path, self.entries[path], self._written, text
        if key not in self.git.marked:
            self.git.marked[key] = text.encode() in (self.folder / path).read_bytes()
        return self.git.marked[key]

    def below(self, folder: str) -> Iterator[str]:
        """The files below a folder."""
        start = "" if folder in ("", ".") else f"{folder.rstrip('/')}/"
        return (path for path, entry in self.entries.items() if path.startswith(start) and entry.kind != "tree")

    def below_or_itself(self, path: str) -> Iterator[str]:
        """The files below a folder, or the file."""
        entry = self.entries.get(path)
        if path in ("", ".") or (entry is not None and entry.kind == "tree"):
            return self.below(path)
        return iter([path] if entry is not None else [])

    def id_of(self, folder: str) -> str:
        """The id of everything in a folder; empty where there is none."""
        if folder in ("", "."):
            return self.id
        entry = self.entries.get(folder)
        return f"{entry.mode} {entry.id}" if entry is not None else ""


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:number]) for number in range(1, len(parts) + 1))


def normal(folder: str, reference: str) -> str:
    """A path that stands in a file of ``folder``, as a path of the tree; it starts with ``..`` where it leaves it."""
    return posixpath.normpath(posixpath.join(folder, reference))


def changed(base: Tree, head: Tree) -> list[str]:
    """The files that differ."""
    return sorted(
        path
        for path in base.entries.keys() | head.entries.keys()
        if base.entries.get(path) != head.entries.get(path)
        and "tree" not in {side.entries[path].kind for side in (base, head) if path in side.entries}
    )

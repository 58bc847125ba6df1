"""A git repository over HTTP, without a working tree or the program git: read a file, commit a change, push it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from homelab_mlops.errors import RepositoryError

BOT = b"homelab-mlops <bot@homelab-mlops.invalid>"
SECONDS = 30.0
# The words of a server when somebody else has moved the reference meanwhile.
RACES = ("non-fast-forward", "fetch first", "failed to update ref", "cannot lock ref", "stale", "already exists")


class Race(Exception):  # noqa: N818 - its catcher tries again
    """Somebody else has moved the branch meanwhile."""


class Tip(NamedTuple):
    """The commit that a branch is at."""

    commit: bytes
    text: str


class Remote:
    """One repository, with the login of a bot, which goes into a header and nowhere else."""

    def __init__(self, url: str, username: str, token: str) -> None:
        from dulwich.client import get_transport_and_path
        from dulwich.config import ConfigFile, StackedConfig
        from dulwich.repo import Repo

        if not url.startswith(("http://", "https://")):
            raise RepositoryError(
                "a proposal is pushed over https://, and the repository's address is another",
                where=url,
                fix="set `repository` in clusters/homelab/settings.yaml to the https:// address",
            )
        self.url = url
        # The git configuration of the user who runs this is not read.
        client, self._path = get_transport_and_path(
            url, config=StackedConfig([ConfigFile()]), username=username or "git", password=token, quiet=True
        )
        # dulwich has types of its own for names and identities; here they are bytes.
        self._client: Any = client
        self._folder = tempfile.TemporaryDirectory(prefix="homelab-git-")
        self._repo: Any = Repo.init_bare(self._folder.name)

    def close(self) -> None:
        self._repo.close()
        self._folder.cleanup()

    def tips(self, path: PurePosixPath, *branches: str) -> list[Tip | None]:
        """The commit of each branch, and the text of the file there; None for a branch that does not exist.

        Raises:
            RepositoryError: the server refuses, or the file is missing.
        """
        refs = [f"refs/heads/{branch}".encode() for branch in branches]
        with self._explained("reading the repository"):
            fetched = self._client.fetch(
                self._path,
                self._repo,
                determine_wants=lambda known, **_: [known[r] for r in refs if r in known],
                depth=1,
            )
        return [self._tip(fetched.refs[ref], path) if fetched.refs.get(ref) else None for ref in refs]

    def _tip(self, commit: Any, path: PurePosixPath) -> Tip:
        tree: Any = self._repo[self._repo[commit].tree]
        try:
            _, sha = tree.lookup_path(self._repo.object_store.__getitem__, str(path).encode())
        except KeyError:
            raise RepositoryError(
                f"the repository has no {path}", where=self.url, fix="add it, as docs/serving.md says"
            ) from None
        return Tip(bytes(commit), self._repo[sha].data.decode())

    def push(self, branch: str, old: bytes | None, parent: bytes, path: PurePosixPath, text: str, message: str) -> str:
        """Commits ``text`` as the new content of ``path`` on ``parent``, and makes it the tip of ``branch``.

        The branch moves only where it is still at ``old`` (None: where there is none).

        Raises:
            Race: the branch has moved.
            RepositoryError: the server refuses.
        """
        from dulwich.pack import pack_objects_to_data

        commit, objects = self._commit(parent, path, text, message)
        ref = f"refs/heads/{branch}".encode()

        def update(known: dict[Any, Any]) -> dict[Any, Any]:
            if known.get(ref) != old:
                raise Race
            return {ref: commit.id}

        with self._explained(f"pushing {branch}"):
            sent = self._client.send_pack(
                self._path,
                update,
                lambda _have, _want, **_: pack_objects_to_data([(item, None) for item in objects]),
            )
        refused = (sent.ref_status or {}).get(ref)
        if refused:
            if any(mark in refused for mark in RACES):
                raise Race
            raise self._refusal(branch, refused)
        return str(commit.id.decode())

    def _commit(self, parent: bytes, path: PurePosixPath, text: str, message: str) -> tuple[Any, list[Any]]:
        from dulwich.objects import Blob, Commit, Tree

        blob = Blob.from_string(text.encode())
        objects: list[Any] = [blob]
        folders = [self._repo[self._repo[parent].tree]]
        for part in path.parts[:-1]:
            folders.append(self._repo[folders[-1][part.encode()][1]])
        below = blob.id
        for folder, part in zip(reversed(folders), reversed(path.parts), strict=True):
            tree: Any = Tree()
            for entry in folder.items():
                tree.add(entry.path, entry.mode, below if entry.path == part.encode() else entry.sha)
            objects.append(tree)
            below = tree.id
        commit: Any = Commit()
        commit.tree, commit.parents = below, [parent]
        commit.author = commit.committer = BOT
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = message.encode()
        return commit, [*objects, commit]

    def _refusal(self, branch: str, why: str) -> RepositoryError:
        return RepositoryError(
            f"the repository refuses the push of {branch}: {why[:300]}",
            where=self.url,
            fix="let the bot push it (protection, hooks, scope of its token); the version stays a challenger",
        )

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        import urllib3
        from dulwich.client import HTTPUnauthorized
        from dulwich.errors import GitProtocolError, NotGitRepository, SendPackError

        try:
            yield
        except HTTPUnauthorized as error:
            raise RepositoryError(
                f"the git server does not accept the bot's login, {doing}",
                where=self.url,
                fix="`homelab seal git USERNAME TOKEN`, then commit and push",
            ) from error
        except NotGitRepository as error:
            raise RepositoryError(
                "there is no such repository, or the bot may not see it", where=self.url, fix="check address and token"
            ) from error
        except (GitProtocolError, SendPackError, urllib3.exceptions.HTTPError, OSError) as error:
            away = (urllib3.exceptions.HTTPError, OSError)
            if isinstance(error, away) or isinstance(error.__cause__ or error.__context__, away):
                raise RepositoryError(
                    f"the git server cannot be reached, {doing}",
                    where=self.url,
                    fix="wait for it, and check that a NetworkPolicy lets the step propose through to its port",
                    transient=True,
                ) from error
            text = str(error).strip()[:300] or type(error).__name__
            if " 403" in text or "forbidden" in text.lower():
                raise self._refusal(doing, text) from error
            if any(mark in text for mark in RACES):
                raise Race from error
            raise RepositoryError(
                f"the git server fails, {doing}: {text}",
                where=self.url,
                transient=any(f" 5{n}" in text for n in "0123"),
            ) from error

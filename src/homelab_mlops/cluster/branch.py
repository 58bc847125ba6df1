"""The branch that Argo CD follows, as its git server has it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from homelab_mlops.clients import git
from homelab_mlops.console import say
from homelab_mlops.errors import RepositoryError, ToolError

PAUSE = 15.0
SECONDS = 20.0


class PushedBranch:
    """The commit at the head of a branch, which a push may move while somebody waits for it.

    Attributes:
        commit: the head when the server was last asked.
    """

    def __init__(self, root: Path, repository: str, name: str) -> None:
        """Asks the server.

        Raises:
            RepositoryError: the repository has no such branch, or cannot be read.
        """
        self._root, self._repository, self.name = root, repository, name
        listed = self._listed(git.SECONDS)
        if listed.returncode:
            raise RepositoryError(
                f"the repository has no branch {name}, or cannot be read",
                where=repository,
                fix="push first; `homelab init --repository … --branch …` corrects the address",
            )
        self.commit = listed.stdout.split()[0]
        self._next, self._failed = 0.0, False

    def has_moved(self) -> bool:
        """Asks the server again, but not more often than every 15 seconds, and says it where the head has moved."""
        if time.monotonic() < self._next:
            return False
        try:
            # Nobody may be there to type a password, and a login that git keeps is not asked for.
            listed = self._listed(SECONDS, {"GIT_TERMINAL_PROMPT": "0"})
        except ToolError as error:
            return self._unknown(error.what)
        finally:
            self._next = time.monotonic() + PAUSE
        if listed.returncode:
            return self._unknown(listed.stderr.strip().partition("\n")[0] or f"it has no branch {self.name}")
        before, self.commit, self._failed = self.commit, listed.stdout.split()[0], False
        if before == self.commit:
            return False
        say(f"branch {self.name} was pushed to: waits for commit {self.commit[:8]}, no longer for {before[:8]}")
        return True

    def _unknown(self, why: str) -> bool:
        if not self._failed:
            say(f"the repository does not say whether branch {self.name} moved, waits for {self.commit[:8]}: {why}")
        self._failed = True
        return False

    def _listed(self, seconds: float, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        asked = ("ls-remote", "--exit-code", self._repository, f"refs/heads/{self.name}")
        return git.run(self._root, *asked, seconds=seconds, environment=environment)

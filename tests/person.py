"""Someone with a clone, an empty home and a terminal, who types what the README says."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import PATIENCE, clean_environment


class Person:
    """Someone with a clone of ``url`` and an empty home.

    Args:
        path: their ``PATH``.
        git: settings of git beside those of the machine.
    """

    def __init__(self, folder: Path, url: str, path: str, git: Mapping[str, str]) -> None:
        self.clone, self.home = folder / "clone", folder / "home"
        self.home.mkdir()
        settings = {"user.name": "me", "user.email": "me@invalid", **git}
        # What the machine's own environment sets comes first, and stays.
        first = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
        self.env = {
            **clean_environment(),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": "",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PATH": path,
            "GIT_CONFIG_COUNT": str(first + len(settings)),
            **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(settings, first)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(settings.values(), first)},
        }
        subprocess.run(["git", "clone", "--quiet", url, self.clone], env=self.env, check=True)

    def types(self, command: str, stdin: str = "") -> str:
        """What a script's command prints to standard output."""
        done = subprocess.run(
            self._shell(command),
            cwd=self.clone,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sees(self, command: str, answers: Sequence[str] = (), *, seconds: float = PATIENCE) -> str:
        """What a command prints, to both outputs, whose questions a person answers at a terminal."""
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, "".join(f"{answer}\n" for answer in answers).encode())
            done = subprocess.run(
                self._shell(command),
                cwd=self.clone,
                env=self.env,
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=seconds,
            )
        finally:
            os.close(keyboard)
            os.close(terminal)
        print(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, done.stdout
        # The line end after an answer is the terminal's.
        return done.stdout.replace("]: ", "]:\n")

    @staticmethod
    def _shell(command: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", command]

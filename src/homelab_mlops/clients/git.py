"""The one place that runs the program git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from homelab_mlops.errors import ToolError

SECONDS = 60.0
# What git says of a commit for which it finds no name.
_NOBODY = "Please tell me who you are"


class GitTimeoutError(ToolError):
    """git has not ended in time."""


def run(
    root: Path,
    *arguments: str,
    seconds: float | None = SECONDS,
    environment: Mapping[str, str] | None = None,
    data: str | None = None,
    errors: str = "surrogateescape",
) -> subprocess.CompletedProcess[str]:
    """Runs git in ``root``, and leaves the exit code to the caller. Paths come unquoted, messages in English.

    Args:
        seconds: how long it may take; None for as long as it takes.
        environment: variables that are added to those of this process.
        data: its standard input.
        errors: how to decode bytes that are not UTF-8, as for ``bytes.decode``.

    Raises:
        GitTimeoutError: it takes longer.
        ToolError: there is no git.
    """
    try:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments],  # noqa: S607
            env={**os.environ, "LANGUAGE": "en", **(environment or {})},
            input=data,
            capture_output=True,
            encoding="utf-8",
            errors=errors,
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        raise ToolError("git is not here", fix="install git") from None
    except subprocess.TimeoutExpired:
        what = f"git {arguments[0]} takes longer than {seconds:.0f} s"
        raise GitTimeoutError(what, where=str(root), fix="run this again", transient=True) from None


def output(root: Path, *arguments: str, seconds: float = SECONDS) -> str:
    """What git prints, without the spaces and line ends around it.

    Raises:
        ToolError: there is no git, it takes longer than ``seconds``, or it fails.
    """
    done = run(root, *arguments, seconds=seconds)
    if done.returncode and _NOBODY in done.stderr:
        fix = "git config --global user.name NAME; git config --global user.email ADDRESS"
        raise ToolError("git does not know whose commit this would be", where=str(root), fix=fix)
    if done.returncode:
        raise ToolError(
            f"git {arguments[0]} fails: {done.stderr.strip()[:300]}", where=str(root), fix="mend it, and run this again"
        )
    return done.stdout.strip()

"""A terminal for the tests: what a program prints, and what its terminal shows on standard error."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    command: Sequence[str | Path], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """What a program that succeeds prints on standard output, and what it shows on the terminal."""
    ours, theirs = pty.openpty()
    environment = {**(env or os.environ), "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=folder, env=environment, text=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    answer, _ = program.communicate()
    assert program.returncode == 0, shown
    return answer, shown.decode()

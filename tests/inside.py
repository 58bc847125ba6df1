"""The command line in the process of the test, for what a test changes of it, such as its waits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from homelab_mlops.cli import main


def inside_this_process(
    arguments: Sequence[str | Path], environment: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> subprocess.CompletedProcess[str]:
    """What is left of `homelab` with these arguments: its exit code, and what it printed."""
    command = ["homelab", *map(str, arguments)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with monkeypatch.context() as patched, contextlib.ExitStack() as stack:
        # Files, since the command line asks for their descriptors.
        out, errors = (stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(contextlib.chdir(folder))
        patched.setattr(sys, "argv", command)
        for name in [name for name in os.environ if name not in environment]:
            patched.delenv(name)
        for name, value in environment.items():
            patched.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for file in (out, errors):
            file.seek(0)
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.read(), errors.read())

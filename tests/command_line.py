"""The command line in a process of its own, which is forked from one that has the libraries of a training already.

A command takes less time than to import those, and the tests call hundreds of commands. What is said of the start of a
process is tested with the program itself, as in tests/unit/test_cli.py.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preload"])


def run(
    arguments: Sequence[str | Path], env: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """What is left of `homelab` with these arguments in ``folder``: its exit code, and what it printed."""
    command = ["homelab", *map(str, arguments)]
    with tempfile.NamedTemporaryFile("w+") as out, tempfile.NamedTemporaryFile("w+") as errors:
        process = _FORKS.Process(target=_homelab, args=(command, dict(env), folder, out.name, errors.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, out.read(), errors.read())
        return subprocess.CompletedProcess(command, process.exitcode, out.read(), errors.read())


def _homelab(command: list[str], env: dict[str, str], folder: Path, out: str, errors: str) -> None:
    from homelab_mlops.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    for path, stream in ((out, sys.stdout), (errors, sys.stderr)):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, stream.fileno())
        os.close(file)
    main()

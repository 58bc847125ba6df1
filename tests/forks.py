"""Programs in processes of their own, each forked from one that has their libraries already.

A command, a service or an MLflow server takes less time than to import those, and the tests start hundreds. What is
said of the start of a program is tested with the program itself, as in tests/unit/test_cli.py.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preload"])

# The program `homelab` that asks for a fork, and ends as that one does.
_CALLER = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([["homelab", *sys.argv[1:]], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [b"-"], [0, 1, 2])
    server.sendall(request)
    server.shutdown(socket.SHUT_WR)
    code = int(server.recv(8))
sys.exit(code if code >= 0 else 128 - code)
"""

Arguments = Sequence[str | Path]


class Program:
    """A forked program, to be used as one of `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def homelab(
    arguments: Arguments, env: Mapping[str, str], folder: Path, log: Path, changed: Mapping[str, float] | None = None
) -> Program:
    """`homelab` with these arguments, started in ``folder``; what it prints lies in ``log``.

    Args:
        changed: what constants of the package are in this process, by their full names.
    """
    program = functools.partial(_homelab, dict(changed or {}))
    return _start(program, ["homelab", *arguments], env, folder, (Path(os.devnull), log, log))


def mlflow(arguments: Arguments, env: Mapping[str, str], folder: Path, log: Path) -> Program:
    """`mlflow` with these arguments, started in ``folder``."""
    return _start(_mlflow, ["mlflow", *arguments], env, folder, (Path(os.devnull), log, log))


def run(
    arguments: Arguments, env: Mapping[str, str], folder: Path, timeout: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """What is left of `homelab` with these arguments in ``folder``: its exit code, and what it printed."""
    with tempfile.TemporaryDirectory() as place:
        typed, out, errors = streams = tuple(Path(place, name) for name in ("in", "out", "errors"))
        typed.write_text(stdin, encoding="utf-8")
        program = _start(_homelab, ["homelab", *arguments], env, folder, streams)
        try:
            code = program.wait(timeout)
        finally:
            program.kill()
        return subprocess.CompletedProcess([*map(str, arguments)], code, out.read_text(), errors.read_text())


@contextmanager
def on_path(folder: Path) -> Iterator[Path]:
    """A folder for `PATH` whose `homelab` runs in a fork, for what a shell runs, until the block ends."""
    address = Path(tempfile.mkdtemp(), "socket")  # The path of a socket has 107 bytes at most.
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        process = _FORKS.Process(target=_listen, args=(listening,))
        process.start()
    program = folder / "homelab"
    program.write_text(_CALLER.format(python=sys.executable, address=str(address)))
    program.chmod(stat.S_IRWXU)
    try:
        yield folder
    finally:
        process.kill()
        process.join()
        shutil.rmtree(address.parent)


def migrated(database: Path) -> None:
    """Makes ``database``, an SQLite file, with MLflow's tables."""
    process = _FORKS.Process(target=_migrate, args=(database,))
    process.start()
    process.join()
    assert process.exitcode == 0, database


def _start(
    program: Callable[[], None], command: Arguments, env: Mapping[str, str], folder: Path, streams: tuple[Path, ...]
) -> Program:
    for path in streams[1:]:
        path.touch()
    process = _FORKS.Process(target=_become, args=(program, [*map(str, command)], dict(env), folder, streams))
    process.start()
    return Program(process)


def _become(
    program: Callable[[], None], command: list[str], env: dict[str, str], folder: Path, streams: tuple[Path, ...]
) -> None:
    os.setsid()
    _settle(command, env, folder, [os.open(path, os.O_RDWR | os.O_APPEND) for path in streams])
    program()


def _listen(listening: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> NoReturn:
    """Runs the command of a caller in a fork of this fork, and tells the caller how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as request:
        command, env, folder = json.load(request)
    program = os.fork()
    if program == 0:
        caller.close()
        _settle(command, env, folder, streams)
        _homelab()
    _, status = os.waitpid(program, 0)
    caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _settle(command: list[str], env: dict[str, str], folder: str | Path, streams: list[int]) -> None:
    """Gives this process what belongs to another."""
    for descriptor, file in enumerate(streams):
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = command


def _homelab(changed: dict[str, float] | None = None) -> None:
    from homelab_mlops.cli import main

    for name, value in (changed or {}).items():
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
    main()


def _mlflow() -> None:
    import mlflow.cli
    import mlflow.server

    mlflow.server._exec_cmd = _serve  # type: ignore[assignment, attr-defined]
    mlflow.cli.cli(prog_name="mlflow")


def _serve(command: list[str], *, extra_env: dict[str, str], **_options: Any) -> None:
    """Does in this process what MLflow's command line starts another Python for."""
    python, option, module, *arguments = command
    assert (python, option) == (sys.executable, "-m"), command
    os.environ.update(extra_env)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _migrate(database: Path) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    _initialize_tables(engine)  # type: ignore[no-untyped-call]

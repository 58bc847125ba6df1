"""restic: one call at a time, each with a deadline, and what its failures mean."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.target import Target
from homelab_mlops.errors import BackupError, ToolError, without_login

# restic itself repeats a request for a quarter of an hour before it says that its target is away.
OPEN_SECONDS = 60.0
WORK_SECONDS = 6 * 3600.0
STOP_SECONDS = 20.0
LOCK_WAIT = "5m"
_CHATTER = ("[", "the `unlock`", "signal ", "Warning: at least one")
_INCOMPLETE, _LOCKED = 3, 11
_STATUS: dict[int, tuple[Fault, str, str]] = {
    10: (
        Fault.TARGET_EMPTY,
        "the target holds no backups",
        "mount it, if it is a disk; before the first backup: `homelab backup init`",
    ),
    12: (
        Fault.WRONG_PASSWORD,
        "the backups have another password",
        "give the password that they were made with; without it nobody reads them",
    ),
}

# In the order in which they are looked for: the words of a host key come with those of a connection that ended.
_WORDS: tuple[tuple[str, Fault, str, str], ...] = (
    (
        r"host key verification failed|remote host identification has changed|no \S+ host key is known",
        Fault.WRONG_HOST_KEY,
        "the target shows another host key than the one that is known",
        "find out why before anything else: the machine was set up anew, or it is another one; then replace the "
        "known host key",
    ),
    (
        r"permission denied \(|401 unauthorized|403 forbidden|\(401\)|\(403\)|access denied|invalidaccesskeyid|"
        r"signaturedoesnotmatch|access key id you provided does not exist|signature we calculated does not match",
        Fault.TARGET_REFUSES,
        "the target refuses the login, or what it asks for",
        "check the credential of the target and what it may do; an append-only target needs BACKUP_APPEND_ONLY=true",
    ),
    (
        r"no space left on device|disk quota exceeded|quotaexceeded|quota.{0,20}exceeded|storage.?full|"
        r"507 insufficient storage|minimum free drive threshold",
        Fault.TARGET_FULL,
        "the target is full",
        "free space there, or keep fewer backups; what it holds is whole",
    ),
    (
        r"read-only file system|permission denied|operation not permitted",
        Fault.TARGET_READ_ONLY,
        "the target cannot be written",
        "mount it for writing, and check its owner and mode",
    ),
    (
        r"ciphertext verification failed|invalid data returned|hash mismatch|does not match id|unable to load tree|"
        r"not found in (?:the )?(?:index|repository|snapshot)|pack \S+ (?:does not exist|contains)|is damaged|"
        r"failed to load (?:blob|pack|tree)|unexpected (?:pack )?size|file is too short|"
        r"<(?:data|index|snapshot)/\S+ (?:does not exist|.*"
        r"no such file)",
        Fault.DAMAGED,
        "the backup is damaged",
        "`restic check --read-data` names the packs; `restic repair packs` and then the next backup heal what is still "
        "in the store; an older backup may be whole: `homelab backup list`",
    ),
    (
        r"connection refused|no such host|no route to host|network is unreachable|timed? ?out|connection reset|"
        r"broken pipe|\beof\b|could not resolve|ssh command exited|subprocess ssh|server misbehaving|502 bad gateway|"
        r"503 service|tls: |x509|stale (?:nfs )?file handle|input/output error|transport endpoint",
        Fault.TARGET_AWAY,
        "the target cannot be reached",
        "check that it runs and that this machine reaches it; the next backup tries again",
    ),
)
# What another try of restic's, a quarter of an hour long, does not heal.
_HOPELESS = {Fault.WRONG_HOST_KEY, Fault.TARGET_REFUSES, Fault.TARGET_FULL, Fault.TARGET_READ_ONLY}


class Restic:
    """The repository of a target."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def init(self) -> None:
        """Makes the repository.

        Raises:
            BackupError: the target has one already, or does not let it be made.
        """
        self.run("init", deadline=OPEN_SECONDS)

    def snapshots(self) -> list[dict[str, Any]]:
        """Every snapshot, as restic describes it. This is the call that finds out whether the target is there."""
        try:
            return self._snapshots()
        except BackupError as error:
            if error.code != Fault.OTHER:
                raise
            # restic may end before it has passed on why its ssh did.
            return self._snapshots()

    def _snapshots(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.read("snapshots", "--json", "--no-lock", deadline=OPEN_SECONDS)
        return found

    def read(self, *arguments: str, deadline: float = WORK_SECONDS) -> Any:
        """The JSON document that a call prints."""
        text = self.run(*arguments, deadline=deadline)
        try:
            return json.loads(text)
        except ValueError as error:
            raise fault(Fault.DAMAGED, f"restic's answer is no JSON: {text[:80]!r}", where=self.target.where) from error

    def run(self, *arguments: str, deadline: float = WORK_SECONDS, folder: Path | None = None) -> str:
        """What a call prints."""
        with self.started(*arguments, deadline=deadline, folder=folder) as output:
            return output.read().decode()

    def lines(self, *arguments: str, folder: Path) -> Iterator[dict[str, Any]]:
        """The JSON objects that a call prints, a line each.

        A lock that a dead run has left is removed as soon as restic can tell that its run is dead.
        """
        try:
            yield from self._lines(arguments, folder)
        except BackupError as error:
            if error.code != Fault.LOCKED:
                raise
            self.run("unlock")
            yield from self._lines([*arguments, "--retry-lock", LOCK_WAIT], folder)

    def _lines(self, arguments: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
        with self.started(*arguments, folder=folder) as output:
            for line in output:
                yield json.loads(line)

    @contextlib.contextmanager
    def started(
        self, *arguments: str, deadline: float = WORK_SECONDS, folder: Path | None = None
    ) -> Iterator[IO[bytes]]:
        """The output of a call while it runs; the call is stopped where the block fails or ``deadline`` seconds pass.

        Raises:
            BackupError: it failed, or took too long.
        """
        command = [_program(), *self.target.options, *arguments]
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            env=self.target.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output = cast(IO[bytes], process.stdout)
        said = _Said(process)
        late = threading.Event()
        timer = threading.Timer(deadline, _give_up, (process, late))
        timer.daemon = True
        timer.start()
        try:
            yield output
            output.close()
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
        finally:
            timer.cancel()
        if code:
            raise self._failure(arguments[0], code, said.text(), deadline if late.is_set() else 0.0)

    def _failure(self, verb: str, code: int, said: str, deadline: float) -> BackupError:
        where, last, known = self.target.where, _last_line(said), _known(said)
        if deadline and not known:
            return fault(
                Fault.TARGET_SLOW,
                f"the target did not finish `{verb}` within {deadline:.0f} s{f': {last}' if last else ''}",
                where=where,
                fix="look at the target and the way to it; what it holds is whole, and the next backup tries again",
            )
        if code in _STATUS:
            found, what, fix = _STATUS[code]
            return fault(found, what, where=where, fix=fix)
        if code == _LOCKED:
            return fault(
                Fault.LOCKED,
                f"the backups are locked: {last}",
                where=where,
                fix="wait for the other run; the lock of a dead one ends after 30 minutes",
            )
        if code == _INCOMPLETE:
            return fault(Fault.INCOMPLETE, f"restic could not store everything: {last}", where=where)
        if known:
            found, what, fix, line = known
            return fault(found, f"{what}: {_shown(line)}", where=where, fix=fix)
        return fault(Fault.OTHER, f"restic {verb} fails with status {code}: {last}", where=where)


def _known(said: str) -> tuple[Fault, str, str, str] | None:
    """What restic's words mean, and the line that says it."""
    for words, found, what, fix in _WORDS:
        for line in said.splitlines():
            if re.search(words, line, re.IGNORECASE):
                return found, what, fix, line
    return None


def _last_line(said: str) -> str:
    """The last thing that restic said."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(_CHATTER)]
    return _shown(lines[-1]) if lines else ""


def _shown(line: str) -> str:
    """A line of restic's, which may be JSON."""
    with contextlib.suppress(ValueError, AttributeError):
        message = json.loads(line)
        line = str(message.get("message") or (message.get("error") or {}).get("message") or line)
    return without_login(line.strip().removeprefix("Fatal: "))[:300]


def _program() -> str:
    found = shutil.which("restic")
    if not found:
        raise ToolError("restic is not here", where="PATH", fix="run this in the image `backup`, or install restic")
    return found


class _Said:
    """What a process writes to its standard error, read while it runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._stream = cast(IO[bytes], process.stderr)
        self._kept: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            self._kept = [*self._kept[-199:], line]
            known = _known(line.decode(errors="replace"))
            if known and known[0] in _HOPELESS and b"retrying after" in line:
                threading.Thread(target=_stop, args=(self._process,), daemon=True).start()
        self._stream.close()

    def text(self) -> str:
        self._thread.join(STOP_SECONDS)
        return b"".join(self._kept).decode(errors="replace")


def _give_up(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Lets restic remove its lock, and ends it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        with contextlib.suppress(ValueError, OSError):
            process.stdout.close()

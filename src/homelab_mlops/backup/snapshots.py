"""The backups of a target: which there are, which is the newest, and which may go."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import NAME, Manifest
from homelab_mlops.backup.restic import Restic
from homelab_mlops.console import say
from homelab_mlops.errors import BackupError, ParameterError

HOST, TAG, COMPLETE, PARTIAL = "homelab", "homelab", "complete", "partial"
SEQUENCE = "sequence-"
KEPT = ("--keep-daily", "7", "--keep-weekly", "5", "--keep-monthly", "6")
# Clocks of two machines may differ by this much.
TOLERANCE = datetime.timedelta(minutes=10)
# A run that has died does not go on after this time; one that lives may still need what it has stored.
ABANDONED = datetime.timedelta(days=2)


@dataclass(frozen=True, order=True)
class Snapshot:
    """A backup, or what a run has stored so far. The later one is greater, whatever the clocks said."""

    sequence: int
    time: datetime.datetime
    id: str
    complete: bool

    @property
    def where(self) -> str:
        return f"backup {self.id[:8]}, number {self.sequence} of {self.time:%Y-%m-%d %H:%M} UTC"


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def time_of(text: str) -> datetime.datetime:
    """The time that a person writes, in UTC where it names no zone.

    Raises:
        ParameterError: it is none.
    """
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ParameterError(f"{text!r} is no time", fix="write it as 2026-11-30T04:00, in UTC") from error
    return time.astimezone(datetime.UTC) if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def all_of(restic: Restic) -> list[Snapshot]:
    """Every snapshot of a backup, the newest first.

    Raises:
        BackupError: the target does not answer, is of another password, or has no repository.
    """
    found = [_snapshot(item) for item in restic.snapshots()]
    return sorted((item for item in found if item is not None), reverse=True)


def complete_of(restic: Restic) -> list[Snapshot]:
    """Every backup, the newest first.

    Raises:
        BackupError: as `all_of`.
    """
    return [snapshot for snapshot in all_of(restic) if snapshot.complete]


def _snapshot(item: dict[str, Any]) -> Snapshot | None:
    """None where it is none of ours; a target may hold more."""
    tags: list[str] = item.get("tags") or []
    numbers = [tag.removeprefix(SEQUENCE) for tag in tags if tag.startswith(SEQUENCE)]
    if TAG not in tags or len(numbers) != 1 or not numbers[0].isdigit():
        return None
    time = datetime.datetime.fromisoformat(item["time"]).astimezone(datetime.UTC)
    return Snapshot(int(numbers[0]), time, str(item["id"]), COMPLETE in tags)


def chosen(restic: Restic, at: datetime.datetime | None = None) -> Snapshot:
    """The newest backup, or the newest that is not later than ``at``.

    Raises:
        BackupError: there is none; or as `all_of`.
    """
    found = complete_of(restic)
    for snapshot in found:
        if at is None or snapshot.time <= at:
            return snapshot
    oldest = f"; the oldest is of {found[-1].time:%Y-%m-%d %H:%M} UTC" if found else ""
    raise fault(
        Fault.NONE,
        f"there is no backup{f' of {at:%Y-%m-%d %H:%M %Z} or before' if at else ' yet'}{oldest}",
        where=restic.target.where,
        fix="`homelab backup list` shows what there is",
    )


def manifest_of(restic: Restic, snapshot: Snapshot) -> Manifest:
    """What a snapshot holds.

    Raises:
        BackupError: it is damaged; or the target does not answer.
    """
    return Manifest.read(restic.run("dump", "--no-lock", snapshot.id, f"/{NAME}"), snapshot.where)


def forget_older(restic: Restic, done: Snapshot, known: list[Snapshot], partials: list[Snapshot]) -> None:
    """Removes the backups that the retention does not keep, and what this run and dead ones have stored on the way.

    The backup ``done`` stays in any case. Nothing is removed while a backup is of the future: a clock has jumped, and
    what restic would count as the last seven days is not what they were.

    Raises:
        BackupError: the target refuses; the backups are whole.
    """
    if restic.target.append_only:
        say("retention: the target only appends, so old backups are removed where it stands")
        return
    future = [snapshot for snapshot in [*known, done] if snapshot.time > now() + TOLERANCE]
    if future:
        say(f"retention: nothing is removed while {future[0].where} is of the future; check the clocks")
        return
    dead = [item.id for item in known if not item.complete and _is_dead(item, done)]
    dead += [item.id for item in partials]
    policy = [*KEPT, "--keep-tag", f"{SEQUENCE}{done.sequence}"]
    try:
        if dead:
            restic.run("forget", *dead)
        restic.run("forget", "--tag", f"{TAG},{COMPLETE}", "--group-by", "", "--prune", *policy)
    except BackupError as error:
        if error.code == Fault.LOCKED:
            say(f"retention: put off to the next backup: {error.what}")
            return
        raise fault(
            Fault.RETENTION,
            f"the backup is whole, but old ones cannot be removed: {error.what}",
            where=error.where,
            fix=error.fix,
        ) from error


def _is_dead(partial: Snapshot, done: Snapshot) -> bool:
    return partial.sequence < done.sequence or partial.time < now() - ABANDONED

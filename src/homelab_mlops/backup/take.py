"""Takes a backup: the databases first, then the buckets, as one snapshot of restic.

Every object lies in the backup under its SHA-256, so that a name proves its content and the same bytes are stored once.
What the last backup has is not read again: it stands in the scratch folder as an empty file of the right length, and
restic takes its content over from the parent snapshot, as it does with any file that has not changed. The scratch
folder so needs room for the dumps and for two batches of what is new, and never for a second copy of everything. restic
says of each file whether it has read it; where it has read one of the empty files, the backup is thrown away and the
object is fetched.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import fcntl
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homelab_mlops.backup import buckets, database, snapshots
from homelab_mlops.backup.buckets import Listed
from homelab_mlops.backup.database import Postgres
from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import NAME, Database, Identity, Manifest, Object
from homelab_mlops.backup.restic import Restic
from homelab_mlops.backup.snapshots import COMPLETE, HOST, PARTIAL, SEQUENCE, TAG, Snapshot
from homelab_mlops.console import progress, say
from homelab_mlops.errors import BackupError

READERS = 4
BATCH_BYTES = 256 << 20
# Where the next batch is fetched to, which restic does not read.
NEXT = "next"
# Any fixed time: the name of the file says what is in it.
_MODIFIED = 946684800.0
_STORED_AGAIN = "storing the file again"
_UNREAD = ("--ignore-inode", "--ignore-ctime", "--no-scan")


@dataclass
class Taken:
    """What a backup did."""

    snapshot: Snapshot
    manifest: Manifest
    fetched: int
    fetched_bytes: int
    gone: list[str]
    seconds: float

    def described(self) -> dict[str, Any]:
        """For a script."""
        return {
            "snapshot": self.snapshot.id,
            "sequence": self.snapshot.sequence,
            "time": self.snapshot.time.isoformat(),
            "mlflow_schema": self.manifest.mlflow_schema,
            "databases": [item.name for item in self.manifest.databases],
            "objects": len(self.manifest.objects),
            "bytes": sum(item.size for item in self.manifest.objects),
            "fetched": self.fetched,
            "fetched_bytes": self.fetched_bytes,
            "gone": self.gone,
            "seconds": round(self.seconds, 1),
        }


class _UnsoundError(Exception):
    """restic has read a file that only stands for what an older snapshot holds."""


@dataclass
class _State:
    """What a run knows of the backup that it is taking."""

    sequence: int
    parent: Snapshot | None
    held: dict[Identity, Object]
    objects: list[Object] = field(default_factory=list)
    partials: list[Snapshot] = field(default_factory=list)
    fetched: int = 0
    fetched_bytes: int = 0
    gone: list[str] = field(default_factory=list)


def take(
    restic: Restic, sources: list[Postgres], scratch: Path, *, commit: str = "", batch_bytes: int = BATCH_BYTES
) -> Taken:
    """Takes a backup, and then lets go of those that the retention does not keep.

    Raises:
        BackupError: the target, the database or an object is not as it has to be; whatever was there before is whole.
        StorageError: the object store does not answer, or refuses.
    """
    began = time.monotonic()
    with _alone(scratch):
        known = snapshots.all_of(restic)
        dumps = [_dumped(source, scratch) for source in sources]
        state = _state(restic, known)
        try:
            done, manifest = _stored(restic, state, dumps, scratch, commit, batch_bytes)
        except _UnsoundError:
            say("backup: the last backup lacks bytes that it names; everything is read again")
            _clear(scratch / NEXT)
            state = _State(state.sequence, None, {})
            done, manifest = _stored(restic, state, dumps, scratch, commit, batch_bytes)
    fetched, size = state.fetched, state.fetched_bytes
    taken = Taken(done, manifest, fetched, size, state.gone, time.monotonic() - began)
    snapshots.forget_older(restic, done, known, state.partials)
    return taken


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Gives the scratch folder to this run, empty at the start and at the end."""
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise fault(
                Fault.LOCKED, "another backup runs in this folder", where=str(scratch), fix="wait for its end"
            ) from error
        try:
            _clear(scratch)
            yield
        finally:
            _clear(scratch)


def _clear(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _dumped(source: Postgres, scratch: Path) -> Database:
    file = scratch / "databases" / f"{source.database}.dump"
    database.dump(source, file)
    return Database(name=source.database, size=file.stat().st_size, sha256=database.sha256_of(file))


def _state(restic: Restic, known: list[Snapshot]) -> _State:
    """Goes on from the newest snapshot, that of a run that was stopped included, whose manifest can be read."""
    sequence = 1 + max((item.sequence for item in known if item.complete), default=0)
    for parent in known[:2]:
        try:
            manifest = snapshots.manifest_of(restic, parent)
        except BackupError as error:
            if error.code != Fault.DAMAGED:
                raise
            say(f"backup: {parent.where} cannot be used as a base: {error.what}")
            continue
        return _State(sequence, parent, {item.identity: item for item in manifest.objects})
    return _State(sequence, None, {})


def _stored(
    restic: Restic, state: _State, dumps: list[Database], scratch: Path, commit: str, batch_bytes: int
) -> tuple[Snapshot, Manifest]:
    """Stores batch by batch what is new, and then everything as one snapshot."""
    s3 = buckets.store(READERS)
    found = list(buckets.listed(s3))
    state.objects = [state.held[item.identity] for item in found if item.identity in state.held]
    for item in {item.sha256: item for item in state.objects}.values():
        _stand_in(scratch / item.path, item.size)
    new = [item for item in found if item.identity not in state.held]
    batches = list(_batches(new, batch_bytes))
    fresh: list[Object] = []
    # Closed when a snapshot fails, too: what is fetched then comes to its end before anything else begins.
    with progress("fetch", len(new)) as reached, closing(_ahead(s3, batches, scratch / NEXT)) as ahead:
        for number, (batch, results, place) in enumerate(ahead, 1):
            fresh = _placed(batch, results, place, scratch, state)
            reached(state.fetched + len(state.gone))
            if number < len(batches):
                snapshot = _snapshot(restic, state, _manifest(state, [], "", commit), scratch, fresh)
                state.partials.append(snapshot)
                for item in fresh:
                    _stand_in(scratch / item.path, item.size)
    main = scratch / dumps[0].path if dumps else None
    manifest = _manifest(state, dumps, database.schema_of(main) if main else "", commit)
    return _snapshot(restic, state, manifest, scratch, fresh), manifest


def _batches(new: Iterable[Listed], batch_bytes: int) -> Iterator[list[Listed]]:
    batch: list[Listed] = []
    size = 0
    for item in new:
        if batch and size + item.identity.size > batch_bytes:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.identity.size
    if batch:
        yield batch


def _ahead(
    s3: Any, batches: list[list[Listed]], folder: Path
) -> Generator[tuple[list[Listed], list[Object | None], Path], None, None]:
    """Each batch, what was fetched of it, and where to; the next one is fetched while restic stores this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as one, concurrent.futures.ThreadPoolExecutor(READERS) as pool:

        def fetched(number: int) -> list[Object | None]:
            place = folder / str(number)
            place.mkdir(parents=True)
            return list(pool.map(lambda item: buckets.fetch(s3, item, place), batches[number]))

        coming = [one.submit(fetched, number) for number in range(min(1, len(batches)))]
        for number, batch in enumerate(batches):
            results = coming.pop().result()
            if number + 1 < len(batches):
                coming.append(one.submit(fetched, number + 1))
            yield batch, results, folder / str(number)


def _placed(
    batch: list[Listed], results: list[Object | None], fetched: Path, scratch: Path, state: _State
) -> list[Object]:
    """Moves what was fetched to where restic reads it."""
    fresh = []
    for wanted, item in zip(batch, results, strict=True):
        if item is None:
            state.gone.append(wanted.where)
            continue
        fresh.append(item)
        state.fetched += 1
        state.fetched_bytes += item.size
    for item in {item.sha256: item for item in fresh}.values():
        place = scratch / item.path
        place.parent.mkdir(parents=True, exist_ok=True)
        (fetched / item.path).replace(place)
        _date(place)
    state.objects += fresh
    return fresh


def _stand_in(path: Path, size: int) -> None:
    """An empty file of this length, which takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    _date(path)


def _date(path: Path) -> None:
    os.utime(path, (_MODIFIED, _MODIFIED))


def _manifest(state: _State, dumps: list[Database], schema: str, commit: str) -> Manifest:
    return Manifest(
        complete=bool(dumps),
        sequence=state.sequence,
        taken=snapshots.now().replace(microsecond=0),
        commit=commit,
        mlflow_schema=schema,
        databases=dumps,
        buckets=list(buckets.BUCKETS),
        objects=sorted(state.objects, key=lambda item: (item.bucket, item.key)),
    )


def _snapshot(restic: Restic, state: _State, manifest: Manifest, scratch: Path, fresh: list[Object]) -> Snapshot:
    """Stores the scratch folder, and makes the snapshot the parent of the next one.

    Raises:
        _UnsoundError: the parent lacks bytes that it names; the snapshot is removed.
    """
    (scratch / NAME).write_bytes(manifest.written())
    tags = [TAG, COMPLETE if manifest.complete else PARTIAL, f"{SEQUENCE}{state.sequence}"]
    # The manifest of a run that was stopped lists no database, so its dumps stay out.
    folders = ("databases", "objects") if manifest.complete else ("objects",)
    paths = [name for name in folders if (scratch / name).is_dir()]
    arguments = ["backup", "--json", "-vv", "--host", HOST, *_UNREAD, "--tag", ",".join(tags)]
    arguments += ["--parent", state.parent.id] if state.parent else ["--force"]
    read, summary, errors = _backed_up(restic, [*arguments, *paths, NAME], scratch)
    if summary is None:
        raise fault(Fault.INCOMPLETE, f"restic made no snapshot: {errors[:1]}", where=restic.target.where)
    made = Snapshot(state.sequence, _time(summary), str(summary["snapshot_id"]), manifest.complete)
    needed = {NAME, *(item.path for item in manifest.databases)}
    unsound = bool(needed - read or read & ({item.path for item in state.objects} - {item.path for item in fresh}))
    if unsound or errors:
        if not restic.target.append_only:
            restic.run("forget", made.id)
        if unsound:
            raise _UnsoundError
        raise fault(Fault.INCOMPLETE, f"restic could not store everything: {errors[0]}", where=str(scratch))
    state.parent = made
    return made


def _backed_up(
    restic: Restic, arguments: list[str], scratch: Path
) -> tuple[set[str], dict[str, Any] | None, list[str]]:
    """The files that restic has read, its summary, and the errors that left something out."""
    read: set[str] = set()
    summary, errors = None, []
    try:
        for line in restic.lines(*arguments, folder=scratch):
            match line.get("message_type"):
                case "verbose_status" if line.get("action") in ("new", "modified"):
                    read.add(str(line["item"]).lstrip("/"))
                case "summary":
                    summary = line
    except BackupError as error:
        if error.code != Fault.INCOMPLETE:
            raise
        if _STORED_AGAIN not in error.what:
            errors.append(error.what)
    return read, summary, errors


def _time(summary: dict[str, Any]) -> datetime.datetime:
    started = summary.get("backup_start")
    return datetime.datetime.fromisoformat(started).astimezone(datetime.UTC) if started else snapshots.now()

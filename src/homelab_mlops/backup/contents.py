"""Reads what a backup holds; nothing of it is believed before its SHA-256 is the one that the manifest names."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from homelab_mlops.backup import database
from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import Database, Manifest, path_of
from homelab_mlops.backup.restic import Restic
from homelab_mlops.backup.snapshots import Snapshot
from homelab_mlops.errors import BackupError

CHUNK = 1 << 20
# What is larger goes through the scratch folder.
IN_MEMORY = 8 << 20
_OLDER = "an older backup may be whole: `homelab backup list`"


def hold_databases(manifest: Manifest, snapshot: Snapshot) -> None:
    """Checks that a backup has databases.

    Raises:
        BackupError: it has none.
    """
    if not manifest.databases or not manifest.complete:
        raise fault(Fault.NO_DATABASE, "the backup holds no database", where=snapshot.where, fix=_OLDER)


def dump_of(restic: Restic, snapshot: Snapshot, wanted: Database, scratch: Path) -> Path:
    """Writes a dump into ``scratch``.

    Raises:
        BackupError: it is missing, another one, or not whole; or the target does not answer.
    """
    file = scratch / wanted.path
    file.parent.mkdir(parents=True, exist_ok=True)
    where = f"{snapshot.where}, {wanted.path}"
    try:
        with restic.started("dump", "--no-lock", snapshot.id, f"/{wanted.path}") as output, file.open("wb") as written:
            shutil.copyfileobj(output, written, CHUNK)
    except BackupError as error:
        raise _named(error, where) from error
    if database.sha256_of(file) != wanted.sha256:
        raise fault(Fault.DUMP, "the dump is not the one that was taken", where=where, fix=_OLDER)
    database.hold_whole(file)
    return file


def each_object(
    restic: Restic, snapshot: Snapshot, wanted: Collection[str], scratch: Path, use: Callable[[str, IO[bytes]], None]
) -> None:
    """Calls ``use`` with the SHA-256 and the content of each object that is ``wanted``, after its hash has been held.

    All of the backup passes through, and nothing of it stays.

    Raises:
        BackupError: an object is missing or damaged; or the target does not answer.
    """
    missing = set(wanted)
    last = ""
    if not missing:
        return
    try:
        with (
            restic.started("dump", "--no-lock", "--archive", "tar", snapshot.id, "/objects") as output,
            tarfile.open(fileobj=output, mode="r|") as archive,
        ):
            for member in archive:
                sha256 = Path(member.name).name
                content = archive.extractfile(member) if member.isfile() and sha256 in missing else None
                if content is None:
                    continue
                with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(scratch)) as spooled:
                    if _copied(content, spooled) != sha256:
                        raise _damaged(snapshot, sha256, "has other bytes than were stored")
                    spooled.seek(0)
                    use(sha256, spooled)
                missing.discard(sha256)
                last = sha256
    except tarfile.TarError as error:
        raise _damaged(snapshot, _next(missing, last), "cannot be read") from error
    except BackupError as error:
        if error.code != Fault.DAMAGED:
            raise
        raise _named(error, f"{snapshot.where}, {path_of(_next(missing, last))} or one after it") from error
    if missing:
        raise fault(
            Fault.MISSING_OBJECT,
            f"the backup lacks {len(missing)} objects that it names",
            where=f"{snapshot.where}, {path_of(min(missing))}",
            fix=_OLDER,
        )


def _copied(content: IO[bytes], spooled: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK):
        digest.update(chunk)
        spooled.write(chunk)
    return digest.hexdigest()


def _next(missing: set[str], last: str) -> str:
    return min((sha256 for sha256 in missing if sha256 > last), default=last)


def _damaged(snapshot: Snapshot, sha256: str, what: str) -> BackupError:
    where = f"{snapshot.where}, {path_of(sha256)}"
    return fault(Fault.DAMAGED, f"an object of the backup {what}", where=where, fix=_OLDER)


def _named(error: BackupError, where: str) -> BackupError:
    return fault(Fault(error.code), error.what, where=where, fix=error.fix)

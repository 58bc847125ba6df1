"""What can be wrong with a backup, by the code that its error has."""

from __future__ import annotations

from enum import StrEnum

from homelab_mlops.errors import BackupError


class Fault(StrEnum):
    """The code of an error of a backup, a drill or a restore."""

    NOT_SET_UP = "BACKUP_NOT_SET_UP"
    TARGET_AWAY = "BACKUP_TARGET_AWAY"
    TARGET_EMPTY = "BACKUP_TARGET_EMPTY"
    TARGET_FULL = "BACKUP_TARGET_FULL"
    TARGET_SLOW = "BACKUP_TARGET_SLOW"
    TARGET_READ_ONLY = "BACKUP_TARGET_READ_ONLY"
    TARGET_REFUSES = "BACKUP_TARGET_REFUSES"
    WRONG_PASSWORD = "BACKUP_WRONG_PASSWORD"  # noqa: S105
    WRONG_HOST_KEY = "BACKUP_WRONG_HOST_KEY"
    LOCKED = "BACKUP_LOCKED"
    DAMAGED = "BACKUP_DAMAGED"
    DATABASE = "BACKUP_DATABASE"
    DUMP = "BACKUP_DUMP"
    NO_DATABASE = "BACKUP_NO_DATABASE"
    MISSING_OBJECT = "BACKUP_MISSING_OBJECT"
    IN_USE = "BACKUP_IN_USE"
    NONE = "BACKUP_NONE"
    INCOMPLETE = "BACKUP_INCOMPLETE"
    SCHEMA = "BACKUP_SCHEMA"
    OLD = "BACKUP_OLD"
    MODEL = "BACKUP_MODEL"
    RETENTION = "BACKUP_RETENTION"
    OTHER = "BACKUP_FAILED"


# Another try in a while may find these gone.
PASSING = {Fault.TARGET_AWAY, Fault.TARGET_SLOW, Fault.LOCKED}


def fault(code: Fault, what: str, *, where: str = "", fix: str = "") -> BackupError:
    """The error of a fault."""
    return BackupError(what, where=where, fix=fix, code=code, transient=code in PASSING)

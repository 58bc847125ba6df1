"""What a backup holds: ``manifest.json``, which lies in it."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from homelab_mlops.backup.faults import Fault, fault

NAME = "manifest.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(_Strict):
    """A dump, at ``databases/NAME.dump`` in the backup."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,49}$")]
    size: int
    sha256: Sha256

    @property
    def path(self) -> str:
        return f"databases/{self.name}.dump"


class Identity(NamedTuple):
    """By what an object of the store is known to be the one of the last backup."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: str


class Object(_Strict):
    """An object of a bucket; its bytes lie at ``objects/`` and their SHA-256, so that the name proves the content."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: str
    sha256: Sha256
    content_type: str = ""
    metadata: dict[str, str] = {}

    @property
    def path(self) -> str:
        return path_of(self.sha256)

    @property
    def identity(self) -> Identity:
        return Identity(self.bucket, self.key, self.size, self.etag, self.modified)


class Manifest(_Strict):
    """A backup.

    Attributes:
        complete: whether this is a backup, or what a run has stored so far.
        sequence: its number; clocks may jump, the number does not.
        commit: what git had deployed.
        mlflow_schema: the version of MLflow's tables, by the name that Alembic gives it.
    """

    format: Literal[1] = 1
    complete: bool
    sequence: int
    taken: datetime.datetime
    commit: str = ""
    mlflow_schema: str = ""
    databases: list[Database] = []
    buckets: list[str] = []
    objects: list[Object] = []

    def written(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes | str, where: str) -> Self:
        """Reads a manifest.

        Raises:
            BackupError: it is none.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise fault(
                Fault.DAMAGED, f"{NAME} is not that of a backup: {_first(error)}", where=where, fix=_OLDER
            ) from error


_OLDER = "take an older backup: `homelab backup list`"


def _first(error: ValidationError) -> str:
    found: Any = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}".removeprefix(": ")


def path_of(sha256: str) -> str:
    """Where bytes lie in a backup."""
    return f"objects/{sha256[:2]}/{sha256}"

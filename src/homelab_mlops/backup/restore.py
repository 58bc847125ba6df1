"""Brings a backup back: first beside what is there, and then in its place.

The databases are restored as NAME_restoring, the objects are uploaded below .homelab/restoring/ of their bucket. Only
when all of that is whole, the objects are copied to their keys, and the databases change their names, both in one
transaction. What stood there before stays: as NAME_before, and below .homelab/before/. An object that the backup does
not have is left alone. A restore that was stopped goes on when it is called again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from homelab_mlops.backup import buckets, contents, database, snapshots
from homelab_mlops.backup.database import Postgres
from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import Manifest, Object
from homelab_mlops.backup.restic import Restic
from homelab_mlops.backup.snapshots import Snapshot
from homelab_mlops.clients.s3 import explained
from homelab_mlops.console import progress, say
from homelab_mlops.errors import BackupError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Part = Literal["models", "database", "datasets"]
PARTS: tuple[Part, ...] = ("models", "database", "datasets")
BUCKET_OF: dict[Part, str] = {"models": "mlflow", "datasets": "datasets"}
RESTORING, BEFORE = "_restoring", "_before"
STAGED, KEPT, STATE = (f"{buckets.OWN_PREFIX}{name}" for name in ("restoring/", "before/", "restore.json"))
STATE_BUCKET = "mlflow"
MAINTENANCE = "postgres"


@dataclass
class Plan:
    """What a restore will do.

    Attributes:
        missing: the objects that the store lacks, or has with other bytes.
        replaced: the addresses of those that it has with other bytes.
    """

    snapshot: Snapshot
    manifest: Manifest
    parts: tuple[Part, ...]
    missing: list[Object] = field(default_factory=list)
    replaced: set[tuple[str, str]] = field(default_factory=set)

    @property
    def has_database(self) -> bool:
        return "database" in self.parts

    def lines(self) -> list[str]:
        """The plan for a person."""
        size = sum(item.size for item in self.missing)
        lines = [f"{self.snapshot.where}, of commit {self.manifest.commit[:12] or 'unknown'}"]
        if self.has_database:
            names = ", ".join(item.name for item in self.manifest.databases)
            lines.append(f"databases {names} are replaced; those of now stay as NAME{BEFORE}")
        lines.append(f"{len(self.missing):,} objects, {size / 1e6:,.1f} MB, are brought back")
        if self.replaced:
            lines.append(f"{len(self.replaced):,} of them replace others, which stay below {KEPT}")
        return lines


def plan(restic: Restic, snapshot: Snapshot, parts: Sequence[Part]) -> Plan:
    """Looks at what there is, and changes nothing.

    Raises:
        BackupError: the backup is damaged, or holds no database.
        StorageError: the object store does not answer, or refuses.
    """
    made = Plan(snapshot, snapshots.manifest_of(restic, snapshot), tuple(part for part in PARTS if part in parts))
    if made.has_database:
        contents.hold_databases(made.manifest, snapshot)
    wanted = {BUCKET_OF[part] for part in made.parts if part in BUCKET_OF}
    there = {item.identity[:2]: item.identity for item in buckets.listed(buckets.store(), tuple(sorted(wanted)))}
    for item in made.manifest.objects:
        if item.bucket not in wanted:
            continue
        now = there.get((item.bucket, item.key))
        if now is None or (now.size, now.etag) != (item.size, item.etag):
            made.missing.append(item)
            if now is not None:
                made.replaced.add((item.bucket, item.key))
    return made


def restore(restic: Restic, planned: Plan, sources: Sequence[Postgres], scratch: Path) -> dict[str, Any]:
    """Carries a plan out, or goes on with it.

    Raises:
        BackupError: the backup is damaged, a database is in use, or PostgreSQL refuses; what was there before is whole.
        StorageError: the object store refuses; what was there before is whole.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    s3 = buckets.store()
    running = _running(s3, planned)
    if planned.has_database:
        for source in sources:
            _stage_database(restic, planned, source, running, scratch)
    _stage_objects(restic, planned, s3, scratch)
    if planned.has_database:
        _hold_unused(sources)
    _switch_objects(planned, s3, running)
    if planned.has_database:
        _switch_databases(sources, running)
    _clean(planned, s3)
    return {
        "snapshot": planned.snapshot.id,
        "parts": list(planned.parts),
        "objects": len(planned.missing),
        "replaced": len(planned.replaced),
        "kept": f"{KEPT}{running}/" if planned.replaced else "",
        "mlflow_schema": planned.manifest.mlflow_schema,
    }


def _running(s3: S3Client, planned: Plan) -> str:
    """The name of this restore: that of the one that was stopped, where it brought back the same."""
    wanted = {"snapshot": planned.snapshot.id, "parts": list(planned.parts)}
    with explained(f"s3://{STATE_BUCKET}/{STATE}"):
        found = s3.list_objects_v2(Bucket=STATE_BUCKET, Prefix=STATE).get("Contents", [])
        if found:
            state = json.loads(s3.get_object(Bucket=STATE_BUCKET, Key=STATE)["Body"].read())
            if {key: state.get(key) for key in wanted} == wanted:
                say(f"restore: goes on with restore {state['id']}, which was stopped")
                return str(state["id"])
        name = secrets.token_hex(4)
        s3.put_object(Bucket=STATE_BUCKET, Key=STATE, Body=json.dumps({"id": name, **wanted}).encode())
    return name


def _stage_database(restic: Restic, planned: Plan, source: Postgres, running: str, scratch: Path) -> None:
    """Restores a database beside the one that is used, unless this restore has already."""
    wanted = next((item for item in planned.manifest.databases if item.name == source.database), None)
    if wanted is None:
        names = ", ".join(item.name for item in planned.manifest.databases)
        raise fault(
            Fault.NO_DATABASE,
            f"the backup has no database {source.database}; it has {names}",
            where=planned.snapshot.where,
            fix="name the databases as they were in MLFLOW_BACKEND_STORE_URI and MLFLOW_AUTH_DATABASE_URI",
        )
    server, beside = source.named(MAINTENANCE), f"{source.database}{RESTORING}"
    if {_mark(server, source.database), _mark(server, beside)} & {_marked(running)}:
        return
    file = contents.dump_of(restic, planned.snapshot, wanted, scratch)
    database.restored(file, server, beside)
    database.execute(server, f"COMMENT ON DATABASE \"{beside}\" IS '{_marked(running)}'")
    file.unlink()
    say(f"restore: database {source.database} is whole, beside the one of now")


def _marked(running: str) -> str:
    """The comment that a database has once it is whole; it keeps it under its later name."""
    return f"homelab restore {running}"


def _mark(server: Postgres, name: str) -> str:
    # A name comes from the address of a database, or from a manifest, which admits no quote.
    question = f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{_literal(name)}'"  # noqa: S608
    return database.execute(server, question)


def _exists(server: Postgres, name: str) -> bool:
    return bool(database.execute(server, f"SELECT 1 FROM pg_database WHERE datname = '{_literal(name)}'"))  # noqa: S608


def _literal(text: str) -> str:
    return text.replace("'", "''")


def _stage_objects(restic: Restic, planned: Plan, s3: S3Client, scratch: Path) -> None:
    """Uploads what is missing beside the keys that are used; what lies there already is whole."""
    staged = {(bucket, Path(key).name) for bucket in buckets.BUCKETS for key in _below(s3, bucket, STAGED)}
    places: dict[str, set[str]] = {}
    for item in planned.missing:
        if (item.bucket, item.sha256) not in staged:
            places.setdefault(item.sha256, set()).add(item.bucket)
    with progress("bring back", len(places)) as reached:
        done = 0

        def upload(sha256: str, content: IO[bytes]) -> None:
            nonlocal done
            for bucket in sorted(places[sha256]):
                content.seek(0)
                s3.put_object(Bucket=bucket, Key=f"{STAGED}{sha256}", Body=content)
            done += 1
            reached(done)

        with explained("what is brought back"):
            contents.each_object(restic, planned.snapshot, places, scratch, upload)


def _below(s3: S3Client, bucket: str, prefix: str) -> set[str]:
    with explained(f"s3://{bucket}/{prefix}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}


def _hold_unused(sources: Sequence[Postgres]) -> None:
    """Checks that nobody is connected to a database that changes its name.

    Raises:
        BackupError: somebody is.
    """
    names = ", ".join(f"'{_literal(source.database)}'" for source in sources)
    question = f"SELECT count(*) FROM pg_stat_activity WHERE datname IN ({names})"  # noqa: S608
    count = int(database.execute(sources[0].named(MAINTENANCE), question))
    if count:
        raise fault(
            Fault.IN_USE,
            f"{count} clients are connected to the databases",
            where=sources[0].where,
            fix="bring MLflow to rest (no pod of it may run), and run the same again: it goes on",
        )


def _switch_objects(planned: Plan, s3: S3Client, running: str) -> None:
    kept = {bucket: _below(s3, bucket, f"{KEPT}{running}/") for bucket in buckets.BUCKETS}
    with explained("what is put in its place"), progress("put in place", len(planned.missing)) as reached:
        for number, item in enumerate(planned.missing, 1):
            before = f"{KEPT}{running}/{item.key}"
            if (item.bucket, item.key) in planned.replaced and before not in kept[item.bucket]:
                s3.copy_object(Bucket=item.bucket, Key=before, CopySource={"Bucket": item.bucket, "Key": item.key})
            # Not in parts: such a copy has another ETag, by which the next backup would take the object for a new one.
            s3.copy_object(
                Bucket=item.bucket,
                Key=item.key,
                CopySource={"Bucket": item.bucket, "Key": f"{STAGED}{item.sha256}"},
                MetadataDirective="REPLACE",
                Metadata=item.metadata,
                ContentType=item.content_type or "binary/octet-stream",
            )
            reached(number)


def _switch_databases(sources: Sequence[Postgres], running: str) -> None:
    """Gives the new databases the names of the old ones, all in one transaction."""
    server = sources[0].named(MAINTENANCE)
    open_ = [source.database for source in sources if _mark(server, source.database) != _marked(running)]
    statements = []
    for name in open_:
        if _exists(server, name):
            database.execute(server, f'DROP DATABASE IF EXISTS "{name}{BEFORE}"')
            statements.append(f'ALTER DATABASE "{name}" RENAME TO "{name}{BEFORE}"')
        statements.append(f'ALTER DATABASE "{name}{RESTORING}" RENAME TO "{name}"')
    if not statements:
        return
    try:
        # The first statement makes them several, and so one transaction.
        database.execute(server, "SET lock_timeout = '30s'", *statements)
    except BackupError as error:
        if "being accessed by other users" in error.what:
            _hold_unused(sources)
        raise


def _clean(planned: Plan, s3: S3Client) -> None:
    """Removes what this restore needed on its way, its name last."""
    for bucket in sorted({BUCKET_OF[part] for part in planned.parts if part in BUCKET_OF}):
        with explained(f"s3://{bucket}/{STAGED}"):
            for key in _below(s3, bucket, STAGED):
                s3.delete_object(Bucket=bucket, Key=key)
    with explained(f"s3://{STATE_BUCKET}/{STATE}"):
        s3.delete_object(Bucket=STATE_BUCKET, Key=STATE)

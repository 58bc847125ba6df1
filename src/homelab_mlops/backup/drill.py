"""Proves the newest backup: restores it into a scratch PostgreSQL, an MLflow server and files, and asks its models.

Nothing of the platform takes part. Each object passes through once, and its bytes are held to their SHA-256; only the
files of the versions that git names stay, in the scratch folder, for the MLflow server to serve.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

from homelab_mlops.backup import contents, database, snapshots
from homelab_mlops.backup.database import Postgres
from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.backup.manifest import Manifest, Object
from homelab_mlops.backup.report import Report
from homelab_mlops.backup.restic import Restic
from homelab_mlops.backup.snapshots import Snapshot
from homelab_mlops.clients.mlflow import SHA256, ModelRegistry
from homelab_mlops.console import say
from homelab_mlops.errors import HomelabError
from homelab_mlops.model.artifact import sha256_of_digests
from homelab_mlops.model.promotion import NONE_YET, Named
from homelab_mlops.serving.source import load

BUCKET, PREFIX = "mlflow", "artifacts/"
SERVED = "mlflow-artifacts:/"
DRILL = "drill_"
START_SECONDS = 180.0
# The drill's own credentials, and settings of another server.
_NOT_MLFLOWS = ("AWS_", "BACKUP_", "MLFLOW_")
_LOCATIONS = """
SELECT 'version', v.name, v.version, COALESCE(m.artifact_location, v.storage_location, v.source), t.value
FROM model_versions v
LEFT JOIN logged_models m ON v.source = 'models:/' || m.model_id
LEFT JOIN model_version_tags t ON (t.name, t.version, t.key) = (v.name, v.version, '{tag}')
UNION ALL SELECT 'model', model_id, 0, artifact_location, NULL FROM logged_models
WHERE lifecycle_stage <> 'deleted' AND status = 2
ORDER BY 1, 2, 3
"""


class Location(NamedTuple):
    """Where the database says that a model's files lie.

    Attributes:
        sha256: the SHA-256 that the training recorded of them; empty where it recorded none.
    """

    kind: str
    name: str
    version: str
    folder: str
    sha256: str

    @property
    def where(self) -> str:
        return f"{self.name} version {self.version}" if self.kind == "version" else f"model {self.name}"


def drill(
    restic: Restic,
    server: Postgres,
    named: dict[str, Named],
    scratch: Path,
    *,
    most_hours: float,
) -> Report:
    """Restores the newest backup aside and holds it to what it has to be.

    Args:
        server: a scratch PostgreSQL, at a database from which others may be made.
        named: what git names of each model.
        most_hours: how old the newest backup may be.
    """
    made = Report(snapshots.now())
    began = time.monotonic()
    try:
        _clear(scratch)
        _drilled(made, restic, server, named, scratch, most_hours)
    except HomelabError as error:
        made.fail(error)
    finally:
        _clear(scratch)
        made.seconds = round(time.monotonic() - began, 1)
    return made


def _clear(scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    for path in scratch.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _drilled(
    made: Report, restic: Restic, server: Postgres, named: dict[str, Named], scratch: Path, most_hours: float
) -> None:
    snapshot = snapshots.chosen(restic)
    made.of(snapshot)
    manifest = snapshots.manifest_of(restic, snapshot)
    contents.hold_databases(manifest, snapshot)
    made.passed("backup", f"{snapshot.where}, of commit {manifest.commit[:12] or 'unknown'}")
    scratched = _restored(restic, snapshot, manifest, server, scratch)
    made.passed("databases", f"{', '.join(item.name for item in manifest.databases)} restored into PostgreSQL")
    locations = _locations(scratched, snapshot)
    by_key = {item.key: item for item in manifest.objects if item.bucket == BUCKET}
    for location in locations:
        _hold_location(location, by_key, snapshot)
    versions = sum(item.kind == "version" for item in locations)
    made.passed("artifacts", f"the files of {versions:,} versions and {len(locations) - versions:,} models are there")
    served = {name: item for name, item in named.items() if item.version != NONE_YET}
    champions = [item for item in locations if item.kind == "version" and _is_served(item, served)]
    _objects(restic, snapshot, manifest, scratch, [file for item in champions for file in _files(item, by_key)])
    size = sum(item.size for item in manifest.objects)
    made.passed("objects", f"{len(manifest.objects):,} objects, {size / 1e6:,.1f} MB, each with the bytes it had")
    with _mlflow(scratched, scratch) as uri:
        made.passed("schema", f"MLflow starts on it: its tables are of version {manifest.mlflow_schema}")
        for name, item in sorted(served.items()):
            _hold_answer(uri, name, item)
            made.champions[name] = item
    absent = sorted(name for name, item in named.items() if item.version == NONE_YET)
    said = f"{len(served)} versions that git names have its bytes and answer"
    made.passed("champions", said + (f"; git names none yet of {', '.join(absent)}" if absent else ""))
    _hold_age(snapshot, most_hours)
    made.passed("age", f"{_hours(snapshot):.1f} hours; {most_hours:g} are allowed")


def _hours(snapshot: Snapshot) -> float:
    return (snapshots.now() - snapshot.time) / datetime.timedelta(hours=1)


def _hold_age(snapshot: Snapshot, most_hours: float) -> None:
    hours = _hours(snapshot)
    if hours > most_hours:
        what = f"the newest backup is {hours:,.0f} hours old; {most_hours:g} are allowed"
        raise fault(Fault.OLD, what, where=snapshot.where, fix="look why the nightly backups fail")
    if snapshot.time > snapshots.now() + snapshots.TOLERANCE:
        raise fault(Fault.OLD, "the newest backup is of the future", where=snapshot.where, fix="check the clocks (NTP)")


def _restored(restic: Restic, snapshot: Snapshot, manifest: Manifest, server: Postgres, scratch: Path) -> Postgres:
    """Restores every database; the first is that of the tracking server."""
    for wanted in manifest.databases:
        file = contents.dump_of(restic, snapshot, wanted, scratch)
        database.restored(file, server, f"{DRILL}{wanted.name}")
        file.unlink()
    return server.named(f"{DRILL}{manifest.databases[0].name}")


def _locations(scratched: Postgres, snapshot: Snapshot) -> list[Location]:
    """Where every version and every model that is ready has its files.

    Raises:
        BackupError: the database is not one of MLflow's.
    """
    try:
        rows = database.execute(scratched, _LOCATIONS.format(tag=SHA256))
    except HomelabError as error:
        what = f"the database has not MLflow's tables: {error.what}"
        raise fault(Fault.SCHEMA, what, where=snapshot.where) from error
    return [Location(*line.split(database.SEPARATOR)) for line in rows.splitlines()]


def _hold_location(location: Location, by_key: dict[str, Object], snapshot: Snapshot) -> None:
    """Checks that the backup has the files of a model, and those that its training recorded.

    Raises:
        BackupError: it has not.
    """
    files = _files(location, by_key)
    where = f"{snapshot.where}, {location.folder}"
    if not any(_path(location, file) == "MLmodel" for file in files):
        what = f"the database names {location.where}, and the backup lacks its files"
        raise fault(Fault.MISSING_OBJECT, what, where=where, fix="see whether the store still has them")
    if not location.sha256:
        return
    try:
        stored = sha256_of_digests({_path(location, file): file.sha256 for file in files})
    except ValueError as error:
        raise fault(Fault.MODEL, f"{location.where}: {error}", where=where) from error
    if stored != location.sha256:
        what = f"the files of {location.where} have the SHA-256 {stored}; their training recorded {location.sha256}"
        raise fault(Fault.MODEL, what, where=where, fix="see whether the store has the same; take an older backup")


def _files(location: Location, by_key: dict[str, Object]) -> list[Object]:
    folder = _folder(location)
    return [item for key, item in by_key.items() if key.startswith(folder)]


def _folder(location: Location) -> str:
    if not location.folder.startswith(SERVED):
        what = f"the files of {location.where} do not lie in the object store"
        raise fault(Fault.MISSING_OBJECT, what, where=location.folder)
    return f"{PREFIX}{location.folder.removeprefix(SERVED).strip('/')}/"


def _path(location: Location, file: Object) -> str:
    return file.key.removeprefix(_folder(location))


def _is_served(location: Location, served: dict[str, Named]) -> bool:
    return location.name in served and served[location.name].version == location.version


def _objects(restic: Restic, snapshot: Snapshot, manifest: Manifest, scratch: Path, kept: list[Object]) -> None:
    """Holds every object to its SHA-256, and keeps those of the versions that git names."""
    places: dict[str, list[Path]] = {}
    for item in kept:
        if ".." in item.key.split("/"):
            raise fault(Fault.MODEL, "a file of a model lies outside of its folder", where=f"s3://{BUCKET}/{item.key}")
        places.setdefault(item.sha256, []).append(scratch / BUCKET / item.key)

    def use(sha256: str, content: IO[bytes]) -> None:
        for place in places.get(sha256, []):
            content.seek(0)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(content, file)

    contents.each_object(restic, snapshot, {item.sha256 for item in manifest.objects}, scratch, use)


@contextmanager
def _mlflow(scratched: Postgres, scratch: Path) -> Iterator[str]:
    """The address of an MLflow server on the restored database and files, until the block ends.

    Raises:
        BackupError: it does not start, as where the tables are of a version that it does not know.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri, log = f"http://127.0.0.1:{port}", scratch / "mlflow.log"
    login = ":".join(quote(text, safe="") for text in (scratched.user, scratched.password) if text)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_MLFLOWS)},
        # In the environment, since the process list shows the arguments.
        "MLFLOW_BACKEND_STORE_URI": f"postgresql://{login}@{scratched.host}:{scratched.port}/{scratched.database}",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    destination = str(scratch / BUCKET / PREFIX)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603
            [*command, "--artifacts-destination", destination],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(uri, lambda: server.poll() is None, log)
        yield uri
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.unlink(missing_ok=True)


def _await(uri: str, lives: Callable[[], bool], log: Path) -> None:
    """Waits until the server answers from the database; its own health says nothing of that."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with ModelRegistry(uri, "", "", seconds=30) as registry:
                registry.models()
            return
        except HomelabError as error:
            if lives() and time.monotonic() < deadline and error.transient:
                time.sleep(0.2)
                continue
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            what = f"MLflow does not start on the restored database: {(lines or [error.what])[-1][:300]}"
            fix = "the backup is of another version of MLflow: restore with that one, and then upgrade"
            raise fault(Fault.SCHEMA, what, where="the drill's MLflow server", fix=fix) from error


def _hold_answer(uri: str, name: str, named: Named) -> None:
    """Loads a version as the service does, which holds its bytes to git's hash, and has it answer its input example.

    Raises:
        BackupError: its files are others than git names, or it does not answer.
    """
    try:
        with ModelRegistry(uri, "", "", seconds=60) as registry:
            load(registry, name, named)
    except HomelabError as error:
        raise fault(
            Fault.MODEL, error.what, where=error.where, fix="promote another version, or take an older backup"
        ) from error
    say(f"drill: {name} version {named.version} answers")

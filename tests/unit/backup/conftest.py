"""A real PostgreSQL, a real MinIO and a real restic, and a small platform on them to back up."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.backup.database import Postgres, execute
from homelab_mlops.gitops import tools
from tests import forks
from tests.conftest import PATIENCE, ROOT, Store, clean_environment, free_port, minio_server

Finished = subprocess.CompletedProcess[str]


def server_programs() -> Path | None:
    """The folder of PostgreSQL's server: that of PATH, or the newest where Debian puts it."""
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    with postgresql_server(programs) as server:
        yield server


@contextmanager
def postgresql_server(programs: Path) -> Iterator[Postgres]:
    """A real PostgreSQL server, at the database `postgres`."""
    folder = Path(tempfile.mkdtemp())  # The server runs as another user, who may not enter pytest's own folders.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        user = {"user": "nobody", "env": {"PATH": os.environ["PATH"]}, "cwd": folder}
    port = free_port()
    data = folder / "data"
    make = ["-D", str(data), "-U", "mlflow", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C"]
    subprocess.run(
        [str(programs / "initdb"), *make],
        check=True,
        capture_output=True,
        **user,
    )
    settings = ("fsync=off", f"port={port}", f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1")
    options = [word for setting in settings for word in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
            **user,
        )
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None, (folder / "log").read_text()
        yield Postgres("127.0.0.1", str(port), "mlflow", "", "postgres")
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def restic_program() -> str:
    """The real restic, which `make test` builds from its Go module."""
    return str(tools.find("restic", ROOT))


@dataclass(frozen=True)
class Platform:
    """What is backed up, and where to."""

    folder: Path
    store: Store
    server: Postgres
    databases: tuple[str, str]
    target: str
    program: str
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        uris = [f"postgresql://mlflow@{self.server.host}:{self.server.port}/{name}" for name in self.databases]
        return {
            **self.store.env,
            "PATH": f"{Path(self.program).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_BACKEND_STORE_URI": uris[0],
            "MLFLOW_AUTH_DATABASE_URI": uris[1],
            "BACKUP_TARGET": self.target,
            "BACKUP_PASSWORD": "of-the-tests",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **self.extra,
        }

    def with_(self, target: str = "", **extra: str) -> Platform:
        """The same platform with another target, or other settings."""
        return dataclasses.replace(self, target=target or self.target, extra={**self.extra, **extra})

    def command(self, *arguments: str) -> list[str]:
        """A command of the room; those that need one get the scratch folder."""
        needs = arguments[0] in ("take", "drill", "restore")
        return ["backup", *arguments, *(["--scratch", str(self.folder / "scratch")] if needs else [])]

    def run(self, *arguments: str) -> Finished:
        return forks.run(self.command(*arguments), clean_environment(self.env), ROOT, PATIENCE)

    def started(self, *arguments: str, changed: dict[str, float] | None = None) -> forks.Program:
        log = self.folder / f"{secrets.token_hex(4)}.log"
        return forks.homelab(self.command(*arguments), clean_environment(self.env), ROOT, log, changed)

    def json(self, *arguments: str) -> Any:
        finished = self.run(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    def restic(self, *arguments: str) -> str:
        env = {**self.env, "RESTIC_REPOSITORY": self.target, "RESTIC_PASSWORD": self.env["BACKUP_PASSWORD"]}
        done = subprocess.run(
            [self.program, *arguments], env=env, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def database(self, number: int = 0) -> Postgres:
        return self.server.named(self.databases[number])

    def put(self, bucket: str, key: str, content: bytes, **options: Any) -> None:
        self.store.client().put_object(Bucket=bucket, Key=key, Body=content, **options)

    def objects(self) -> dict[str, bytes]:
        """Every object that a backup has to hold, by its address."""
        s3 = self.store.client()
        return {
            f"{bucket}/{item['Key']}": s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            for bucket in ("mlflow", "datasets")
            for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])
            if not item["Key"].startswith(".homelab/")
        }

    def backed_up(self, snapshot: str = "latest") -> dict[str, bytes]:
        """Every object of a backup by its address, read with restic alone."""
        folder = self.folder / secrets.token_hex(4)
        self.restic("restore", snapshot, "--tag", "homelab,complete", "--target", str(folder))
        manifest = json.loads((folder / "manifest.json").read_text())
        try:
            return {
                f"{item['bucket']}/{item['key']}": (
                    folder / "objects" / item["sha256"][:2] / item["sha256"]
                ).read_bytes()
                for item in manifest["objects"]
            }
        finally:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def own_minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A MinIO with the buckets that are backed up, versioned as they are in the cluster."""
    with minio_server(tmp_path_factory.mktemp("minio")) as store:
        store.client().create_bucket(Bucket="mlflow")
        for bucket in ("mlflow", "datasets"):
            store.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        yield store


def emptied(store: Store) -> None:
    for bucket in ("mlflow", "datasets"):
        s3 = store.client()
        for item in s3.list_object_versions(Bucket=bucket).get("Versions", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        for item in s3.list_object_versions(Bucket=bucket).get("DeleteMarkers", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])


@pytest.fixture
def platform(tmp_path: Path, own_minio: Store, postgresql: Postgres, restic_program: str) -> Iterator[Platform]:
    """A small platform whose target has a repository: two databases, a model's files and a table."""
    name = f"t{secrets.token_hex(4)}"
    made = Platform(tmp_path, own_minio, postgresql, (name, f"{name}_auth"), str(tmp_path / "target"), restic_program)
    emptied(own_minio)
    for database in made.databases:
        execute(postgresql, f"CREATE DATABASE {database}")
    execute(
        made.database(), "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('a1')"
    )
    execute(made.database(), "CREATE TABLE runs AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 500) i")
    execute(made.database(1), "CREATE TABLE users (name text); INSERT INTO users VALUES ('admin')")
    made.put("mlflow", "1/models/m-1/artifacts/MLmodel", b"flavors: {}", ContentType="text/plain")
    made.put("mlflow", "1/models/m-1/artifacts/model.ubj", secrets.token_bytes(300_000))
    made.put("mlflow", "1/empty", b"")
    made.put("datasets", "churn/table ü.csv", b"a,b\n1,2\n" * 1000, Metadata={"owner": "me"})
    finished = made.run("init")
    assert finished.returncode == 0, finished.stderr
    yield made
    for database in execute(postgresql, "SELECT datname FROM pg_database").split():
        if database.startswith(name):
            execute(postgresql, f"DROP DATABASE {database} WITH (FORCE)")

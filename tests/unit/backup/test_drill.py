"""A drill proves a backup by restoring it, and refuses each damaged one by name."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from homelab_mlops.backup.database import Postgres, execute
from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train
from tests import forks
from tests.conftest import FIXTURES, Store, answering, clean_environment, free_port
from tests.unit.backup.conftest import Finished, Platform, emptied

DEPLOYMENT = """\
kind: Deployment
spec:
  template:
    metadata:
      labels: {{app.kubernetes.io/name: penguins, homelab-mlops/version: "{version}"}}
      annotations: {{homelab-mlops/sha256: "{sha256}"}}
"""


class Living(NamedTuple):
    """A platform on which a model was trained, and what git names of it."""

    platform: Platform
    version: str
    sha256: str

    def drill(self, sha256: str = "") -> tuple[Finished, dict[str, Any]]:
        folder = self.platform.folder / "serving"
        folder.mkdir(exist_ok=True)
        (folder / "penguins.yaml").write_text(
            DEPLOYMENT.format(version=self.version, sha256=sha256 or self.sha256), encoding="utf-8"
        )
        server = self.platform.server
        uri = f"postgresql://mlflow@{server.host}:{server.port}/postgres"
        report = self.platform.folder / "report"
        options = ["--serving", str(folder), "--report", str(report), "--server", uri]
        finished = self.platform.run("drill", *options)
        assert "Traceback" not in finished.stderr
        return finished, json.loads((report / "drill.json").read_text())


@pytest.fixture(scope="module")
def living(
    tmp_path_factory: pytest.TempPathFactory, own_minio: Store, postgresql: Postgres, restic_program: str
) -> Living:
    """An MLflow server on PostgreSQL and MinIO, as the cluster's, which has one registered model; it is backed up."""
    folder = tmp_path_factory.mktemp("living")
    emptied(own_minio)
    name = f"t{secrets.token_hex(4)}"
    platform = Platform(folder, own_minio, postgresql, (name, f"{name}_auth"), str(folder / "target"), restic_program)
    for database in platform.databases:
        execute(postgresql, f"CREATE DATABASE {database}")
    port = free_port()
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_S3_ENDPOINT_URL": own_minio.endpoint,
        **own_minio.env,
    }
    command = ["server", "--port", str(port), "--workers", "1", "--artifacts-destination", "s3://mlflow/artifacts"]
    command += ["--backend-store-uri", platform.env["MLFLOW_BACKEND_STORE_URI"]]
    log, uri = folder / "mlflow.log", f"http://127.0.0.1:{port}"
    with answering(forks.mlflow(command, clean_environment(settings), folder, log), f"{uri}/health", log):
        version, sha256 = trained(folder / "work", uri)
    assert platform.run("init").returncode == 0
    platform.json("take")
    return Living(platform, version, sha256)


def trained(work: Path, uri: str) -> tuple[str, str]:
    """A version of a small model, and the SHA-256 of its files."""
    spec = load_spec(str(FIXTURES / "models/valid/penguins"))
    spec = spec.model_copy(update={"gate": spec.gate.model_copy(update={"resamples": 50, "baseline": "trivial"})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        ingest(spec, work, "demo" if spec.data.demo else None)
        train(spec, work, "mlflow", {"num_round": "5"})
        evaluate(spec, work)
        version = str(register(spec, work)["version"])
        with ModelRegistry(uri, "", "") as registry:
            return version, registry.sha256(spec.name, version)


@pytest.fixture
def damaged(living: Living, tmp_path: Path) -> Living:
    """The same, with a copy of the target that a test may damage."""
    target = tmp_path / "target"
    shutil.copytree(living.platform.target, target)
    (tmp_path / "work").mkdir()
    return living._replace(platform=dataclasses.replace(living.platform, folder=tmp_path / "work", target=str(target)))


def changed_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Platform], None]:
    """A backup whose manifest says something else than the one before."""

    def damage(platform: Platform) -> None:
        folder = platform.folder / "all"
        platform.restic("restore", "latest", "--target", str(folder))
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        _stored(platform, folder)

    return damage


def _stored(platform: Platform, folder: Path) -> None:
    inside = dataclasses.replace(platform, folder=folder, extra={"XDG_CACHE_HOME": str(platform.folder / "cache")})
    inside.restic("backup", "--tag", "homelab,complete,sequence-9", "manifest.json", "databases", "objects")


def flipped(platform: Platform) -> None:
    packs = sorted(Path(platform.target, "data").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    content = bytearray(packs[-1].read_bytes())
    content[len(content) // 2] ^= 1
    packs[-1].chmod(0o600)
    packs[-1].write_bytes(content)


def without_databases(manifest: dict[str, Any]) -> None:
    manifest["databases"] = []


def without_models(manifest: dict[str, Any]) -> None:
    manifest["objects"] = [item for item in manifest["objects"] if "/models/" not in item["key"]]


def truncated_dump(platform: Platform) -> None:
    folder = platform.folder / "all"
    platform.restic("restore", "latest", "--target", str(folder))
    dump = folder / "databases" / f"{platform.databases[0]}.dump"
    os.truncate(dump, dump.stat().st_size // 2)
    _stored(platform, folder)


def missing_object(platform: Platform) -> None:
    folder = platform.folder / "all"
    platform.restic("restore", "latest", "--target", str(folder))
    next(path for path in sorted((folder / "objects").rglob("*")) if path.is_file()).unlink()
    _stored(platform, folder)


def other_bytes(platform: Platform) -> None:
    folder = platform.folder / "all"
    platform.restic("restore", "latest", "--target", str(folder))
    next(path for path in sorted((folder / "objects").rglob("*")) if path.is_file()).write_bytes(b"another")
    _stored(platform, folder)


DAMAGES = {
    "BACKUP_DAMAGED, a flipped byte": flipped,
    "BACKUP_DAMAGED, other bytes": other_bytes,
    "BACKUP_NO_DATABASE": changed_manifest(without_databases),
    "BACKUP_DUMP": truncated_dump,
    "BACKUP_MISSING_OBJECT, not stored": missing_object,
    "BACKUP_MISSING_OBJECT, named by the database": changed_manifest(without_models),
}


def test_a_whole_backup_is_proven(living: Living) -> None:
    finished, report = living.drill()

    assert finished.returncode == 0, finished.stderr
    assert report["proven"], report
    assert report["champions"] == {"penguins": {"version": living.version, "sha256": living.sha256}}
    assert {check["name"] for check in report["checks"]} == {
        "backup",
        "databases",
        "artifacts",
        "objects",
        "schema",
        "champions",
        "age",
    }
    page = (living.platform.folder / "report" / "drill.html").read_text()
    assert ">proven<" in page
    assert living.sha256 in page


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_backup_is_refused_by_name(damaged: Living, name: str) -> None:
    DAMAGES[name](damaged.platform)
    finished, report = damaged.drill()

    assert (finished.returncode, report["proven"], report["error"]) == (1, False, name.partition(",")[0]), report
    assert "not proven" in (damaged.platform.folder / "report" / "drill.html").read_text()


def test_other_bytes_than_git_names_are_refused(living: Living) -> None:
    finished, report = living.drill(sha256="0" * 64)

    assert (finished.returncode, report["error"]) == (1, "BACKUP_MODEL"), report

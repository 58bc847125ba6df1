"""Git names the bytes: whoever serves, scores or names a version refuses files that git does not name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import mlflow
import pytest

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.errors import TrackingError
from homelab_mlops.model.artifact import sha256_of
from homelab_mlops.model.promotion import Named, manifest_of, named_by, naming
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train
from homelab_mlops.serving.alias import follow
from homelab_mlops.serving.source import load
from tests import forks
from tests.conftest import PATIENCE, ROOT, Homelab, clean_environment, refused
from tests.unit.model.test_scoring import raw_rows
from tests.unit.serving.conftest import Registered, serving

BOOSTER, EXAMPLE, CODE = "data/xgboost-model", "input_example.json", "code/homelab_scoring.py"


class Stored:
    """A registered version, and the store in which everybody who trains may write."""

    def __init__(self, model: Registered, uri: str) -> None:
        self.model, self.uri = model, uri
        with ModelRegistry(uri, "", "") as registry:
            self.files = registry.files(model.name, model.version)
        self.sha256 = sha256_of(self.files)
        address = mlflow.MlflowClient(uri, uri).get_model_version_download_uri(model.name, model.version)
        self._url = f"{uri}/api/2.0/mlflow-artifacts/artifacts/{address.removeprefix('mlflow-artifacts:').lstrip('/')}"

    @property
    def named(self) -> Named:
        return Named(self.model.version, self.sha256)

    def put(self, path: str, content: bytes) -> None:
        httpx.put(f"{self._url}/{path}", content=content, trust_env=False).raise_for_status()

    def delete(self, path: str) -> None:
        httpx.delete(f"{self._url}/{path}", trust_env=False).raise_for_status()

    def restore(self) -> None:
        with ModelRegistry(self.uri, "", "") as registry:
            now = registry.files(self.model.name, self.model.version)
        for path in now.keys() - self.files.keys():
            self.delete(path)
        for path, content in self.files.items():
            if now.get(path) != content:
                self.put(path, content)

    def manifest(self, folder: Path, named: Named | None = None) -> Path:
        """A folder with the manifest of the model."""
        text = (ROOT / manifest_of("churn")).read_text().replace("churn", self.model.name)
        (folder / f"{self.model.name}.yaml").write_text(naming(text, named or self.named, "the test"))
        return folder


@pytest.fixture(scope="module")
def trained(registered: dict[str, Registered], mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A version of its own, which these tests may damage."""
    work = tmp_path_factory.mktemp("bytes")
    spec = registered["penguins"].spec.model_copy(update={"name": "bytes"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        ingest(spec, work)
        train(spec, work, "mlflow", {"num_round": "20"})
        evaluate(spec, work)
        return Registered(spec, register(spec, work)["version"], work)


@pytest.fixture
def stored(trained: Registered, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Stored:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return Stored(trained, mlflow_uri)


def overwrite_the_booster(stored: Stored) -> None:
    """With a booster that works and answers otherwise."""
    again = stored.model.work.with_name("other")
    if not again.exists():
        shutil.copytree(stored.model.work, again)
        train(stored.model.spec, again, "files", {"num_round": "3"})
    stored.put(BOOSTER, (again / "train" / "xgboost-model").read_bytes())


DAMAGES: dict[str, Callable[[Stored], None]] = {
    "the booster": overwrite_the_booster,
    "the code": lambda stored: stored.put(CODE, stored.files[CODE] + b"\n# changed\n"),
    "a line more in the MLmodel": lambda stored: stored.put("MLmodel", stored.files["MLmodel"] + b"\nx: 1\n"),
    "an example with other rows": lambda stored: stored.put(EXAMPLE, stored.files[EXAMPLE] + b" "),
    "a file more": lambda stored: stored.put("code/sitecustomize.py", b"print('here')"),
    "a file less": lambda stored: stored.delete("requirements.txt"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_files_that_git_does_not_name_are_refused_by_everybody(
    damage: Callable[[Stored], None], stored: Stored, tmp_path: Path, homelab: Homelab
) -> None:
    damage(stored)
    try:
        with ModelRegistry.of_environment() as registry:
            now = registry.sha256(stored.model.name, stored.model.version)
            assert now != stored.sha256
            with pytest.raises(TrackingError) as error:
                load(registry, stored.model.name, stored.named)
        assert f"have the SHA-256 {now}, and git names {stored.sha256}" in error.value.what
        assert not error.value.transient
        # The alias job says so at each sync, also where the alias is there already.
        with pytest.raises(TrackingError, match=f"{now}, and git names {stored.sha256}"):
            follow(stored.manifest(tmp_path), "c" * 40)
        raw_rows(stored.model.spec).to_parquet(tmp_path / "rows.parquet")
        env = {"MLFLOW_TRACKING_URI": stored.uri, "HOMELAB_APPLIED_MODELS": str(tmp_path)}
        target = tmp_path / "scored.parquet"
        done = homelab("predict", stored.model.name, "--source", tmp_path / "rows.parquet", "--target", target, env=env)
        refused(done, f"have the SHA-256 {now}, and git names {stored.sha256}")
        assert not target.exists()
    finally:
        stored.restore()
    assert sha256_of(stored.files) == stored.sha256


def test_a_pod_on_other_bytes_ends_with_both_and_is_never_ready(stored: Stored, tmp_path: Path) -> None:
    name, version = stored.model.name, stored.model.version
    env = {"MLFLOW_TRACKING_URI": stored.uri, "HOMELAB_MODEL_SHA256": stored.sha256}
    with serving(name, version, tmp_path, env):
        overwrite_the_booster(stored)
        try:
            with serving(name, version, tmp_path, env, ready=False) as served:
                assert served.process.wait(PATIENCE) == 1
                said = served.log.read_text()
        finally:
            stored.restore()
    assert stored.sha256 in said
    assert "put the files back" in said
    assert len(said) < 400, "`homelab status` shows the end of it"


def test_without_a_hash_in_git_a_model_serves_and_says_so(stored: Stored, tmp_path: Path) -> None:
    """A fork of before goes on."""
    name, version = stored.model.name, stored.model.version
    with serving(name, version, tmp_path, {"MLFLOW_TRACKING_URI": stored.uri}) as served:
        said = served.log.read_text()
    assert "git names no SHA-256" in said
    assert f"`homelab promote {name} {version}` names it: {stored.sha256}" in said
    follow(stored.manifest(tmp_path, Named(version)), "c" * 40)


def test_register_refuses_what_the_training_did_not_upload(stored: Stored, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(stored.model.work, work)
    DAMAGES["the code"](stored)
    try:
        with pytest.raises(TrackingError, match=f"and the training uploaded {stored.sha256}"):
            register(stored.model.spec, work)
    finally:
        stored.restore()
    assert register(stored.model.spec, work)["sha256"] == stored.sha256


def test_predict_waits_for_the_alias_where_git_names_another_version(
    stored: Stored, tmp_path: Path, homelab: Homelab
) -> None:
    stored.manifest(tmp_path, Named("99", "a" * 64))
    env = {"MLFLOW_TRACKING_URI": stored.uri, "HOMELAB_APPLIED_MODELS": str(tmp_path)}
    arguments = ["predict", stored.model.name, "--source", "none.csv", "--target", "none.parquet"]
    done = homelab(*arguments, env=env)
    refused(done, f"git names version 99 with the SHA-256 {'a' * 64}")
    assert stored.sha256 in done.stderr
    assert done.returncode == os.EX_TEMPFAIL


class Clone:
    """A clone with a manifest of the model."""

    def __init__(self, root: Path, stored: Stored, named: Named) -> None:
        self.root, self.stored = root, stored
        for file in ("apps/serving.yaml", "clusters/homelab/settings.yaml"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, root / file)
        self.manifest = root / manifest_of(stored.model.name)
        self.manifest.parent.mkdir(parents=True)
        stored.manifest(self.manifest.parent, named)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Begin")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=self._env(), capture_output=True, text=True, check=True
        ).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def homelab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return forks.run(arguments, self._env(), self.root, PATIENCE)

    def named(self) -> Named:
        return named_by(self.manifest.read_text(), "the test")

    def _env(self) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": "me@invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        tracking = {"MLFLOW_TRACKING_URI": self.stored.uri, "KUBECONFIG": "/nonexistent", "COLUMNS": "200"}
        return clean_environment({**who, **tracking})


def test_a_person_promotes_a_version_with_its_bytes(stored: Stored, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone", stored, Named("0"))
    name, version = stored.model.name, stored.model.version
    done = clone.homelab("promote", name, version)
    assert done.returncode == 0, done.stderr
    assert clone.named() == stored.named
    assert clone.git("diff", "--numstat", "HEAD~1", "HEAD") == f"2\t2\t{manifest_of(name)}\n"
    assert stored.sha256 in clone.git("log", "-1", "--format=%B")
    refused(clone.homelab("promote", name, version), f"names version {version} of {name} already")
    shown = clone.homelab("models", name).stdout
    assert stored.sha256[:12] in shown
    assert "no new pod" not in shown

    # Git is back at the version before, with the bytes of before, and needs no registry for it.
    clone.git("revert", "--no-edit", "HEAD")
    assert clone.named() == Named("0")


def test_promote_refuses_bytes_that_no_training_recorded(stored: Stored, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone", stored, Named("0"))
    name, version = stored.model.name, stored.model.version
    overwrite_the_booster(stored)
    try:
        refused(clone.homelab("promote", name, version), f"and its training recorded {stored.sha256}")
        assert clone.named() == Named("0")
        stored.manifest(clone.manifest.parent)
        clone.commit("Named before")
        shown = clone.homelab("models", name).stdout
        assert f"in the store, and git names {stored.sha256}: no new pod serves them" in shown
    finally:
        stored.restore()


def test_a_fork_of_before_names_its_bytes_by_the_same_command(stored: Stored, tmp_path: Path) -> None:
    name, version = stored.model.name, stored.model.version
    clone = Clone(tmp_path / "clone", stored, Named(version))
    assert f"`homelab promote {name} {version}`" in clone.homelab("models", name).stdout
    client = mlflow.MlflowClient(stored.uri, stored.uri)
    client.delete_model_version_tag(name, version, "homelab.sha256")
    try:
        refused(clone.homelab("promote", name, version), "recorded no SHA-256 of its files")
        assert clone.homelab("promote", name, version, "--as-stored").returncode == 0
    finally:
        client.set_model_version_tag(name, version, "homelab.sha256", stored.sha256)
    assert clone.named() == stored.named


def test_a_registry_that_is_away_is_no_promotion(stored: Stored, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone", replace_uri(stored, "http://127.0.0.1:1"), Named("0"))
    done = clone.homelab("promote", stored.model.name, stored.model.version, "--deadline", "1")
    refused(done, "MLflow cannot be reached")
    assert clone.named() == Named("0")


def replace_uri(stored: Stored, uri: str) -> Stored:
    other = Stored(stored.model, stored.uri)
    other.uri = uri
    return other

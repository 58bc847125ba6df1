"""Who may do what in the registry: the service reads, the alias job moves aliases, and the training names none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.errors import TrackingError
from homelab_mlops.model.promotion import Named
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train
from homelab_mlops.serving.source import load
from tests.conftest import FIXTURES, ROOT, mlflow_with

USERS = {"MLFLOW_AUTH_ADMIN": "admin", "TRAINING": "training", "READER": "serving", "PROMOTER": "promoter"}


def test_each_login_can_do_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for user in USERS:
        monkeypatch.setenv(f"{user}_USERNAME", USERS[user])
        monkeypatch.setenv(f"{user}_PASSWORD", f"the password of {user}")
    auth = f"sqlite:///{tmp_path}/auth.db"
    configuration = tmp_path / "basic_auth.ini"
    settings = "default_permission = READ", f"database_uri = {auth}", "auth_cache_ttl_seconds = 600"
    configuration.write_text("\n".join(["[mlflow]", *settings]))
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(configuration))
    source = importlib.util.spec_from_file_location("prepare_mlflow", ROOT / "docker/mlflow/prepare_mlflow.py")
    assert source is not None
    assert source.loader is not None
    prepare = importlib.util.module_from_spec(source)
    source.loader.exec_module(prepare)
    prepare.set_users(auth)
    prepare.set_users(auth)
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "PYTHONPATH": str(ROOT / "docker/mlflow/plugin"),
    }
    folder = tmp_path / "artifacts"
    with mlflow_with(tmp_path, "--app-name", "homelab-accounts", "--artifacts-destination", str(folder), env=env) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

        def log_in(user: str) -> None:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USERS[user])
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"the password of {user}")

        log_in("TRAINING")
        spec = load_spec(str(FIXTURES / "models/valid/penguins"))
        ingest(spec, tmp_path / "work")
        train(spec, tmp_path / "work", "mlflow", {"num_round": "20"})
        assert evaluate(spec, tmp_path / "work")["promote"]
        made = register(spec, tmp_path / "work", alias_by_git=True)
        assert made["alias"] == "challenger"

        log_in("READER")
        with ModelRegistry.of_environment() as registry:
            assert registry.champion("penguins") is None
            assert load(registry, "penguins", Named("1", made["sha256"])).version == "1"
            with pytest.raises(TrackingError, match="refuses this login"):
                registry.set_champion("penguins", "1", "c" * 40)

        log_in("PROMOTER")
        with ModelRegistry.of_environment() as registry:
            load(registry, "penguins", Named("1", made["sha256"]))
            registry.set_champion("penguins", "1", "c" * 40)
            assert registry.champion("penguins") == "1"
            with pytest.raises(TrackingError, match="lacks penguins version 9"):
                load(registry, "penguins", Named("9", made["sha256"]))

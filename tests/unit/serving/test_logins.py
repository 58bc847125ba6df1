"""Who may do what in the registry: the service reads, the alias job moves aliases, and the training names none."""

from __future__ import annotations

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
from tests.accounts import accounts_server, password
from tests.conftest import FIXTURES


def test_each_login_can_do_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with accounts_server(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

        def log_in(user: str) -> None:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password(user))

        log_in("training")
        spec = load_spec(str(FIXTURES / "models/valid/penguins"))
        ingest(spec, tmp_path / "work")
        train(spec, tmp_path / "work", "mlflow", {"num_round": "20"})
        assert evaluate(spec, tmp_path / "work")["promote"]
        made = register(spec, tmp_path / "work", alias_by_git=True)
        assert made["alias"] == "challenger"
        assert register(spec, tmp_path / "work", alias_by_git=True) == made

        log_in("serving")
        with ModelRegistry.of_environment() as registry:
            assert registry.champion("penguins") is None
            assert load(registry, "penguins", Named("1", made["sha256"])).version == "1"
            assert [version.alias for version in registry.versions("penguins")] == ["challenger"]
            with pytest.raises(TrackingError, match="refuses this login"):
                registry.set_champion("penguins", "1", "c" * 40)

        log_in("promoter")
        with ModelRegistry.of_environment() as registry:
            load(registry, "penguins", Named("1", made["sha256"]))
            registry.set_champion("penguins", "1", "c" * 40)
            assert registry.champion("penguins") == "1"
            with pytest.raises(TrackingError, match="lacks penguins version 9"):
                load(registry, "penguins", Named("9", made["sha256"]))

        log_in("training")
        train(spec, tmp_path / "work", "mlflow", {"num_round": "21"})
        evaluate(spec, tmp_path / "work")
        assert register(spec, tmp_path / "work", alias_by_git=True)["version"] == "2"

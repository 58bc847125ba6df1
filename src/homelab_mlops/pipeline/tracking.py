"""MLflow: the run of a training in progress, and the upload of its result, which can be repeated.

A result has an identity of its own, which is the tag ``homelab.result`` of its run. An upload skips everything that is
already there, so the same upload serves a training, a retry after a server has died, and `homelab sync`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homelab_mlops.clients.mlflow import SHA256, tracking_uri
from homelab_mlops.console import say
from homelab_mlops.errors import TrackingError, without_login
from homelab_mlops.model import artifact
from homelab_mlops.pipeline import result, verdict
from homelab_mlops.pipeline.workdir import read_json, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN = "run.json"
RESULT, COMPLETE = "homelab.result", "homelab.complete"
DESCRIPTION = "mlflow.note.content"
PATIENCE_SECONDS = 180.0
FLUSH_SECONDS = 2.0
SCORING_MODULE = "homelab_scoring"
VALUES_MODULE = "homelab_values"
EXPRESSIONS_MODULE, TREE_MODULE = "homelab_expressions", "homelab_tree"
# Where MLflow puts the booster in the files of a model.
BOOSTER = f"data/{result.MODEL}"
# Error codes that waiting does not mend.
REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED")


def page(path: str) -> str:
    """The address at which a person opens ``path`` of MLflow in its view of model training, which is not its first
    view.

    ``HOMELAB_MLFLOW_URL`` is the address for browsers, where it differs from the address for this process.
    """
    server = os.environ.get("HOMELAB_MLFLOW_URL", "").rstrip("/") or without_login(tracking_uri())
    return f"{server}/#/{path}?workflowType=machine_learning"


def client(retries: int = 2, seconds: int = 20) -> MlflowClient:
    """An MLflow client of `MLFLOW_TRACKING_URI` that gives up soon; a caller who can wait calls again.

    Raises:
        TrackingError: there is no tracking server in the environment.
    """
    uri = tracking_uri()
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns MLflow's and requests' errors inside the block into a TrackingError."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException, ConnectionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:240]
        answered = getattr(getattr(error, "response", None), "status_code", None)
        if getattr(error, "error_code", None) in REFUSALS or answered in (401, 403):
            raise TrackingError(
                f"the tracking server refuses it while {doing}: {reason}",
                where=tracking_uri(),
                fix="give this user EDIT permission on the experiment and the registered model, or use another user",
            ) from error
        raise TrackingError(
            f"the tracking server failed while {doing}: {reason}",
            where=tracking_uri(),
            fix="look at the server's log; the same command can run again",
            transient=True,
        ) from error


def patient(doing: str, action: Callable[[], None], patience: float) -> None:
    """Runs ``action`` until it succeeds, for at most ``patience`` seconds, in which a server may start again.

    Raises:
        TrackingError: it still fails at the end.
    """
    deadline = time.monotonic() + patience
    pause = 1.0
    while True:
        try:
            with explained(doing):
                return action()
        except TrackingError as error:
            left = deadline - time.monotonic()
            if left <= 0 or not error.transient:
                raise
            say(f"tracking: {error.what}; trying again for {left:.0f} s")
            time.sleep(min(pause, left))
            pause = min(pause * 2, 15.0)


def patience() -> float:
    """How long an upload waits for a server that is away, in seconds: ``HOMELAB_TRACKING_PATIENCE``, or 180."""
    given = os.environ.get("HOMELAB_TRACKING_PATIENCE", "")
    try:
        return float(given) if given else PATIENCE_SECONDS
    except ValueError:
        raise TrackingError(
            f"HOMELAB_TRACKING_PATIENCE is {given!r}", where="environment", fix="set it to a number of seconds"
        ) from None


class LiveRun:
    """The run of a training in progress, whose metrics appear at once. No error here stops the training."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        """Creates the run.

        Raises:
            TrackingError: the server does not take it.
        """
        self._client = client(retries=0, seconds=5)
        with explained("creating the run"):
            self._supersede(record)
            self.run_id = _create_run(self._client, record)
        self._pending: list[Any] = []
        self._flushed = time.monotonic()
        self._streaming = True

    def _supersede(self, record: Mapping[str, Any]) -> None:
        """Ends the runs that an earlier, killed try of the same workflow has left running."""
        workflow = record["provenance"]["workflow"]
        if not workflow:
            return
        experiment = self._client.get_experiment_by_name(record["model"])
        if experiment is None:
            return
        query = f"tags.`homelab.workflow` = '{workflow}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([experiment.experiment_id], query):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def log_round(self, number: int, timestamp: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one boosting round, and sends the gathered metrics every two seconds."""
        self._pending += _round_metrics(number, metrics, timestamp)
        if self._streaming and time.monotonic() - self._flushed > FLUSH_SECONDS:
            try:
                for start in range(0, len(self._pending), 1000):
                    self._client.log_batch(self.run_id, metrics=self._pending[start : start + 1000])
            except Exception as error:
                self._streaming = False
                say(f"tracking: the server went away while training ({type(error).__name__}); the training goes on")
            self._pending.clear()
            self._flushed = time.monotonic()

    def end(self, status: str) -> None:
        """Marks the run KILLED or FAILED, if the server still answers."""
        with suppress(Exception):
            self._client.set_terminated(self.run_id, status)


def _create_run(mlflow_client: MlflowClient, record: Mapping[str, Any]) -> str:
    experiment = mlflow_client.get_experiment_by_name(record["model"])
    experiment_id = experiment.experiment_id if experiment else mlflow_client.create_experiment(record["model"])
    where = record["provenance"]
    tags = {
        RESULT: record["result"],
        "mlflow.source.name": "homelab train",
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": where["commit"],
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or os.environ.get("USER") or "homelab",
        **provenance_tags(record),
    }
    name = where["workflow"] or f"{record['model']}-{record['started_at'][:19].replace(':', '')}"
    run = mlflow_client.create_run(
        experiment_id, tags={key: value for key, value in tags.items() if value}, run_name=name
    )
    return str(run.info.run_id)


def provenance_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a run and a model version share: people search by them; the record holds the rest."""
    where = record["provenance"]
    tags = {
        "homelab.commit": where["commit"],
        "homelab.dirty": str(where["dirty"]).lower(),
        "homelab.image": where["image"],
        "homelab.workflow": where["workflow"],
        "homelab.data_sha256": record["data"]["sha256"],
    }
    return {name: value for name, value in tags.items() if value}


def _round_metrics(number: int, metrics: Mapping[str, float], timestamp: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name.replace(":", "/"), value, timestamp, number) for name, value in metrics.items()]


def upload(folder: Path, of_run: str | None = None) -> dict[str, Any]:
    """Brings the missing parts of the result in ``folder`` to MLflow, and writes and returns ``run.json``.

    Raises:
        TrackingError: the server refuses a part; the parts before it stay, and the same call continues there.
    """
    record = read_json(folder / result.RECORD, "homelab train")
    mlflow_client = client(retries=1)
    with explained("uploading the result"):
        run_id = of_run or _find_run(mlflow_client, record) or _create_run(mlflow_client, record)
        run = mlflow_client.get_run(run_id)
        if COMPLETE not in run.data.tags:
            _log_numbers(mlflow_client, folder, record, run_id)
            model_id = _ready_model(mlflow_client, run) or _log_model(folder, run)
            mlflow_client.log_artifacts(run_id, str(folder / "plots"), "plots")
            for name in (result.RECORD, result.METRICS, result.TRAINED):
                mlflow_client.log_artifact(run_id, str(folder / name), "homelab")
            sha256 = _sha256_of_uploaded(mlflow_client, model_id, folder)
            mlflow_client.set_terminated(run_id, "FINISHED")
            mlflow_client.set_tag(run_id, SHA256, sha256)
            mlflow_client.set_tag(run_id, COMPLETE, "true")
        else:
            model_id = str(_ready_model(mlflow_client, run))
            sha256 = _sha256_of_uploaded(mlflow_client, model_id, folder)
    experiment_id = run.info.experiment_id
    link = {
        "uri": without_login(tracking_uri()),
        "experiment_id": experiment_id,
        "run_id": run_id,
        "model_id": model_id,
        "sha256": sha256,
        "url": page(f"experiments/{experiment_id}/runs/{run_id}"),
    }
    write_json(folder / RUN, link)
    return link


def _sha256_of_uploaded(mlflow_client: MlflowClient, model_id: str, folder: Path) -> str:
    """The SHA-256 of the files of a model that was uploaded from ``folder``.

    Raises:
        TrackingError: another booster lies there than the training wrote.
    """
    files = files_of(mlflow_client, model_id)
    if files.get(BOOSTER) != (folder / result.MODEL).read_bytes():
        raise TrackingError(
            "the booster in the store is not the one that the training wrote",
            where=f"{tracking_uri()}, {model_id}",
            fix="look who else writes there, and train again",
        )
    return artifact.sha256_of(files)


def files_of(mlflow_client: MlflowClient, model_id: str) -> dict[str, bytes]:
    """Every file of a logged model as it lies in the store now, by its path."""
    return files_at(mlflow_client.get_logged_model(model_id).artifact_location)


def files_at(address: str) -> dict[str, bytes]:
    """Every file below the address of an artifact, by its path."""
    import mlflow

    with tempfile.TemporaryDirectory() as temporary:
        return artifact.files_in(Path(mlflow.artifacts.download_artifacts(address, dst_path=temporary)))


def log_evaluation(train: Path, evaluation: Path, decision: Mapping[str, Any]) -> None:
    """Brings an evaluation to the run of the result in ``train``: metrics, description, and the files of the step.

    The metrics are the model's own on the holdout; intervals and opponents are in ``holdout.csv``.

    Raises:
        TrackingError: the result is not in MLflow, or the server does not take it.
    """
    from mlflow.entities import Metric

    run_id = load_run(train)["run_id"]
    moment = read_json(train / result.METRICS, "homelab train")["times_ms"][-1]
    record = read_json(train / result.RECORD, "homelab train")
    mlflow_client = client()
    logged = [
        Metric(f"holdout/{name}", interval["value"], moment, 0)
        for name, interval in decision["metrics"]["challenger"].items()
    ]
    with explained("logging the evaluation"):
        mlflow_client.log_batch(run_id, metrics=logged)
        mlflow_client.set_tag(run_id, DESCRIPTION, verdict.description(record, decision))
        mlflow_client.log_artifacts(run_id, str(evaluation / "plots"), "plots")
        for path in sorted(evaluation.iterdir()):
            if path.is_file():
                mlflow_client.log_artifact(run_id, str(path), "homelab")


def log_report(run_id: str, report: Path) -> None:
    """Replaces the report of a run by one that names the model version.

    Raises:
        TrackingError: the server does not take it.
    """
    with explained("logging the report"):
        client().log_artifact(run_id, str(report), "homelab")


def load_run(folder: Path) -> dict[str, Any]:
    """The run of an uploaded result.

    Raises:
        TrackingError: the result has not been uploaded.
    """
    if not (folder / RUN).exists():
        raise TrackingError("this result is not in MLflow", where=str(folder), fix=f"run `homelab sync {folder}`")
    content: dict[str, Any] = read_json(folder / RUN, f"homelab sync {folder}")
    return content


def _find_run(mlflow_client: MlflowClient, record: Mapping[str, Any]) -> str | None:
    experiment = mlflow_client.get_experiment_by_name(record["model"])
    if experiment is None:
        return None
    found = mlflow_client.search_runs(
        [experiment.experiment_id], f"tags.`{RESULT}` = '{record['result']}'", max_results=1
    )
    return str(found[0].info.run_id) if found else None


def _log_numbers(mlflow_client: MlflowClient, folder: Path, record: Mapping[str, Any], run_id: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    metrics = read_json(folder / result.METRICS, "homelab train")
    parameters = [
        Param(name, value if isinstance(value, str) else json.dumps(value))
        for name, value in record["parameters"].items()
    ]
    mlflow_client.log_batch(run_id, params=parameters)
    every = [
        metric
        for number, timestamp in enumerate(metrics["times_ms"])
        for metric in _round_metrics(
            number, {name: values[number] for name, values in metrics["history"].items()}, timestamp
        )
    ]
    every += _round_metrics(0, {"best_round": metrics["best_round"]}, metrics["times_ms"][-1])
    for start in range(0, len(every), 1000):
        mlflow_client.log_batch(run_id, metrics=every[start : start + 1000])
    data = record["data"]
    spec = record["spec"]
    columns = {name: item["type"] for name, item in spec["features"].items() if "from" not in item}
    columns |= {name: item["type"] for name, item in spec.get("inputs", {}).items()}
    dataset = Dataset(
        name=record["model"],
        digest=data["sha256"][:36],
        source_type="s3" if data["source"].startswith("s3://") else "local",
        source=json.dumps({"uri": data["source"]}),
        schema=json.dumps({"mlflow_colspec": [{"name": name, "type": kind} for name, kind in columns.items()]}),
        profile=json.dumps({"num_rows": data["rows"], **record["rows"]}),
    )
    mlflow_client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _ready_model(mlflow_client: MlflowClient, run: Any) -> str | None:
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [mlflow_client.get_logged_model(output.model_id) for output in outputs]
    return next((str(model.model_id) for model in models if str(model.status) == "READY"), None)


def _log_model(folder: Path, run: Any) -> str:
    """Logs the booster and the files that score with it. Loading them needs no pickle and not this package."""
    import mlflow
    from mlflow.models import Model

    from homelab_mlops.model import expressions, scoring, tree, values

    scorer = scoring.Scorer.load(folder / result.MODEL)
    example = result.example_of(folder)
    versions = read_json(folder / result.RECORD, "homelab train")["provenance"]["packages"]
    # Otherwise MLflow puts the model into the default experiment, where only an administrator may write.
    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    with tempfile.TemporaryDirectory() as temporary:
        modules = {SCORING_MODULE: scoring, EXPRESSIONS_MODULE: expressions, TREE_MODULE: tree, VALUES_MODULE: values}
        code = [Path(temporary) / f"{name}.py" for name in modules]
        for module, path in zip(modules.values(), code, strict=True):
            shutil.copy(str(module.__file__), path)
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run.info.run_id,
            loader_module=SCORING_MODULE,
            data_path=str(folder / result.MODEL),
            code_paths=list(map(str, code)),
            signature=_signature(scorer.description),
            input_example=example,
            pip_requirements=[f"{name}=={versions[name]}" for name in ("numpy", "pandas", "xgboost-cpu")],
            metadata={"homelab": json.loads(scorer.description.to_json())},
        )
    return str(info.model_id)


def _signature(description: Any) -> Any:
    """The columns by name, without types: MLflow would refuse a whole number for a double, and a missing value for a
    long, but the model takes raw rows as they are."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    inputs: list[Any] = [ColSpec(AnyType(), item.name) for item in description.inputs]  # type: ignore[no-untyped-call]
    labels = description.labels if description.task == "multiclass" else [None]
    outputs: list[Any] = [ColSpec(DataType.double, label) for label in labels]
    return ModelSignature(Schema(inputs), Schema(outputs))

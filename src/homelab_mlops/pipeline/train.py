"""The step *train*: fits a model on the ingested table, writes its result, and tracks it in MLflow where it should."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from homelab_mlops.console import progress, say
from homelab_mlops.errors import TrackingError
from homelab_mlops.model.parameters import Parameter, held_to_labels, resolve
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline.fit import Fitted, Prepared, fit, prepare
from homelab_mlops.pipeline.ingest import load_ingested
from homelab_mlops.pipeline.result import new_record, write_result
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.validate import ensure_valid
from homelab_mlops.pipeline.workdir import step_folder

Tracking = Literal["files", "mlflow", "both"]


def train(spec: ModelSpec, work: Path, tracking: Tracking, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Writes ``work/train`` and returns the result's record.

    The caller asks before, with `check_tracking`, whether tracking will work.

    Args:
        tracking: ``files`` needs no server; ``mlflow`` fails without one; with ``both`` a server may die meanwhile: a
        later `homelab sync` completes it.

    Raises:
        TrackingError: the tracking server does not work.
        DataError, ParameterError: the data or the parameters cannot be used.
    """
    parameters = parameters_of(spec, overrides)
    prepared, manifest, holdout = _prepared(spec, work, parameters)
    with step_folder(work, "train") as folder:
        record = train_result(folder, spec, manifest, parameters, prepared, tracking, holdout)
    say(f"train: {work / 'train'}")
    return record


def parameters_of(spec: ModelSpec, overrides: Mapping[str, str]) -> dict[str, Parameter]:
    """The effective parameters of a training, checked against the task and the gate before any row is read.

    Raises:
        ParameterError: one cannot be used.
    """
    parameters = resolve(spec.task, spec.train, os.environ, overrides, gate_metric=spec.gate.metric)
    return held_to_labels(parameters, spec.target.labels)


def _prepared(spec: ModelSpec, work: Path, parameters: Mapping[str, Parameter]) -> tuple[Prepared, dict[str, Any], int]:
    """The parts of the ingested table, its manifest, and how many rows are held out."""
    frame, manifest = load_ingested(spec, work)
    ensure_valid(frame, spec, work, manifest)
    frame = labelled(frame, spec)
    split = split_rows(frame, spec, manifest["window"])
    prepared = prepare(spec, frame[split.train], frame[split.validation], parameters)
    return prepared, manifest, int(split.holdout.sum())


def labelled(frame: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """The rows that have a target. Without ``drop_missing`` the validation has made sure that all have one."""
    return frame[frame[spec.target.column].notna()].reset_index(drop=True)


def train_result(
    folder: Path,
    spec: ModelSpec,
    manifest: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    prepared: Prepared,
    tracking: Tracking,
    holdout: int = 0,
) -> dict[str, Any]:
    """Fits and writes the result into the empty ``folder``; see `train`."""
    _show(spec, parameters)
    counts = {"train": prepared.train.num_row(), "validation": prepared.validation.num_row(), "holdout": holdout}
    record = new_record(spec, manifest, parameters, counts)
    if tracking == "files":
        _fit_and_write(folder, spec, parameters, prepared, record, None)
        return record
    _track(folder, spec, parameters, prepared, record, tracking)
    return record


def _track(
    folder: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Parameter],
    prepared: Prepared,
    record: dict[str, Any],
    tracking: Tracking,
) -> None:
    from homelab_mlops.pipeline import tracking as mlflow_way

    wait = mlflow_way.patience() if tracking == "mlflow" else 0.0
    run = mlflow_way.LiveRun(record)
    say(f"train: run {run.run_id} in experiment {spec.name}")
    try:
        _fit_and_write(folder, spec, parameters, prepared, record, run.log_round)
        try:
            mlflow_way.patient("uploading the result", lambda: _upload(folder, run.run_id), wait)
        except TrackingError as error:
            if tracking == "mlflow":
                raise
            say(f"tracking: {error.what}\n  the files are complete; bring them to MLflow later with `homelab sync`")
    except (KeyboardInterrupt, SystemExit):
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise


def _upload(folder: Path, run_id: str) -> None:
    from homelab_mlops.pipeline import tracking as mlflow_way

    link = mlflow_way.upload(folder, run_id)
    say(f"train: {link['url']}")


def _fit_and_write(
    folder: Path,
    spec: ModelSpec,
    parameters: Mapping[str, Parameter],
    prepared: Prepared,
    record: dict[str, Any],
    on_round: Any,
) -> Fitted:
    with progress("train: boosting rounds", int(parameters["num_round"].value)) as reached:

        def after_round(number: int, moment: int, metrics: dict[str, float]) -> None:
            name, value = list(metrics.items())[-1]
            reached(number + 1, f"{name} {value:.4f}")
            if on_round is not None:
                on_round(number, moment, metrics)

        fitted = fit(spec, prepared, parameters, after_round)
    write_result(folder, record, fitted, prepared)
    for name, value in fitted.at_best().items():
        print(f"{name}: {value:.6f}")  # noqa: T201 - the lines that SageMaker's metric definitions read
    return fitted


def _show(spec: ModelSpec, parameters: Mapping[str, Parameter]) -> None:
    """Says the parameters that differ from their defaults."""
    defaults = resolve(spec.task, {}, {}, {}, gate_metric=spec.gate.metric)
    for name, parameter in parameters.items():
        if parameter.source != "default" and (name not in defaults or parameter.value != defaults[name].value):
            say(f"  {name} = {parameter.value}  ({parameter.source})")

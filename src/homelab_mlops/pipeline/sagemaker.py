"""The file way: a job of SageMaker's script mode, on SageMaker or in any container with a volume."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from homelab_mlops.console import say
from homelab_mlops.doctor.preflight import check_tracking
from homelab_mlops.errors import ParameterError
from homelab_mlops.model.hyperparameters import from_environment
from homelab_mlops.model.parameters import Parameter, held_to_labels, resolve
from homelab_mlops.model.spec import ModelSpec, RandomSplit
from homelab_mlops.pipeline import result
from homelab_mlops.pipeline.channels import equally_weighted, named, read_channel, weighted_by_position
from homelab_mlops.pipeline.fit import prepare
from homelab_mlops.pipeline.inference import MIN_ROWS, infer_spec
from homelab_mlops.pipeline.job import Folders, job_environment
from homelab_mlops.pipeline.split import groups_of, row_ids, split_rows
from homelab_mlops.pipeline.train import Tracking, labelled, train_result
from homelab_mlops.pipeline.unknown import unknown_lines
from homelab_mlops.pipeline.validate import refuse, validate_table
from homelab_mlops.tables.categories import Notes
from homelab_mlops.tables.columns import Declared, cleaned, declared, typed
from homelab_mlops.tables.fingerprint import content_sha256
from homelab_mlops.tables.frames import frame_of, table_of
from homelab_mlops.tables.rounding import rounding_lines
from homelab_mlops.tables.spelling import Spelling

MOST_LINES = 100


def train_from_channels(
    spec: ModelSpec | None, tracking: Tracking, overrides: Mapping[str, str], folders: Folders
) -> dict[str, Any]:
    """Trains on the channels, and leaves ``xgboost-model`` and ``metrics.json`` in the model folder.

    ``metrics.json`` also goes to the output data folder. Without a specification the table decides the columns' types,
    and the label is column 0 or the column that ``SM_HP_TARGET`` names.

    Raises:
        HomelabError: the job cannot be done.
    """
    environ = job_environment(os.environ)
    given = from_environment(environ)
    target = given.get("target")
    if spec is None:
        # Refuses parameters that fit no task, or not the task of the objective, before the first row is read.
        resolve(None, {}, environ, overrides)
    else:
        _parameters(spec, environ, overrides, gate=True)
    inferred = spec is None
    spec, frame, validation = _tables(spec, folders, None if target is None else str(target), given, overrides)
    parameters = _parameters(spec, environ, overrides, gate=not inferred)
    refuse(validate_table(frame, spec), str(folders.train))
    check_tracking(spec.name, tracking)
    frame = labelled(frame, spec)
    if validation is None:
        ids_split = split_rows(frame, spec, None)
        frame, validation = frame[~ids_split.holdout], frame[ids_split.holdout]
    else:
        refuse(validate_table(validation, _for_validation(spec, validation)), str(folders.validation))
        validation = labelled(validation, spec)
        _warn_of_overlap(frame, validation, spec)
    manifest = {
        "model": spec.name,
        "source": str(folders.train),
        "rows": len(frame) + len(validation),
        "columns": list(frame.columns),
        "sha256": content_sha256(table_of(pd.concat([frame, validation], ignore_index=True))),
        "window": None,
        "ingested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folders.model.mkdir(parents=True, exist_ok=True)
    folders.data.mkdir(parents=True, exist_ok=True)
    prepared = prepare(spec, frame, validation, parameters)
    _say_lines(tuple(f"validation: {line}" for line in unknown_lines(validation, prepared.description.inputs)))
    with tempfile.TemporaryDirectory(prefix=".result-", dir=folders.model) as temporary:
        record = train_result(Path(temporary), spec, manifest, parameters, prepared, tracking)
        _place(Path(temporary), folders)
    say(f"train: {folders.model / result.MODEL}")
    return record


def _for_validation(spec: ModelSpec, validation: pd.DataFrame) -> ModelSpec:
    """The rules of the validation channel: few rows are enough, and a feature may lack all values where it may lack
    any, as one of libsvm that no row names."""
    empty = [name for name, feature in spec.raw.items() if feature.missing == 1 and validation[name].isna().all()]
    if empty:
        say(f"train: validation: no row has a value of {', '.join(empty[:8])}" + (", ..." if len(empty) > 8 else ""))
    columns = {name: feature for name, feature in spec.raw.items() if name not in empty}
    data = spec.data.model_copy(update={"min_rows": MIN_ROWS})
    return spec.model_copy(update={"data": data, "inputs": {}, "features": columns})


def _parameters(
    spec: ModelSpec, environ: Mapping[str, str], overrides: Mapping[str, str], *, gate: bool
) -> dict[str, Parameter]:
    """The effective parameters; without a model.yaml there is no gate, and the last metric stops the training."""
    metric = spec.gate.metric if gate else None
    parameters = resolve(spec.task, spec.train, environ, overrides, gate_metric=metric)
    return held_to_labels(parameters, spec.target.labels, at_most=not gate)


def _place(written: Path, folders: Folders) -> None:
    """Moves a finished result into the model folder. The model comes last, so that it always has its record."""
    if folders.data != folders.model:
        partial = folders.data / f".{result.METRICS}.partial"
        shutil.copy(written / result.METRICS, partial)
        partial.replace(folders.data / result.METRICS)
    shutil.rmtree(folders.model / "plots", ignore_errors=True)
    for path in sorted(written.iterdir(), key=lambda path: path.name == result.MODEL):
        path.replace(folders.model / path.name)


def _tables(
    spec: ModelSpec | None,
    folders: Folders,
    target: str | None,
    given: Mapping[str, Any],
    overrides: Mapping[str, str],
) -> tuple[ModelSpec, pd.DataFrame, pd.DataFrame | None]:
    by_position = _csv_weights(spec, given)
    csv = spec.data.csv if spec else None
    reading = read_channel(folders.train, "SM_CHANNEL_TRAIN", _named_columns(spec), csv)
    train, where = reading.table, str(folders.train)
    columns = train.num_columns
    if by_position and not reading.weighted:
        train = weighted_by_position(train)
    if spec is None:
        weight = train.column_names[1] if by_position or reading.weighted else None
        readable = cleaned(train, reading.spelling)
        inferred = infer_spec(readable, target, {**given, **overrides}, where, weight)
        _say_lines(inferred.lines)
        spec = inferred.spec
    # Without a validation channel, a share of the training rows decides when the training stops.
    spec = spec.model_copy(update={"split": RandomSplit(method="random", group=spec.split.group)})
    frame = _frame(train, spec, where, reading.spelling)
    if folders.validation is None:
        return spec, frame, None
    reading = read_channel(folders.validation, "SM_CHANNEL_VALIDATION", _named_columns(spec), csv)
    to_name = by_position and not reading.weighted
    validation = weighted_by_position(reading.table, columns) if to_name else reading.table
    return spec, frame, _frame(validation, spec, str(folders.validation), reading.spelling, rest=True)


def _named_columns(spec: ModelSpec | None) -> list[Declared]:
    """The columns that a header must name; a validation channel may lack the weights."""
    return [column for column in declared(spec) if column.name != spec.data.weight] if spec else []


def _frame(table: pa.Table, spec: ModelSpec, where: str, spelling: Spelling, *, rest: bool = False) -> pd.DataFrame:
    """The model's columns with their types. ``rest`` says that the table is the validation channel, which may lack
    weights."""
    table, notes = named(table, spec, where), Notes()
    found = typed(equally_weighted(table, spec) if rest else table, declared(spec), where, spelling, notes)
    _say_lines((*notes.lines(), *rounding_lines(found)))
    return frame_of(found)


def _csv_weights(spec: ModelSpec | None, given: Mapping[str, Any]) -> bool:
    value = given.get("csv_weights", 0)
    if value not in (0, 1):
        raise ParameterError(f"csv_weights is {value!r}, not 0 or 1", where="environment", fix="set it to 0 or 1")
    if value and spec is not None and spec.data.weight is None:
        raise ParameterError(
            "csv_weights=1, and the model.yaml names no weight", where="environment", fix="add `data.weight` to it"
        )
    return bool(value) and spec is None


def _say_lines(lines: tuple[str, ...]) -> None:
    for line in lines[:MOST_LINES]:
        say(f"train: {line}")
    if len(lines) > MOST_LINES:
        say(f"train: and {len(lines) - MOST_LINES:,} more columns; record.json has their types")


def _warn_of_overlap(train: pd.DataFrame, validation: pd.DataFrame, spec: ModelSpec) -> None:
    shared = int(np.isin(row_ids(validation, spec), row_ids(train, spec)).sum())
    if shared:
        say(f"train: warning: {shared:,} of {len(validation):,} validation rows were trained on")
    ours, theirs = groups_of(train, spec), groups_of(validation, spec)
    if ours is not None and theirs is not None and (known := int(np.isin(theirs, ours).sum())):
        say(
            f"train: warning: {known:,} of {len(validation):,} validation rows are of a {spec.split.group} that was "
            "trained on"
        )

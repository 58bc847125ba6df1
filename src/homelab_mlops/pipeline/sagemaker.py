"""The file way: SageMaker's script-mode contract, there or in any container with a volume.

Channels, folders and hyperparameters come from ``SM_*`` variables, or lie under ``/opt/ml`` as on SageMaker. Source:
ENVIRONMENT_VARIABLES.md of github.com/aws/sagemaker-training-toolkit, and SageMaker's guide to training containers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from homelab_mlops.console import say
from homelab_mlops.doctor.preflight import check_tracking
from homelab_mlops.errors import DataError, HomelabError, ParameterError
from homelab_mlops.model.hyperparameters import from_environment
from homelab_mlops.model.parameters import resolve
from homelab_mlops.model.scoring import as_text
from homelab_mlops.model.spec import (
    BooleanFeature,
    CategoryFeature,
    Data,
    Feature,
    Gate,
    ModelSpec,
    NumberFeature,
    RandomSplit,
    Target,
)
from homelab_mlops.model.tasks import Task
from homelab_mlops.pipeline import result as rows
from homelab_mlops.pipeline.fit import prepare
from homelab_mlops.pipeline.sources import local_files
from homelab_mlops.pipeline.split import row_ids, split_rows
from homelab_mlops.pipeline.tables import content_sha256, read_raw, select, typed
from homelab_mlops.pipeline.train import Tracking, labelled, train_row
from homelab_mlops.pipeline.validate import check_table, refuse

ROOT = Path("/opt/ml")
HYPERPARAMETERS = "input/config/hyperparameters.json"
MIN_ROWS = 20


@dataclass(frozen=True)
class Folders:
    """Where a job finds its channels and leaves its results."""

    train: Path
    validation: Path | None
    model: Path
    data: Path
    outcome: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Folders:
        """The folders that ``SM_*`` name, SageMaker's own where they do not."""
        channel = environ.get("SM_CHANNEL_VALIDATION")
        validation = Path(channel) if channel else ROOT / "input/data/validation"
        data = Path(environ.get("SM_OUTPUT_DATA_DIR") or ROOT / "output/data")
        outcome = environ.get("SM_OUTPUT_DIR") or (data if environ.get("SM_OUTPUT_DATA_DIR") else ROOT / "output")
        return cls(
            train=Path(
                environ.get("SM_CHANNEL_TRAIN") or environ.get("SM_CHANNEL_TRAINING") or ROOT / "input/data/train"
            ),
            validation=validation if channel or validation.is_dir() else None,
            model=Path(environ.get("SM_MODEL_DIR") or ROOT / "model"),
            data=data,
            outcome=Path(outcome),
        )


def train_from_channels(spec: ModelSpec | None, tracking: Tracking, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Trains on the channels, and leaves ``xgboost-model`` and ``metrics.json`` in the model folder.

    ``metrics.json`` also goes to the output data folder, and a file ``success``, or ``failure`` with the reason, to the
    output folder. Without a specification the columns' types are read off the table, and the label is column 0 or the
    column that ``SM_HP_TARGET`` names.

    Raises:
        HomelabError: the job cannot be done; the reason is also in ``failure``.
    """
    environ = _with_hyperparameter_file(dict(os.environ))
    folders = Folders.of(environ)
    try:
        record = _train(spec, tracking, overrides, environ, folders)
    except HomelabError as error:
        _outcome(folders, "failure", str(error))
        raise
    except OSError as error:
        _outcome(folders, "failure", f"{type(error).__name__}: {error}")
        raise
    except (KeyboardInterrupt, SystemExit):
        _outcome(folders, "failure", "stopped by a signal")
        raise
    _outcome(folders, "success", record["row"])
    say(f"train: {folders.model / rows.MODEL}")
    return record


def _train(
    spec: ModelSpec | None,
    tracking: Tracking,
    overrides: Mapping[str, str],
    environ: Mapping[str, str],
    folders: Folders,
) -> dict[str, Any]:
    parameters_given, target = _without_settings(environ)
    spec, frame, validation = _tables(spec, folders, target, parameters_given)
    parameters = resolve(spec.task, spec.train, parameters_given, overrides)
    refuse(check_table(frame, spec), str(folders.train))
    check_tracking(spec.name, tracking)
    frame = labelled(frame, spec)
    if validation is None:
        ids_split = split_rows(frame, _for_early_stopping(spec), None)
        frame, validation = frame[~ids_split.holdout], frame[ids_split.holdout]
    else:
        few = spec.model_copy(update={"data": spec.data.model_copy(update={"min_rows": MIN_ROWS})})
        refuse(check_table(validation, few), str(folders.validation))
        validation = labelled(validation, spec)
        _warn_of_overlap(frame, validation, spec)
    manifest = {
        "model": spec.name,
        "source": str(folders.train),
        "rows": len(frame) + len(validation),
        "columns": list(frame.columns),
        "sha256": content_sha256(pd.concat([frame, validation], ignore_index=True)),
        "window": None,
        "ingested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folders.model.mkdir(parents=True, exist_ok=True)
    folders.data.mkdir(parents=True, exist_ok=True)
    prepared = prepare(spec, frame, validation, parameters)
    with tempfile.TemporaryDirectory(prefix=".row-", dir=folders.model) as temporary:
        record = train_row(Path(temporary), spec, manifest, parameters, prepared, tracking)
        _place(Path(temporary), folders)
    return record


def _place(row: Path, folders: Folders) -> None:
    """Moves a finished row into the model folder, the model last, so that a model is never without its record."""
    if folders.data != folders.model:
        partial = folders.data / f".{rows.METRICS}.partial"
        shutil.copy(row / rows.METRICS, partial)
        partial.replace(folders.data / rows.METRICS)
    shutil.rmtree(folders.model / "plots", ignore_errors=True)
    for path in sorted(row.iterdir(), key=lambda path: path.name == rows.MODEL):
        path.replace(folders.model / path.name)


def _outcome(folders: Folders, name: str, text: str) -> None:
    try:
        folders.outcome.mkdir(parents=True, exist_ok=True)
        (folders.outcome / {"success": "failure", "failure": "success"}[name]).unlink(missing_ok=True)
        (folders.outcome / name).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        say(f"train: {name} could not be written to {folders.outcome}: {error.strerror}")


def _with_hyperparameter_file(environ: dict[str, str]) -> dict[str, str]:
    """On SageMaker without its toolkit the hyperparameters are a file, all values text."""
    path = ROOT / HYPERPARAMETERS
    if "SM_HPS" not in environ and path.is_file():
        environ["SM_HPS"] = path.read_text(encoding="utf-8")
    return environ


def _without_settings(environ: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """The environment with the hyperparameters merged into ``SM_HPS``, and the ``target`` taken out of them."""
    given = from_environment(environ)
    target = given.pop("target", None)
    rest = {name: value for name, value in environ.items() if not name.upper().startswith("SM_HP")}
    return rest | {"SM_HPS": json.dumps(given)}, None if target is None else str(target)


def _tables(
    spec: ModelSpec | None, folders: Folders, target: str | None, environ: Mapping[str, str]
) -> tuple[ModelSpec, pd.DataFrame, pd.DataFrame | None]:
    train = _read_channel(folders.train, "SM_CHANNEL_TRAIN")
    validation = _read_channel(folders.validation, "SM_CHANNEL_VALIDATION") if folders.validation else None
    where = str(folders.train)
    if spec is None:
        spec = infer_spec(train, target, from_environment(environ), where)
    elif train.column_names[:1] == ["label"] and "label" not in spec.columns:
        names = [spec.target.column, *spec.features]
        train = _renamed(train, names, where)
        validation = _renamed(validation, names, str(folders.validation)) if validation is not None else None
    columns = [spec.target.column, *spec.features, *[key for key in spec.data.key if key not in spec.features]]
    narrow = spec.model_copy(update={"split": RandomSplit(method="random")})
    frames = [
        typed(select(table, columns, where), narrow) if table is not None else None for table in (train, validation)
    ]
    return narrow, cast("pd.DataFrame", frames[0]), frames[1]


def _renamed(table: pa.Table, names: list[str], where: str) -> pa.Table:
    if table.num_columns != len(names):
        raise DataError(
            f"the table without a header has {table.num_columns} columns; the model has {len(names)}",
            where=where,
            fix="the label comes first, then the features in the order of model.yaml",
        )
    return table.rename_columns(names)


def _read_channel(folder: Path, name: str) -> pa.Table:
    if not folder.exists():
        raise DataError("the channel does not exist", where=str(folder), fix=f"set {name}, or mount the data there")
    tables = [read_raw(path, str(path), header=None) for path in local_files(str(folder))]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files of the channel do not fit together: {error}", where=str(folder)) from error


def _for_early_stopping(spec: ModelSpec) -> ModelSpec:
    return spec.model_copy(update={"split": RandomSplit(method="random", holdout=0.2, validation=0.2)})


def _warn_of_overlap(train: pd.DataFrame, validation: pd.DataFrame, spec: ModelSpec) -> None:
    shared = int(np.isin(row_ids(validation, spec), row_ids(train, spec)).sum())
    if shared:
        say(f"train: warning: {shared:,} of {len(validation):,} validation rows were trained on")


def infer_spec(table: pa.Table, target: str | None, given: Mapping[str, Any], where: str) -> ModelSpec:
    """A specification read off a table: numbers stay numbers, everything else is a category.

    Raises:
        DataError: the target is not a column, or has no two values.
        ParameterError: the objective does not fit the target.
    """
    column = target or table.column_names[0]
    if column not in table.column_names:
        raise DataError(
            f"the target {column!r} is no column",
            where=where,
            fix=f"SM_HP_TARGET is one of {', '.join(table.column_names[:8])}",
        )
    frame = table.to_pandas()
    features: dict[str, Feature] = {name: _feature(frame[name]) for name in table.column_names if name != column}
    if not features:
        raise DataError("the table has one column, so there is nothing to learn from", where=where)
    task, labels = _task(frame[column], given.get("objective"), where)
    return ModelSpec(
        name="model",
        description="read off the table of the training channel",
        task=task,
        data=Data(source=where, min_rows=MIN_ROWS),
        target=Target(column=column, labels=labels),
        features=features,
        split=RandomSplit(method="random"),
        gate=Gate(metric={"binary": "auc", "multiclass": "logloss", "regression": "rmse"}[task]),
    )


def _feature(series: pd.Series[Any]) -> Feature:
    if pd.api.types.is_bool_dtype(series.dtype):
        return BooleanFeature(type="boolean", missing=1)
    numbers = pd.to_numeric(series, errors="coerce")
    if bool((numbers.isna() & series.notna()).any()):
        return CategoryFeature(type="category", missing=1)
    return NumberFeature(type="number", missing=1)


def _task(target: pd.Series[Any], objective: object, where: str) -> tuple[Task, list[str] | None]:
    names = sorted(as_text(target.dropna()).unique())
    numbers = pd.to_numeric(target, errors="coerce")
    if bool((numbers.isna() & target.notna()).any()):
        task: Task = "binary" if len(names) == 2 else "multiclass"
    else:
        task = "binary" if set(numbers.dropna()) <= {0.0, 1.0} else "regression"
        names = sorted({f"{number:g}" for number in numbers.dropna()}, key=float)
    if isinstance(objective, str):
        task = _task_of(objective)
    if task == "regression":
        return task, None
    if len(names) < 2 or (task == "binary" and len(names) != 2) or (task == "multiclass" and len(names) < 3):
        raise DataError(
            f"the target has {len(names)} labels ({', '.join(names[:8])}), which is no {task} task",
            where=where,
            fix="check the column of the target, and SM_HP_OBJECTIVE",
        )
    return task, names


def _task_of(objective: str) -> Task:
    prefix = objective.partition(":")[0]
    tasks: dict[str, Task] = {"binary": "binary", "multi": "multiclass", "reg": "regression", "count": "regression"}
    if prefix not in tasks or objective in ("binary:hinge", "binary:logitraw", "multi:softmax"):
        raise ParameterError(
            f"the objective {objective!r} is not supported",
            where="objective",
            fix="use binary:logistic, multi:softprob, reg:* or count:*",
        )
    return tasks[prefix]

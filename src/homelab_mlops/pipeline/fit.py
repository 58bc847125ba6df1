"""The fit itself: XGBoost with early stopping on rows that are neither training nor holdout."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from homelab_mlops.console import say
from homelab_mlops.errors import DataError, ParameterError
from homelab_mlops.model.expressions import Expression, as_names
from homelab_mlops.model.parameters import Parameter
from homelab_mlops.model.scoring import ATTRIBUTE, Description, Input, Scorer, arrays, matrix
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.model.tree import KINDS, Derived, columns_of
from homelab_mlops.pipeline.split import RowIds, groups_of, row_ids

# Number, Unix milliseconds and metrics of a round: MLflow takes a metric with another time for another metric.
OnRound = Callable[[int, int, dict[str, float]], None]

EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Prepared:
    """The parts of the rows that a training needs, so that memory need not hold the rows themselves.

    ``row_ids`` belong to the training and the validation rows, and to their groups; ``example`` holds a few raw
    training rows.
    """

    description: Description
    train: xgb.QuantileDMatrix
    validation: xgb.QuantileDMatrix
    row_ids: RowIds
    example: pd.DataFrame


@dataclass(frozen=True)
class Fitted:
    """A trained booster, cut off after its best round, and the history of its training.

    ``history`` has one list a metric (``validation:auc``, ...), one value a round; ``times`` are Unix milliseconds.
    """

    scorer: Scorer
    history: dict[str, list[float]]
    times: list[int]
    best_round: int

    @property
    def rounds(self) -> int:
        return len(self.times)

    def at_best(self) -> dict[str, float]:
        """Every metric at the best round."""
        return {name: values[self.best_round] for name, values in self.history.items()}


def targets(frame: pd.DataFrame, spec: ModelSpec) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The target as numbers, shape ``[rows]``: 1 for the positive label, the label's number, or the value itself."""
    column = frame[spec.target.column]
    if spec.target.labels is None:
        return column.to_numpy(dtype=np.float64)
    return np.asarray(pd.Categorical(column, categories=spec.target.labels).codes, dtype=np.float64)


def weights_of(frame: pd.DataFrame, spec: ModelSpec) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """How much each row counts, shape ``[rows]``; None where all count equally.

    Raises:
        DataError: every weight of these rows is zero.
    """
    if spec.data.weight is None:
        return None
    weights = frame[spec.data.weight].to_numpy(dtype=np.float64)
    if not weights.any():
        raise DataError(
            f"all {len(weights):,} weights of a part of the rows are zero: no row of it counts",
            where=f"data.weight: {spec.data.weight}",
            fix="check the column, or leave `data.weight` out",
        )
    return weights


def counting(frame: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """The rows whose weight is not zero."""
    return frame if spec.data.weight is None else frame[frame[spec.data.weight] > 0]


def describe(spec: ModelSpec, train: pd.DataFrame) -> Description:
    """What the model takes and gives; ``train`` gives the categories that the specification leaves open."""
    inputs = []
    for name, feature in spec.raw.items():
        categories: tuple[str, ...] = ()
        if feature.type == "category":
            seen = train[name].dropna().unique() if name in spec.features else ()
            categories = tuple(feature.values or sorted(seen))
        inputs.append(Input(name, feature.type, categories))
    derived = tuple(_derived(spec, name, tuple(inputs), train) for name in spec.derived)
    order = tuple(spec.features) if derived else ()
    return Description(spec.name, spec.task, tuple(spec.target.labels or ()), tuple(inputs), derived, order)


def _derived(spec: ModelSpec, name: str, inputs: tuple[Input, ...], train: pd.DataFrame) -> Derived:
    tree, kind, names = spec.derivation(name)
    if kind == "category" and not names:
        compute = Expression(tree, {item.name: KINDS[item.type] for item in inputs})
        found = as_names(compute(arrays(train, inputs, columns_of(tree)), len(train)))
        names = tuple(sorted({text for text in found if text is not None}))
    return Derived(name, kind, tree, names)


def prepare(
    spec: ModelSpec, train: pd.DataFrame, validation: pd.DataFrame, parameters: Mapping[str, Parameter]
) -> Prepared:
    """Brings raw rows into XGBoost's form.

    Raises:
        ParameterError: XGBoost refuses a parameter.
    """
    description = describe(spec, train)
    _refuse_empty(description, train)
    with _explained(spec):
        first = _matrix(spec, train, description, parameters, None)
        second = _matrix(spec, validation, description, parameters, first)
    return Prepared(
        description,
        first,
        second,
        np.concatenate([ids for part in (train, validation) for ids in _identities(part, spec)]),
        train[list(spec.raw)].head(EXAMPLE_ROWS).copy(),
    )


def _refuse_empty(description: Description, train: pd.DataFrame) -> None:
    """Refuses a derived feature that no training row has."""
    if not description.derived:
        return
    deriver = description.deriver()
    found = deriver(arrays(train, description.inputs, deriver.columns), len(train))
    for item, numbers in zip(description.derived, found, strict=True):
        name, missing = item.name, int(np.isnan(numbers).sum())
        if missing == len(train):
            raise DataError(
                f"the derived feature {name!r} is missing in all {missing:,} training rows",
                where=f"features.{name}.from",
                fix="check the expression; a division by zero is missing, as is what is computed from a missing value",
            )
        if missing:
            say(f"train: the derived feature {name!r} is missing in {missing:,} of {len(train):,} training rows")


def _identities(frame: pd.DataFrame, spec: ModelSpec) -> list[RowIds]:
    groups = groups_of(frame, spec)
    return [row_ids(frame, spec), *([] if groups is None else [groups])]


def _matrix(
    spec: ModelSpec,
    frame: pd.DataFrame,
    description: Description,
    parameters: Mapping[str, Parameter],
    reference: xgb.QuantileDMatrix | None,
) -> xgb.QuantileDMatrix:
    bins = parameters.get("max_bin")
    return xgb.QuantileDMatrix(
        matrix(frame, description),
        label=targets(frame, spec),
        weight=weights_of(frame, spec),
        ref=reference,
        enable_categorical=True,
        nthread=parameters["nthread"].value,
        max_bin=bins.value if bins else 256,
    )


@contextmanager
def _explained(spec: ModelSpec) -> Iterator[None]:
    try:
        yield
    except (xgb.core.XGBoostError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ParameterError(
            f"XGBoost refuses to train: {reason.partition('] ')[2] or reason}",
            where=spec.name,
            fix="check `train` in model.yaml, SM_HP_* and --set",
        ) from error


def fit(
    spec: ModelSpec, prepared: Prepared, parameters: Mapping[str, Parameter], on_round: OnRound | None = None
) -> Fitted:
    """Trains; the last ``eval_metric`` on the validation rows decides when to stop.

    Raises:
        ParameterError: XGBoost refuses a parameter.
    """
    values = {name: parameter.value for name, parameter in parameters.items()}
    num_round, patience = values.pop("num_round"), values.pop("early_stopping_rounds")
    values |= _constraints(spec, values)
    if spec.task == "multiclass" and spec.target.labels is not None:
        values.setdefault("num_class", len(spec.target.labels))
    progress = _Progress(on_round)
    with _explained(spec):
        booster = xgb.train(
            values,
            prepared.train,
            num_boost_round=num_round,
            evals=[(prepared.train, "train"), (prepared.validation, "validation")],
            callbacks=[xgb.callback.EarlyStopping(rounds=patience), progress],
            verbose_eval=False,
        )
    best = int(booster.best_iteration)
    booster = booster[: best + 1]
    booster.feature_names = list(spec.features)
    booster.set_attr(best_iteration=None, best_score=None, **{ATTRIBUTE: prepared.description.to_json()})
    return Fitted(Scorer(booster), progress.history, progress.times, best)


def _constraints(spec: ModelSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """The constraints on features by name or by number, as XGBoost takes them.

    Raises:
        ParameterError: a name is not a feature.
    """
    number = {name: index for index, name in enumerate(spec.features)}
    found: dict[str, Any] = {}
    match values.get("monotone_constraints"):
        case dict() as by_name:
            _refuse_unknown(by_name, number, "monotone_constraints")
            found["monotone_constraints"] = tuple(int(by_name.get(name, 0)) for name in number)
        case list() as in_order:
            if len(in_order) != len(number):
                raise ParameterError(
                    f"monotone_constraints has {len(in_order)} values for {len(number)} features",
                    where=spec.name,
                    fix="write one a feature, or {NAME: 1}",
                )
            found["monotone_constraints"] = tuple(in_order)
    match values.get("interaction_constraints"):
        case list() as sets:
            members = [item for names in sets for item in names]
            _refuse_unknown([item for item in members if isinstance(item, str)], number, "interaction_constraints")
            numbered = [[number[item] if isinstance(item, str) else item for item in names] for names in sets]
            found["interaction_constraints"] = json.dumps(numbered)
    return found


def _refuse_unknown(names: Iterable[str], known: Mapping[str, int], parameter: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ParameterError(
            f"{parameter} names {unknown[0]!r}, which is no feature", where=parameter, fix=f"one of {', '.join(known)}"
        )


class _Progress(xgb.callback.TrainingCallback):
    def __init__(self, on_round: OnRound | None) -> None:
        self.on_round = on_round
        self.history: dict[str, list[float]] = {}
        self.times: list[int] = []

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
        latest = {
            f"{part}:{name}": float(values[-1])
            for part, metrics in evals_log.items()
            for name, values in metrics.items()
        }
        for name, value in latest.items():
            if not math.isfinite(value):
                raise ParameterError(
                    f"the metric {name} is {value} of these rows",
                    where=f"boosting round {epoch}",
                    fix="report another eval_metric; an AUC needs rows of both labels, a MAPE targets that are not 0",
                )
            self.history.setdefault(name, []).append(value)
        now = time.time_ns() // 1_000_000
        self.times.append(now)
        if self.on_round is not None:
            self.on_round(epoch, now, latest)
        return False

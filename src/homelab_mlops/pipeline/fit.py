"""The fit itself: XGBoost with early stopping on rows that are neither training nor holdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from homelab_mlops.errors import ParameterError
from homelab_mlops.pipeline.parameters import Parameter
from homelab_mlops.pipeline.spec import ModelSpec
from homelab_mlops.scoring import ATTRIBUTE, Description, Input, Scorer, encode

OnRound = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """A trained booster, cut off after its best round, and how it came about.

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


def describe(spec: ModelSpec, train: pd.DataFrame) -> Description:
    """What the model takes and gives; categories that the specification leaves open are those of ``train``."""
    inputs = []
    for name, feature in spec.features.items():
        categories: tuple[str, ...] = ()
        if feature.type == "category":
            categories = tuple(feature.values or sorted(train[name].dropna().unique()))
        inputs.append(Input(name, feature.type, categories))
    return Description(spec.name, spec.task, tuple(spec.target.labels or ()), tuple(inputs))


def fit(
    spec: ModelSpec,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    parameters: Mapping[str, Parameter],
    on_round: OnRound | None = None,
) -> Fitted:
    """Trains on the raw rows of ``train``; the last ``eval_metric`` on ``validation`` decides when to stop.

    Raises:
        ParameterError: XGBoost refuses a parameter.
    """
    values = {name: parameter.value for name, parameter in parameters.items()}
    num_round, patience = values.pop("num_round"), values.pop("early_stopping_rounds")
    if isinstance(values.get("monotone_constraints"), list):
        values["monotone_constraints"] = tuple(values["monotone_constraints"])
    if spec.task == "multiclass" and spec.target.labels is not None:
        values.setdefault("num_class", len(spec.target.labels))
    description = describe(spec, train)
    progress = _Progress(on_round)
    try:
        first = xgb.QuantileDMatrix(
            encode(train, description.inputs),
            label=targets(train, spec),
            enable_categorical=True,
            nthread=values["nthread"],
            max_bin=values.get("max_bin", 256),
        )
        second = xgb.QuantileDMatrix(
            encode(validation, description.inputs),
            label=targets(validation, spec),
            ref=first,
            enable_categorical=True,
            nthread=values["nthread"],
            max_bin=values.get("max_bin", 256),
        )
        booster = xgb.train(
            values,
            first,
            num_boost_round=num_round,
            evals=[(first, "train"), (second, "validation")],
            callbacks=[xgb.callback.EarlyStopping(rounds=patience), progress],
            verbose_eval=False,
        )
    except (xgb.core.XGBoostError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ParameterError(
            f"XGBoost refuses to train: {reason.partition('] ')[2] or reason}",
            where=spec.name,
            fix="check `train` in model.yaml, SM_HP_* and --set",
        ) from error
    best = int(booster.best_iteration)
    booster = booster[: best + 1]
    booster.set_attr(best_iteration=None, best_score=None, **{ATTRIBUTE: description.to_json()})
    return Fitted(Scorer(booster), progress.history, progress.times, best)


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
            self.history.setdefault(name, []).append(value)
        self.times.append(time.time_ns() // 1_000_000)
        if self.on_round is not None:
            self.on_round(epoch, latest)
        return False

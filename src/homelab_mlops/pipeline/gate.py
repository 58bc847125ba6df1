"""The gate: whether a challenger is good enough, and better than the champion with the wanted confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.model.scoring import features_of
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.model.tasks import LOWER_IS_BETTER
from homelab_mlops.pipeline.budget import Allowance
from homelab_mlops.pipeline.fit import describe, targets, weights_of
from homelab_mlops.pipeline.metrics import Interval, Rows, paired_difference, weighted_metric

Array = np.ndarray[Any, np.dtype[Any]]


# Of a comparison that nobody counts.
WHOLE = Allowance(1, 1, 1.0, 0.0)


@dataclass(frozen=True)
class Reason:
    """One condition of the gate: whether it holds, and its figures."""

    rule: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Opponent:
    """A model that the challenger must beat: its predictions, shape ``[rows]`` or ``[rows, labels]``, on rows it has
    not seen.

    ``rows`` says which rows of the holdout these are, shape ``[holdout rows]``.
    """

    name: str
    predicted: Array
    rows: Array


def judge(
    spec: ModelSpec,
    truth: Array,
    challenger: Array,
    baseline: Opponent,
    champion: Opponent | None,
    rows: Rows = Rows(),  # noqa: B008 - frozen
    allowance: Allowance = WHOLE,
) -> list[Reason]:
    """Every condition of the gate; the challenger is promoted when all hold.

    The metric itself must reach the floor. The paired bootstrap compares the challenger with the baseline and the
    champion: the one-sided lower bound of the improvement must be above zero, or above ``gate.margin``. Its confidence
    is ``gate.confidence`` for the baseline. For the champion it is that of the share of ``1 - gate.confidence`` that
    ``allowance`` leaves to this comparison.
    """
    gate = spec.gate
    value = weighted_metric(gate.metric, truth, challenger)(rows.weighted(np.ones(len(truth))))
    reasons = []
    if gate.floor is not None:
        lower = gate.metric in LOWER_IS_BETTER
        passed = value <= gate.floor if lower else value >= gate.floor
        wanted = "at most" if lower else "at least"
        reasons.append(
            Reason("floor", bool(passed), f"{gate.metric} is {value:.4f}; {wanted} {gate.floor:g} is wanted")
        )
    gain = improvement(spec, truth, challenger, baseline, gate.confidence, rows)
    reasons.append(_better(spec, baseline, gain, 0.0, "baseline", gate.confidence))
    if champion is not None:
        reasons.append(_against_champion(spec, truth, challenger, champion, rows, allowance))
    return reasons


def _against_champion(
    spec: ModelSpec, truth: Array, challenger: Array, champion: Opponent, rows: Rows, allowance: Allowance
) -> Reason:
    if allowance.again is not None:
        return Reason("budget", passed=False, text=_spent(champion.name, allowance))
    confidence = 1 - (1 - spec.gate.confidence) * allowance.share
    gain = improvement(spec, truth, challenger, champion, confidence, rows)
    reason = _better(spec, champion, gain, spec.gate.margin, "champion", confidence)
    return reason if allowance is WHOLE else Reason(reason.rule, reason.passed, f"{reason.text}; {allowance}")


def _spent(name: str, allowance: Allowance) -> str:
    of_year = f"the {allowance.number - 1} comparisons with the {name} within a year have spent their error budget"
    return (
        f"{of_year} (gate.comparisons: {allowance.most}), so one more would promote by luck. It goes on from "
        f"{allowance.again:%Y-%m-%d %H:%M} UTC. Until then, promote by hand"
    )


def improvement(
    spec: ModelSpec,
    truth: Array,
    challenger: Array,
    opponent: Opponent,
    confidence: float,
    rows: Rows = Rows(),  # noqa: B008 - frozen
) -> Interval:
    """By how much the challenger is better, with one-sided bounds; positive is better for every metric."""
    seen = opponent.rows
    sign = -1.0 if spec.gate.metric in LOWER_IS_BETTER else 1.0
    difference = paired_difference(
        spec.gate.metric,
        truth[seen],
        challenger[seen],
        opponent.predicted,
        spec.gate.resamples,
        confidence,
        rows=rows[seen],
    )
    if sign > 0:
        return difference
    return Interval(-difference.value, -difference.high, -difference.low)


def _better(spec: ModelSpec, opponent: Opponent, gain: Interval, margin: float, rule: str, confidence: float) -> Reason:
    text = (
        f"{spec.gate.metric} improves on the {opponent.name} by {gain.value:+.4f}, with {percent(confidence)} "
        f"confidence by more than {gain.low:+.4f}; more than {margin:g} is wanted"
    )
    return Reason(rule, bool(gain.low > margin), text)


def percent(confidence: float) -> str:
    """A confidence with as many digits as tell it from certainty: ``95%``, ``97.5%``, ``99.993%``."""
    left = 100 * (1 - confidence)
    digits = max(0, 1 - math.floor(math.log10(left)))
    text = f"{100 - left:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"


def trivial_baseline(spec: ModelSpec, train: pd.DataFrame, rows: int) -> Array:
    """The same answer for every row: the mean, or the share of each label in ``train``; in the shape of a model's
    predictions."""
    known, weights = targets(train, spec), weights_of(train, spec)
    if spec.task != "multiclass":
        return np.full(rows, np.average(known, weights=weights))
    assert spec.target.labels is not None  # noqa: S101 - the specification was validated
    counts = np.bincount(known.astype(int), weights=weights, minlength=len(spec.target.labels))
    return np.tile(counts / counts.sum(), (rows, 1))


def linear_baseline(spec: ModelSpec, train: pd.DataFrame, holdout: pd.DataFrame) -> Array:
    """A logistic or ridge regression on the same features: one-hot categories, imputed and scaled numbers."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    description = describe(spec, train)
    categories = [name for name, kind in description.features.items() if kind == "category"]
    numbers = [name for name in description.features if name not in categories]
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        ]
    )
    model = Ridge() if spec.task == "regression" else LogisticRegression(max_iter=500, tol=1e-3)
    pipeline = make_pipeline(columns, model)
    weights = {f"{pipeline.steps[-1][0]}__sample_weight": weights_of(train, spec)}
    known = _plain(features_of(train, description), numbers, categories)
    pipeline.fit(known, targets(train, spec), **weights)
    inputs = _plain(features_of(holdout, description), numbers, categories)
    if spec.task == "regression":
        return np.asarray(pipeline.predict(inputs))
    probabilities = np.asarray(pipeline.predict_proba(inputs))
    return probabilities[:, 1] if spec.task == "binary" else probabilities


def _plain(frame: pd.DataFrame, numbers: list[str], categories: list[str]) -> pd.DataFrame:
    texts = frame[categories].astype("object").fillna("missing")
    return pd.concat([frame[numbers].astype("float64"), texts], axis=1)

"""What the report shows beyond the metrics: thresholds, confusion, the worst slices, and the features that move a
prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from homelab_mlops.model.scoring import Description, Scorer, features_of, matrix
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.model.tasks import LOWER_IS_BETTER
from homelab_mlops.pipeline.metrics import Array, Rows, resamples, weighted_metric
from homelab_mlops.pipeline.slices import slices_of

# The threshold of a binary model, also for the metric accuracy.
THRESHOLD = 0.5
# A slice of fewer rows says more about chance than about the model.
FEWEST_IN_SLICE, SMALLEST_SHARE = 50, 0.01
WORST_SLICES, SLICE_RESAMPLES = 5, 300
# Contributions cost about half a millisecond a row.
EXPLAINED_ROWS = 1000
MOST_FEATURES = 12


def diagnose(
    spec: ModelSpec, scorer: Scorer, rows: pd.DataFrame, truth: Array, predicted: Array, drawn: Rows
) -> dict[str, Any]:
    """The content of ``diagnostics.json``; None for a part that the task does not have.

    Args:
        rows: the raw rows of the holdout; ``truth``, ``predicted`` and ``drawn`` belong to them, as in
        `holdout_metrics`.
    """
    weights = drawn.weighted(np.ones(len(truth)))
    return {
        "thresholds": thresholds(truth, predicted, weights) if spec.task == "binary" else None,
        "confusion": confusion(spec, truth, predicted, weights) if spec.target.labels else None,
        "slices": worst_slices(spec, scorer.description, rows, truth, predicted, drawn),
        "contributions": contributions(scorer, rows),
    }


def thresholds(truth: Array, predicted: Array, weights: Array) -> dict[str, Any]:
    """Precision, recall and the share of rows called positive, for thresholds from 0.05 to 0.95."""
    points = [_at(truth, predicted, weights, float(each)) for each in np.round(np.arange(0.05, 0.96, 0.05), 2)]
    best = max(points, key=lambda point: point["f1"])
    return {"used": THRESHOLD, "best_f1": best["threshold"], "points": points}


def _at(truth: Array, predicted: Array, weights: Array, threshold: float) -> dict[str, Any]:
    positive, called = truth == 1, predicted >= threshold
    right, all_positive, all_called = (float(weights[rows].sum()) for rows in (positive & called, positive, called))
    return {
        "threshold": threshold,
        "precision": right / all_called if all_called else None,
        "recall": right / all_positive if all_positive else None,
        "f1": 2 * right / (all_positive + all_called) if all_positive + all_called else 0.0,
        "called": all_called / float(weights.sum()),
    }


def confusion(spec: ModelSpec, truth: Array, predicted: Array, weights: Array) -> dict[str, Any]:
    """How many rows of each true label got which label, ``counts[true][predicted]``; weighed where rows have
    weights."""
    labels = spec.target.labels or []
    answers = predicted.argmax(axis=1) if predicted.ndim == 2 else (predicted >= THRESHOLD).astype(int)
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (truth.astype(int), answers), weights)
    return {"labels": labels, "counts": counts.tolist()}


def worst_slices(
    spec: ModelSpec, description: Description, rows: pd.DataFrame, truth: Array, predicted: Array, drawn: Rows
) -> list[dict[str, Any]]:
    """The slices of the holdout on which the gate's metric is worst, the worst first, each with a 95 % interval.

    A slice is a value of a category, a quarter of the values of a number, or the rows that lack the feature.
    """
    fewest = max(FEWEST_IN_SLICE, int(SMALLEST_SHARE * len(rows)))
    found: list[tuple[float, str, str, Array]] = []
    rows = features_of(rows, description)
    for name, kind in description.features.items():
        for value, mask in slices_of(rows[name], categorical=kind in ("category", "boolean")):
            if fewest <= mask.sum() < len(rows):
                metric = weighted_metric(spec.gate.metric, truth[mask], predicted[mask])
                value_of = metric(drawn[mask].weighted(np.ones(int(mask.sum()))))
                if np.isfinite(value_of) and not any(np.array_equal(mask, other) for *_, other in found):
                    found.append((value_of, name, value, mask))
    found.sort(key=lambda item: -item[0] if spec.gate.metric in LOWER_IS_BETTER else item[0])
    return [
        {
            "feature": name,
            "slice": value,
            "rows": int(mask.sum()),
            "value": value_of,
            **_bounds(spec.gate.metric, truth[mask], predicted[mask], drawn[mask]),
        }
        for value_of, name, value, mask in found[:WORST_SLICES]
    ]


def _bounds(name: str, truth: Array, predicted: Array, drawn: Rows) -> dict[str, float]:
    metric = weighted_metric(name, truth, predicted)
    values = [metric(drawn.weighted(each)) for each in resamples(len(truth), SLICE_RESAMPLES, 0, drawn.groups)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def contributions(scorer: Scorer, rows: pd.DataFrame) -> dict[str, Any]:
    """By how much each feature moves a prediction on average, by XGBoost's own contributions (SHAP values).

    In log-odds for probabilities, in the target's unit otherwise; ``features`` begins with the strongest. Where XGBoost
    gives none, ``reason`` says why.
    """
    few = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), EXPLAINED_ROWS)).astype(int))]
    encoded = xgb.DMatrix(matrix(few, scorer.description), enable_categorical=True)
    try:
        shares = scorer.booster.predict(encoded, pred_contribs=True, validate_features=False)
    except xgb.core.XGBoostError as error:
        return {"rows": len(few), "features": [], "reason": str(error).strip().splitlines()[-1]}
    # Several labels have a set of contributions each; the last column is the average prediction.
    strength = np.abs(shares[..., :-1]).mean(axis=tuple(range(shares.ndim - 1)))
    named = sorted(zip(scorer.description.features, strength, strict=True), key=lambda x: -x[1])
    return {
        "rows": len(few),
        "features": [{"feature": name, "moves": float(value)} for name, value in named[:MOST_FEATURES]],
        "left_out": max(0, len(named) - MOST_FEATURES),
    }

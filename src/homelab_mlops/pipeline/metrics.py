"""Metrics with confidence intervals, and paired comparisons, by the bootstrap.

A resample gives each row a weight (how often it was drawn), so every metric here takes weights. Intervals are
percentiles (Efron and Tibshirani 1993, chapter 13); two models are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from homelab_mlops.console import counted
from homelab_mlops.model.tasks import METRICS, Task

Array = np.ndarray[Any, np.dtype[Any]]
Weighted = Callable[[Array], float]
EPSILON = 1e-7
# Fewer resamples than these do not place a quantile.
FEWEST_IN_TAIL = 10
RESAMPLES = "evaluate: resamples of the holdout"


@dataclass(frozen=True)
class Interval:
    """A metric on the holdout with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def weighted_metric(name: str, truth: Array, predicted: Array) -> Weighted:
    """The metric ``name`` as a function of the rows' weights, shape ``[rows]``.

    Args:
        truth: 0 and 1 (binary), label numbers (multiclass) or values (regression), shape ``[rows]``.
        predicted: probabilities, shape ``[rows]`` or ``[rows, labels]``, or values, shape ``[rows]``.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    truth = np.asarray(truth, dtype=np.float64)
    if name == "auc":
        return _auc(truth, predicted)
    if name == "average_precision":
        return _average_precision(truth, predicted)
    if name == "class_logloss":
        return _by_class(truth, _row_losses("logloss", truth, predicted))
    loss = _row_losses(name, truth, predicted)

    def mean(weights: Array) -> float:
        return float(np.average(loss, weights=weights)) if np.any(weights) else float("nan")

    return (lambda weights: float(np.sqrt(mean(weights)))) if name in ("rmse", "rmsle") else mean


def _row_losses(name: str, truth: Array, predicted: Array) -> Array:
    if predicted.ndim == 2:
        of_truth = predicted[np.arange(len(truth)), truth.astype(int)]
        correct = predicted.argmax(axis=1) == truth
    else:
        of_truth = np.where(truth == 1, predicted, 1 - predicted)
        correct = (predicted >= 0.5) == (truth == 1)
    match name:
        case "logloss":
            return np.asarray(-np.log(np.clip(of_truth, EPSILON, 1)))
        case "accuracy":
            return np.asarray(correct, dtype=np.float64)
        case "brier" | "rmse":
            return np.asarray((predicted - truth) ** 2)
        case "mae":
            return np.asarray(np.abs(predicted - truth))
        case "rmsle":  # of a prediction below 0, which is no amount, as of 0
            return np.asarray((np.log1p(np.maximum(predicted, 0)) - np.log1p(truth)) ** 2)
        case "poisson":
            return _deviance(truth, np.maximum(predicted, EPSILON))
    raise ValueError(f"no metric {name!r}")


def _deviance(truth: Array, mean: Array) -> Array:
    """Poisson's deviance of each row."""
    ratio = np.log(np.where(truth > 0, truth, 1) / mean)
    return np.asarray(2 * (np.where(truth > 0, truth * ratio, 0) - truth + mean))


def _by_class(truth: Array, losses: Array) -> Weighted:
    """The mean of the classes' mean losses: a rare class counts as much as a frequent one."""
    classes, class_of = np.unique(truth, return_inverse=True)

    def mean(weights: Array) -> float:
        count = np.bincount(class_of, weights=weights, minlength=len(classes))
        total = np.bincount(class_of, weights=weights * losses, minlength=len(classes))
        return float(np.mean(total[count > 0] / count[count > 0])) if count.any() else float("nan")

    return mean


def _steps(truth: Array, scores: Array) -> tuple[Array, Array, Array]:
    """The rows in the order of their scores, which of them are positive, and where each score begins."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, truth[order] == 1, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _average_precision(truth: Array, predicted: Array) -> Weighted:
    """The sum of the precisions at each score, times what the recall grows by there; equal scores are one step."""
    order, positive, starts = _steps(truth, -predicted)

    def precision(weights: Array) -> float:
        drawn = np.asarray(weights, dtype=np.float64)[order]
        positives = np.add.reduceat(np.where(positive, drawn, 0.0), starts)
        right, called = np.cumsum(positives), np.cumsum(np.add.reduceat(drawn, starts))
        if right[-1] == 0:
            return float("nan")
        return float((positives * right / np.where(called > 0, called, 1)).sum() / right[-1])

    return precision


def _auc(truth: Array, predicted: Array) -> Weighted:
    """The area under the ROC curve: P(score of a positive > score of a negative), ties count half."""
    order, positive, starts = _steps(truth, predicted)

    def area(weights: Array) -> float:
        drawn = np.asarray(weights, dtype=np.float64)[order]
        positives = np.add.reduceat(np.where(positive, drawn, 0.0), starts)
        negatives = np.add.reduceat(np.where(positive, 0.0, drawn), starts)
        total = positives.sum() * negatives.sum()
        if total == 0:
            return float("nan")
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / total)

    return area


def resamples(rows: int, count: int, seed: int, groups: Array | None = None) -> Iterator[Array]:
    """``count`` bootstrap resamples: how often each row was drawn, shape ``[rows]``. A seed gives the same ones again.

    Args:
        groups: the group, or the block of time, of each row, shape ``[rows]``; then whole ones are drawn (the cluster
            bootstrap), since rows of one are no independent evidence.
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        for _ in range(count):
            yield np.bincount(generator.integers(0, rows, rows), minlength=rows)
        return
    names, group_of = np.unique(groups, return_inverse=True)
    for _ in range(count):
        yield np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))[group_of]


@dataclass(frozen=True)
class Rows:
    """How much the rows of a holdout count, and which are drawn together; shape ``[rows]`` each.

    ``weights`` None: all count equally. ``groups`` None: each row stands for itself.
    """

    weights: Array | None = None
    groups: Array | None = None

    def __getitem__(self, mask: Array) -> Rows:
        return Rows(*(None if part is None else part[mask] for part in (self.weights, self.groups)))

    def weighted(self, drawn: Array) -> Array:
        """The weights of the rows in a resample."""
        return drawn if self.weights is None else drawn * self.weights


def holdout_metrics(
    task: Task,
    truth: Array,
    predicted: Array,
    count: int,
    confidence: float = 0.95,
    seed: int = 0,
    rows: Rows = Rows(),
    gate_metric: str | None = None,
) -> dict[str, Interval]:
    """Every metric of the task, and the gate's, with its two-sided interval."""
    names = dict.fromkeys([*METRICS[task], *([gate_metric] if gate_metric else [])])
    metrics = {name: weighted_metric(name, truth, predicted) for name in names}
    drawn = np.array(
        [
            [metric(rows.weighted(drawn)) for metric in metrics.values()]
            for drawn in counted(resamples(len(truth), count, seed, rows.groups), RESAMPLES, count)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    everything = rows.weighted(np.ones(len(truth)))
    return {
        name: Interval(metric(everything), float(low[index]), float(high[index]))
        for index, (name, metric) in enumerate(metrics.items())
    }


def paired_difference(
    metric: str,
    truth: Array,
    ours: Array,
    theirs: Array,
    count: int,
    confidence: float,
    seed: int = 0,
    rows: Rows = Rows(),
) -> Interval:
    """``metric`` of ``ours`` minus that of ``theirs`` on the same rows and resamples; ``low`` is a one-sided bound.

    With probability ``confidence`` the true difference is above ``low``, and with the same below ``high``.
    """
    first, second = weighted_metric(metric, truth, ours), weighted_metric(metric, truth, theirs)
    draws = counted(resamples(len(truth), count, seed, rows.groups), RESAMPLES, count)
    weights = (rows.weighted(drawn) for drawn in draws)
    drawn = np.array([first(each) - second(each) for each in weights])
    everything = rows.weighted(np.ones(len(truth)))
    value = first(everything) - second(everything)
    return Interval(value, lower_bound(drawn, 1 - confidence), -lower_bound(-drawn, 1 - confidence))


def lower_bound(drawn: Array, tail: float) -> float:
    """The quantile of resampled values below which ``tail`` of them lie.

    So few resamples as lie beyond a very small ``tail`` say nothing of it. Where it is less than `FEWEST_IN_TAIL` of
    them, it goes on from their quantile as the tail of a normal distribution with the standard deviation of all
    resamples, so it is continuous there: the standard interval of Efron and Tibshirani 1993, chapter 13.3, begun at a
    percentile, as Knijnenburg et al. 2009 (Bioinformatics 25) continue the tail of too few permutations.
    """
    seen = drawn[~np.isnan(drawn)]
    known = FEWEST_IN_TAIL / len(seen) if len(seen) else 0.5
    if tail >= known or known >= 0.5:
        return float(np.nanquantile(drawn, tail))
    beyond = NormalDist().inv_cdf(known) - NormalDist().inv_cdf(tail)
    return float(np.quantile(seen, known) - beyond * seen.std())

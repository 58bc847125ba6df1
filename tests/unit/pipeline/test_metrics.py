"""The metrics are scikit-learn's, and the intervals hold what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn

from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.metrics import Rows, holdout_metrics, paired_difference, weighted_metric
from homelab_mlops.pipeline.split import drawn_together
from tests.conftest import ROOT

RANDOM = np.random.default_rng(3)
TRUTH = RANDOM.integers(0, 2, 400)
SCORES = np.round(np.clip(0.2 * TRUTH + RANDOM.random(400) * 0.8, 0.01, 0.99), 2)
WEIGHTS = RANDOM.integers(0, 4, 400)
CLASSES = RANDOM.integers(0, 3, 400)
SHARES = RANDOM.dirichlet([1, 1, 1], 400)
COUNTS = RANDOM.poisson(0.7, 400)


def _log_loss_by_class(truth: Any, predicted: Any, sample_weight: Any) -> float:
    """By scikit-learn: its log-loss of rows that are weighed so that each class counts equally."""
    totals = np.bincount(truth, weights=sample_weight)
    return float(sklearn.log_loss(truth, predicted, sample_weight=sample_weight / totals[truth]))


@pytest.mark.parametrize(
    ("name", "truth", "predicted", "reference"),
    [
        ("auc", TRUTH, SCORES, sklearn.roc_auc_score),
        ("logloss", TRUTH, SCORES, sklearn.log_loss),
        ("brier", TRUTH, SCORES, sklearn.brier_score_loss),
        ("accuracy", TRUTH, SCORES, lambda y, p, **w: sklearn.accuracy_score(y, p >= 0.5, **w)),
        ("logloss", CLASSES, SHARES, sklearn.log_loss),
        ("accuracy", CLASSES, SHARES, lambda y, p, **w: sklearn.accuracy_score(y, p.argmax(axis=1), **w)),
        ("rmse", TRUTH, SCORES, sklearn.root_mean_squared_error),
        ("mae", TRUTH, SCORES, sklearn.mean_absolute_error),
        ("average_precision", TRUTH, SCORES, sklearn.average_precision_score),
        ("poisson", COUNTS, SCORES, sklearn.mean_poisson_deviance),
        ("rmsle", COUNTS, SCORES, sklearn.root_mean_squared_log_error),
        ("class_logloss", CLASSES, SHARES, _log_loss_by_class),
        ("class_logloss", TRUTH, SCORES, _log_loss_by_class),
    ],
)
def test_a_weighted_metric_is_scikit_learns(
    name: str, truth: Any, predicted: Any, reference: Callable[..., float]
) -> None:
    expected = reference(truth, predicted, sample_weight=WEIGHTS)
    assert weighted_metric(name, truth, predicted)(WEIGHTS) == pytest.approx(expected, abs=1e-12)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """The accuracy of a coin is 0.5; of 200 intervals at 90 % about 180 hold it."""
    random = np.random.default_rng(8)
    held = 0
    for _ in range(200):
        truth, coin = random.integers(0, 2, 300), random.random(300)
        interval = holdout_metrics("binary", truth, coin, 200, confidence=0.9)["accuracy"]
        held += interval.low <= 0.5 <= interval.high
    assert 165 <= held <= 195


def test_an_interval_of_groups_of_equal_rows_covers_what_it_says() -> None:
    """Of rows that say the same eight times; drawn one by one, 95 % would be about 50 %."""
    random, held = np.random.default_rng(9), 0
    rows = Rows(groups=np.repeat(np.arange(60), 8))
    for _ in range(200):
        error = np.repeat(random.normal(0, 1, 60), 8)
        interval = holdout_metrics("regression", error, np.zeros(len(error)), 200, rows=rows)["mae"]
        held += interval.low <= np.sqrt(2 / np.pi) <= interval.high
    assert 180 <= held <= 196


def test_an_interval_of_a_time_split_covers_what_it_says() -> None:
    """Three rows that follow each other in time have the same error, and the table is in no order."""
    spec, random, held = load_spec(str(ROOT / "workflows/models/flight-delay")), np.random.default_rng(10), 0
    times = pd.to_datetime(np.arange(1200) * 60, unit="s", utc=True).to_numpy()
    for _ in range(100):
        order = random.permutation(1200)
        error = np.repeat(random.normal(0, 1, 400), 3)[order]
        blocks = drawn_together(pd.DataFrame({spec.split.column: times[order]}), spec)
        interval = holdout_metrics("regression", error, np.zeros(1200), 200, rows=Rows(groups=blocks))["mae"]
        held += interval.low <= np.sqrt(2 / np.pi) <= interval.high
    assert 88 <= held <= 99


def test_equal_models_do_not_differ() -> None:
    difference = paired_difference("auc", TRUTH, SCORES, SCORES, 200, 0.95)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_a_pair_is_compared_more_sharply_than_two_intervals() -> None:
    worse = np.clip(SCORES + RANDOM.normal(0, 0.03, 400), 0, 1)
    pair = paired_difference("auc", TRUTH, SCORES, worse, 500, 0.975)
    alone = holdout_metrics("binary", TRUTH, SCORES, 500)["auc"]
    assert pair.high - pair.low < (alone.high - alone.low) / 2

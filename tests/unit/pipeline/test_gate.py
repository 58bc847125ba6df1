"""What the gate lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.model.spec import load_spec, parse_spec
from homelab_mlops.pipeline.gate import Opponent, judge
from homelab_mlops.pipeline.validate import validate_table
from tests.conftest import FIXTURES, ROOT

CHURN = load_spec(str(ROOT / "workflows/models/churn"))
DIAMONDS = load_spec(str(FIXTURES / "models/valid/diamonds"))
RANDOM = np.random.default_rng(1)
TRUTH = (RANDOM.random(2000) < 0.27).astype(float)
NOISE = RANDOM.normal(size=2000)
ALL = np.ones(2000, dtype=bool)
BASELINE = Opponent("trivial baseline", np.full(2000, 0.27), ALL)


def model(strength: float) -> Any:
    return 1 / (1 + np.exp(-(strength * TRUTH + NOISE)))


def verdicts(challenger: Any, champion: Any | None) -> dict[str, bool]:
    opponent = None if champion is None else Opponent("champion", champion, ALL)
    return {reason.rule: reason.passed for reason in judge(CHURN, TRUTH, challenger, BASELINE, opponent)}


@pytest.mark.parametrize(
    ("challenger", "champion", "expected"),
    [
        (model(1.6), None, {"floor": True, "baseline": True}),
        (model(0.5), None, {"floor": False, "baseline": True}),
        (model(0.0), None, {"floor": False, "baseline": False}),
        (model(1.8), model(1.5), {"floor": True, "baseline": True, "champion": True}),
        (model(1.5), model(1.5), {"floor": True, "baseline": True, "champion": False}),
        (model(1.5), model(1.8), {"floor": True, "baseline": True, "champion": False}),
    ],
)
def test_binary(challenger: Any, champion: Any | None, expected: dict[str, bool]) -> None:
    assert expected == verdicts(challenger, champion)


@pytest.mark.parametrize(("error", "expected"), [(200.0, True), (900.0, False), (1500.0, False)])
def test_where_lower_is_better(error: float, expected: bool) -> None:
    truth = RANDOM.normal(5000, 3000, 2000)
    champion = Opponent("champion", truth + RANDOM.normal(0, 900, 2000), ALL)
    baseline = Opponent("linear baseline", np.full(2000, 5000.0), ALL)
    reasons = judge(DIAMONDS, truth, truth + RANDOM.normal(0, error, 2000), baseline, champion)
    assert expected == all(reason.passed for reason in reasons)


AMOUNTS = """
name: amounts
description: How many of something.
task: regression
data: {source: amounts.csv, min_rows: 20}
target: {column: amount}
features: {age: {type: number}}
split: {method: random}
gate: {metric: %s}
"""


@pytest.mark.parametrize("metric", ["poisson", "rmsle", "mae"])
def test_a_target_that_the_metric_is_not_defined_of_is_refused_before_training(metric: str) -> None:
    table = pd.DataFrame({"age": np.arange(40.0), "amount": np.arange(40.0)})
    assert not validate_table(table, parse_spec(AMOUNTS % metric, "model.yaml"))
    table.loc[7, "amount"] = -1
    problems = validate_table(table, parse_spec(AMOUNTS % metric, "model.yaml"))
    refused = any(f"the target is at least 0, as gate.metric {metric} wants it" in str(each) for each in problems)
    assert refused == (metric != "mae")

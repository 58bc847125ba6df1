"""No slice of sufficient size becomes worse by more than the margin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.errors import SpecError
from homelab_mlops.model.spec import ModelSpec, parse_spec
from homelab_mlops.pipeline.gate import Opponent
from homelab_mlops.pipeline.metrics import Rows
from homelab_mlops.pipeline.slices import compare

MODEL = """
name: sliced
description: A model with slices.
task: {task}
data: {{source: a.csv}}
target: {target}
features:
  plan: {{type: category}}
  age: {{type: number}}
  since: {{type: datetime}}
  young: {{from: age < 30}}
split: {{method: random}}
gate: {{metric: {metric}, {gate}}}
"""
BINARY = {"task": "binary", "target": "{column: left, labels: [no, yes]}", "metric": "accuracy"}
REGRESSION = {"task": "regression", "target": "{column: price}", "metric": "mae"}
ROWS = 500


def model(gate: str, of: dict[str, str] = BINARY) -> ModelSpec:
    return parse_spec(MODEL.format(**of, gate=gate), "model.yaml")


def table() -> pd.DataFrame:
    """Plan a has 200 rows, b 250, c 50; the last 20 rows lack an age."""
    plans = np.repeat(["a", "b", "c"], [200, 250, 50])
    ages = np.where(np.arange(ROWS) < 480, np.arange(ROWS) % 80, np.nan)
    return pd.DataFrame({"plan": plans, "age": ages})


TRUTH = (np.arange(ROWS) % 2).astype(float)


def right_on(**shares: float) -> Any:
    """Probabilities that are right on the first of each plan's rows, in the given shares."""
    plans, right = table()["plan"].to_numpy(), np.zeros(ROWS, dtype=bool)
    for plan, share in shares.items():
        rows = np.flatnonzero(plans == plan)
        right[rows[: round(share * len(rows))]] = True
    return np.where(right, TRUTH, 1 - TRUTH)


def champion(predicted: Any, rows: Any = None) -> Opponent:
    rows = np.ones(ROWS, dtype=bool) if rows is None else rows
    return Opponent("champion (version 3)", predicted[rows], rows)


def compared(spec: ModelSpec, ours: Any, theirs: Opponent | None, rows: Rows = Rows()) -> Any:  # noqa: B008 - frozen
    found = compare(spec, table(), TRUTH, ours, theirs, rows)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("gate", "of_b", "passes"),
    [
        ("slices: [plan]", 0.764, True),  # 4.5 % of 0.8
        ("slices: [plan]", 0.756, False),  # 5.5 % of 0.8
        ("slices: [plan], slice_margin: 0.1", 0.72, True),
        ("slices: [plan], slice_margin: 0.02", 0.764, False),
        ("slices: [age], slice_margin: 0.1", 0.72, True),
    ],
)
def test_a_slice_may_be_worse_by_the_margin_and_not_more(gate: str, of_b: float, passes: bool) -> None:
    """Though the challenger is better by far on the other slices."""
    reason = compared(model(gate), right_on(a=1, b=of_b, c=1), champion(right_on(a=0.5, b=0.8, c=0.5)))
    assert (reason.rule, reason.passed) == ("slices", passes)
    if not passes:
        assert f"on plan = b (250 rows) accuracy is {of_b:.4f}, the champion's 0.8000; at most 0.0" in reason.text


def test_less_is_better_where_it_is() -> None:
    theirs = champion(TRUTH + np.where(table()["plan"] == "b", 1.0, 2.0))
    better, worse = (TRUTH + np.where(table()["plan"] == "b", error, 1.0) for error in (0.9, 1.06))
    assert compared(model("slices: [plan]", REGRESSION), better, theirs).passed
    reason = compared(model("slices: [plan]", REGRESSION), worse, theirs)
    assert not reason.passed
    assert "on plan = b (250 rows) mae is 1.0600, the champion's 1.0000; at most 0.0500 worse is wanted" in reason.text


def test_a_small_slice_is_named_and_not_compared() -> None:
    ours, theirs = right_on(a=1, b=1, c=0), champion(right_on(a=1, b=1, c=1))
    reason = compared(model("slices: [plan]"), ours, theirs)
    assert reason.passed
    assert reason.text.endswith("; not compared, since a slice needs 100 rows and both labels: plan = c (50)")
    assert "age is missing (20)" in compared(model("slices: [age]"), ours, champion(ours)).text
    # Rows that the champion has trained on, and rows of weight 0, are no evidence.
    seen = np.arange(ROWS) >= 110
    fewer = compared(model("slices: [plan]"), right_on(a=0, b=1), champion(right_on(a=1, b=1), seen))
    assert fewer.passed
    assert "plan = a (90)" in fewer.text
    weights = np.where(np.arange(ROWS) < 110, 0.0, 1.0)
    assert "plan = a (90)" in compared(model("slices: [plan]"), ours, theirs, Rows(weights)).text


def test_without_a_champion_it_says_that_nothing_was_compared() -> None:
    reason = compared(model("slices: [plan]"), right_on(a=1), None)
    assert reason.passed
    assert reason.text == "without a champion to compare with, no slice was compared"


@pytest.mark.parametrize(
    ("gate", "what"),
    [
        ("slices: [plam]", "'plam' is no column of `features` or `inputs`"),
        ("slices: [young]", "'young' is no column of `features` or `inputs`, but derived"),
        ("slices: [since]", "'since' is a datetime"),
        ("slice_margin: 0.1", "is of no use without `slices`"),
    ],
)
def test_a_column_without_slices_is_refused(gate: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        model(gate)

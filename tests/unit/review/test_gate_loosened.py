"""Which changes of a gate admit more."""

from __future__ import annotations

from typing import Any

import pytest

from homelab_mlops.review.compare import MISSING
from homelab_mlops.review.rules.models import _tightens


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("gate.margin", 0.01, 0.0),
        ("gate.confidence", 0.99, 0.95),
        ("gate.slice_margin", 0.01, 0.02),
        ("gate.floor", 0.8, 0.7),
    ],
)
def test_a_number_that_admits_more(name: str, less: float, more: float) -> None:
    assert not _tightens(name, less, more, lower=False)
    assert _tightens(name, more, less, lower=False)


def test_a_floor_where_less_is_better() -> None:
    assert not _tightens("gate.floor", 300, 400, lower=True)
    assert _tightens("gate.floor", 400, 300, lower=True)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("gate.slices", ["plan"], MISSING),
        ("gate.comparisons", 366, 10),
        ("gate.comparisons", 366, 1000),
        ("gate.metric", "auc", "accuracy"),
        ("gate.floor", 0.8, MISSING),
        ("promotion", "proposal", "automatic"),
    ],
)
def test_what_may_admit_more(name: str, before: Any, after: Any) -> None:
    assert not _tightens(name, before, after, lower=False)

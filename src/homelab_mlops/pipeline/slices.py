"""The slices of a holdout: the rows with one value of a column, or with a quarter of its values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.model.scoring import as_text
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.model.tasks import LOWER_IS_BETTER
from homelab_mlops.pipeline.gate import Opponent, Reason
from homelab_mlops.pipeline.metrics import Array, Rows, weighted_metric

QUARTERS = 4
# On fewer rows than these the gate compares nothing.
FEWEST_TO_COMPARE = 100
# By how much of the champion's value a challenger may be worse, where model.yaml does not say it.
DEFAULT_MARGIN = 0.05
# How many of a kind a reason names; the decision has all.
NAMED = 4


def slices_of(column: pd.Series[Any], *, categorical: bool) -> list[tuple[str, Array]]:
    """Each slice by a column, with what its rows have and which rows these are, shape ``[rows]``."""
    missing = column.isna().to_numpy()
    slices = [("is missing", missing)]
    if categorical:
        texts = as_text(column).to_numpy()
        return slices + [(f"= {value}", texts == value) for value in pd.unique(texts[~missing])]
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, QUARTERS + 1))) if not missing.all() else np.array([])
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        slices.append((f"{low:g} to {high:g}", inside))
    return slices


@dataclass(frozen=True)
class Slice:
    """The gate's metric of both models on a slice; None where it has too few rows to compare them."""

    slice: str
    rows: int
    challenger: float | None
    champion: float | None
    allowed: float | None
    worse: float = 0.0

    @property
    def fails(self) -> bool:
        """Whether the challenger is worse by more than it may be."""
        return self.allowed is not None and self.worse > self.allowed


def compare(
    spec: ModelSpec, holdout: pd.DataFrame, truth: Array, challenger: Array, champion: Opponent | None, rows: Rows
) -> tuple[Reason, list[Slice]] | None:
    """Whether the challenger is worse than the champion on a slice of ``gate.slices`` by more than the margin.

    The metrics themselves are compared, without intervals. None where model.yaml names no slices.
    """
    if not spec.gate.slices:
        return None
    if champion is None:
        return Reason("slices", passed=True, text="without a champion to compare with, no slice was compared"), []
    seen = champion.rows
    found = list(_compared(spec, holdout[seen], truth[seen], (challenger[seen], champion.predicted), rows[seen]))
    failed = [each for each in found if each.fails]
    text = "; ".join([*_of_failed(spec, failed), *_of_others(spec, found, champion.name)])
    return Reason("slices", passed=not failed, text=text), found


def _compared(
    spec: ModelSpec, holdout: pd.DataFrame, truth: Array, predicted: tuple[Array, Array], rows: Rows
) -> Iterator[Slice]:
    counts = rows.weighted(np.ones(len(truth))) > 0
    sign = 1.0 if spec.gate.metric in LOWER_IS_BETTER else -1.0
    for name in spec.gate.slices or []:
        categorical = spec.raw[name].type in ("category", "boolean")
        for value, inside in slices_of(holdout[name], categorical=categorical):
            mask = np.asarray(inside) & counts
            size, label = int(mask.sum()), f"{name} {value}"
            if not size:
                continue
            if size < FEWEST_TO_COMPARE or (spec.task == "binary" and len(np.unique(truth[mask])) < 2):
                yield Slice(label, size, None, None, None)
                continue
            weights = rows[mask].weighted(np.ones(size))
            ours, theirs = (weighted_metric(spec.gate.metric, truth[mask], each[mask])(weights) for each in predicted)
            margin = spec.gate.slice_margin
            allowed = DEFAULT_MARGIN * abs(theirs) if margin is None else margin
            yield Slice(label, size, ours, theirs, allowed, sign * (ours - theirs))


def _of_failed(spec: ModelSpec, failed: list[Slice]) -> list[str]:
    said = [
        f"on {each.slice} ({each.rows:,} rows) {spec.gate.metric} is {each.challenger:.4f}, the champion's "
        f"{each.champion:.4f}; at most {each.allowed:.4f} worse is wanted"
        for each in failed[:NAMED]
    ]
    return [*said, *([f"and {len(failed) - NAMED} more such slices"] if len(failed) > NAMED else [])]


def _of_others(spec: ModelSpec, found: list[Slice], champion: str) -> list[str]:
    fair = [each for each in found if each.allowed is not None and not each.fails]
    small = [each for each in found if each.allowed is None]
    margin = f"{DEFAULT_MARGIN:.0%}" if spec.gate.slice_margin is None else f"{spec.gate.slice_margin:g}"
    slices = f"{len(fair)} slice{'s' if len(fair) != 1 else ''} by {', '.join(spec.gate.slices or [])}"
    said = [f"on {slices} {spec.gate.metric} is at most {margin} worse than that of the {champion}"] if fair else []
    if small:
        names = ", ".join(f"{each.slice} ({each.rows})" for each in small[:NAMED])
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        fewest = f"{FEWEST_TO_COMPARE} rows" + (" and both labels" if spec.task == "binary" else "")
        said.append(f"not compared, since a slice needs {fewest}: {names}{more}")
    return said

"""Which rows train, which stop the training early, and which nobody sees before the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.errors import DataError
from homelab_mlops.model.scoring import as_text
from homelab_mlops.model.spec import ModelSpec, RandomSplit, TimeSplit

RowIds = np.ndarray[Any, np.dtype[np.uint64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Split:
    """Three masks over the rows, shape ``[rows]`` each; no row is in two of them."""

    train: Mask
    validation: Mask
    holdout: Mask


def row_ids(frame: pd.DataFrame, spec: ModelSpec) -> RowIds:
    """An identity for each row, shape ``[rows]``: of its key, or where the model has none, of its whole content."""
    columns = spec.data.key or [*spec.features, spec.target.column]
    as_stored = {name: _hashable(frame[name]) for name in columns}
    hashed = pd.util.hash_pandas_object(pd.DataFrame(as_stored), index=False, categorize=True)
    return np.asarray(hashed.to_numpy(), dtype=np.uint64)


def _hashable(series: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return series.astype("int64")
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.astype("float64")
    return as_text(series).fillna("")


def split_rows(frame: pd.DataFrame, spec: ModelSpec, window: dict[str, str] | None) -> Split:
    """Assigns each row to one part.

    A random split is a function of a row's identity and the seed alone, so equal rows share a part, and a row keeps its
    part when the table grows. A time split follows the ``window`` that ingest wrote into its manifest.

    Raises:
        DataError: a part would be empty.
    """
    if isinstance(spec.split, RandomSplit):
        split = _random(row_ids(frame, spec), spec.split)
    else:
        if window is None:
            raise DataError(
                "a time split needs the window of an ingested table", where=spec.name, fix="run `homelab ingest`"
            )
        split = _by_time(frame[spec.split.column], spec.split, window)
    for name in ("train", "validation", "holdout"):
        if not getattr(split, name).any():
            raise DataError(
                f"the {name} part of the split would be empty: the table has {len(frame)} rows",
                where=spec.name,
                fix="bring more rows, or change `split` in model.yaml",
            )
    return split


def _random(ids: RowIds, split: RandomSplit) -> Split:
    position = _uniform(ids, split.seed)
    holdout = position < split.holdout
    validation = ~holdout & (position < split.holdout + (1 - split.holdout) * split.validation)
    return Split(~holdout & ~validation, validation, holdout)


def _uniform(ids: RowIds, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A number in [0, 1) for each identity, by the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        state = ids + np.uint64(seed % 2**64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) / 2**53


def _by_time(times: pd.Series[Any], split: TimeSplit, window: dict[str, str]) -> Split:
    holdout = (times >= pd.Timestamp(window["holdout"])).to_numpy()
    if holdout.all():
        return Split(~holdout, ~holdout, holdout)
    watched = (times >= times[~holdout].quantile(1 - split.validation)).to_numpy()
    return Split(~watched & ~holdout, watched & ~holdout, holdout)

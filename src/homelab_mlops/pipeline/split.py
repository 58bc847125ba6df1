"""Which rows train, which stop the training early, and which nobody sees before the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.console import say
from homelab_mlops.errors import DataError
from homelab_mlops.model.scoring import as_text
from homelab_mlops.model.spec import ModelSpec, RandomSplit, TimeSplit

RowIds = np.ndarray[Any, np.dtype[np.uint64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Split:
    """Three masks over the rows, shape ``[rows]`` each; no row is in two of them, and with groups no group is."""

    train: Mask
    validation: Mask
    holdout: Mask


def row_ids(frame: pd.DataFrame, spec: ModelSpec) -> RowIds:
    """An identity for each row, shape ``[rows]``: a hash of its key, or of its whole content where the model has no
    key."""
    group = [] if spec.split.group is None else [spec.split.group]
    columns = spec.data.key or list(dict.fromkeys([*spec.raw, spec.target.column, *group]))
    as_stored = {name: _hashable(frame[name]) for name in columns}
    hashed = pd.util.hash_pandas_object(pd.DataFrame(as_stored), index=False, categorize=True)
    ids = np.array(hashed.to_numpy(), dtype=np.uint64)
    for number, name in enumerate(columns):
        ids ^= _beyond_float(frame[name], number)
    return ids


def group_ids(frame: pd.DataFrame, group: str) -> RowIds:
    """An identity for each row's group, shape ``[rows]``."""
    return np.asarray(pd.util.hash_array(as_text(frame[group]).fillna("").to_numpy(dtype="object")), dtype=np.uint64)


def groups_of(frame: pd.DataFrame, spec: ModelSpec) -> RowIds | None:
    """The group of each row, shape ``[rows]``; None where each row stands for itself."""
    return None if spec.split.group is None else group_ids(frame, spec.split.group)


def drawn_together(frame: pd.DataFrame, spec: ModelSpec) -> RowIds | None:
    """Which rows a resample draws together: those of a group, or else, of a time split, those of a block of time.

    Rows near in time are no independent evidence: blocks of about n^(1/3) rows that follow each other in time are drawn
    whole (Carlstein 1986; Kuensch 1989 for their length).
    """
    groups = groups_of(frame, spec)
    if groups is not None or isinstance(spec.split, RandomSplit):
        return groups
    length = max(1, round(len(frame) ** (1 / 3)))
    in_time = np.argsort(frame[spec.split.column].to_numpy(), kind="stable")
    blocks = np.empty(len(frame), dtype=np.uint64)
    blocks[in_time] = np.arange(len(frame), dtype=np.uint64) // np.uint64(length)
    return blocks


def _hashable(series: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return series.astype("int64")
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.astype("float64")
    return as_text(series).fillna("")


def _beyond_float(series: pd.Series[Any], number: int) -> RowIds:
    """A hash of whole numbers that float64 cannot tell apart; 0 for all other values."""
    if not pd.api.types.is_integer_dtype(series.dtype):
        return np.zeros(len(series), dtype=np.uint64)
    values = series.fillna(0).to_numpy()
    large = (values > 2**53) | (values < -(2**53))
    own = pd.util.hash_array(values.astype(np.uint64)) * np.uint64(2 * number + 1)
    return np.asarray(np.where(large, own, np.uint64(0)), dtype=np.uint64)


def split_rows(frame: pd.DataFrame, spec: ModelSpec, window: dict[str, str] | None) -> Split:
    """Assigns each row to one part.

    A random split is a function of a row's identity and the seed alone, so equal rows share a part, and a row keeps its
    part when the table grows. A time split follows the ``window`` that ingest wrote into its manifest. With
    ``split.group`` the identity of the group decides, and no group has rows in two parts; see `_by_time_and_group`.

    Raises:
        DataError: a part would be empty, or a row has no group.
    """
    groups = groups_of(frame, spec)
    if spec.split.group is not None and frame[spec.split.group].isna().any():
        raise DataError(
            f"{int(frame[spec.split.group].isna().sum()):,} rows lack a value of split.group, {spec.split.group!r}",
            where=spec.name,
            fix="give each row its group, or leave such rows out",
        )
    if isinstance(spec.split, RandomSplit):
        split = _random(row_ids(frame, spec) if groups is None else groups, spec.split)
    else:
        if window is None:
            raise DataError(
                "a time split needs the window of an ingested table", where=spec.name, fix="run `homelab ingest`"
            )
        times = frame[spec.split.column]
        split = (
            _by_time(times, spec.split, window)
            if groups is None
            else _by_time_and_group(times, groups, spec.split, window)
        )
        _say_left_out(split, spec)
    for name in ("train", "validation", "holdout"):
        if not getattr(split, name).any():
            raise DataError(
                f"the {name} part of the split would be empty: the table has {len(frame)} rows"
                + ("" if groups is None else f" of {len(np.unique(groups)):,} groups"),
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


def _by_time_and_group(times: pd.Series[Any], groups: RowIds, split: TimeSplit, window: dict[str, str]) -> Split:
    """A group with rows before and in the holdout's period is on one side only: a third of such groups in the holdout.

    Its rows on the other side are in no part. A share of the groups before that period, and not the newest rows,
    decides when the training stops: most groups have old and new rows.
    """
    newest = (times >= pd.Timestamp(window["holdout"])).to_numpy()
    on_both_sides = np.isin(groups, np.intersect1d(groups[newest], groups[~newest]))
    to_holdout = _uniform(groups, 1) < 1 / 3
    holdout = newest & (~on_both_sides | to_holdout)
    before = ~newest & (~on_both_sides | ~to_holdout)
    watched = _uniform(groups, 2) < split.validation
    return Split(before & ~watched, before & watched, holdout)


def _say_left_out(split: Split, spec: ModelSpec) -> None:
    left_out = int((~split.train & ~split.validation & ~split.holdout).sum())
    if left_out:
        reason = f"their {spec.split.group} has rows on both sides of the holdout's beginning"
        say(f"split: {left_out:,} of {len(split.train):,} rows are in no part: {reason}")

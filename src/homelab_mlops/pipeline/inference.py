"""Infers a specification from a table, for a job without a model.yaml, and says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.errors import DataError
from homelab_mlops.model import values
from homelab_mlops.model.spec import (
    BooleanFeature,
    CategoryFeature,
    Data,
    Feature,
    Gate,
    ModelSpec,
    NumberFeature,
    RandomSplit,
    Target,
)
from homelab_mlops.model.tasks import METRICS, Task, task_of
from homelab_mlops.tables.arrays import is_all, is_any
from homelab_mlops.tables.columns import Declared, is_text, typed
from homelab_mlops.tables.frames import frame_of
from homelab_mlops.tables.spelling import number_hint

MIN_ROWS = 20
EXAMPLES = 3
# A text column with more labels per row than this names the rows, and not classes.
MOST_LABELS = 0.5
# A smaller share of texts among the numbers of a target are no labels, but faults.
FAULTS = 0.05
TRUTHS = {*values.TRUTHS, *values.TRUTHS.values()}
_TRUTH = rf"^\s*(?i:{'|'.join(values.TRUTHS)})\s*$"
_CLOCK = r"^\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*$"


@dataclass(frozen=True)
class Inferred:
    """The specification, and a line for the label and for each feature: its type, and why."""

    spec: ModelSpec
    lines: tuple[str, ...]


def infer_spec(
    table: pa.Table, target: str | None, given: Mapping[str, Any], where: str, weight: str | None = None
) -> Inferred:
    """A specification inferred from a table: numbers stay numbers, true and false are booleans, other text is a
    category.

    Args:
        target: the column to predict; the first where it is None.
        given: the hyperparameters, whose objective names the task.
        weight: the column of the rows' weights.

    Raises:
        DataError: the target is no column, or cannot be predicted; or a column holds no number, boolean or text.
    """
    column = target or table.column_names[0]
    if column not in table.column_names:
        raise DataError(
            f"the target {column!r} is no column",
            where=where,
            fix=f"SM_HP_TARGET is one of {', '.join(table.column_names[:8])}",
        )
    names = [name for name in table.column_names if name not in (column, weight)]
    if not names:
        raise DataError("the table has one column, so there is nothing to learn from", where=where)
    task, labels, line = _target(column, _series(table, column, where), given.get("objective"), where)
    features: dict[str, Feature] = {}
    lines = [line]
    for name in names:
        features[name], why = _feature(_series(table, name, where))
        lines.append(f"{_shown(name)}: {why}")
    if weight is not None:
        lines.append(f"{_shown(weight)}: how much each row counts")
    spec = ModelSpec(
        name="model",
        description="read off the table of the training channel",
        task=task,
        data=Data(source=where, min_rows=MIN_ROWS, weight=weight),
        target=Target(column=column, labels=labels),
        features=features,
        split=RandomSplit(method="random"),
        gate=Gate(metric=METRICS[task][0]),
    )
    return Inferred(spec, tuple(lines))


def _series(table: pa.Table, name: str, where: str) -> pd.Series[Any]:
    """A column as the later steps see it: numbers as float64, all else as text, missing as None or NaN."""
    kind = table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    one = table.select([name])
    is_time = pa.types.is_temporal(kind)
    if not is_time:
        truths = pa.types.is_boolean(kind) or (is_text(kind) and _has_truths(one.column(name)))
        found = typed(one, [Declared(name, "text" if truths else "number")], where)
        is_time = is_text(kind) and _are_times(found)
    if is_time:
        raise DataError(
            f"the column {name!r} holds times, and a time is no feature",
            where=where,
            fix="write the parts that matter as numbers, such as the hour; or name the features in a model.yaml",
        )
    return frame_of(found)[name]


def _has_truths(texts: pa.ChunkedArray) -> bool:
    """Whether a text is true or false, which is a number only where it is declared as one."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    return is_any(pc.match_substring_regex(texts, _TRUTH))


def _are_times(column: pa.Table) -> bool:
    """Whether the texts of the one column are times, which in Parquet have a type of their own."""
    name = column.column_names[0]
    texts = column.column(name)
    if not is_text(texts.type) or texts.null_count == len(texts):
        return False
    if is_all(pc.match_substring_regex(texts, _CLOCK)):
        return True
    return bool(pa.types.is_timestamp(typed(column, [Declared(name, "time")], name).column(name).type))


def _feature(series: pd.Series[Any]) -> tuple[Feature, str]:
    present = series.notna()
    if pd.api.types.is_float_dtype(series.dtype):
        return NumberFeature(type="number", missing=1), "number"
    names = {values.spelled(str(name)) for name in series[present].unique()}
    if names and names <= TRUTHS:
        return BooleanFeature(type="boolean", missing=1), "boolean"
    no_number = _no_numbers(series)
    count = f"category of {len(names):,} values"
    if int(no_number.sum()) == int(present.sum()):
        return CategoryFeature(type="category", missing=1), f"{count}, such as {_examples(series[no_number])}"
    cells = f"{int(no_number.sum()):,} of {int(present.sum()):,} cells are no number"
    return CategoryFeature(type="category", missing=1), f"{count}, since {cells}: {_cells(series[no_number])}"


def _no_numbers(series: pd.Series[Any]) -> pd.Series[bool]:
    """Which cells hold a text that is no number."""
    if pd.api.types.is_float_dtype(series.dtype):
        return pd.Series(data=False, index=series.index)
    known = {text: not values.is_number(text) for text in series.dropna().unique()}
    return series.map(known).eq(other=True)


def _examples(series: pd.Series[Any]) -> str:
    return ", ".join(repr(str(value)[:40]) for value in series.drop_duplicates().head(EXAMPLES))


def _cells(series: pd.Series[Any]) -> str:
    return ", ".join(f"row {row + 1}: {str(value)[:40]!r}" for row, value in series.head(EXAMPLES).items())  # type: ignore[operator]


def _target(name: str, series: pd.Series[Any], objective: object, where: str) -> tuple[Task, list[str] | None, str]:
    """The task, the labels, and a line about the column to predict."""
    no_number = _no_numbers(series)
    numeric = not no_number.any()
    texts = series.dropna().map(values.text_of if numeric else values.spelled)
    names = sorted(set(texts), key=lambda text: (float(text), text)) if numeric else sorted(set(texts))
    if not numeric and {"0", "1"} & set(names) and set(names) <= TRUTHS:
        names = ["0", "1"]  # true is 1
    if isinstance(objective, str) and (of_objective := task_of(objective)) is not None:
        task = of_objective
    elif numeric:
        task = "binary" if {float(text) for text in names} <= {0.0, 1.0} else "regression"
    else:
        task = "binary" if len(names) == 2 else "multiclass"
    if not numeric:
        _refuse_names(name, series, no_number, len(names), where)
    if task == "regression":
        if not numeric:
            raise DataError(
                f"the target {name!r} holds text, which is no regression: {_cells(series[no_number])}",
                where=where,
                fix="check the column of the target (SM_HP_TARGET), and SM_HP_OBJECTIVE",
            )
        hint = "" if len(names) > 20 else "; for classes set objective=multi:softprob"
        return task, None, f"label {_shown(name)}: regression, {len(names):,} different numbers{hint}"
    if len(names) < 2 or (task == "binary" and len(names) != 2) or (task == "multiclass" and len(names) < 3):
        raise DataError(
            f"the target has {len(names)} labels ({', '.join(names[:8])}), which is no {task} task",
            where=where,
            fix="check the column of the target, and SM_HP_OBJECTIVE",
        )
    of_names = values.Names(names)
    counts = texts.map(of_names.find).value_counts()
    shown = _listed(f"{label} ({counts[label]:,} rows)" for label in names)
    return task, names, f"label {_shown(name)}: {task}, {shown}"


def _refuse_names(name: str, series: pd.Series[Any], no_number: pd.Series[bool], labels: int, where: str) -> None:
    """Refuses a target that names the rows, or that is text because of a few cells."""
    present, texts = int(series.notna().sum()), int(no_number.sum())
    if labels <= 2 or (labels <= MOST_LABELS * present and texts > FAULTS * present):
        return
    if texts <= MOST_LABELS * present:
        what = f"the target {name!r} is no number in {int(no_number.sum()):,} of {present:,} rows"
        hint = number_hint(str(series[no_number].iloc[0]))
        fix = "mend these cells, or leave the rows out" + (f"; with a model.yaml, {hint}" if hint else "")
        raise DataError(f"{what}: {_cells(series[no_number])}", where=where, fix=fix)
    raise DataError(
        f"the target {name!r} is text with {labels:,} different values in {present:,} rows: it names the rows",
        where=where,
        fix="name the column to predict: SM_HP_TARGET; without it, it is the first",
    )


def _shown(name: str) -> str:
    """The name of a column on one line: a quoted header may hold a line break."""
    return name if name.isprintable() else repr(name)


def _listed(texts: Iterable[str], most: int = 10) -> str:
    every = list(texts)
    return ", ".join(every[:most]) + (f" and {len(every) - most:,} more" if len(every) > most else "")

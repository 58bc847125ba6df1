"""Turns raw rows from JSON or CSV into the float32 matrix that XGBoost takes.

A value gives the same number as in `homelab_mlops.model.scoring.encode`, which a test holds. This module has no pandas,
since a data frame of one row costs more than its prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from reprlib import Repr
from typing import Any

import numpy as np

from homelab_mlops.model import values
from homelab_mlops.model.expressions import days, name_reader, read_time
from homelab_mlops.model.scoring import Description, Input

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Column = Sequence[Any]
Encode = Callable[[str, Column, set[type], bool], Any]
SHOWN = 60
# Writes of lists and objects, which may be deep and long, little more than is shown.
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 4 * SHOWN, 4 * SHOWN
_read_text = name_reader(())
_SCALARS = frozenset({bool, int, float, str, type(None)})


class RowsError(ValueError):
    """Rows that the model does not take; the text says which column, which row and why."""


class Encoder:
    """Encodes columns by the names, types, categories and expressions that a model was trained with."""

    def __init__(self, description: Description) -> None:
        inputs = description.inputs
        self.names = tuple(item.name for item in inputs)
        # The rows of the features come first, those of inputs that only expressions read after them.
        features = list(description.features)
        rows = {
            name: row for row, name in enumerate([*features, *(name for name in self.names if name not in features)])
        }
        self._columns: list[tuple[int, str, Encode]] = [(rows[item.name], item.name, _encoder(item)) for item in inputs]
        self._features, self._rows = len(features), list(rows)
        self._derive = _Derive(description) if description.derived else None

    def encode(self, columns: Mapping[str, Column], rows: int, *, strict: bool = False) -> Matrix:
        """The matrix of the given columns, shape ``[rows, features]``; missing and unseen categories are NaN.

        Args:
            strict: a number must be a JSON number and a boolean must not be text, as a typed client sends them.
            Otherwise a text that reads as one counts as one, as for `mlflow.pyfunc`.

        Raises:
            RowsError: a column is missing, or holds a value that is not of its type.
        """
        if missing := [name for name in self.names if name not in columns]:
            raise RowsError(f"the rows lack the column{'s' if len(missing) > 1 else ''} {', '.join(missing[:20])}")
        matrix = np.empty((len(self._rows), rows), dtype=np.float32)
        exact: list[Any] = []
        with np.errstate(over="ignore"):  # what is too large is refused below
            for row, name, encode in self._columns:
                column = columns[name]
                kinds = set(map(type, column))
                if not kinds <= _SCALARS:
                    _refuse(
                        name, column, lambda value: type(value) in _SCALARS, "is a list or an object, not one value"
                    )
                found = encode(name, column, kinds, strict)
                if self._derive is not None:
                    exact.append(found)
                matrix[row] = found if found.dtype.kind in "fiu" else _as_row(found)
        if self._derive is not None:
            self._derive(matrix, exact, rows)
        if np.isinf(matrix).any():
            name = self._rows[int(np.isinf(matrix).any(axis=1).argmax())]
            row = int(np.isinf(matrix[self._rows.index(name)]).argmax())
            raise RowsError(f"column {name}, row {row}: {shown(columns[name][row])} is too large a number")
        return np.ascontiguousarray(matrix[: self._features].T)


class _Derive:
    """Adds the derived features to a matrix, from the exact values of its inputs."""

    def __init__(self, description: Description) -> None:
        self._deriver = description.deriver()
        self._read = [
            (number, item.name, _exact(item))
            for number, item in enumerate(description.inputs)
            if item.name in self._deriver.columns
        ]
        self._rows = np.array([description.order.index(item.name) for item in description.derived])

    def __call__(self, matrix: Matrix, exact: Sequence[Any], rows: int) -> None:
        given = {name: convert(exact[number]) for number, name, convert in self._read}
        matrix[self._rows] = self._deriver(given, rows)


def _exact(item: Input) -> Callable[[Any], Any]:
    """What makes the values that an expression reads, of those of an encoder."""
    if item.type in ("number", "integer", "boolean"):
        return lambda numbers: numbers.astype(np.float64)
    if item.type == "category" and item.categories:
        names = np.array([*item.categories, None], dtype=object)
        return lambda codes: names[np.where(np.isnan(codes), -1, codes).astype(np.int64)]
    return lambda given: given


def _as_row(found: Any) -> Any:
    """Times as numbers; texts, which only an expression reads, are none."""
    return days(found) if found.dtype.kind == "M" else np.nan


def shown(value: Any) -> str:
    """A value for a message, cut off where it is long."""
    text = _SHORT.repr(value) if not isinstance(value, int) or value.bit_length() < 200 else "the whole number"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _encoder(item: Input) -> Encode:
    if item.type == "category":
        return _category(item.categories) if item.categories else _text
    if item.type == "datetime":
        return _time
    return _boolean if item.type == "boolean" else _number


def _number(name: str, column: Column, kinds: set[type], strict: bool) -> Any:
    if strict and kinds & {bool, str}:
        _refuse(name, column, lambda value: type(value) not in (bool, str), "is not a number")
    if str in kinds:
        column = _at_once(column) or _parsed(name, column, values.number, "is not a number")
    try:
        # Whole numbers are rounded once, from 64 bits; with a missing value among them pandas knows only floats.
        numbers = np.array(column, dtype=None if kinds == {int} else np.float64)
        return numbers if numbers.dtype != object else numbers.astype(np.float64)
    except (OverflowError, TypeError):
        raise RowsError(f"column {name} holds too large a number") from None


def _at_once(column: Column) -> Column | None:
    """The column with its texts as numbers, where `float` reads them as `values.number` does."""
    together = "".join(value for value in column if type(value) is str)
    if not together.isascii() or any(mark in together for mark in "_nN"):  # 1_000, nan, inf
        return None
    try:
        return [value if type(value) is not str else float(value) if value else None for value in column]
    except ValueError:
        return None


def _parsed(name: str, column: Column, parse: Callable[[str], float], why: str) -> Column:
    """The column with its texts as numbers; those that stand for a missing value are None."""
    numbers: list[Any] = []
    for row, value in enumerate(column):
        if type(value) is not str:
            numbers.append(value)
            continue
        try:
            numbers.append(None if values.is_missing(value) else parse(value))
        except ValueError:
            raise RowsError(f"column {name}, row {row}: {shown(value)} {why}") from None
    return numbers


def _boolean(name: str, column: Column, kinds: set[type], strict: bool) -> Any:
    if strict and str in kinds:
        _refuse(name, column, lambda value: type(value) is not str, "is neither true nor false")
    if str in kinds:
        column = _parsed(name, column, values.boolean, "is neither true nor false")
    # True is 1 and False is 0 to Python, too.
    if any(value not in (0, 1, None) and value == value for value in column):
        _refuse(name, column, lambda value: value in (0, 1, None), "is neither true nor false")
    return np.array(column, dtype=np.float64)


def _time(name: str, column: Column, kinds: set[type], strict: bool) -> Any:
    if strict and not kinds <= {str, type(None)}:
        _refuse(name, column, lambda value: type(value) in (str, type(None)), "is not the text of a time")
    found = np.empty(len(column), dtype="datetime64[us]")
    for row, value in enumerate(column):
        try:
            found[row] = read_time(value)
        except ValueError:
            raise RowsError(
                f"column {name}, row {row}: {shown(value)} is not a time such as 2026-01-31T05:30Z"
            ) from None
    return found


def _text(name: str, column: Column, kinds: set[type], strict: bool) -> Any:  # noqa: ARG001
    texts = [None if value is None or value != value else _read_text(value) for value in column]
    return np.array([*texts, None], dtype=object)[:-1]


def _category(categories: tuple[str, ...]) -> Encode:
    names = values.Names(categories)
    codes = {category: float(code) for code, category in enumerate(categories)}
    found = [values.spelled(category) for category in categories]
    truths = not {"true", "false", "0", "1"}.isdisjoint(found)
    numeric = truths or any(values.is_number(category) for category in found)

    def code_of(value: Any) -> float | None:
        return None if value is None or value != value else codes.get(names.find(values.text_of(value)) or "")

    def encode(name: str, column: Column, kinds: set[type], strict: bool) -> Any:  # noqa: ARG001
        if not kinds <= {str, type(None)}:
            if bool in kinds and not truths:
                _refuse(
                    name, column, lambda value: type(value) is not bool, "is true or false, not the name of a category"
                )
            if kinds & {int, float} and not numeric:
                _refuse(
                    name,
                    column,
                    lambda value: type(value) not in (int, float) or value != value,
                    "is a number, not the name of a category",
                )
            return np.array(list(map(code_of, column)), dtype=np.float64)
        # None, which is what an unseen category finds, becomes NaN.
        exact = list(map(codes.get, column))
        if None in exact:
            exact = [code_of(value) if code is None else code for code, value in zip(exact, column, strict=True)]
        return np.array(exact, dtype=np.float64)

    return encode


def _refuse(name: str, column: Column, fits: Callable[[Any], bool], why: str) -> None:
    for row, value in enumerate(column):
        if not fits(value):
            raise RowsError(f"column {name}, row {row}: {shown(value)} {why}")

"""Derived features: a tree of operations on raw columns, stored as JSON within the model, computed by NumPy.

MLflow stores this file beside each model, so it stands alone: NumPy and `values.py`. Training, `mlflow.pyfunc` and the
service compute with it alone. A number is float64, as is a condition (1 or 0), and NaN where it is missing; a text is
an object, None where it is missing; a time is ``datetime64[us]`` in UTC, NaT where it is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Literal

import numpy as np

try:
    from homelab_mlops.model import values
except ImportError:  # beside a model
    import homelab_values as values  # type: ignore[import-not-found, no-redef]

Array = np.ndarray[Any, Any]
Kind = Literal["number", "condition", "text", "time"]
Compute = Callable[[Mapping[str, Array]], Any]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KINDS: dict[str, Kind] = {
    "number": "number",
    "integer": "number",
    "boolean": "condition",
    "category": "text",
    "datetime": "time",
}
_DAY = 86_400_000_000
_MISSING: dict[str, Any] = {"O": np.array(None, dtype=object), "M": np.datetime64("NaT", "us")}


@dataclass(frozen=True)
class Number:
    """A number that stands in the expression."""

    value: float


@dataclass(frozen=True)
class Text:
    """A text that stands in the expression."""

    value: str


@dataclass(frozen=True)
class Time:
    """A time that stands in the expression, in microseconds since 1970 in UTC."""

    microseconds: int


@dataclass(frozen=True)
class Column:
    """The value of a raw column."""

    name: str


@dataclass(frozen=True)
class Call:
    """An operator or a function, such as ``/`` or ``log1p``."""

    function: str
    arguments: tuple[Tree, ...]


Tree = Number | Text | Time | Column | Call


@dataclass(frozen=True)
class Derived:
    """A feature that an expression gives: ``number``, ``boolean``, ``datetime``, or ``category`` with the names seen in
    training."""

    name: str
    type: str
    tree: Tree
    categories: tuple[str, ...] = ()


def to_json(tree: Tree) -> dict[str, Any]:
    """The tree as JSON, which `from_json` reads."""
    match tree:
        case Number(value):
            return {"number": value}
        case Text(value):
            return {"text": value}
        case Time(microseconds):
            return {"time": microseconds}
        case Column(name):
            return {"column": name}
        case Call(function, arguments):
            return {"call": function, "arguments": [to_json(argument) for argument in arguments]}


def from_json(content: Mapping[str, Any]) -> Tree:
    """The tree that `to_json` wrote.

    Raises:
        ValueError: it is none.
    """
    match content:
        case {"number": int() | float() as number}:
            return Number(float(number))
        case {"text": str(text)}:
            return Text(text)
        case {"time": int(microseconds)}:
            return Time(microseconds)
        case {"column": str(name)}:
            return Column(name)
        case {"call": str(function), "arguments": list(arguments)}:
            return Call(function, tuple(map(from_json, arguments)))
    raise ValueError(f"the model holds an expression that is not understood: {str(content)[:80]}")


def columns_of(tree: Tree) -> set[str]:
    """The names of the raw columns that the tree reads."""
    if isinstance(tree, Column):
        return {tree.name}
    return {name for item in tree.arguments for name in columns_of(item)} if isinstance(tree, Call) else set()


def bin_labels(edges: Sequence[float]) -> tuple[str, ...]:
    """The names of the bins between ascending edges; a bin holds its lower edge."""
    texts = [values.text_of(edge) for edge in edges]
    between = (f"{low} to {high}" for low, high in pairwise(texts))
    return (f"below {texts[0]}", *between, f"{texts[-1]} and above")


class Expression:
    """A tree, ready to compute.

    Args:
        kinds: the kind of each column that the tree reads.

    Raises:
        ValueError: the tree holds a function that is not known, or one with arguments that it does not take.
    """

    def __init__(self, tree: Tree, kinds: Mapping[str, Kind]) -> None:
        self._compute, _ = _compiled(tree, {name: _as_computed(kind) for name, kind in kinds.items()})

    def __call__(self, columns: Mapping[str, Array], rows: int) -> Array:
        """The values, shape ``[rows]``: a number that is not finite is missing."""
        with np.errstate(all="ignore"):
            found = np.asarray(self._compute(columns))
        return found if found.ndim else np.broadcast_to(found, (rows,))


class Deriver:
    """Computes derived features from raw columns."""

    def __init__(self, derived: Sequence[Derived], types: Mapping[str, str]) -> None:
        kinds = {name: KINDS[kind] for name, kind in types.items()}
        self.columns = frozenset(name for item in derived for name in columns_of(item.tree))
        self._features = [(item.name, _converter(item), Expression(item.tree, kinds)) for item in derived]

    def __call__(self, columns: Mapping[str, Array], rows: int) -> dict[str, Array]:
        """Each feature as float32, shape ``[rows]``; a category is the number of its name, and NaN where training did
        not see it."""
        return {name: convert(compute(columns, rows)) for name, convert, compute in self._features}


def as_float32(array: Array) -> Array:
    """Numbers and times (in days since 1970) as XGBoost takes them; what it has no room for is missing."""
    numbers = days(array) if array.dtype.kind == "M" else array
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float32)
    found[np.isinf(found)] = np.nan
    return found


def as_names(array: Array) -> Array:
    """Texts and numbers as the names of categories, None where one is missing."""
    if array.dtype == object:
        return array
    names = {number: values.text_of(number) for number in np.unique(array[~np.isnan(array)]).tolist()}
    return np.array([*map(names.get, array.tolist())], dtype=object)


def _converter(item: Derived) -> Callable[[Array], Array]:
    if item.type != "category":
        return as_float32
    names = values.Names(item.categories)
    codes = {name: float(code) for code, name in enumerate(item.categories)}

    def convert(array: Array) -> Array:
        found = [None if text is None else codes.get(names.find(text) or "") for text in as_names(array).tolist()]
        return np.array(found, dtype=np.float32)

    return convert


def days(times: Array) -> Array:
    """Days since 1970 as float64."""
    found: Array = _unless_missing(times, times.view(np.int64) / _DAY)
    return found


def _compiled(tree: Tree, kinds: Mapping[str, Kind]) -> tuple[Compute, Kind]:
    match tree:
        case Number(value):
            return _constant(np.float64(value)), "number"
        case Text(value):
            return _constant(np.array(value, dtype=object)), "text"
        case Time(microseconds):
            return _constant(np.array(microseconds).astype("datetime64[us]")), "time"
        case Column(name):
            return (lambda columns: columns[name]), kinds[name]
        case Call("bins", arguments):
            return _bins(arguments, kinds)
        case Call(function, arguments):
            parts = [_compiled(argument, kinds) for argument in arguments]
            return _call(function, [compute for compute, _ in parts], [kind for _, kind in parts])


def _as_computed(kind: Kind) -> Kind:
    return "number" if kind == "condition" else kind


def _constant(value: Any) -> Compute:
    return lambda columns: value  # noqa: ARG005


def _call(function: str, computes: list[Compute], kinds: list[Kind]) -> tuple[Compute, Kind]:
    apply, kind = _FUNCTIONS.get((function, kinds[-1]), (None, None))
    if apply is None:
        raise ValueError(f"the model holds a function that is not known: {function!r} of a {kinds[-1]}")
    kind = kind or kinds[-1]
    if len(computes) == 1:
        (only,) = computes
        return (lambda columns: apply(only(columns))), kind
    if len(computes) == 2:
        first, second = computes
        return (lambda columns: apply(first(columns), second(columns))), kind
    return (lambda columns: apply(*(compute(columns) for compute in computes))), kind


def _bins(arguments: tuple[Tree, ...], kinds: Mapping[str, Kind]) -> tuple[Compute, Kind]:
    first, _ = _compiled(arguments[0], kinds)
    edges = [argument.value for argument in arguments[1:] if isinstance(argument, Number)]
    labels = np.array([*bin_labels(edges), None], dtype=object)

    def compute(columns: Mapping[str, Array]) -> Any:
        numbers = first(columns)
        found = np.searchsorted(edges, numbers, side="right")
        return np.asarray(labels[np.where(np.isnan(numbers), len(labels) - 1, found)], dtype=object)

    return compute, "text"


def _finite(numbers: Any) -> Any:
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _log1p(numbers: Any) -> Any:
    # One by one: NumPy's own has other last digits on another processor.
    given = np.asarray(numbers)
    found = [math.log1p(number) if number > -1 else math.nan for number in given.ravel().tolist()]
    return np.array(found, dtype=np.float64).reshape(given.shape)


def _known(*arrays: Any) -> Any:
    """Whether all of the values of a row are present."""
    return reduce(np.logical_and, [_present(array) for array in arrays])


def _present(array: Any) -> Any:
    if array.dtype == object:
        return array != np.array(None)
    return ~np.isnat(array) if array.dtype.kind == "M" else ~np.isnan(array)


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda one, other: np.where(_known(one, other), compare(one, other), np.nan)


def _where(condition: Any, one: Any, other: Any) -> Any:
    missing = _MISSING.get(one.dtype.kind, np.nan)
    return np.where(np.isnan(condition), missing, np.where(condition != 0, one, other))


def _and(one: Any, other: Any) -> Any:
    """False where one of both is false, missing where the other decides and is missing."""
    return np.where((one == 0) | (other == 0), 0.0, one * other)


def _or(one: Any, other: Any) -> Any:
    return 1.0 - _and(1.0 - one, 1.0 - other)


def _unless_missing(times: Any, numbers: Any) -> Any:
    return np.where(np.isnat(times), np.nan, numbers)


def _since(one: Any, other: Any) -> Any:
    """The days between two times."""
    return np.where(_known(one, other), (one - other).astype(np.int64) / _DAY, np.nan)


def _part(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda times: _unless_missing(times, read(times).astype(np.float64))


def _in_unit(times: Any, unit: str) -> Any:
    return times.astype(f"datetime64[{unit}]").astype(np.int64)


def _weekday(times: Any) -> Any:
    names = np.array([*WEEKDAYS, None], dtype=object)
    found = np.where(np.isnat(times), len(WEEKDAYS), (_in_unit(times, "D") + 3) % 7)
    return np.asarray(names[found], dtype=object)


def _comparisons() -> dict[tuple[str, str], tuple[Callable[..., Any], Kind | None]]:
    """The comparisons of each kind; texts have no order."""
    found: dict[tuple[str, str], tuple[Callable[..., Any], Kind | None]] = {}
    operators: dict[str, Callable[[Any, Any], Any]] = {
        "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater,
        ">=": np.greater_equal,
    }  # fmt: skip
    for name, compare in operators.items():
        for kind in ("number", "time", "text"):
            if kind != "text" or name in ("==", "!="):
                found[name, kind] = (_compared(compare), "number")
    return found


# By name and kind of the (last) argument: the function, and the kind of what it gives; None is that of the argument.
_FUNCTIONS: dict[tuple[str, str], tuple[Callable[..., Any], Kind | None]] = {
    **_comparisons(),
    ("+", "number"): (lambda one, other: _finite(one + other), "number"),
    ("-", "number"): (lambda one, other: _finite(one - other), "number"),
    ("*", "number"): (lambda one, other: _finite(one * other), "number"),
    ("/", "number"): (lambda one, other: _finite(one / other), "number"),
    ("-", "time"): (_since, "number"),
    ("negative", "number"): (np.negative, "number"),
    ("log1p", "number"): (_log1p, "number"),
    ("min", "number"): (lambda *given: reduce(np.minimum, given), "number"),
    ("max", "number"): (lambda *given: reduce(np.maximum, given), "number"),
    ("min", "time"): (lambda *given: reduce(np.minimum, given), "time"),
    ("max", "time"): (lambda *given: reduce(np.maximum, given), "time"),
    ("not", "number"): (lambda condition: 1.0 - condition, "number"),
    ("and", "number"): (_and, "number"),
    ("or", "number"): (_or, "number"),
    **{("isnull", kind): (lambda given: np.where(_present(given), 0.0, 1.0), "number") for kind in
       ("number", "text", "time")},
    **{("where", kind): (_where, None) for kind in ("number", "text", "time")},
    ("year", "time"): (_part(lambda times: _in_unit(times, "Y") + 1970), "number"),
    ("month", "time"): (_part(lambda times: _in_unit(times, "M") % 12 + 1), "number"),
    ("day", "time"): (
        _part(lambda times: (times.astype("datetime64[D]") - times.astype("datetime64[M]")).astype(np.int64) + 1),
        "number",
    ),
    ("hour", "time"): (_part(lambda times: _in_unit(times, "h") % 24), "number"),
    ("minute", "time"): (_part(lambda times: _in_unit(times, "m") % 60), "number"),
    ("weekday", "time"): (_weekday, "text"),
}  # fmt: skip

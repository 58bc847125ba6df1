"""Derived features: a tree of operations on raw columns, computed by NumPy.

MLflow stores this file beside each model, so it stands alone: NumPy, `tree.py` and `values.py`. Training,
`mlflow.pyfunc` and the service compute with it alone. A number is float64, as is a condition (1 or 0), and NaN where it
is missing; a text is an object, None where it is missing; a time is ``datetime64[us]`` in UTC, NaT where it is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

try:
    from homelab_mlops.model import tree as trees
    from homelab_mlops.model import values
except ImportError:  # beside a model
    import homelab_tree as trees  # type: ignore[import-not-found, no-redef]
    import homelab_values as values  # type: ignore[import-not-found, no-redef]

Array = np.ndarray[Any, Any]
Compute = Callable[[Mapping[str, Array]], Any]

_DAY = 86_400_000_000
_NAT = np.datetime64("NaT", "us")
_MISSING: dict[str, Any] = {"O": np.array(None, dtype=object), "M": _NAT}


class Expression:
    """A tree, ready to compute.

    Args:
        kinds: the kind of each column that the tree reads.

    Raises:
        ValueError: the tree holds a function that is not known, or one with arguments that it does not take.
    """

    def __init__(self, tree: trees.Tree, kinds: Mapping[str, trees.Kind]) -> None:
        self.compute, _ = _compiled(tree, {name: _as_computed(kind) for name, kind in kinds.items()})

    def __call__(self, columns: Mapping[str, Array], rows: int) -> Array:
        """The values, shape ``[rows]``: a number that is not finite is missing."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.compute(columns))
        return found if found.ndim else np.broadcast_to(found, (rows,))


class Deriver:
    """Computes derived features from raw columns."""

    def __init__(self, derived: Sequence[trees.Derived], types: Mapping[str, str]) -> None:
        kinds = {name: trees.KINDS[type_] for name, type_ in types.items()}
        self.columns = frozenset(name for item in derived for name in trees.columns_of(item.tree))
        self._features = [(_converter(item), Expression(item.tree, kinds).compute) for item in derived]

    def __call__(self, columns: Mapping[str, Array], rows: int) -> Array:
        """The features as float32, shape ``[features, rows]``; a category is the number of its name, and NaN where
        training did not see it."""
        found = np.empty((len(self._features), rows), dtype=np.float32)
        with np.errstate(all="ignore"):
            for row, (convert, compute) in enumerate(self._features):
                found[row] = convert(compute(columns))
            # What XGBoost has no room for.
            return np.where(np.isinf(found), np.float32(np.nan), found)


def name_reader(categories: Sequence[str]) -> Callable[[object], str | None]:
    """What makes the text of a cell: one of the categories, or where there are none any text; else it is missing."""
    if categories:
        names = values.Names(categories)
        return lambda value: names.find(values.text_of(value))

    def read(value: object) -> str | None:
        text = values.text_of(value)
        return None if values.is_missing(text) else values.spelled(text)

    return read


def read_time(value: object) -> np.datetime64:
    """The time that a cell holds; whole numbers such as 20260131 are days.

    Raises:
        ValueError: it holds none.
    """
    text = values.text_of(value)
    if values.is_missing(text):
        return _NAT
    if isinstance(value, float | np.floating):
        raise ValueError(f"{value!r} is not a time")
    return np.datetime64(values.microseconds(values.moment(text)), "us")


def as_names(array: Array) -> Array:
    """Texts and numbers as the names of categories, None where one is missing."""
    if array.dtype == object:
        return array
    names = {number: values.text_of(number) for number in np.unique(array[~np.isnan(array)]).tolist()}
    return np.array([*map(names.get, array.tolist())], dtype=object)


def _converter(item: trees.Derived) -> Callable[[Array], Array]:
    if item.type == "datetime":
        return days
    if item.type != "category":
        return lambda numbers: numbers
    names = values.Names(item.categories)
    codes = {name: float(code) for code, name in enumerate(item.categories)}

    def convert(array: Array) -> Array:
        texts = np.atleast_1d(as_names(array)).tolist()
        return np.array(
            [None if text is None else codes.get(names.find(text) or "") for text in texts], dtype=np.float32
        )

    return convert


def days(times: Array) -> Array:
    """Days since 1970 as float64."""
    found: Array = _unless_missing(times, times.view(np.int64) / _DAY)
    return found


def _compiled(tree: trees.Tree, kinds: Mapping[str, trees.Kind]) -> tuple[Compute, trees.Kind]:
    match tree:
        case trees.Number(value):
            return _constant(np.float64(value)), "number"
        case trees.Text(value):
            return _constant(np.array(value, dtype=object)), "text"
        case trees.Time(microseconds):
            return _constant(np.array(microseconds).astype("datetime64[us]")), "time"
        case trees.Column(name):
            return (lambda columns: columns[name]), kinds[name]
        case trees.Call("bins", arguments):
            return _bins(arguments, kinds)
        case trees.Call(function, arguments):
            parts = [_compiled(argument, kinds) for argument in arguments]
            return _call(function, [compute for compute, _ in parts], [kind for _, kind in parts])


def _as_computed(kind: trees.Kind) -> trees.Kind:
    return "number" if kind == "condition" else kind


def _constant(value: Any) -> Compute:
    return lambda columns: value  # noqa: ARG005


def _call(function: str, computes: list[Compute], kinds: list[trees.Kind]) -> tuple[Compute, trees.Kind]:
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


def _bins(arguments: tuple[trees.Tree, ...], kinds: Mapping[str, trees.Kind]) -> tuple[Compute, trees.Kind]:
    first, _ = _compiled(arguments[0], kinds)
    edges = [argument.value for argument in arguments[1:] if isinstance(argument, trees.Number)]
    labels = np.array([*trees.bin_labels(edges), None], dtype=object)

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
    """Whether all of the values of a row are present; what stands in the expression is."""
    varying = [array for array in arrays if array.ndim] or arrays
    return reduce(np.logical_and, [_present(array) for array in varying])


def _present(array: Any) -> Any:
    if array.dtype == object:
        return array != np.array(None)
    return ~np.isnat(array) if array.dtype.kind == "M" else ~np.isnan(array)


def _compared(compare: Callable[[Any, Any], Any], kind: str) -> Callable[[Any, Any], Any]:
    if kind == "number":
        return lambda one, other: np.where(np.isnan(one + other), np.nan, compare(one, other))
    return lambda one, other: np.where(_known(one, other), compare(one, other), np.nan)


def _where(condition: Any, one: Any, other: Any) -> Any:
    missing = _MISSING.get(one.dtype.kind, np.nan)
    return np.where(np.isnan(condition), missing, np.where(condition != 0, one, other))


def _and(one: Any, other: Any) -> Any:
    """False where one of both is false, missing where the other decides and is missing."""
    return np.where(np.fmin(one, other) == 0, 0.0, one * other)


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
    names = np.array([*trees.WEEKDAYS, None], dtype=object)
    found = np.where(np.isnat(times), len(trees.WEEKDAYS), (_in_unit(times, "D") + 3) % 7)
    return np.asarray(names[found], dtype=object)


def _comparisons() -> dict[tuple[str, str], tuple[Callable[..., Any], trees.Kind | None]]:
    """The comparisons of each kind; texts have no order."""
    found: dict[tuple[str, str], tuple[Callable[..., Any], trees.Kind | None]] = {}
    operators: dict[str, Callable[[Any, Any], Any]] = {
        "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater,
        ">=": np.greater_equal,
    }  # fmt: skip
    for name, compare in operators.items():
        for kind in ("number", "time", "text"):
            if kind != "text" or name in ("==", "!="):
                found[name, kind] = (_compared(compare, kind), "number")
    return found


# By name and kind of the (last) argument: the function, and the kind of what it gives; None is that of the argument.
_FUNCTIONS: dict[tuple[str, str], tuple[Callable[..., Any], trees.Kind | None]] = {
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

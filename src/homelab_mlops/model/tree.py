"""The tree of an expression: what `grammar` parses, what a model stores as JSON, and what `expressions` computes.

MLflow stores this file beside each model. It needs only Python and `values.py`, so that a model.yaml is checked without
NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

try:
    from homelab_mlops.model import values
except ImportError:  # beside a model
    import homelab_values as values  # type: ignore[import-not-found, no-redef]

Kind = Literal["number", "condition", "text", "time"]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KINDS: dict[str, Kind] = {
    "number": "number",
    "integer": "number",
    "boolean": "condition",
    "category": "text",
    "datetime": "time",
}


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

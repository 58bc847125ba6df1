"""Parses the expression of a derived feature into a tree, and checks the kinds of what it computes with.

::

    or         = and {"or" and}
    and        = not {"and" not}
    not        = "not" not | comparison
    comparison = sum [("==" | "!=" | "<" | "<=" | ">" | ">=") sum]
    sum        = product {("+" | "-") product}
    product    = unary {("*" | "/") unary}
    unary      = "-" unary | atom
    atom       = NUMBER | TEXT | "true" | "false" | COLUMN | FUNCTION "(" or {"," or} ")" | "(" or ")"

A column is a name, or any text between backticks; a TEXT stands between quotes of either form.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, NoReturn

from homelab_mlops.model import values
from homelab_mlops.model.tree import (
    WEEKDAYS,
    Call,
    Column,
    Kind,
    Number,
    Text,
    Time,
    Tree,
    bin_labels,
)

LONGEST = 1000
# Deeper ones would take more calls within each other than Python admits.
DEEPEST, NESTED = 50, 40
DATE_PARTS = ("year", "month", "day", "hour", "minute", "weekday")
FUNCTIONS = ("where", "isnull", "min", "max", "log1p", "bins", *DATE_PARTS)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[^\W\d]\w*)|`(?P<quoted>[^`]+)`"
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<mark>==|!=|<=|>=|[-+*/<>(),]))"""
)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_WORDS = ("and", "or", "not", "true", "false")
_A: dict[Kind, str] = {"number": "a number", "condition": "a condition", "text": "a text", "time": "a datetime"}


class ExpressionError(ValueError):
    """An expression that cannot be computed; ``column`` is the place of the fault, counted from 1."""

    def __init__(self, column: int, what: str) -> None:
        super().__init__(f"column {column}: {what}")
        self.column = column


@dataclass(frozen=True)
class Raw:
    """A column that an expression may read; ``names`` are the values of a category, where they are listed."""

    kind: Kind
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parsed:
    """A part of an expression: its tree, the kind of what it gives, where it begins, and how deep its tree is.

    ``names`` are the texts that it may give, where they are known.
    """

    tree: Tree
    kind: Kind
    column: int
    depth: int = 1
    names: tuple[str, ...] = ()


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse(text: str, columns: Mapping[str, Raw], refused: Mapping[str, str] | None = None) -> Parsed:
    """The tree of an expression.

    Args:
        columns: what the expression may read.
        refused: other names that a person may write, and why they cannot be read.

    Raises:
        ExpressionError: the text is no expression, or computes with what does not go together.
    """
    if len(text) > LONGEST:
        raise ExpressionError(LONGEST + 1, f"the expression is longer than {LONGEST:,} characters: split it")
    return _Parser(list(_tokens(text)), columns, refused or {}).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        start = at + len(text[at:]) - len(text[at:].lstrip())
        if match is None:
            _refuse_character(text, start)
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], start + 1)
        at = match.end()
        if kind == "number" and re.match(r"[\w.]", text[at:]):
            raise ExpressionError(start + 1, f"{text[start : at + 1]!r} is neither a number nor a name")
    yield _Token("end", "", len(text.rstrip()) + 1)


def _refuse_character(text: str, at: int) -> NoReturn:
    mark = text[at]
    if mark in "\"'`":
        raise ExpressionError(
            at + 1, f"{mark} is never closed" if text.count(mark) % 2 else f"nothing between {mark}{mark}"
        )
    hints = {
        "=": "; equal is ==",
        "!": "; not equal is !=, and `not` negates",
        "&": "; write `and`",
        "|": "; write `or`",
    }
    raise ExpressionError(at + 1, f"{mark!r} is not understood{hints.get(mark, '')}")


class _Parser:
    """Reads tokens from the left; each method reads what its rule of the grammar says."""

    def __init__(self, tokens: list[_Token], columns: Mapping[str, Raw], refused: Mapping[str, str]) -> None:
        self._tokens, self._next = tokens, 0
        self._columns, self._refused = columns, refused
        self._open = 0
        self._reads = False

    def whole(self) -> Parsed:
        found = self._or()
        if self._token.kind != "end":
            if self._token.text in _COMPARISONS:
                self._refuse("a comparison has two sides; write `a < b and b < c`")
            self._refuse(f"{self._token.text!r} does not fit here; an operator or the end is expected")
        if not self._reads:
            raise ExpressionError(1, "the expression reads no column, so it is the same for every row")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _refuse(self, what: str) -> NoReturn:
        raise ExpressionError(self._token.column, what)

    def _is(self, *marks: str) -> bool:
        return self._token.kind == "mark" and self._token.text in marks

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "name" and self._token.text == word

    def _or(self) -> Parsed:
        return self._conditions("or", self._and)

    def _and(self) -> Parsed:
        return self._conditions("and", self._not)

    def _conditions(self, word: str, side: Callable[[], Parsed]) -> Parsed:
        left = side()
        while self._is_word(word):
            self._take()
            left = _call(word, "condition", _condition(left), _condition(side()))
        return left

    def _not(self) -> Parsed:
        if not self._is_word("not"):
            return self._comparison()
        token = self._take()
        with_depth = self._nested(token.column, self._not)
        return replace(_call("not", "condition", _condition(with_depth)), column=token.column)

    def _comparison(self) -> Parsed:
        left = self._sum()
        if not self._is(*_COMPARISONS):
            return left
        mark = self._take()
        one, other = _alike(left, self._sum(), mark.text)
        if one.kind == "text":
            if mark.text not in ("==", "!="):
                raise ExpressionError(mark.column, f"texts have no order: {mark.text} compares numbers and datetimes")
            one, other = _listed(one, other), _listed(other, one)
        return _call(mark.text, "condition", one, other)

    def _sum(self) -> Parsed:
        left = self._product()
        while self._is("+", "-"):
            mark = self._take()
            right = self._product()
            if mark.text == "-" and "time" in (left.kind, right.kind):
                left = _call("-", "number", *_alike(left, right, "-"))
            else:
                left = _call(mark.text, "number", _number(left, mark.text), _number(right, mark.text))
        return left

    def _product(self) -> Parsed:
        left = self._unary()
        while self._is("*", "/"):
            mark = self._take()
            left = _call(mark.text, "number", _number(left, mark.text), _number(self._unary(), mark.text))
        return left

    def _unary(self) -> Parsed:
        if not self._is("-"):
            return self._atom()
        token = self._take()
        operand = _number(self._nested(token.column, self._unary), "-")
        if isinstance(operand.tree, Number):
            return replace(operand, tree=Number(-operand.tree.value), column=token.column)
        return replace(_call("negative", "number", operand), column=token.column)

    def _nested(self, column: int, rule: Callable[[], Parsed]) -> Parsed:
        self._open += 1
        if self._open > NESTED:
            raise ExpressionError(column, f"more than {NESTED} brackets, functions or signs within each other")
        found = rule()
        self._open -= 1
        return found

    def _atom(self) -> Parsed:
        token = self._take() if self._token.kind != "end" else self._refuse("a value is missing here")
        if token.kind == "number":
            value = float(token.text)
            if value == float("inf"):
                raise ExpressionError(token.column, f"{token.text} is too large a number")
            return Parsed(Number(value), "number", token.column)
        if token.kind in ("double", "single"):
            return Parsed(Text(token.text), "text", token.column, names=(token.text,))
        if token.kind == "quoted":
            return self._column(token)
        if token.kind == "name":
            return self._name(token)
        if token.text == "(":
            found = self._nested(token.column, self._or)
            self._close(token, "(")
            return replace(found, column=token.column)
        raise ExpressionError(token.column, f"{token.text!r} does not fit here; a value is expected")

    def _close(self, opened: _Token, what: str) -> None:
        if not self._is(")"):
            self._refuse(f"`)` is missing, for the `{what}` in column {opened.column}")
        self._take()

    def _name(self, token: _Token) -> Parsed:
        if token.text in ("true", "false"):
            return Parsed(Number(float(token.text == "true")), "condition", token.column)
        if token.text in _WORDS:
            raise ExpressionError(token.column, f"{token.text!r} does not fit here; a value is expected")
        return self._function(token) if self._is("(") else self._column(token)

    def _column(self, token: _Token) -> Parsed:
        name = token.text
        if name in self._refused:
            raise ExpressionError(token.column, f"{name!r} {self._refused[name]}")
        if name not in self._columns:
            near = difflib.get_close_matches(name, self._columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`features` or `inputs` declare it with its type"
            raise ExpressionError(token.column, f"there is no column {name!r}; {hint}")
        self._reads = True
        raw = self._columns[name]
        return Parsed(Column(name), raw.kind, token.column, names=raw.names)

    def _function(self, token: _Token) -> Parsed:
        if token.text not in FUNCTIONS:
            near = difflib.get_close_matches(token.text, FUNCTIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FUNCTIONS)}"
            raise ExpressionError(token.column, f"there is no function {token.text!r}; {hint}")
        self._take()
        given: list[Parsed] = []
        while not (self._is(")") and not given):
            given.append(self._nested(token.column, self._or))
            if not self._is(","):
                break
            self._take()
        self._close(token, f"{token.text}(")
        return replace(_applied(token, given), column=token.column)


def _call(function: str, kind: Kind, *parts: Parsed, names: tuple[str, ...] = ()) -> Parsed:
    depth = 1 + max(part.depth for part in parts)
    if depth > DEEPEST:
        raise ExpressionError(parts[-1].column, f"more than {DEEPEST} operations in a row; brackets part them")
    return Parsed(Call(function, tuple(part.tree for part in parts)), kind, parts[0].column, depth, names)


def _number(part: Parsed, function: str) -> Parsed:
    if part.kind not in ("number", "condition"):
        only = "; of a datetime, only another one can be subtracted" if part.kind == "time" else ""
        raise ExpressionError(part.column, f"{function} takes numbers, and this is {_A[part.kind]}{only}")
    return part


def _condition(part: Parsed) -> Parsed:
    if part.kind != "condition":
        what = f"a condition such as `x > 0` is expected, and this is {_A[part.kind]}"
        raise ExpressionError(part.column, what)
    return part


def _time(part: Parsed, function: str) -> Parsed:
    if part.kind == "text" and isinstance(part.tree, Text):
        try:
            time = values.moment(part.tree.value)
        except ValueError:
            raise ExpressionError(part.column, f"{part.tree.value!r} is not a time such as 2026-01-31") from None
        return replace(part, tree=Time(values.microseconds(time)), kind="time", names=())
    if part.kind != "time":
        raise ExpressionError(part.column, f"{function} takes a datetime, and this is {_A[part.kind]}")
    return part


def _alike(one: Parsed, other: Parsed, function: str) -> tuple[Parsed, Parsed]:
    """Both sides, of one kind; a text beside a datetime is the time that it is."""
    if "time" in (one.kind, other.kind):
        return _time(one, function), _time(other, function)
    if (one.kind == "text") != (other.kind == "text"):
        what = f"{function} takes two of one kind, and here are {_A[one.kind]} and {_A[other.kind]}"
        raise ExpressionError(other.column, what)
    return one, other


def _listed(part: Parsed, other: Parsed) -> Parsed:
    """A text that stands in the expression, as the one of the other side's names that it is."""
    if not isinstance(part.tree, Text):
        return part
    if not other.names or isinstance(other.tree, Text):
        return replace(part, tree=Text(values.spelled(part.tree.value)))
    found = values.Names(other.names).find(part.tree.value)
    if found is None:
        near = difflib.get_close_matches(part.tree.value, other.names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(other.names[:8])}"
        raise ExpressionError(part.column, f"the other side is never {part.tree.value!r}; {hint}")
    return replace(part, tree=Text(found))


def _applied(token: _Token, given: list[Parsed]) -> Parsed:
    """A function, once the number and the kinds of its arguments are right."""
    name = token.text
    least, most = {"where": (3, 3), "min": (2, None), "max": (2, None), "bins": (2, None)}.get(name, (1, 1))
    if len(given) < least or (most is not None and len(given) > most):
        wanted = f"{least}" if most else f"at least {least}"
        takes = f"{name} takes {wanted} argument{'s' if least > 1 else ''}, and {len(given)} are here"
        raise ExpressionError(token.column, takes)
    first = given[0]
    if name == "where":
        return _where(given)
    if name == "isnull":
        return _call(name, "condition", first)
    if name == "log1p":
        return _call(name, "number", _number(first, name))
    if name == "bins":
        return _bins(given)
    if name in DATE_PARTS:
        is_name = name == "weekday"
        return _call(name, "text" if is_name else "number", _time(first, name), names=WEEKDAYS if is_name else ())
    if any(part.kind == "time" for part in given):
        return _call(name, "time", *(_time(part, name) for part in given))
    return _call(name, "number", *(_number(part, name) for part in given))


def _where(given: list[Parsed]) -> Parsed:
    condition, (one, other) = _condition(given[0]), _alike(given[1], given[2], "where")
    kind: Kind = other.kind if one.kind == other.kind else "number"
    names = tuple(dict.fromkeys([*one.names, *other.names])) if one.names and other.names else ()
    return _call("where", kind, condition, one, other, names=names)


def _bins(given: list[Parsed]) -> Parsed:
    numbers, edges = _number(given[0], "bins"), list[float]()
    for part in given[1:]:
        if not isinstance(part.tree, Number) or part.kind != "number":
            raise ExpressionError(part.column, "an edge of bins is a number that stands here, such as 10")
        if edges and part.tree.value <= edges[-1]:
            raise ExpressionError(part.column, f"the edges of bins ascend, and {part.tree.value:g} does not")
        edges.append(part.tree.value)
    return _call("bins", "text", numbers, *given[1:], names=bin_labels(edges))

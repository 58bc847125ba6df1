"""An expression computes what pandas does, and one that is wrong says where."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.model.expressions import Expression
from homelab_mlops.model.grammar import DEEPEST, ExpressionError, parse
from homelab_mlops.model.tree import Call, Column, Number, from_json, to_json
from tests.unit.model.expression_oracle import COLUMNS, arrays, rows, sample

KINDS = {name: raw.kind for name, raw in COLUMNS.items()}


def computed(text: str, frame: pd.DataFrame) -> Any:
    """What the expression gives, by way of the JSON in which a model holds it."""
    tree = from_json(json.loads(json.dumps(to_json(parse(text, COLUMNS).tree))))
    found = Expression(tree, KINDS)(arrays(frame), len(frame))
    series: Any = pd.Series(found, dtype=found.dtype)
    return series.dt.tz_localize("UTC") if found.dtype.kind == "M" else series


def test_it_gives_what_pandas_gives() -> None:
    source, frame = random.Random(3), rows(2000, 3)
    compared = 0
    while compared < 400:
        kind = source.choice(["number", "number", "condition", "text", "time"])
        wanted = sample(source, kind, source.randint(1, 4))
        try:
            found = computed(wanted.text, frame)
        except ExpressionError as error:
            # Two texts that never are equal, a comparison that no row decides, or a deep draw.
            known = ("is never", "reads no column", "is longer than")
            assert any(word in str(error) for word in known), wanted.text  # noqa: PT017
            continue
        with np.errstate(all="ignore"):
            expected = wanted.of(frame)
        if kind == "text":
            expected = expected.astype(object).where(expected.notna(), None)
            assert expected.tolist() == found.tolist(), wanted.text
        else:
            pd.testing.assert_series_equal(expected, found, check_names=False, check_exact=True, obj=wanted.text)
        compared += 1


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "a value is missing"),
        ("amount +", 9, "a value is missing"),
        ("amount / / 2", 10, "a value is expected"),
        ("amount amount", 8, "an operator or the end"),
        ("(amount + 1", 12, "`)` is missing, for the `(` in column 1"),
        ("max(amount, 1", 14, "for the `max(` in column 1"),
        ("amount = 1", 8, "equal is =="),
        ("amount > 1 && active", 12, "write `and`"),
        ("amount $ 1", 8, "'$' is not understood"),
        ("plan == 'basic", 9, "' is never closed"),
        ("1 < amount < 3", 12, "two sides"),
        ("amout + 1", 1, "did you mean 'amount'?"),
        ("1 + nothing", 5, "`features` or `inputs` declare it"),
        ("log(amount)", 1, "did you mean 'log1p'?"),
        ("where(amount, 1, 2)", 7, "a condition such as `x > 0`"),
        ("where(active, 1)", 1, "where takes 3 arguments, and 2 are here"),
        ("where(active, 1, 'x')", 18, "a number and a text"),
        ("amount + plan", 10, "this is a text"),
        ("begin + 1", 1, "only another one can be subtracted"),
        ("begin - 1", 9, "- takes a datetime"),
        ("begin > 'yesterday'", 9, "is not a time such as"),
        ("hour(amount)", 6, "hour takes a datetime"),
        ("plan < 'gold'", 6, "texts have no order"),
        ("plan == 'baisc'", 9, "did you mean 'basic'?"),
        ("weekday(begin) == 6", 19, "a text and a number"),
        ("'Sonday' != weekday(begin)", 1, "did you mean 'Sunday'?"),
        ("bins(amount, 1, 1)", 17, "ascend"),
        ("bins(amount, amount)", 14, "a number that stands here"),
        ("1 + 2", 1, "reads no column"),
        ("churn + 1", 1, "'churn' is the target"),
        ("12months", 1, "neither a number nor a name"),
        ("amount * 1e999", 10, "too large"),
        ("amount * ٣", 10, "is not understood"),
        ("not amount", 5, "a condition such as"),
        ("__import__('os')", 1, "there is no function '__import__'"),
        ("__import__('os').system('id')", 17, "'.' is not understood"),
        ("amount.__class__", 7, "'.' is not understood"),
        ("(" * 900 + "amount", 41, "more than 40 brackets"),
        ("-" * 900 + "amount", 41, "more than 40 brackets"),
        ("not " * 200 + "active", 161, "more than 40 brackets"),
        ("max(1, " * 100 + "amount", 281, "more than 40 brackets"),
        ("amount" + " + amount" * 60, 451, "more than 50 operations in a row"),
        ("(" * 10_000 + "amount" + ")" * 10_000, 1001, "longer than 1,000 characters"),
    ],
)
def test_a_fault_is_named_with_its_column(text: str, column: int, says: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        parse(text, COLUMNS, {"churn": "is the target"})
    assert (column, True) == (refusal.value.column, says in str(refusal.value)), str(refusal.value)


def test_a_thousand_malformed_ones_are_refused_within_their_text() -> None:
    source = random.Random(11)
    marks = [*"()+-*/<>=!,.'\"`$#&|%@[]{}:;\\ \n\t\x00é٣", "and", "not", "where(", "plan", "begin", "1e", "'x'"]
    refused = 0
    for _ in range(20_000):
        text = sample(source, source.choice(["number", "condition", "text"]), 2).text
        for _ in range(source.randint(1, 4)):
            at = source.randint(0, len(text))
            text = text[:at] + source.choice(marks) + text[at + source.randint(0, 2) :]
        try:
            tree = parse(text, COLUMNS).tree
        except ExpressionError as error:
            assert 1 <= error.column <= len(text) + 1, text  # noqa: PT017
            assert str(error).startswith(f"column {error.column}: "), text  # noqa: PT017
            refused += 1
        else:
            Expression(from_json(to_json(tree)), KINDS)
        if refused == 1000:
            return
    raise AssertionError(f"only {refused} of them were malformed")


def test_a_strange_character_is_found_where_it_stands() -> None:
    source = random.Random(12)
    for _ in range(500):
        text = sample(source, "number", 2).text
        places = [at for at in range(len(text) + 1) if not any(text[:at].count(mark) % 2 for mark in "'\"`")]
        at = source.choice([place for place in places if text[place - 1 : place + 1] not in ("==", "!=", "<=", ">=")])
        with pytest.raises(ExpressionError) as refusal:
            parse(f"{text[:at]}${text[at:]}", COLUMNS)
        # Behind a digit, the whole of it is no number.
        assert refusal.value.column == at + 1 or "neither a number" in str(refusal.value), text


def test_the_deepest_tree_is_computed() -> None:
    frame = rows(5, 1)
    text = "amount" + " + amount" * (DEEPEST - 1)
    np.testing.assert_array_equal(frame["amount"].isna(), computed(text, frame).isna())
    nested = "max(" * 40 + "amount" + ", 1)" * 40
    np.testing.assert_array_equal(frame["amount"].clip(lower=1), computed(nested, frame))


@pytest.mark.parametrize(
    "content", [{}, {"call": "open", "arguments": [{"number": 1}]}, {"number": "1"}, {"call": "+"}]
)
def test_a_tree_that_is_not_known_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the model holds"):
        Expression(from_json(content), KINDS)


def test_operators_bind_as_in_arithmetic() -> None:
    tree = parse("amount - 1 - 2 * -amount", COLUMNS).tree
    amount = Column("amount")
    assert tree == Call(
        "-",
        (Call("-", (amount, Number(1))), Call("*", (Number(2), Call("negative", (amount,))))),
    )

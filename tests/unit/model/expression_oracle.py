"""Random expressions, each with what pandas makes of the same rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from homelab_mlops.model.expressions import Array
from homelab_mlops.model.grammar import Raw

PLANS = ("basic", "gold", "1")
COLUMNS = {
    "amount": Raw("number"),
    "two words": Raw("number"),
    "active": Raw("condition"),
    "plan": Raw("text", PLANS),
    "note": Raw("text"),
    "begin": Raw("time"),
    "end": Raw("time"),
}
Series = Any


class Sample(NamedTuple):
    """An expression, and what pandas gives for it."""

    text: str
    of: Callable[[pd.DataFrame], Series]


def rows(count: int, seed: int) -> pd.DataFrame:
    """Rows with missing values, empty texts, zeros, the largest numbers, and times from the year 1 to 9999."""
    source = np.random.default_rng(seed)
    numbers = [0.0, -0.0, 1.0, -1.0, 10.0, 0.1, 1e-320, 3e38, -1e300, 1.7e308, np.nan]
    times = np.array(
        ["0001-01-01", "1969-12-31T23:59:59.999999", "1970-01-01", "2024-02-29T12:30", "9999-12-31T23:59:59", "NaT"],
        dtype="datetime64[us]",
    )

    def quantities() -> Array:
        drawn = source.normal(size=count) * 10 ** source.uniform(-3, 6, count)
        return np.where(source.random(count) < 0.5, source.choice(numbers, count), drawn)

    def moments() -> Any:
        drawn = source.integers(-(10**16), 10**16, count).astype("datetime64[us]")
        found: Any = pd.Series(np.where(source.random(count) < 0.5, source.choice(times, count), drawn))
        return found.dt.tz_localize("UTC")

    return pd.DataFrame(
        {
            "amount": quantities(),
            "two words": quantities(),
            "active": source.choice([0.0, 1.0, np.nan], count),
            "plan": pd.Series(source.choice(np.array([*PLANS, None], dtype=object), count), dtype=object),
            "note": pd.Series(source.choice(np.array(["gold", "x", None], dtype=object), count), dtype=object),
            "begin": moments(),
            "end": moments(),
        }
    )


def arrays(frame: pd.DataFrame) -> dict[str, Array]:
    """The rows as an expression takes them."""
    return {
        name: frame[name].dt.tz_localize(None).to_numpy() if COLUMNS[name].kind == "time" else frame[name].to_numpy()
        for name in frame.columns
    }


def sample(source: random.Random, kind: str, depth: int) -> Sample:
    """A random expression of a kind, of at most ``depth`` operations within each other."""
    makers = _LEAVES if depth == 0 else _MAKERS
    return source.choice(makers[kind])(source, depth - 1)


def _column(name: str, text: str = "") -> Callable[[random.Random, int], Sample]:
    return lambda _source, _depth: Sample(text or name, lambda frame: frame[name])


def _literal(source: random.Random, _depth: int) -> Sample:
    number = source.choice(["0", "1", "2.5", "1e3", ".5", "7.", "1E-2"])
    return Sample(number, lambda frame: pd.Series(float(number), index=frame.index))


def _text(source: random.Random, _depth: int) -> Sample:
    text = source.choice(["basic", "gold", "a b"])
    quote = source.choice("\"'")
    return Sample(f"{quote}{text}{quote}", lambda frame: pd.Series([text] * len(frame), dtype=object))


def _finite(series: Series) -> Series:
    return series.where(np.isfinite(series))


def _arithmetic(source: random.Random, depth: int) -> Sample:
    one, other = (sample(source, "number", depth) for _ in range(2))
    mark = source.choice("+-*/")
    apply: Any = {"+": pd.Series.add, "-": pd.Series.sub, "*": pd.Series.mul, "/": pd.Series.truediv}[mark]
    return Sample(f"({one.text}) {mark} ({other.text})", lambda frame: _finite(apply(one.of(frame), other.of(frame))))


def _negative(source: random.Random, depth: int) -> Sample:
    one = sample(source, "number", depth)
    return Sample(f"-({one.text})", lambda frame: -one.of(frame))


def _log1p(source: random.Random, depth: int) -> Sample:
    one = sample(source, "number", depth)
    return Sample(
        f"log1p({one.text})", lambda frame: one.of(frame).map(lambda x: math.log1p(x) if x > -1 else math.nan)
    )


def _extreme(kind: str) -> Callable[[random.Random, int], Sample]:
    def make(source: random.Random, depth: int) -> Sample:
        name = source.choice(["min", "max"])
        given = [sample(source, kind, depth) for _ in range(source.randint(2, 3))]

        def of(frame: pd.DataFrame) -> Series:
            together = pd.concat([item.of(frame) for item in given], axis=1)
            return together.min(axis=1, skipna=False) if name == "min" else together.max(axis=1, skipna=False)

        return Sample(f"{name}({', '.join(item.text for item in given)})", of)

    return make


def _part(source: random.Random, depth: int) -> Sample:
    name = source.choice(["year", "month", "day", "hour", "minute"])
    time = sample(source, "time", depth)
    return Sample(f"{name}({time.text})", lambda frame: getattr(time.of(frame).dt, name).astype(float))


def _weekday(source: random.Random, depth: int) -> Sample:
    time = sample(source, "time", depth)
    return Sample(f"weekday({time.text})", lambda frame: time.of(frame).dt.day_name())


def _difference(source: random.Random, depth: int) -> Sample:
    one, other = (sample(source, "time", depth) for _ in range(2))
    return Sample(
        f"({one.text} - {other.text})", lambda frame: (one.of(frame) - other.of(frame)) / pd.Timedelta(days=1)
    )


def _since(source: random.Random, depth: int) -> Sample:
    one = sample(source, "time", depth)
    begin = pd.Timestamp("2000-02-28T22:30:00Z")
    return Sample(
        f'({one.text} - "2000-02-29T00:30:00+02:00")', lambda frame: (one.of(frame) - begin) / pd.Timedelta(days=1)
    )


def _where(kind: str) -> Callable[[random.Random, int], Sample]:
    def make(source: random.Random, depth: int) -> Sample:
        condition = sample(source, "condition", depth)
        one, other = (sample(source, kind, depth) for _ in range(2))

        def of(frame: pd.DataFrame) -> Series:
            known = condition.of(frame)
            return one.of(frame).where(known == 1, other.of(frame)).where(known.notna())

        return Sample(f"where({condition.text}, {one.text}, {other.text})", of)

    return make


def _comparison(kind: str, marks: str) -> Callable[[random.Random, int], Sample]:
    def make(source: random.Random, depth: int) -> Sample:
        one, other = (sample(source, kind, depth) for _ in range(2))
        mark = source.choice(marks.split())
        apply = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[mark]

        def of(frame: pd.DataFrame) -> Series:
            left, right = one.of(frame), other.of(frame)
            return getattr(left, apply)(right).astype(float).where(left.notna() & right.notna())

        return Sample(f"({one.text}) {mark} ({other.text})", of)

    return make


def _is_plan(source: random.Random, _depth: int) -> Sample:
    plan = source.choice(PLANS)
    return Sample(f'plan == "{plan}"', lambda frame: (frame["plan"] == plan).astype(float).where(frame["plan"].notna()))


def _logic(source: random.Random, depth: int) -> Sample:
    one, other = (sample(source, "condition", depth) for _ in range(2))
    word = source.choice(["and", "or"])

    def of(frame: pd.DataFrame) -> Series:
        left, right = (item.of(frame).astype("boolean") for item in (one, other))
        return (left & right if word == "and" else left | right).astype("Float64").astype(float)

    return Sample(f"({one.text}) {word} ({other.text})", of)


def _not(source: random.Random, depth: int) -> Sample:
    one = sample(source, "condition", depth)
    return Sample(f"not ({one.text})", lambda frame: 1 - one.of(frame))


def _isnull(source: random.Random, depth: int) -> Sample:
    one = sample(source, source.choice(["number", "condition", "text", "time"]), depth)
    return Sample(f"isnull({one.text})", lambda frame: one.of(frame).isna().astype(float))


def _bins(source: random.Random, depth: int) -> Sample:
    one = sample(source, "number", depth)
    labels = ["below -1", "-1 to 0", "0 to 2.5", "2.5 and above"]
    edges = [-np.inf, -1, 0, 2.5, np.inf]
    return Sample(
        f"bins({one.text}, -1, 0, 2.5)",
        lambda frame: pd.cut(one.of(frame), edges, right=False, labels=labels).astype(object),
    )


_LEAVES: dict[str, list[Callable[[random.Random, int], Sample]]] = {
    "number": [_column("amount"), _column("two words", "`two words`"), _column("active"), _literal],
    "condition": [_column("active"), _is_plan],
    "text": [_column("plan"), _column("note"), _text],
    "time": [_column("begin"), _column("end")],
}
_MAKERS: dict[str, list[Callable[[random.Random, int], Sample]]] = {
    "number": [
        _arithmetic,
        _arithmetic,
        _negative,
        _log1p,
        _extreme("number"),
        _part,
        _difference,
        _since,
        _where("number"),
    ],
    "condition": [
        _comparison("number", "== != < <= > >="),
        _comparison("time", "== != < <= > >="),
        _logic,
        _not,
        _isnull,
        _comparison("text", "== !="),
        _where("condition"),
    ],
    "text": [_weekday, _bins, _where("text"), _column("note")],
    "time": [_column("begin"), _extreme("time"), _where("time")],
}

"""Reads numbers, truths and times from a column; None where a value is of another kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.model import values
from homelab_mlops.tables.arrays import EXACT, TIME, floats, has_nan, is_all, is_any, moment, strings
from homelab_mlops.tables.spelling import PLAIN, Spelling, without_missing

_NULL_NUMBER = pa.nulls(1, pa.float64())[0]
FIRST, LAST = moment(datetime.min.replace(tzinfo=UTC)), moment(datetime.max.replace(tzinfo=UTC))
_TRUTHS = floats([0.0, 1.0, None])


def as_number(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    """As float64."""
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, pa.float64(), values.number)
    if pa.types.is_boolean(chunk.type):
        chunk = chunk.cast(pa.int8())
    if pa.types.is_decimal(chunk.type):  # by its digits; Arrow's own cast is wrong in the last one
        chunk = chunk.cast(pa.string())
    numbers = chunk.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(numbers), _NULL_NUMBER, numbers) if has_nan(numbers) else numbers


def as_integer(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    """As int64, or as float64 where a number has a fraction or is infinite; None, too, where one has more than 64
    bits."""
    if pa.types.is_string(chunk.type):
        return _integers_of(chunk, spelling)
    if pa.types.is_boolean(chunk.type) or pa.types.is_null(chunk.type) or pa.types.is_signed_integer(chunk.type):
        return chunk.cast(pa.int64())
    numbers = as_number(chunk, spelling)
    if numbers is None or not _are_whole(numbers):
        return numbers
    try:
        return (numbers if pa.types.is_floating(chunk.type) else chunk).cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _integers_of(texts: pa.Array, spelling: Spelling) -> pa.Array | None:
    if spelling.is_plain and not is_any(pc.match_substring(texts, "x", ignore_case=True)):
        try:
            return without_missing(texts, spelling).cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    numbers = as_number(texts, spelling)
    if numbers is None or not _are_whole(numbers):
        return numbers
    largest = pc.max(pc.abs(numbers)).as_py()
    if largest is None or largest < EXACT:
        return numbers.cast(pa.int64())
    return _parsed(texts, spelling, pa.int64(), values.whole_number, fast=False)


def _are_whole(numbers: pa.Array) -> bool:
    return is_all(pc.and_(pc.is_finite(numbers), pc.equal(pc.floor(numbers), numbers)))


def as_boolean(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    """As float64: true is 1."""
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, pa.float64(), values.boolean, fast=False)
    numbers = as_number(chunk, spelling)
    return numbers if numbers is not None and is_all(pc.is_in(numbers, _TRUTHS)) else None


def as_time(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    """As `TIME`; a time without a zone is UTC. None, too, where a year is not one of Python's."""
    times = _times_of(chunk, spelling)
    if times is None:
        return None
    return times if is_all(pc.and_(pc.greater_equal(times, FIRST), pc.less_equal(times, LAST))) else None


def _times_of(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    if pa.types.is_null(chunk.type):
        return chunk.cast(TIME)
    if pa.types.is_integer(chunk.type):  # 20130101 may be a day; the number of a second is not
        chunk = chunk.cast(pa.string())
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, TIME, values.moment)
    if pa.types.is_date(chunk.type):
        chunk = chunk.cast(pa.timestamp("s"))
    if chunk.type.tz is None:
        chunk = chunk.cast(pa.timestamp(chunk.type.unit, "UTC"))
    if chunk.type.unit == "ns":  # the cast alone would round times before 1970 up
        chunk = pc.floor_temporal(chunk, unit="microsecond")
    try:
        return pc.cast(chunk, options=pc.CastOptions(TIME, allow_time_truncate=True))
    except pa.ArrowInvalid:
        return None


def is_time(text: str) -> bool:
    """Whether a text is read as a time."""
    return as_time(strings([text]), PLAIN) is not None


def _parsed(
    chunk: pa.Array, spelling: Spelling, kind: pa.DataType, parse: Callable[[str], Any], *, fast: bool = True
) -> pa.Array | None:
    """The values of texts; None where one of them is none of the kind. Arrow reads what a program wrote, at once;
    whatever it refuses, each different text is looked at."""
    cleaned = without_missing(chunk, spelling)
    if fast and (at_once := _at_once(cleaned, spelling, kind)) is not None:
        return at_once
    encoded = cleaned.dictionary_encode()
    try:
        parsed = [_value(text, spelling, kind, parse) for text in encoded.dictionary.to_pylist()]
        found = floats(parsed) if kind == pa.float64() else pa.array(parsed, kind)
        return found.take(encoded.indices)
    except (ValueError, OverflowError):
        return None


def _value(text: str, spelling: Spelling, kind: pa.DataType, parse: Callable[[str], Any]) -> Any:
    if values.is_missing(text, spelling.missing):
        return None
    return parse(text if kind == TIME else spelling.plain(text))


def _at_once(texts: pa.Array, spelling: Spelling, kind: pa.DataType) -> pa.Array | None:
    if kind == TIME:
        for unit in (TIME, pa.timestamp("us")):
            try:
                return texts.cast(unit).cast(TIME)
            except pa.ArrowInvalid:
                continue
        return None
    if not spelling.is_plain:
        marks = [mark for mark in (".", spelling.thousands) if mark]
        if any(is_any(pc.match_substring(texts, mark)) for mark in marks):
            return None
        texts = pc.replace_substring(texts, spelling.decimal, ".")
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if has_nan(numbers) else numbers

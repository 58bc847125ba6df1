"""The meaning of a cell: which texts are missing, which are a number or a truth, and when two values are equal.

This is the one definition for CSV, Parquet, JSON, `homelab predict` and the service. It needs only Python, since MLflow
stores this file beside each model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

# What pandas reads as missing, and its word for a missing time.
MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "NaT", "<NA>", "#NA", "#N/A", "#N/A N/A"}
    | {"-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
# No two parts of it can share digits: a long text that is no number would take minutes.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
# The way in which programs write numbers: 007, +49 and 1_000 are names.
PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)
TRUTHS = {"true": "1", "false": "0"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A point in time as programs write it; the space before a zone is PostgreSQL's and BigQuery's.
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(\.\d+)?(?: ?(Z|UTC|[+-]\d\d(?::?\d\d)?))?"
    r"|(\d\d:\d\d:\d\d)(\.\d+)?",
    re.ASCII | re.IGNORECASE,
)


def is_missing(text: str, missing: frozenset[str] = MISSING) -> bool:
    """Whether the text of a cell stands for no value; space around it does not count."""
    return text in missing or text.strip() in missing


def number(text: str) -> float:
    """The number that a text is; true is 1 and false is 0, as in a column of booleans.

    Raises:
        ValueError: it is none.
    """
    return float(_digits(text))


def _digits(text: str) -> str:
    word = TRUTHS.get(text.strip().lower(), text.strip())
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{text!r} is not a number")
    return word


def is_number(text: str) -> bool:
    """Whether the text is written as a number, which true and false are not."""
    return _NUMBER.fullmatch(text.strip()) is not None


def whole_number(text: str) -> int | None:
    """The whole number that a text is, to the last digit; None where it has a fraction.

    Raises:
        ValueError: it is no number.
    """
    digits = _digits(text)
    if not math.isfinite(float(digits)):
        return None
    exact = Decimal(digits)
    return int(exact) if exact == exact.to_integral_value() else None


def boolean(text: str) -> float:
    """1.0 for true, 0.0 for false.

    Raises:
        ValueError: the text is neither.
    """
    try:
        value = number(text)
    except ValueError:
        value = math.nan
    if value not in (0.0, 1.0):
        raise ValueError(f"{text!r} is neither true nor false")
    return value


def spelled(text: str) -> str:
    """A text as it is compared: without space around it, numbers by value (`1.0` and `1e0` are `1`), `True` as `true`,
    a time as `2026-01-31 05:30:00+00:00`, an accent within its letter.

    Texts that only look like numbers (`007`, `+49`) stay as they are.
    """
    text = text.strip()
    if not text.isascii():
        return unicodedata.normalize("NFC", text)
    if text.isdigit():
        return text
    if match := TIME.fullmatch(text):
        return _time_spelled(match) or text
    if PLAIN.fullmatch(text):
        exact = Decimal(text).normalize()
        return "0" if exact == 0 else f"{exact:f}"
    lower = text.lower()
    return lower if lower in TRUTHS else text


def _time_spelled(match: re.Match[str]) -> str | None:
    """A time in UTC, or without a zone as it is written; there a midnight is its day. None where there is no such
    time."""
    written, fraction, zone, clock, clock_fraction = match.groups()
    digits = (fraction or clock_fraction or "").rstrip("0").rstrip(".")
    if clock:
        return clock + digits
    try:
        if not zone:
            text = str(datetime.fromisoformat(written))
            return text + digits if digits else text.removesuffix(" 00:00:00")
        offset = "+00:00" if zone.upper() in ("Z", "UTC") else zone
        moment = datetime.fromisoformat(written + offset).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return str(moment).replace("+", f"{digits}+")


def moment(text: str) -> datetime:
    """The time that a text is, in UTC, to the microsecond; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    written = re.sub(r"(\.\d{6})\d+", r"\1", spelled(text))
    if re.fullmatch(r"\d{9,}", written) or not re.match(r"\d{4}", written):
        raise ValueError(f"{text!r} is not a time")
    try:
        found = datetime.fromisoformat(written)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time") from None


def microseconds(time: datetime) -> int:
    """A time in UTC as microseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


def text_of(value: object) -> str:
    """The text of a scalar: ``True`` is ``true``, ``1.0`` is ``1``, a time as `spelled` writes it; a text stays as it
    is."""
    if isinstance(value, str):
        return value
    return spelled(str(value))


class Names:
    """The names of a category or of a target, and which of them a value is.

    A value is the name that it spells, else the one that it equals: `1.0` is `1`, `True` is `true`, and where only
    one of both is a name, true is `1` and false is `0`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._found = {name: name for name in self.names}
        for name in self.names:
            self._found.setdefault(spelled(name), name)
        known = dict(self._found)
        for word, digit in TRUTHS.items():
            for one, other in ((word, digit), (digit, word)):
                if one not in known and other in known:
                    self._found[one] = known[other]

    def find(self, text: str) -> str | None:
        """The name that ``text`` stands for; None where it is none of them."""
        found = self._found.get(text)
        return self._found.get(spelled(text)) if found is None else found

"""How a text file writes its numbers and what is missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.model import values
from homelab_mlops.tables.arrays import strings

_GROUPED = re.compile(r"[+-]?\d{1,3}([,.'_ \u00a0\u202f])\d{3}(?:\1\d{3})*([,.]\d*)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
NULL_TEXT = pa.nulls(1, pa.string())[0]


@dataclass(frozen=True)
class Spelling:
    """How a text file writes numbers and what is missing."""

    decimal: str = "."
    thousands: str = ""
    missing: frozenset[str] = values.MISSING

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as a program writes them."""
        return self.decimal == "." and not self.thousands

    @cached_property
    def missing_texts(self) -> pa.Array:
        """``missing`` as an array."""
        return strings(sorted(self.missing))

    def plain(self, text: str) -> str:
        """The text of a number with a point and without marks for thousands.

        Raises:
            ValueError: the marks do not stand where they belong.
        """
        text = text.strip()
        if self.is_plain:
            return text
        if self.thousands and self.thousands in text:
            mark, point = re.escape(self.thousands), re.escape(self.decimal)
            if not re.fullmatch(rf"[+-]?\d{{1,3}}({mark}\d{{3}})+({point}\d*)?", text, re.ASCII):
                raise ValueError(f"{text!r} is not a number")
            text = text.replace(self.thousands, "")
        if self.decimal != ".":
            if "." in text:
                raise ValueError(f"{text!r} is not a number")
            text = text.replace(self.decimal, ".")
        return text


PLAIN = Spelling()


def without_missing(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    """The texts, with null for each that stands for a missing value."""
    return pc.if_else(pc.is_in(chunk, spelling.missing_texts), NULL_TEXT, chunk)


def number_hint(text: str, key: str = "data.csv.{}: ") -> str:
    """How a person says that a text of a CSV is a number after all, or none; empty where it looks like neither.

    Args:
        key: how a setting of `data.csv` is written before its value.
    """
    text = text.strip()
    if not text or values.is_number(text) or text.lower() in values.TRUTHS:
        return ""
    grouped = _GROUPED.fullmatch(text)
    mark, fraction = (grouped[1], grouped[2] or "") if grouped else ("", "")
    given = {"thousands": mark} if mark and not fraction.startswith(mark) else {}
    if fraction.startswith(",") or _COMMA.fullmatch(text):
        given = {**given, "decimal": ","} if given.get("thousands") != "," else given
    if given:
        settings = " and ".join(f"`{key.format(name)}{value!r}`" for name, value in given.items())
        return f"in a CSV, {text!r} is a number with {settings}"
    if not any(character.isdigit() for character in text):
        return f"where {text!r} stands for no value in a CSV, list it: `{key.format('missing').strip()}`"
    return ""

"""Makes categories of the values of a column: texts, and equal values have one spelling."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.model import values
from homelab_mlops.tables.arrays import EXACT, is_any, strings
from homelab_mlops.tables.spelling import Spelling, without_missing

# Up to this many different texts are each looked at; of more, only those that match this pattern.
FEW = 2000
_TO_SPELL = (
    r"[^\x00-\x7F]|^\s|\s$|^-?\d+(\.\d+([eE][+-]?\d+)?|[eE][+-]?\d+)$|^-0$|^(?i:true|false)$|^(?i:"
    + values.TIME.pattern
    + ")$"
)


@dataclass
class Notes:
    """The notes for a person about the texts that became categories."""

    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    merged: dict[str, dict[str, str]] = field(default_factory=dict)
    inexact: set[str] = field(default_factory=set)

    def lines(self) -> list[str]:
        """One line a column."""
        found = []
        for name, words in self.missing.items():
            texts = ", ".join(f"{word!r} ({count:,})" for word, count in list(words.items())[:4])
            found.append(f"column {name!r}: read as missing: {texts}; a name that model.yaml lists is none of these")
        for name, pairs in self.merged.items():
            texts = ", ".join(f"{text!r} as {spelled!r}" for text, spelled in list(pairs.items())[:4])
            found.append(f"column {name!r}: equal by value: {texts}")
        found += [
            f"warning: column {name!r}: the file holds whole numbers beyond 2^53 as floating point, which cannot tell "
            "all of them apart; write integers or text"
            for name in sorted(self.inexact)
        ]
        return found


def as_text(chunk: pa.Array, name: str, names: values.Names | None, spelling: Spelling, notes: Notes) -> pa.Array:
    """The values as text: the listed name that a value stands for, or without ``names`` as `values.spelled` compares
    it."""
    kind = chunk.type
    from_file = pa.types.is_string(kind)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        chunk = chunk.cast(pa.string())
    elif pa.types.is_null(kind):
        return chunk.cast(pa.string())
    elif not from_file:
        if pa.types.is_floating(kind) and is_any(pc.greater_equal(pc.abs(chunk), EXACT)):
            notes.inexact.add(name)
        chunk = _texts_of(chunk)
    if names is None and not from_file:
        return chunk
    encoded = chunk.dictionary_encode()
    texts = encoded.dictionary
    if names is None and len(texts) > FEW:
        odd = pc.or_(pc.match_substring_regex(texts, _TO_SPELL), pc.is_in(texts, spelling.missing_texts))
        if not is_any(odd):
            return chunk
    become = _spelled(texts.to_pylist(), name, names, spelling, notes)
    if notes.missing.get(name) is not None:
        _count(notes.missing[name], encoded)
    return strings(become).take(encoded.indices)


def _spelled(
    texts: list[str], name: str, names: values.Names | None, spelling: Spelling, notes: Notes
) -> list[str | None]:
    become: list[str | None] = []
    for text in texts:
        found = names.find(text) if names else None
        if found is None and values.is_missing(text, spelling.missing):
            if text.strip():
                notes.missing.setdefault(name, {}).setdefault(text, 0)
        elif found is None:
            found = values.spelled(text)
            if found != text.strip() and found in texts:
                notes.merged.setdefault(name, {})[text] = found
        become.append(found)
    return become


def _count(words: dict[str, int], encoded: pa.DictionaryArray) -> None:
    texts = encoded.dictionary.to_pylist()
    for entry in pc.value_counts(encoded.indices).to_pylist():
        if entry["values"] is not None and texts[entry["values"]] in words:
            words[texts[entry["values"]]] += entry["counts"]


def _texts_of(chunk: pa.Array) -> pa.Array:
    """Fractions, decimals and times as text, as `values.spelled` writes them."""
    encoded = chunk.dictionary_encode()
    kind = chunk.type
    if pa.types.is_floating(kind):
        # NumPy prints a 32-bit number with its own digits, not with those of 64 bits.
        numbers = encoded.dictionary.to_numpy(zero_copy_only=False)
        texts = [None if value != value else values.text_of(value) for value in numbers]
    elif pa.types.is_temporal(kind):
        times = encoded.dictionary
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            times = times.cast(pa.timestamp(kind.unit, "UTC"))
        # By Arrow, since Python knows no year after 9999.
        texts = [None if text is None else values.spelled(text) for text in times.cast(pa.string()).to_pylist()]
    else:
        texts = [None if value is None else values.text_of(value) for value in encoded.dictionary.to_pylist()]
    return strings(texts).take(encoded.indices)


def shown(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    """The values as text, for a message that names them."""
    if pa.types.is_string(chunk.type):
        return without_missing(chunk, spelling)
    return as_text(chunk, "", None, spelling, Notes())

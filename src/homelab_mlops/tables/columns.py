"""From what a file holds to what model.yaml declares, in Arrow's types, once.

A number, a boolean (true is 1) and a regression's target become float64, an integer int64, a time UTC with
microseconds, everything else text. A column that holds a value which is none of its kind stays text, so that validation
can name the value; a column of a kind that cannot be meant, such as a time for a number, is refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.errors import DataError
from homelab_mlops.model import values

if TYPE_CHECKING:
    import pandas as pd

    from homelab_mlops.model.scoring import Input
    from homelab_mlops.model.spec import ModelSpec

Kind = Literal["number", "integer", "boolean", "text", "time"]
TIME = pa.timestamp("us", "UTC")
# Fewer different texts than this are looked at one by one; of more, only those that this pattern finds.
FEW = 2000
_TO_SPELL = r"^\s|\s$|^-?\d+(\.\d+([eE][+-]?\d+)?|[eE][+-]?\d+)$|^-0$|^(?i:true|false)$"
_EXACT = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def strings(texts: Sequence[str | None]) -> pa.Array:
    """An array of texts. `pyarrow.array` would load pandas first, which takes longer than to read most tables."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    given = np.packbits(np.array([text is not None for text in texts], dtype=np.bool_), bitorder="little")
    buffers = [pa.py_buffer(given), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def floats(numbers: Sequence[float | None]) -> pa.Array:
    """An array of float64, as `strings`."""
    given = np.packbits(np.array([number is not None for number in numbers], dtype=np.bool_), bitorder="little")
    dense = np.array([0.0 if number is None else number for number in numbers], dtype=np.float64)
    return pa.Array.from_buffers(pa.float64(), len(numbers), [pa.py_buffer(given), pa.py_buffer(dense)])


def moment(value: datetime) -> pa.Scalar:
    """A time of type `TIME`, as `strings`."""
    since = np.array([(value - _EPOCH) // timedelta(microseconds=1)], dtype=np.int64)
    return pa.Array.from_buffers(TIME, 1, [None, pa.py_buffer(since)])[0]


def moment_of(value: pa.Scalar) -> datetime:
    """The time that a scalar of type `TIME` is."""
    return _EPOCH + timedelta(microseconds=value.value)


_NULL_TEXT = pa.nulls(1, pa.string())[0]
_NULL_NUMBER = pa.nulls(1, pa.float64())[0]
_TRUTHS = floats([0.0, 1.0, None])


@dataclass(frozen=True)
class Declared:
    """A column that a model needs; ``names`` are the values or labels that a text may be, where they are listed."""

    name: str
    kind: Kind
    names: tuple[str, ...] = ()


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


@dataclass
class Notes:
    """What is worth a line about the texts that became categories."""

    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    merged: dict[str, dict[str, str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One line a column."""
        found = []
        for name, words in self.missing.items():
            texts = ", ".join(f"{word!r} ({count:,})" for word, count in list(words.items())[:4])
            found.append(f"column {name!r}: read as missing: {texts}; a name that model.yaml lists is none of these")
        for name, pairs in self.merged.items():
            texts = ", ".join(f"{text!r} as {spelled!r}" for text, spelled in list(pairs.items())[:4])
            found.append(f"column {name!r}: numbers are equal by value: {texts}")
        return found


def declared(spec: ModelSpec) -> list[Declared]:
    """The columns of ``spec.columns`` with what they are."""
    return [_declared(spec, name) for name in spec.columns]


def _declared(spec: ModelSpec, name: str) -> Declared:
    feature = spec.features.get(name)
    if name == spec.split.column:
        return Declared(name, "time")
    if name == spec.target.column:
        return (
            Declared(name, "number")
            if spec.task == "regression"
            else Declared(name, "text", _tuple(spec.target.labels))
        )
    if name == spec.data.weight:
        return Declared(name, "number")
    if feature is None:
        return Declared(name, "text")
    if feature.type == "category":
        return Declared(name, "text", _tuple(feature.values))
    return Declared(name, feature.type)


def _tuple(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(names or ())


def declared_inputs(inputs: Iterable[Input]) -> list[Declared]:
    """The columns that a trained model takes."""
    return [
        Declared(item.name, "text", item.categories) if item.type == "category" else Declared(item.name, item.type)  # type: ignore[arg-type]
        for item in inputs
    ]


def typed(
    table: pa.Table, columns: Iterable[Declared], where: str, spelling: Spelling = PLAIN, notes: Notes | None = None
) -> pa.Table:
    """The declared columns of ``table``; texts are read as ``spelling`` says.

    Raises:
        DataError: a column is missing, or of a type that cannot be meant; ``where`` names the table.
    """
    columns = list(columns)
    positions(table.column_names, [column.name for column in columns], where)
    arrays = [fitted(table.column(column.name), column, where, spelling, notes or Notes()) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def fitted(array: pa.ChunkedArray, column: Declared, where: str, spelling: Spelling, notes: Notes) -> pa.ChunkedArray:
    """One column as it is declared, or as text where a value does not fit."""
    plain = [_plain(chunk, column.name, where) for chunk in array.chunks if len(chunk)]
    if column.kind == "text":
        names = values.Names(column.names) if column.names else None
        chunks = [_text(chunk, column.name, names, spelling, notes) for chunk in plain]
        return pa.chunked_array(chunks, pa.string())
    convert = {"number": _number, "integer": _integer, "boolean": _boolean, "time": _time}[column.kind]
    if plain:
        _refuse_type(plain[0].type, column, where)
    fits: list[pa.Array] = []
    for chunk in plain:
        fit = convert(chunk, spelling)
        if fit is None:
            return pa.chunked_array([_shown(chunk, spelling) for chunk in plain], pa.string())
        fits.append(fit)
    kinds = {chunk.type for chunk in fits}
    default = {"integer": pa.int64(), "time": TIME}.get(column.kind, pa.float64())
    if len(kinds) > 1:  # int64, and float64 where a number is too large or has a fraction
        return pa.chunked_array([chunk.cast(pa.float64(), safe=False) for chunk in fits])
    return pa.chunked_array(fits, kinds.pop() if kinds else default)


def joined(tables: list[pa.Table]) -> pa.Table:
    """Tables of the same columns, one below the other; where one of them left a column as text, all do."""
    if len(tables) == 1:
        return tables[0]
    columns = []
    for name in tables[0].column_names:
        chunks = [chunk for table in tables for chunk in table.column(name).chunks]
        kinds = {table.column(name).type for table in tables}
        if len(kinds) > 1:
            common = pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()
            chunks = [
                _shown(chunk, PLAIN) if common == pa.string() else chunk.cast(common, safe=False) for chunk in chunks
            ]
            columns.append(pa.chunked_array(chunks, common))
        else:
            columns.append(pa.chunked_array(chunks, kinds.pop()))
    return pa.table(columns, names=tables[0].column_names)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The table as the later steps take it: float64, Int64, UTC times, and text as objects with None."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if column.type == pa.int64():
            columns[name] = column.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        elif column.type == pa.string():
            columns[name] = pd.Series(_objects(column), dtype="object")
        else:
            columns[name] = column.to_pandas()
    return pd.DataFrame(columns)


def table_of(frame: pd.DataFrame) -> pa.Table:
    """What `frame_of` was given."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _objects(column: pa.ChunkedArray) -> Any:

    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype="object")
    return texts[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def texts_of(array: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as text; what is text already stays as it is."""
    if pa.types.is_string(array.type):
        return array
    chunks = [_text(_plain(chunk, name, ""), name, None, PLAIN, Notes()) for chunk in array.chunks]
    return pa.chunked_array(chunks, pa.string())


def cleaned(table: pa.Table, spelling: Spelling = PLAIN) -> pa.Table:
    """The table with null for each text that stands for a missing value, and numbers written as programs write them."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_string(column.type):
            columns.append(column)
            continue
        declared = Declared(name, "number")
        fits = spelling.is_plain or pa.types.is_string(fitted(column, declared, "", spelling, Notes()).type)
        become = _cleaned if fits else _rewritten
        columns.append(pa.chunked_array([become(chunk, spelling) for chunk in column.chunks], pa.string()))
    return pa.table(columns, names=table.column_names)


def _cleaned(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    return _without_missing(pc.utf8_trim_whitespace(chunk), spelling)


def _rewritten(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    encoded = _cleaned(chunk, spelling).dictionary_encode()
    texts = [spelling.plain(text) for text in encoded.dictionary.to_pylist()]
    return strings(texts).take(encoded.indices)


def positions(names: Sequence[str], wanted: Iterable[str], where: str) -> list[int]:
    """Where the wanted columns stand.

    Raises:
        DataError: one is missing, or stands there twice.
    """
    counts = Counter(names)
    wanted = list(wanted)
    missing = [name for name in wanted if name not in counts]
    if missing:
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise DataError(
            f"the table lacks the column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing[:8]))}",
            where=where,
            fix=f"it has {len(names)}: {found}. Mend the table, or the names in model.yaml",
        )
    repeated = [name for name in wanted if counts[name] > 1]
    if repeated:
        raise DataError(
            f"the column {repeated[0]!r} stands twice in the table", where=where, fix="rename or drop one of them"
        )
    return [list(names).index(name) for name in wanted]


def _plain(chunk: pa.Array, name: str, where: str) -> pa.Array:
    """The array without what only says how it is stored: dictionaries, run lengths, extensions, other text types."""
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if pa.types.is_run_end_encoded(chunk.type):
        chunk = pc.run_end_decode(chunk)
    kind = chunk.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return chunk.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        try:
            return chunk.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            raise DataError(
                f"the column {name!r} holds bytes that are no text", where=where, fix="store text"
            ) from None
    if pa.types.is_nested(kind):
        raise DataError(f"the column {name!r} holds lists or records", where=where, fix="store one value per cell")
    known = (
        pa.types.is_string, pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating,
        pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_date, pa.types.is_time,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in known):
        raise DataError(
            f"the column {name!r} holds values of a type that is not read: {kind}",
            where=where,
            fix="store numbers, text, truths or times",
        )
    return chunk


def _refuse_type(kind: pa.DataType, column: Declared, where: str) -> None:
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)
    if column.kind == "time":
        wrong = (
            pa.types.is_boolean(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_time(kind)
        )
        what, fix = f"is not a time: it holds {kind}", "store timestamps, dates or ISO 8601 text"
    else:
        article = "an integer" if column.kind == "integer" else f"a {column.kind}"
        wrong, what = is_time, f"holds times ({kind}), not {article}"
        fix = "store a quantity such as days since a date, or leave the column out of `features`"
    if wrong:
        raise DataError(f"the column {column.name!r} {what}", where=where, fix=fix)


def _number(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, pa.float64(), values.number)
    if pa.types.is_boolean(chunk.type):
        chunk = chunk.cast(pa.int8())
    if pa.types.is_decimal(chunk.type):  # its digits; Arrow's own cast is off in the last one
        chunk = chunk.cast(pa.string())
    numbers = chunk.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(numbers), _NULL_NUMBER, numbers) if has_nan(numbers) else numbers


def has_nan(array: pa.Array | pa.ChunkedArray) -> bool:
    """Whether one of the values is not a number, in the sense of floating point."""
    return pa.types.is_floating(array.type) and _any(pc.is_nan(array))


def _integer(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    if pa.types.is_string(chunk.type):
        cleaned = _without_missing(chunk, spelling)
        if spelling.is_plain and not _any(pc.match_substring(cleaned, "x", ignore_case=True)):
            try:
                return cleaned.cast(pa.int64())
            except pa.ArrowInvalid:
                pass
        return _whole(
            _number(chunk, spelling), lambda: _parsed(chunk, spelling, pa.int64(), values.whole_number, fast=False)
        )
    if pa.types.is_boolean(chunk.type):
        return chunk.cast(pa.int64())
    if pa.types.is_null(chunk.type) or pa.types.is_signed_integer(chunk.type):
        return chunk.cast(pa.int64())
    if pa.types.is_floating(chunk.type):
        return _whole(_number(chunk, spelling), lambda: None)
    try:
        return chunk.cast(pa.int64())
    except pa.ArrowInvalid:
        return _number(chunk, spelling)


def _whole(numbers: pa.Array | None, exactly: Callable[[], pa.Array | None]) -> pa.Array | None:
    """``numbers`` as int64 where all are whole; those beyond 2^53 are read ``exactly``, or stay float64."""
    if numbers is None or not _all(pc.equal(pc.floor(numbers), numbers)):
        return numbers
    largest = pc.max(pc.abs(numbers)).as_py()
    if largest is None or largest < _EXACT:
        return numbers.cast(pa.int64())
    exact = exactly()
    return numbers if exact is None else exact


def _boolean(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, pa.float64(), values.boolean, fast=False)
    numbers = _number(chunk, spelling)
    return numbers if numbers is not None and _all(pc.is_in(numbers, _TRUTHS)) else None


def _time(chunk: pa.Array, spelling: Spelling) -> pa.Array | None:
    if pa.types.is_null(chunk.type):
        return chunk.cast(TIME)
    if pa.types.is_integer(chunk.type):  # 20130101 may be a day; the number of a second is not
        chunk = chunk.cast(pa.string())
    if pa.types.is_string(chunk.type):
        return _parsed(chunk, spelling, TIME, _moment)
    if pa.types.is_date(chunk.type):
        chunk = chunk.cast(pa.timestamp("s"))
    if chunk.type.tz is None:
        chunk = chunk.cast(pa.timestamp(chunk.type.unit, "UTC"))
    return chunk.cast(TIME, safe=False)


def _moment(text: str) -> datetime:
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    if re.fullmatch(r"\d{9,}", text) or not re.match(r"\d{4}", text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _without_missing(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    return pc.if_else(pc.is_in(chunk, spelling.missing_texts), _NULL_TEXT, chunk)


def _parsed(
    chunk: pa.Array, spelling: Spelling, kind: pa.DataType, parse: Callable[[str], Any], *, fast: bool = True
) -> pa.Array | None:
    """The values of texts; None where one of them is none of the kind. Arrow reads what a program wrote, at once;
    whatever it refuses, each different text is looked at."""
    cleaned = _without_missing(chunk, spelling)
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
        if any(_any(pc.match_substring(texts, mark)) for mark in marks):
            return None
        texts = pc.replace_substring(texts, spelling.decimal, ".")
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if has_nan(numbers) else numbers


def _text(chunk: pa.Array, name: str, names: values.Names | None, spelling: Spelling, notes: Notes) -> pa.Array:
    kind = chunk.type
    from_file = pa.types.is_string(kind)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        chunk = chunk.cast(pa.string())
    elif pa.types.is_null(kind):
        return chunk.cast(pa.string())
    elif not from_file:
        chunk = _texts_of(chunk)
    if names is None and not from_file:
        return chunk
    encoded = chunk.dictionary_encode()
    texts = encoded.dictionary
    if names is None and len(texts) > FEW:
        odd = pc.or_(pc.match_substring_regex(texts, _TO_SPELL), pc.is_in(texts, spelling.missing_texts))
        if not _any(odd):
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
    """Fractions, decimals and times as text: `1.0` is `1`, a midnight without a zone is its day."""
    encoded = chunk.dictionary_encode()
    kind = chunk.type
    if pa.types.is_floating(kind):
        # NumPy prints a 32-bit number with its own digits, not with those of 64 bits.
        numbers = encoded.dictionary.to_numpy(zero_copy_only=False)
        texts = [None if value != value else values.text_of(value) for value in numbers]
    elif pa.types.is_timestamp(kind):
        texts = [
            _time_text(value) for value in encoded.dictionary.cast(pa.timestamp("us", kind.tz), safe=False).to_pylist()
        ]
    else:
        texts = [None if value is None else values.text_of(value) for value in encoded.dictionary.to_pylist()]
    return strings(texts).take(encoded.indices)


def _time_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not None:
        return str(value.astimezone(UTC))
    return str(value.date()) if value == datetime.combine(value.date(), datetime.min.time()) else str(value)


def _shown(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    """The values as text, for a message that names them."""
    if pa.types.is_string(chunk.type):
        return _without_missing(chunk, spelling)
    return _text(chunk, "", None, spelling, Notes())


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask, skip_nulls=True, min_count=0).as_py())


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask, skip_nulls=True, min_count=0).as_py())


def content_sha256(table: pa.Table) -> str:
    """SHA-256 of the table's content: names, types and values in order, whatever file it came from."""
    import hashlib

    import pyarrow.csv as pacsv

    digest = hashlib.sha256()
    digest.update(",".join(f"{field.name}:{field.type}" for field in table.schema).encode())
    pacsv.write_csv(table, pa.PythonFile(_Digest(digest), mode="w"), pacsv.WriteOptions(batch_size=1 << 14))
    return digest.hexdigest()


class _Digest:
    closed = False

    def __init__(self, digest: Any) -> None:
        self.digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

"""Turns the columns of a file into those that model.yaml declares, once, in Arrow's types.

A number, a boolean (true is 1) and a regression's target become float64, an integer int64, a time UTC with
microseconds, everything else text. A column with a value of another kind stays text, so that validation can name the
value. An error names a column whose kind is surely wrong, such as times for a number.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.errors import DataError
from homelab_mlops.model import values
from homelab_mlops.tables.arrays import TIME, strings
from homelab_mlops.tables.categories import Notes, as_text, shown
from homelab_mlops.tables.quantities import as_boolean, as_integer, as_number, as_time
from homelab_mlops.tables.spelling import PLAIN, Spelling, without_missing

if TYPE_CHECKING:
    from homelab_mlops.model.scoring import Input
    from homelab_mlops.model.spec import ModelSpec

Kind = Literal["number", "integer", "boolean", "text", "time"]


@dataclass(frozen=True)
class Declared:
    """A column that a model needs; ``names`` are the values or labels that a text may be, where they are listed."""

    name: str
    kind: Kind
    names: tuple[str, ...] = ()


def declared(spec: ModelSpec) -> list[Declared]:
    """The columns of ``spec.columns`` with their kinds."""
    return [_declared(spec, name) for name in spec.columns]


def _declared(spec: ModelSpec, name: str) -> Declared:
    feature = spec.raw.get(name)
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
    if feature.type == "datetime":
        return Declared(name, "time")
    return Declared(name, feature.type)


def _tuple(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(names or ())


def declared_inputs(inputs: Iterable[Input]) -> list[Declared]:
    """The columns that a trained model takes."""
    kinds: dict[str, Kind] = {"category": "text", "datetime": "time"}
    return [
        Declared(item.name, kinds.get(item.type, item.type), item.categories)  # type: ignore[arg-type]
        for item in inputs
    ]


def typed(
    table: pa.Table, columns: Iterable[Declared], where: str, spelling: Spelling = PLAIN, notes: Notes | None = None
) -> pa.Table:
    """The declared columns of ``table``; texts are read as ``spelling`` says.

    Raises:
        DataError: a column is missing, or its type is surely wrong; ``where`` names the table.
    """
    columns = list(columns)
    positions(table.column_names, [column.name for column in columns], where)
    for column in columns:
        _refuse_made_types(table.schema.field(column.name), where)
    arrays = [fitted(table.column(column.name), column, where, spelling, notes or Notes()) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def fitted(array: pa.ChunkedArray, column: Declared, where: str, spelling: Spelling, notes: Notes) -> pa.ChunkedArray:
    """One column as it is declared, or as text where a value does not fit."""
    plain = [_plain(chunk, column.name, where) for chunk in array.chunks if len(chunk)]
    if column.kind == "text":
        names = values.Names(column.names) if column.names else None
        chunks = [as_text(chunk, column.name, names, spelling, notes) for chunk in plain]
        return pa.chunked_array(chunks, pa.string())
    convert = {"number": as_number, "integer": as_integer, "boolean": as_boolean, "time": as_time}[column.kind]
    if plain:
        _refuse_type(plain[0].type, column, where)
    fits: list[pa.Array] = []
    for chunk in plain:
        fit = convert(chunk, spelling)
        if fit is None:
            return pa.chunked_array([shown(chunk, spelling) for chunk in plain], pa.string())
        fits.append(fit)
    kinds = {chunk.type for chunk in fits}
    default = {"integer": pa.int64(), "time": TIME}.get(column.kind, pa.float64())
    if len(kinds) > 1:  # int64, and float64 where a number has a fraction
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
                shown(chunk, PLAIN) if common == pa.string() else chunk.cast(common, safe=False) for chunk in chunks
            ]
            columns.append(pa.chunked_array(chunks, common))
        else:
            columns.append(pa.chunked_array(chunks, kinds.pop()))
    return pa.table(columns, names=tables[0].column_names)


def texts_of(array: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as text; what is text already stays as it is."""
    if pa.types.is_string(array.type):
        return array
    chunks = [as_text(_plain(chunk, name, ""), name, None, PLAIN, Notes()) for chunk in array.chunks]
    return pa.chunked_array(chunks, pa.string())


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is one of Arrow's for text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


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
    return without_missing(pc.utf8_trim_whitespace(chunk), spelling)


def _rewritten(chunk: pa.Array, spelling: Spelling) -> pa.Array:
    encoded = _cleaned(chunk, spelling).dictionary_encode()
    texts = [spelling.plain(text) for text in encoded.dictionary.to_pylist()]
    return strings(texts).take(encoded.indices)


def positions(names: Sequence[str], wanted: Iterable[str], where: str) -> list[int]:
    """The positions of the wanted columns.

    Raises:
        DataError: a column is missing, or stands there twice.
    """
    counts = Counter(names)
    wanted = list(wanted)
    missing = [name for name in wanted if name not in counts]
    if missing:
        found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        _refuse_other_accents(missing, names, where)
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


def _refuse_other_accents(missing: Iterable[str], names: Iterable[str], where: str) -> None:
    """Refuses a name that looks like the wanted one: an accent is within its letter, or a character of its own."""
    known = {unicodedata.normalize("NFC", name): name for name in names}
    for name in missing:
        alike = known.get(unicodedata.normalize("NFC", name))
        if alike is not None:
            raise DataError(
                f"the table lacks the column {name!r}; its column {alike!a} looks the same, and Unicode composes "
                f"it otherwise than {name!a} in model.yaml",
                where=where,
                fix="write one of them as the other: in Python, unicodedata.normalize('NFC', name) for both",
            )


def _plain(chunk: pa.Array, name: str, where: str) -> pa.Array:
    """The array without encodings: no dictionaries, run lengths, extensions or other text types."""
    if isinstance(chunk, pa.ExtensionArray):
        chunk = _texts_of_uuids(chunk) if chunk.type.extension_name == "arrow.uuid" else chunk.storage
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


def _refuse_made_types(column: pa.Field, where: str) -> None:
    """Refuses a type that a library made of another one, such as pandas' periods, which the file holds as numbers."""
    kind = column.type.extension_name if isinstance(column.type, pa.BaseExtensionType) else ""
    kind = kind or (column.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
    if kind and not kind.startswith("arrow."):
        raise DataError(
            f"the column {column.name!r} holds values of a type that is not read: {kind}",
            where=where,
            fix="store numbers, text, truths or times",
        )


def _texts_of_uuids(chunk: pa.ExtensionArray) -> pa.Array:
    return strings([None if value is None else str(value) for value in chunk.to_pylist()])


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

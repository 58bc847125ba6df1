"""Gives the columns of a CSV, whose file says no types, those of their cells or of the Parquet files beside it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.model import values
from homelab_mlops.tables.arrays import EXACT, is_all, is_any
from homelab_mlops.tables.columns import Declared, cleaned, is_text
from homelab_mlops.tables.quantities import as_integer
from homelab_mlops.tables.spelling import PLAIN, Spelling

_TRUTH = rf"^(?i:{'|'.join(values.TRUTHS)})$"
_NUMBER = rf"^(?:{values.PLAIN.pattern})$"
_WHOLE = r"^-?\d+$"


def with_types(table: pa.Table, columns: Iterable[Declared], spelling: Spelling) -> pa.Table:
    """The table with int64, float64 or bool for each column of text whose cells all are such, or missing.

    Every other column keeps its texts as they are, and so does one that is declared as text.
    """
    kinds = {column.name: column.kind for column in columns}
    for number, (name, column) in enumerate(zip(table.column_names, cleaned(table, spelling).columns, strict=True)):
        if pa.types.is_string(column.type) and kinds.get(name) != "text" and column.null_count < len(column):
            found = _typed(column, number_only=kinds.get(name) == "number")
            if found is not None:
                table = table.set_column(number, name, found)
    return table


def _typed(column: pa.ChunkedArray, *, number_only: bool) -> pa.ChunkedArray | None:
    if is_all(pc.match_substring_regex(column, _TRUTH)):
        return pc.equal(pc.utf8_lower(column), "true")
    if not is_all(pc.match_substring_regex(column, _NUMBER)):
        return None
    try:
        is_whole = not number_only and is_all(pc.match_substring_regex(column, _WHOLE))
        return column.cast(pa.int64() if is_whole else pa.float64())
    except pa.ArrowInvalid:  # an integer of more than 64 bits stays as it is written
        return None


def with_types_of(table: pa.Table, schema: pa.Schema, spelling: Spelling) -> pa.Table:
    """The table with the type that ``schema`` says for each column of text whose cells all are such, or missing.

    A number keeps all its digits: it gets more bits where it needs them. Every other column keeps its texts.
    """
    for number, (name, column) in enumerate(zip(table.column_names, cleaned(table, spelling).columns, strict=True)):
        if not pa.types.is_string(column.type) or name not in schema.names:
            continue
        kind = schema.field(name).type
        words = is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)
        try:
            found = table.column(name).cast(kind) if words else _fitting(column, kind)
        except pa.ArrowException:
            found = None
        if found is not None:
            table = table.set_column(number, name, found)
    return table


def _fitting(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Texts as the type, or as a wider one of the same sort; None where one of them is none.

    Raises:
        pa.ArrowException: one of them is none.
    """
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if pa.types.is_dictionary(kind):
        found = _fitting(column, kind.value_type)
        return None if found is None else found.cast(kind)
    if pa.types.is_null(kind):
        return _typed(column, number_only=False)
    if pa.types.is_boolean(kind):
        return pc.equal(pc.utf8_lower(column), "true") if is_all(pc.match_substring_regex(column, _TRUTH)) else None
    if pa.types.is_time(kind):
        moments = pc.binary_join_element_wise("1970-01-01T", column, "").cast(pa.timestamp("ns"))
        return moments.cast(pa.time64("ns")).cast(kind)
    if pa.types.is_timestamp(kind):
        return _times(column, kind)
    if pa.types.is_date(kind):
        return column.cast(kind)
    if not is_all(pc.match_substring_regex(column, _NUMBER)):
        return None
    if pa.types.is_integer(kind):
        return _integers(column, kind)
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64())
        return None if is_any(pc.greater_equal(pc.abs(numbers), EXACT)) else numbers
    return column.cast(kind) if pa.types.is_decimal(kind) else None


def _times(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:  # parts of a second that the unit does not have
        return column.cast(pa.timestamp("ns", kind.tz))


def _integers(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    chunks = [as_integer(chunk, PLAIN) for chunk in column.chunks]
    if any(chunk is None or chunk.type != pa.int64() for chunk in chunks):
        return None
    found = pa.chunked_array(chunks, pa.int64())
    try:
        return found.cast(kind)
    except pa.ArrowInvalid:
        return found

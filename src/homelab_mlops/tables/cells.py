"""Gives the columns of a CSV, whose file says no types, those of their cells."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.model import values
from homelab_mlops.tables.arrays import is_all
from homelab_mlops.tables.columns import Declared, cleaned
from homelab_mlops.tables.spelling import Spelling

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

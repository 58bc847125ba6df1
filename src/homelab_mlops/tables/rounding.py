"""Says which whole numbers XGBoost, which computes with 32 bits, cannot tell apart."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.tables.arrays import is_all

# Up to this number, floating point of 32 bits tells all whole numbers apart.
EXACT = 2.0**24


def rounding_lines(table: pa.Table) -> list[str]:
    """A line for each column of numbers whose different whole numbers are fewer to XGBoost."""
    lines: list[str] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            continue
        numbers = column.cast(pa.float64(), safe=False)
        largest = pc.max(pc.abs(numbers)).as_py()
        if largest is None or largest <= EXACT or not is_all(pc.equal(pc.floor(numbers), numbers)):
            continue
        different = pc.unique(column)
        left = pc.unique(different.cast(pa.float32(), safe=False))
        if len(left) < len(different):
            lines.append(
                f"warning: column {name!r}: {len(different):,} different numbers are {len(left):,} to XGBoost, which "
                "computes with 32 bits; subtract a constant such as the first day, or declare identifiers as a category"
            )
    return lines

"""Says which whole numbers XGBoost, which computes with 32 bits, cannot tell apart."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.tables import arrays

# Up to this number, floating point of 32 bits tells all whole numbers apart.
EXACT = 2.0**24
# Beyond this one, the table itself holds them rounded.
BEYOND = arrays.EXACT


def rounding_lines(table: pa.Table) -> list[str]:
    """A line for each column of whole numbers of which XGBoost cannot tell all apart."""
    lines: list[str] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            continue
        numbers = column.cast(pa.float64(), safe=False)
        largest = pc.max(pc.abs(numbers)).as_py()
        if largest is None or not EXACT < largest < math.inf or not arrays.is_all(pc.equal(pc.floor(numbers), numbers)):
            continue
        different = pc.unique(column)
        left = pc.unique(different.cast(pa.float32(), safe=False))
        if len(left) < len(different) or largest > BEYOND:
            lines.append(
                f"warning: column {name!r}: XGBoost rounds to 32 bits, which leaves {len(left):,} different numbers of "
                f"it, up to {largest:.4g}; subtract a constant such as the first day, or declare identifiers as a "
                "category"
            )
    return lines

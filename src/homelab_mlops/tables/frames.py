"""Turns a typed table into the data frame of the later steps, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


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
    """The table that `frame_of` was given."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _objects(column: pa.ChunkedArray) -> Any:
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype="object")
    return texts[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

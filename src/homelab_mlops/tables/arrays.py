"""Makes and reads Arrow arrays without pandas, which `pyarrow.array` and `pyarrow.scalar` would load first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TIME = pa.timestamp("us", "UTC")
# Up to this number, floating point of 64 bits tells all whole numbers apart.
EXACT = 2.0**53
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


def has_nan(array: pa.Array | pa.ChunkedArray) -> bool:
    """Whether one of the values is not a number, in the sense of floating point."""
    return pa.types.is_floating(array.type) and is_any(pc.is_nan(array))


def is_any(mask: pa.Array) -> bool:
    """Whether one of the values is true; null is not."""
    return bool(pc.any(mask, skip_nulls=True, min_count=0).as_py())


def is_all(mask: pa.Array) -> bool:
    """Whether all values are true; null is no value."""
    return bool(pc.all(mask, skip_nulls=True, min_count=0).as_py())

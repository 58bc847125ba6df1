"""The libsvm format, as SageMaker's XGBoost container reads it: `label[:weight] index:value ...`, counted from 0.

A value that a row does not name is missing; an index that no row names is no column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from homelab_mlops.errors import DataError
from homelab_mlops.tables.content import Readable

MAX_INDEX = 100_000


def is_index(name: str) -> bool:
    """Whether a column's name is that of an index."""
    return re.fullmatch(r"f\d+", name, re.ASCII) is not None


def with_columns(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """The table with a missing value in each column that none of its rows names."""
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
    return table


def with_same_columns(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables of several files, each with the indices of all."""
    names = {name for table in tables for name in table.column_names if is_index(name)}
    ordered = sorted(names, key=lambda name: int(name[1:]))
    all_of = [with_columns(table, ordered) for table in tables]
    return [table.select([*(name for name in table.column_names if not is_index(name)), *ordered]) for table in all_of]


def read_libsvm(stream: Readable, where: str) -> pa.Table:
    """The columns ``label``, ``weight`` where the rows have one, and ``f0``, ``f1``, ... as float64.

    Raises:
        DataError: a line is not of this format.
    """
    try:
        text = stream.read().decode()
        lines = pa.array([line.partition("#")[0].strip() for line in text.splitlines()])
        lines = lines.filter(pc.not_equal(lines, ""))
        tokens = pc.utf8_split_whitespace(lines)
        counts = pc.list_value_length(tokens).to_numpy()
        ends = np.cumsum(counts)
        flat = pc.list_flatten(tokens)
        labels = flat.take(pa.array(ends - counts))
        pairs = np.ones(len(flat), dtype=bool)
        pairs[ends - counts] = False
        rows = np.repeat(np.arange(len(counts)), counts)[pairs]
        return _table(labels, flat.filter(pa.array(pairs)), rows)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"the file is not regular libsvm: {str(error).strip().splitlines()[0][:160]}",
            where=where,
            fix="every line is `label index:value ...`",
        ) from error


def _table(labels: pa.Array, pairs: pa.Array, rows: np.ndarray[Any, Any]) -> pa.Table:
    if pc.any(pc.starts_with(pairs, "qid:")).as_py():
        raise ValueError("rows have a qid: rankings are not learned here")
    parts = pc.split_pattern(pairs, ":")
    if not pc.all(pc.equal(pc.list_value_length(parts), 2)).as_py():
        raise ValueError("a value is not written as index:value")
    indices = pc.list_element(parts, 0).cast(pa.int64()).to_numpy()
    numbers = pc.list_element(parts, 1).cast(pa.float64()).to_numpy()
    if len(indices) and (indices.min() < 0 or indices.max() > MAX_INDEX):
        raise ValueError(f"an index is not between 0 and {MAX_INDEX:,}")
    if len(np.unique(rows * (MAX_INDEX + 1) + indices)) != len(indices):
        raise ValueError("a row names an index twice")
    head = pc.split_pattern(labels, ":", max_splits=1)
    sizes = pc.list_value_length(head).to_numpy()
    columns = {"label": pc.list_element(head, 0).cast(pa.float64())}
    if (sizes == 2).any():
        if not (sizes == 2).all():
            raise ValueError("some rows have a weight and some have none")
        columns["weight"] = pc.list_element(head, 1).cast(pa.float64())
    for index in np.unique(indices):
        chosen = indices == index
        values = np.full(len(labels), np.nan)
        values[rows[chosen]] = numbers[chosen]
        columns[f"f{index}"] = pa.array(values, from_pandas=True)
    return pa.table(columns)

"""The channels of a job as tables: read, named, and where the container's `csv_weights` says so with weights."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from homelab_mlops.errors import DataError
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline.sources import local_files
from homelab_mlops.pipeline.tables import read_raw

WEIGHT = "weight"
# What `read_raw` calls the first column of a file without a header.
LABEL = "label"


def read_channel(folder: Path, name: str) -> pa.Table:
    """All rows of the files of a channel.

    Raises:
        DataError: there is no such folder, or it holds no table; ``name`` is the variable that names it.
    """
    if not folder.exists():
        raise DataError("the channel does not exist", where=str(folder), fix=f"set {name}, or mount the data there")
    tables = [read_raw(path, str(path), header=None) for path in local_files(str(folder))]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files of the channel do not fit together: {error}", where=str(folder)) from error


def named(table: pa.Table, spec: ModelSpec, where: str) -> pa.Table:
    """The table with the model's names, where the file has none: target, weight if there is one, features.

    Raises:
        DataError: the table has another number of columns.
    """
    if table.column_names[:1] != [LABEL] or LABEL in spec.columns:
        return table
    target, weight, features = spec.target.column, spec.data.weight, list(spec.features)
    orders = [[target, *features]] if weight is None else [[target, weight, *features], [target, *features]]
    fitting = [names for names in orders if len(names) == table.num_columns]
    if not fitting:
        raise DataError(
            f"the table without a header has {table.num_columns} columns; the model has {len(orders[0])}",
            where=where,
            fix="the label comes first, then the features in the order of model.yaml",
        )
    return table.rename_columns(fitting[0])


def weighted_by_position(table: pa.Table, columns: int | None = None) -> pa.Table:
    """The table with its second column as the weight, as the container reads ``csv_weights``.

    Args:
        columns: of the training table; a validation table with one column less has no weights.

    Raises:
        DataError: the table has no second column.
    """
    if columns is not None and table.num_columns == columns - 1:
        return table
    if table.num_columns < 3:
        raise DataError(
            f"csv_weights=1 reads the weight from the second column; the table has {table.num_columns} columns",
            fix="write label, weight, features; or set csv_weights to 0",
        )
    if table.column_names[0] != LABEL:
        return table
    features = [f"f{number}" for number in range(table.num_columns - 2)]
    return table.rename_columns([LABEL, WEIGHT, *features])


def equally_weighted(table: pa.Table, spec: ModelSpec) -> pa.Table:
    """A validation table; where it has no weights its rows count equally."""
    if spec.data.weight is None or spec.data.weight in table.column_names:
        return table
    return table.append_column(spec.data.weight, pa.array([1.0] * table.num_rows, pa.float64()))

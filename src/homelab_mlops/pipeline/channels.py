"""The channels of a job as tables: read, with the model's names, and with weights where `csv_weights` asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from homelab_mlops.console import say
from homelab_mlops.errors import DataError
from homelab_mlops.model.spec import Csv, ModelSpec
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import Reading, read_as_it_is

WEIGHT = "weight"
# The name of the first column of a file without a header.
LABEL = "label"
HOW_TO_SAY = "`data.csv.header` in a model.yaml, and `homelab train MODEL`"


def read_channel(folder: Path, name: str, columns: Sequence[Declared] = (), csv: Csv | None = None) -> Reading:
    """All rows of the files of a channel; without a header the columns are ``label``, ``f0``, ``f1``, ...

    Args:
        columns: the known columns, whose names tell a header from a row.

    Raises:
        DataError: the folder does not exist, or holds no table; ``name`` is the variable that names the folder.
    """
    if not folder.exists():
        raise DataError("the channel does not exist", where=str(folder), fix=f"set {name}, or mount the data there")
    reading = read_as_it_is(str(folder), folder, Needed(tuple(columns), by_position=True, how_to_say=HOW_TO_SAY), csv)
    for line in reading.said:
        say(f"train: {line}")
    return reading


def named(table: pa.Table, spec: ModelSpec, where: str) -> pa.Table:
    """The table with the model's names, where the file has none: target, weight if there is one, features.

    Raises:
        DataError: the table has another number of columns.
    """
    if table.column_names[:1] != [LABEL] or LABEL in spec.columns:
        return table
    target, weight, features = spec.target.column, spec.data.weight, list(spec.raw)
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
        columns: how many columns the training table has; a validation table with one column less has no weights.

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
    """A validation table, with equal weights where it has none."""
    if spec.data.weight is None or spec.data.weight in table.column_names:
        return table
    return table.append_column(spec.data.weight, pa.array([1.0] * table.num_rows, pa.float64()))

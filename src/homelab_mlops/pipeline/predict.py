"""Scores a whole table with the champion, and writes it back with the predictions beside the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from homelab_mlops.clients import s3
from homelab_mlops.console import say
from homelab_mlops.errors import DataError, StorageError
from homelab_mlops.model.spec import Csv
from homelab_mlops.pipeline.model_registry import model_for_scoring
from homelab_mlops.pipeline.unknown import unknown_lines
from homelab_mlops.tables.cells import with_types
from homelab_mlops.tables.columns import Declared, declared_inputs
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.frames import frame_of
from homelab_mlops.tables.read import read_beside
from homelab_mlops.tables.spelling import number_hint

PREDICTION, VERSION = "prediction", "model_version"
# Endings that name another format.
_OTHERS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".gz", ".zst")


def predict(model: str, source: str, target: str, csv: Csv | None = None, work: Path = Path("work")) -> dict[str, Any]:
    """Reads the table ``source``, and writes the Parquet file ``target``; each is a path or an ``s3://`` address.

    Every column stays, with its type; one of a CSV has that of the Parquet files beside it, or of its cells. The file
    also gets ``model_version``, and ``prediction`` or a column ``probability_LABEL`` for each label.

    Args:
        model: a registered model, whose champion scores, or the folder of a training; without a registry, the model
            that was trained in ``work``.
        csv: how CSV files are written, where that cannot be found out.

    Returns:
        ``model``, ``version``, ``rows`` and ``target``.

    Raises:
        EvaluationError: there is no such model, or it has no champion.
        DataError, StorageError: the table cannot be read, does not have the model's inputs or has a column of the name
            of an added one, or cannot be written.
    """
    _refuse_other_formats(target)
    champion = model_for_scoring(model, work)
    labels = champion.scorer.description.labels if champion.scorer.description.task == "multiclass" else ()
    inputs = declared_inputs(champion.scorer.description.inputs)
    with tempfile.TemporaryDirectory() as temporary:
        reading, needed = read_beside(source, Path(temporary), Needed(tuple(inputs)), csv)
    for line in reading.said:
        say(f"predict: {line}")
    table = reading.table
    names = [f"probability_{label}" for label in labels] or [PREDICTION]
    _refuse_taken([*names, VERSION], table, source)
    rows = frame_of(needed)
    for line in unknown_lines(rows, champion.scorer.description.inputs):
        say(f"predict: {line}")
    try:
        predicted = champion.scorer.predict(rows)
    except ValueError as error:
        what = f"the {champion.name} does not take these rows: {error}"
        raise DataError(what, where=source, fix=_hint(rows, inputs)) from error
    if reading.untyped:
        table = with_types(table, inputs, reading.spelling)
    _write(_beside(table, names, predicted, str(champion.version)), target)
    say(f"predict: {table.num_rows:,} rows of {source} by the {champion.name}: {target}")
    return {"model": model, "version": champion.version, "rows": table.num_rows, "target": target}


def _hint(rows: pd.DataFrame, inputs: list[Declared]) -> str:
    """How to read the first cell that is no number."""
    texts = [item.name for item in inputs if item.kind in ("number", "integer") and rows[item.name].dtype == "object"]
    hints = (number_hint(str(cell), "--{} ") for name in texts for cell in rows[name].dropna().unique())
    return next(filter(None, hints), "")


def _refuse_other_formats(target: str) -> None:
    if target.lower().endswith(_OTHERS):
        raise DataError(
            "the predictions are written as Parquet, which keeps the type of each column",
            where=target,
            fix="name the target .parquet; pandas, DuckDB and polars write CSV from it",
        )


def _refuse_taken(names: list[str], table: pa.Table, source: str) -> None:
    taken = [name for name in names if name in table.column_names]
    if taken:
        raise DataError(
            f"the table already has a column {taken[0]!r}, which the predictions would overwrite",
            where=source,
            fix="rename or drop it",
        )


def _beside(
    table: pa.Table, names: list[str], predicted: np.ndarray[Any, np.dtype[np.float32]], version: str
) -> pa.Table:
    for number, name in enumerate(names):
        table = table.append_column(name, pa.array(predicted if predicted.ndim == 1 else predicted[:, number]))
    return table.append_column(VERSION, pa.array([version] * table.num_rows, pa.string()))


def _write(table: pa.Table, target: str) -> None:
    if not target.startswith("s3://"):
        path = Path(target)
        partial = path.with_name(f".{path.name}.partial")
        try:
            pq.write_table(table, partial)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return
    address = urlsplit(target)
    if not address.netloc or not address.path.strip("/") or address.path.endswith("/"):
        raise StorageError("the predictions go to one object, s3://BUCKET/KEY.parquet", where=target)
    with tempfile.TemporaryFile() as file:
        pq.write_table(table, file)
        file.seek(0)
        with s3.explained(target):
            s3.client().upload_fileobj(file, address.netloc, address.path.lstrip("/"))

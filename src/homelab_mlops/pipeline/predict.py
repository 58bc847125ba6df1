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
from homelab_mlops.errors import DataError, EvaluationError, StorageError
from homelab_mlops.model.spec import Csv
from homelab_mlops.pipeline.registry import champion_of
from homelab_mlops.tables.columns import declared_inputs, frame_of, typed
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import read_as_it_is


def predict(model: str, source: str, target: str, csv: Csv | None = None) -> dict[str, Any]:
    """Reads the table ``source``, a path or ``s3://``, and writes the Parquet file ``target``, one of either.

    Every column stays; ``prediction`` is added, or one column ``probability_LABEL`` a label, and ``model_version``.

    Args:
        csv: how CSV files are written, where that cannot be found out.

    Returns:
        ``model``, ``version``, ``rows`` and ``target``.

    Raises:
        EvaluationError: the model has no champion.
        DataError, StorageError: the table cannot be read, does not have the model's inputs, or cannot be written.
    """
    champion = champion_of(model)
    if champion is None:
        raise EvaluationError(
            f"the model {model!r} has no champion", fix=f"`homelab promote {model} VERSION`, and a push, make one"
        )
    inputs = declared_inputs(champion.scorer.description.inputs)
    with tempfile.TemporaryDirectory() as temporary:
        reading = read_as_it_is(source, Path(temporary), Needed(tuple(inputs)), csv)
    for line in reading.said:
        say(f"predict: {line}")
    try:
        predicted = champion.scorer.predict(frame_of(typed(reading.table, inputs, source, reading.spelling)))
    except ValueError as error:
        raise DataError(f"the {champion.name} does not take these rows: {error}", where=source) from error
    frame = reading.table.to_pandas()
    scored = _beside(frame, predicted, champion.scorer.description.labels).assign(model_version=champion.version)
    _write(scored, target)
    say(f"predict: {len(scored):,} rows of {source} by the {champion.name}: {target}")
    return {"model": model, "version": champion.version, "rows": len(scored), "target": target}


def _beside(
    frame: pd.DataFrame, predicted: np.ndarray[Any, np.dtype[np.float32]], labels: tuple[str, ...]
) -> pd.DataFrame:
    if predicted.ndim == 1:
        return frame.assign(prediction=predicted)
    return frame.assign(**{f"probability_{label}": predicted[:, number] for number, label in enumerate(labels)})


def _write(frame: pd.DataFrame, target: str) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if not target.startswith("s3://"):
        path = Path(target)
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table, partial)
        partial.rename(path)
        return
    address = urlsplit(target)
    if not address.netloc or not address.path.strip("/") or address.path.endswith("/"):
        raise StorageError("the predictions go to one object, s3://BUCKET/KEY.parquet", where=target)
    with tempfile.TemporaryFile() as file:
        pq.write_table(table, file)
        file.seek(0)
        with s3.explained(target):
            s3.client().upload_fileobj(file, address.netloc, address.path.lstrip("/"))

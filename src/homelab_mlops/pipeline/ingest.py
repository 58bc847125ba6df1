"""The step *ingest*: brings a model's table into the working directory, as Parquet with a manifest."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from homelab_mlops.clients import s3
from homelab_mlops.console import say
from homelab_mlops.errors import DataError, SpecError, StorageError
from homelab_mlops.model import demo_tables
from homelab_mlops.model.spec import Csv, ModelSpec, TimeSplit, period_parts
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json
from homelab_mlops.tables.arrays import moment, moment_of
from homelab_mlops.tables.columns import declared, positions, typed
from homelab_mlops.tables.fingerprint import content_sha256
from homelab_mlops.tables.frames import frame_of
from homelab_mlops.tables.identifiers import RowSplit
from homelab_mlops.tables.quantities import is_time
from homelab_mlops.tables.read import Reading, read

if TYPE_CHECKING:
    import pandas as pd


def ingest(
    spec: ModelSpec, work: Path, source: str | None = None, as_of: str | None = None, csv: Csv | None = None
) -> dict[str, Any]:
    """Writes ``work/ingest/data.parquet`` and ``manifest.json``, and returns the manifest.

    Args:
        source: read this instead of the specification's source; ``demo`` is its demo table.
        as_of: the end of the window of a time split, an ISO date; the end of the data where it is None.
        csv: how CSV files are written, instead of the specification's ``data.csv``.

    Raises:
        DataError, StorageError, SpecError: the table cannot be read, or the window holds no rows.
    """
    source = _source(spec, source)
    with step_folder(work, "ingest") as folder:
        reading = read_source(spec, source, folder, csv)
        table, window = reading.table, None
        if isinstance(spec.split, TimeSplit):
            table, window = _window(table, spec.split, as_of, source)
        elif as_of is not None:
            raise SpecError("--as-of is for models with a time split", where=spec.name, fix="leave --as-of out")
        manifest: dict[str, Any] = {
            "model": spec.name,
            "source": source,
            "rows": table.num_rows,
            "columns": table.column_names,
            "read": {
                "files": reading.files,
                "rows": reading.table.num_rows,
                "bytes": reading.size,
                "left_out": list(reading.left_out),
            },
            "sha256": content_sha256(table),
            "window": window,
            "ingested_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        pq.write_table(table, folder / "data.parquet")
        manifest["file_sha256"] = _file_sha256(folder / "data.parquet")
        write_json(folder / "manifest.json", manifest)
        write_json(folder / "model.json", spec.model_dump(mode="json"))
    for line in reading.said:
        say(f"ingest: {line}")
    say(f"ingest: {table.num_rows:,} rows, {table.num_columns} columns from {source}, sha256 {manifest['sha256'][:12]}")
    return manifest


def load_ingested(spec: ModelSpec, work: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and the manifest that *ingest* wrote.

    Raises:
        StorageError: they are missing.
        DataError: they are another model's, or the table is not the one that the manifest describes.
    """
    command = f"homelab ingest {spec.name} --work {work}"
    manifest = read_json(work / "ingest" / "manifest.json", command)
    if manifest["model"] != spec.name:
        raise DataError(
            f"the working directory holds data of {manifest['model']!r}", where=str(work), fix=f"run `{command}`"
        )
    path = work / "ingest" / "data.parquet"
    if not path.exists():
        raise DataError("the ingested table is missing", where=str(path), fix=f"run `{command}`")
    if _file_sha256(path) != manifest["file_sha256"]:
        raise DataError(
            "the ingested table is not the one that its manifest describes", where=str(path), fix=f"run `{command}`"
        )
    return frame_of(pq.read_table(path)), manifest


def _source(spec: ModelSpec, source: str | None) -> str:
    if source != "demo":
        return source or spec.data.source
    if spec.data.demo is None:
        raise SpecError(
            f"the model {spec.name!r} names no demo table", fix="set `data.demo` in model.yaml, or give --source"
        )
    return spec.data.demo


def read_source(spec: ModelSpec, source: str, folder: Path, csv: Csv | None = None) -> Reading:
    """The rows of ``source`` with the declared types; a download goes to ``folder``.

    Raises:
        DataError, StorageError: the table cannot be read, or lacks a column.
    """
    columns = declared(spec)
    if demo_tables.is_built_in(source):
        frame = demo_tables.built_in(source)
        positions([str(name) for name in frame.columns], spec.columns, source)
        table = pa.Table.from_pandas(frame[spec.columns], preserve_index=False)
        return Reading.built_in(typed(table, columns, source))
    csv = csv or spec.data.csv
    try:
        return read(source, folder, columns, csv, [spec.target.column, *spec.raw], _by_row(spec))
    except StorageError as error:
        # A person without any login sits at a desk: in a cluster the step has a login.
        if error.what == s3.NO_CREDENTIALS and source == spec.data.source:
            demo = "`--source demo` for the built-in table, " if spec.data.demo else ""
            error.fix = f"{demo}`--source FILE` for one of your own, or {error.fix}"
        raise


def _by_row(spec: ModelSpec) -> RowSplit | None:
    if spec.target.labels is None or spec.split.group is not None or isinstance(spec.split, TimeSplit):
        return None
    return RowSplit(spec.target.column, frozenset(spec.raw) | {spec.data.weight or ""})


def read_frame(spec: ModelSpec, source: str, folder: Path) -> pd.DataFrame:
    """The table of `read_source`, in the types of `load_ingested`."""
    return frame_of(read_source(spec, source, folder).table)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _window(table: pa.Table, split: TimeSplit, as_of: str | None, source: str) -> tuple[pa.Table, dict[str, str]]:
    """The rows of the training and the holdout period that end at ``as_of``, in order of time."""
    from dateutil.relativedelta import relativedelta

    times = table.column(split.column)
    if not pa.types.is_timestamp(times.type):
        example = next((text for text in times.unique().to_pylist() if text and not is_time(text)), "")
        raise DataError(
            f"the column {split.column!r} is not a time: {example!r}", where=source, fix="use ISO 8601 times"
        )
    if times.null_count:
        raise DataError(f"{times.null_count:,} rows lack the time {split.column!r}", where=source)
    oldest, newest = moment_of(pc.min(times)), moment_of(pc.max(times))
    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        end = _parsed(as_of) if as_of else midnight + timedelta(days=1)
        holdout = end - relativedelta(**period_parts(split.holdout))
        start = holdout - relativedelta(**period_parts(split.train))
    except (OverflowError, ValueError):
        raise DataError(
            f"a window that ends with {as_of or f'{newest:%Y-%m-%d}'} leaves the calendar",
            where=source,
            fix="leave rows out whose time stands for none, such as 9999-12-31, or end the window with --as-of",
        ) from None
    inside = table.filter(_between(times, start, end))
    inside = inside.take(pc.sort_indices(inside, [(split.column, "ascending")]))
    for period, first, last in (("training", start, holdout), ("holdout", holdout, end)):
        if not pc.any(_between(inside.column(split.column), first, last)).as_py():
            raise DataError(
                f"the {period} period {first:%Y-%m-%d} to {last:%Y-%m-%d} holds no rows",
                where=source,
                fix=f"the data goes from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}; choose another --as-of",
            )
    return inside, {"train": start.isoformat(), "holdout": holdout.isoformat(), "end": end.isoformat()}


def _between(times: pa.ChunkedArray, first: datetime, last: datetime) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(times, moment(first)), pc.less(times, moment(last)))


def _parsed(as_of: str) -> datetime:
    import pandas as pd

    try:
        parsed: datetime = pd.Timestamp(as_of).to_pydatetime()
    except ValueError:
        raise DataError(f"{as_of!r} is not a date", where="--as-of", fix="use a date such as 2013-07-01") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)

"""The step *ingest*: brings a model's table into the working directory, as Parquet with a manifest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from homelab_mlops.console import say
from homelab_mlops.errors import DataError, SpecError
from homelab_mlops.model import demo_tables
from homelab_mlops.model.spec import ModelSpec, TimeSplit, period_parts
from homelab_mlops.pipeline import sources
from homelab_mlops.pipeline.tables import content_sha256, file_sha256, read_table, typed
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json


def ingest(spec: ModelSpec, work: Path, source: str | None = None, as_of: str | None = None) -> dict[str, Any]:
    """Writes ``work/ingest/data.parquet`` and ``manifest.json``, and returns the manifest.

    Args:
        source: instead of the specification's; ``demo`` stands for its demo table.
        as_of: the end of the window of a time split, an ISO date; the end of the data where it is None.

    Raises:
        DataError, StorageError, SpecError: the table cannot be read, or the window holds no rows.
    """
    source = _source(spec, source)
    with step_folder(work, "ingest") as folder:
        frame = read(spec, source, folder)
        window = None
        if isinstance(spec.split, TimeSplit):
            frame, window = _window(frame, spec.split, as_of, source)
        elif as_of is not None:
            raise SpecError("--as-of is for models with a time split", where=spec.name, fix="leave --as-of out")
        manifest: dict[str, Any] = {
            "model": spec.name,
            "source": source,
            "rows": len(frame),
            "columns": list(frame.columns),
            "sha256": content_sha256(frame),
            "window": window,
            "ingested_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "data.parquet")
        manifest["file_sha256"] = file_sha256(folder / "data.parquet")
        write_json(folder / "manifest.json", manifest)
        write_json(folder / "model.json", spec.model_dump(mode="json"))
    say(f"ingest: {len(frame):,} rows, {len(frame.columns)} columns from {source}, sha256 {manifest['sha256'][:12]}")
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
    if file_sha256(path) != manifest["file_sha256"]:
        raise DataError(
            "the ingested table is not the one that its manifest describes", where=str(path), fix=f"run `{command}`"
        )
    return read_table(path, spec, str(path)), manifest


def _source(spec: ModelSpec, source: str | None) -> str:
    if source != "demo":
        return source or spec.data.source
    if spec.data.demo is None:
        raise SpecError(
            f"the model {spec.name!r} names no demo table", fix="set `data.demo` in model.yaml, or give --source"
        )
    return spec.data.demo


def read(spec: ModelSpec, source: str, folder: Path) -> pd.DataFrame:
    """The rows of ``source`` with the declared types; ``folder`` takes a download meanwhile."""
    if demo_tables.is_built_in(source):
        frame = demo_tables.built_in(source)
        missing = [name for name in spec.columns if name not in frame.columns]
        if missing:
            raise DataError(
                f"the table lacks the column {missing[0]!r}", where=source, fix=f"it has {', '.join(frame.columns)}"
            )
        return typed(frame, spec)
    if source.startswith("s3://"):
        with sources.s3_files(source, folder) as files:
            return _concatenated(files, spec, source)
    if "://" in source:
        raise DataError(
            f"a source of this kind is not read: {source.partition('://')[0]}", where=source, fix="use a path or s3://"
        )
    return _concatenated(sources.local_files(source), spec, source)


def _concatenated(files: list[Path], spec: ModelSpec, source: str) -> pd.DataFrame:
    several = len(files) > 1
    frames = [read_table(file, spec, f"{source}{file.name}" if several else source) for file in files]
    return typed(pd.concat(frames, ignore_index=True), spec) if several else frames[0]


def _window(
    frame: pd.DataFrame, split: TimeSplit, as_of: str | None, source: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of the training and the holdout period that end at ``as_of``, in order of time."""
    times = frame[split.column]
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        example = next((value for value in times if pd.isna(pd.to_datetime(value, utc=True, errors="coerce"))), "")
        raise DataError(
            f"the column {split.column!r} is not a time: {example!r}", where=source, fix="use ISO 8601 times"
        )
    if times.isna().any():
        raise DataError(f"{int(times.isna().sum()):,} rows lack the time {split.column!r}", where=source)
    end = _parsed(as_of) if as_of else times.max().floor("D") + pd.Timedelta(days=1)
    holdout = end - pd.DateOffset(**period_parts(split.holdout))
    start = holdout - pd.DateOffset(**period_parts(split.train))
    inside = frame[(times >= start) & (times < end)].sort_values(split.column, kind="stable", ignore_index=True)
    for period, first, last in (("training", start, holdout), ("holdout", holdout, end)):
        if not ((inside[split.column] >= first) & (inside[split.column] < last)).any():
            raise DataError(
                f"the {period} period {first:%Y-%m-%d} to {last:%Y-%m-%d} holds no rows",
                where=source,
                fix=f"the data goes from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}; choose another --as-of",
            )
    return inside, {"train": start.isoformat(), "holdout": holdout.isoformat(), "end": end.isoformat()}


def _parsed(as_of: str) -> pd.Timestamp:
    try:
        moment = pd.Timestamp(as_of)
    except ValueError:
        raise DataError(f"{as_of!r} is not a date", where="--as-of", fix="use a date such as 2013-07-01") from None
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")

"""Tables from CSV and Parquet files, with the types that a specification declares.

Column types in memory: number and boolean features are float64 (true is 1, missing is NaN), integers are Int64,
timestamps are UTC with microseconds, everything else is text (missing is None).
A column whose values do not fit its type stays text, so that validation can name the values.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from homelab_mlops.errors import DataError
from homelab_mlops.model.scoring import as_text, booleans
from homelab_mlops.model.spec import ModelSpec

MAX_COLUMNS = 2000
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")


def read_table(path: Path, spec: ModelSpec, where: str) -> pd.DataFrame:
    """Reads the columns that ``spec`` declares, shape ``[rows, len(spec.columns)]``.

    Raises:
        DataError: the file is not a table with these columns; ``where`` names it.
        OSError: the file cannot be opened.
    """
    return typed(select(read_raw(path, where), spec.columns, where), spec)


def read_raw(path: Path, where: str, header: bool | None = True) -> pa.Table:
    """Reads all columns as they are; a CSV's are text. ``header`` None: a first line of numbers is not a header."""
    with path.open("rb") as file:
        start = file.read(65536)
    if not start:
        raise DataError("the file is empty", where=where, fix="write the table again")
    if start.startswith(b"PAR1"):
        return _read_parquet(path, where)
    if start.startswith(b"\x1f\x8b"):
        with gzip.open(path) as packed:
            start = packed.read(65536)
    if b"\0" in start:
        raise DataError(
            "the file is neither CSV nor Parquet: it is binary", where=where, fix="export it as CSV or Parquet"
        )
    return _read_csv(path, start, where, header)


def _read_parquet(path: Path, where: str) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        _check_names(file.schema_arrow.names, where)
        return file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the Parquet file is damaged or cut off: {_first_line(error)}", where=where, fix="write it again"
        ) from error


def _read_csv(path: Path, start: bytes, where: str, header: bool | None) -> pa.Table:
    try:
        first = next(csv.reader(io.StringIO(start.decode("utf-8-sig", errors="ignore"))), [])
    except csv.Error as error:
        raise DataError(f"the first line is not CSV: {error}", where=f"{where}:1") from error
    if header is None:
        header = not all(_is_number(cell) for cell in first)
    names = (
        [name.strip() for name in first]
        if header
        else [f"f{index - 1}" if index else "label" for index in range(len(first))]
    )
    _check_names(names, where)
    if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise DataError(
            f"the columns are separated by {other!r}, not by commas",
            where=f"{where}:1",
            fix="export the table with commas",
        )
    if header and not start.partition(b"\n")[2].strip():
        raise DataError(
            "the table has a header and no rows", where=where, fix="check the query or export that wrote it"
        )
    try:
        return pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=int(header)),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=MISSING, strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, OSError) as error:
        what = _first_line(error)
        if "UTF8" in what or "utf-8" in what.lower():
            what, fix = "the file is not UTF-8 text", "convert it to UTF-8"
        else:
            what, fix = (
                f"the file is not a regular CSV: {what}",
                "every line needs as many values as the header has names",
            )
        raise DataError(what, where=where, fix=fix) from error


def _check_names(names: list[str], where: str) -> None:
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"the table has {len(names):,} columns; at most {MAX_COLUMNS:,} are read",
            where=where,
            fix="check that it is the right file; select the columns that the model needs",
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"the column {repeated[0]!r} stands twice in the table", where=where, fix="rename or drop one of them"
        )


def select(table: pa.Table, columns: list[str], where: str) -> pd.DataFrame:
    """The declared columns of a table.

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names[:8]) + (", ..." if table.num_columns > 8 else "")
        raise DataError(
            f"the table lacks the column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing[:8]))}",
            where=where,
            fix=f"it has {table.num_columns}: {found}. Mend the table, or the names in model.yaml",
        )
    nested = [name for name in columns if pa.types.is_nested(table.schema.field(name).type)]
    if nested:
        raise DataError(f"the column {nested[0]!r} holds lists or records", where=where, fix="store one value per cell")
    frame: pd.DataFrame = table.select(columns).to_pandas(split_blocks=True)
    return frame


def typed(frame: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    """``frame`` with the declared types; a column that does not fit its type is left as text."""
    columns: dict[str, Any] = {}
    for name in spec.columns:
        series = frame[name]
        feature = spec.features.get(name)
        if name == spec.split.column:
            columns[name] = _fitting(series, _timestamps(series))
        elif name == spec.target.column:
            columns[name] = _fitting(series, _numbers(series)) if spec.task == "regression" else as_text(series)
        elif name == spec.data.weight:
            columns[name] = _fitting(series, _numbers(series))
        elif feature is None or feature.type == "category":
            columns[name] = as_text(series)
        elif feature.type == "boolean":
            columns[name] = _fitting(series, booleans(series))
        else:
            numbers = _numbers(series)
            whole = feature.type == "integer" and bool(np.all(np.isnan(numbers) | (np.floor(numbers) == numbers)))
            bounded = bool(np.all(np.isnan(numbers) | (np.abs(numbers) < 2**53)))
            columns[name] = _fitting(series, numbers.astype("Int64") if whole and bounded else numbers)
    return pd.DataFrame(columns)


def _numbers(series: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_bool_dtype(series.dtype):
        return series.astype("float64")
    return pd.to_numeric(series, errors="coerce").astype("float64")


def _timestamps(series: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(
        series,
        utc=True,
        errors="coerce",
        format="ISO8601" if series.dtype == "object" or pd.api.types.is_string_dtype(series.dtype) else None,
    ).dt.as_unit("us")


def _fitting(raw: pd.Series[Any], converted: pd.Series[Any]) -> pd.Series[Any]:
    return as_text(raw) if bool((converted.isna() & raw.notna()).any()) else converted


def content_sha256(frame: pd.DataFrame) -> str:
    """SHA-256 of the table's content: names, types and values in order, whatever file it came from."""
    digest = hashlib.sha256()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    digest.update(",".join(f"{field.name}:{field.type}" for field in table.schema).encode())
    sink = _Digest(digest)
    pacsv.write_csv(table, pa.PythonFile(sink, mode="w"))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Digest(io.RawIOBase):
    def __init__(self, digest: Any) -> None:
        self.digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() in MISSING
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

"""One logical table, and many ways in which people's programs write it."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

ROWS = 260
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = """
name: forty-ways
description: One table, however it is written.
task: binary
data: {source: nowhere, key: [kennung, zeitpunkt], min_rows: 100}
target: {column: gekündigt, labels: [0, 1]}
features:
  größe: {type: number, missing: 0.2}
  anzahl: {type: integer, missing: 0.2}
  aktiv: {type: boolean, missing: 0.2}
  neu: {type: number, missing: 0.4}
  code: {type: category, values: ["1", "2", "10"]}
  belag: {type: category, values: ["None", "NA", "Ziegel, rot"]}
  stadt: {type: category}
  abfahrt: {type: category}
  schicht: {type: category, missing: 0.2}
  tag: {type: category}
  uhrzeit: {type: category}
split: {method: time, column: zeitpunkt, train: 9 days, holdout: 2 days}
gate: {metric: auc}
"""

Way = Callable[[pa.Table, Path], None]
WAYS: dict[str, Way] = {}


def table() -> pa.Table:
    """Numbers, integers with missing ones, truths, names that look like numbers or like missing, times, umlauts.

    The truths `neu` are a number to the model. Times are categories, too: with a zone, without one, days and clock
    times.
    """
    random = np.random.default_rng(18)

    def some(values: list[Any], share: float = 0.1) -> list[Any]:
        return [None if random.random() < share else value for value in values]

    sizes = [round(float(value), 3) for value in random.normal(0, 40, ROWS)]
    counts = [int(value) for value in random.integers(0, 3000, ROWS)]
    codes = [int(value) for value in random.choice([1, 2, 10], ROWS)]
    numbers = random.integers(0, 4, ROWS).tolist()
    labels = [
        int(size + 30 * (code == 2) + 60 * (number == 3) - 60 * (number == 1) + noise > 0)
        for size, code, number, noise in zip(sizes, codes, numbers, random.normal(0, 20, ROWS), strict=True)
    ]
    departures = [FIRST + timedelta(minutes=330 * number) for number in numbers]
    shifts = [datetime(2026, 3, 1, 8 * (number % 3)) for number in numbers]  # noqa: DTZ001 - a time without a zone
    times = [FIRST + timedelta(hours=number, minutes=int(random.integers(0, 60))) for number in range(ROWS)]
    return pa.table(
        {
            "kennung": pa.array([2**53 + 1 + number for number in range(ROWS)], pa.int64()),
            "zeitpunkt": pa.array(times, pa.timestamp("us", "UTC")),
            "größe": pa.array(some(sizes), pa.float64()),
            "anzahl": pa.array(some(counts), pa.int64()),
            "aktiv": pa.array(some([bool(value) for value in random.integers(0, 2, ROWS)]), pa.bool_()),
            "neu": pa.array([None if number == 2 else number == 1 for number in numbers], pa.bool_()),
            "code": pa.array(codes, pa.int64()),
            "belag": pa.array([str(value) for value in random.choice(["None", "NA", "Ziegel, rot"], ROWS)]),
            "stadt": pa.array([str(value) for value in random.choice(["Köln", "Århus", "Łódź"], ROWS)]),
            "abfahrt": pa.array(departures, pa.timestamp("us", "UTC")),
            "schicht": pa.array(some(shifts), pa.timestamp("us")),
            "tag": pa.array([date(2026, 1, 1 + number) for number in numbers]),
            "uhrzeit": pa.array([time(5, 30, number) for number in numbers]),
            "gekündigt": pa.array(labels, pa.int64()),
        }
    )


def way(function: Way) -> Way:
    WAYS[function.__name__] = function
    return function


def frame_of(rows: pa.Table) -> pd.DataFrame:
    """As pandas has it by default: whole numbers and truths with missing ones as float64 and object."""
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def nullable(rows: pa.Table) -> pd.DataFrame:
    kinds: dict[pa.DataType, Any] = {
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(),
    }
    frame: pd.DataFrame = rows.to_pandas(types_mapper=kinds.get)
    return frame


def parts(rows: pa.Table, number: int) -> list[pa.Table]:
    edges = np.linspace(0, rows.num_rows, number + 1).astype(int)
    return [rows.slice(first, last - first) for first, last in pairwise(edges)]


def csv_text(rows: pa.Table, **options: Any) -> str:
    return str(frame_of(rows).to_csv(index=False, **options))


def _pandas_csv(name: str, write: Callable[[pa.Table], bytes], file: str = "data.csv") -> None:
    def one(rows: pa.Table, folder: Path) -> None:
        (folder / file).write_bytes(write(rows))

    one.__name__ = name
    way(one)


_pandas_csv("pandas_csv", lambda rows: csv_text(rows).encode())
_pandas_csv("pandas_csv_with_index", lambda rows: frame_of(rows).to_csv().encode())
_pandas_csv("pandas_csv_with_named_index", lambda rows: frame_of(rows).set_index("kennung").to_csv().encode())
_pandas_csv("pandas_csv_nullable", lambda rows: nullable(rows).to_csv(index=False).encode())
_pandas_csv("pandas_csv_na_rep", lambda rows: csv_text(rows, na_rep="NULL").encode())
_pandas_csv("pandas_csv_semicolon", lambda rows: csv_text(rows, sep=";").encode())
_pandas_csv("pandas_csv_tab", lambda rows: csv_text(rows, sep="\t").encode(), "data.tsv")
_pandas_csv("pandas_csv_pipe", lambda rows: csv_text(rows, sep="|").encode(), "data.txt")
_pandas_csv("pandas_csv_decimal_comma", lambda rows: csv_text(rows, sep=";", decimal=",").encode())
_pandas_csv("pandas_csv_decimal_comma_quoted", lambda rows: csv_text(rows, decimal=",").encode())
_pandas_csv("pandas_csv_bom", lambda rows: csv_text(rows).encode("utf-8-sig"))
_pandas_csv("pandas_csv_utf_16", lambda rows: csv_text(rows, sep="\t").encode("utf-16"))
_pandas_csv("pandas_csv_utf_16_be", lambda rows: ("\ufeff" + csv_text(rows)).encode("utf-16-be"))
_pandas_csv("pandas_csv_utf_32", lambda rows: csv_text(rows).encode("utf-32"))
_pandas_csv("pandas_csv_crlf", lambda rows: csv_text(rows, lineterminator="\r\n").encode())
_pandas_csv("pandas_csv_quoted", lambda rows: csv_text(rows, quoting=1).encode())
_pandas_csv("pandas_csv_without_ending", lambda rows: csv_text(rows).encode(), "part-00000")
_pandas_csv("pandas_csv_upper_case", lambda rows: csv_text(rows).encode(), "DATA.CSV")
_pandas_csv("pandas_csv_gzip", lambda rows: gzip.compress(csv_text(rows).encode()), "data.csv.gz")
_pandas_csv("pandas_csv_gzip_hidden", lambda rows: gzip.compress(csv_text(rows).encode()), "data.csv")
_pandas_csv(
    "pandas_csv_gzip_of_two",
    lambda rows: b"".join(gzip.compress(part.encode()) for part in (csv_text(rows)[:5000], csv_text(rows)[5000:])),
    "data.csv.gz",
)
_pandas_csv("pandas_csv_bzip2", lambda rows: bz2.compress(csv_text(rows).encode()), "data.csv.bz2")
_pandas_csv("pandas_csv_zstd", lambda rows: pa.compress(csv_text(rows).encode(), "zstd", asbytes=True), "data.csv.zst")
_pandas_csv("pandas_csv_utf_16_gzip", lambda rows: gzip.compress(csv_text(rows).encode("utf-16")), "data.gz")
_pandas_csv("pandas_csv_no_end_of_line", lambda rows: csv_text(rows).rstrip("\n").encode())
_pandas_csv(
    "pandas_csv_other_columns",
    lambda rows: (
        frame_of(rows)
        .assign(bemerkung="mit\nUmbruch", leer="", zahl=1.5)
        .rename(columns={"leer": ""})
        .to_csv(index=False)
        .encode()
    ),
)


@way
def pandas_csv_nine_parts(rows: pa.Table, folder: Path) -> None:
    for number, part in enumerate(parts(rows, 9)):
        (folder / f"part-{number:05d}").write_text(csv_text(part))
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.crc").write_bytes(b"crc\0")


@way
def pandas_csv_below_folders(rows: pa.Table, folder: Path) -> None:
    for number, part in enumerate(parts(rows, 3)):
        (folder / f"2026/{number}").mkdir(parents=True)
        (folder / f"2026/{number}/data.csv").write_text(csv_text(part))
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "data-checkpoint.csv").write_text(csv_text(rows))


@way
def pandas_csv_with_an_empty_part(rows: pa.Table, folder: Path) -> None:
    (folder / "part-0.csv").write_text(csv_text(rows))
    (folder / "part-1.csv").touch()
    (folder / "part-2.csv").write_text(csv_text(rows.slice(0, 0)))


@way
def pandas_csv_columns_in_other_orders(rows: pa.Table, folder: Path) -> None:
    first, second = parts(rows, 2)
    (folder / "a.csv").write_text(csv_text(first))
    (folder / "b.csv").write_text(csv_text(second.select(second.column_names[::-1])))


@way
def hive_folders(rows: pa.Table, folder: Path) -> None:
    """The rows stay in order, since each code's first row decides its folder's name: two folders only."""
    for number, part in enumerate(parts(rows, 2)):
        place = folder / f"half={number}"
        place.mkdir()
        (place / "data.csv").write_text(csv_text(part))


@way
def pandas_parquet(rows: pa.Table, folder: Path) -> None:
    frame_of(rows).to_parquet(folder / "data.parquet")


@way
def pandas_parquet_named_index(rows: pa.Table, folder: Path) -> None:
    frame_of(rows).set_index(["kennung", "zeitpunkt"]).to_parquet(folder / "data.parquet")


@way
def pandas_parquet_unnamed_index(rows: pa.Table, folder: Path) -> None:
    frame = frame_of(rows)
    frame.index = pd.Index(range(7, 7 + len(frame))[::-1]).astype("int64")
    frame.to_parquet(folder / "data.parquet", index=True)


@way
def pandas_parquet_categories(rows: pa.Table, folder: Path) -> None:
    frame = frame_of(rows)
    frame.astype({"code": "category", "belag": "category", "stadt": "category"}).to_parquet(folder / "part-0")


@way
def pandas_parquet_nullable(rows: pa.Table, folder: Path) -> None:
    nullable(rows).to_parquet(folder / "data.pq")


@way
def pandas_parquet_another_zone(rows: pa.Table, folder: Path) -> None:
    frame = frame_of(rows)
    for name in ("zeitpunkt", "abfahrt"):
        frame[name] = frame[name].dt.tz_convert("Asia/Kolkata")
    frame.to_parquet(folder / "data.parquet")


@way
def pyarrow_parquet(rows: pa.Table, folder: Path) -> None:
    pq.write_table(rows, folder / "data.parquet", compression="zstd", row_group_size=50)


@way
def pyarrow_parquet_other_types(rows: pa.Table, folder: Path) -> None:
    """Decimals, small integers, large strings, dictionaries, nanoseconds."""
    kinds = {
        "größe": pa.decimal128(20, 3),
        "anzahl": pa.int16(),
        "code": pa.decimal128(19, 0),
        "belag": pa.large_string(),
        "stadt": pa.dictionary(pa.int8(), pa.string()),
        "zeitpunkt": pa.timestamp("ns", "Europe/Berlin"),
        "abfahrt": pa.timestamp("ms", "America/New_York"),
        "schicht": pa.timestamp("ns"),
        "tag": pa.timestamp("ms"),
        "uhrzeit": pa.time64("ns"),
        "gekündigt": pa.bool_(),
    }
    columns = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        kind = kinds.get(field.name, field.type)
        encode = pa.types.is_dictionary(kind)
        columns.append(column.dictionary_encode() if encode else column.cast(kind, safe=False))
    pq.write_table(pa.table(columns, names=rows.column_names), folder / "data.parquet")


@way
def pyarrow_parquet_two_types_of_parts(rows: pa.Table, folder: Path) -> None:
    first, second = parts(rows, 2)
    pq.write_table(first, folder / "a.parquet")
    pandas_parquet(second, folder)


@way
def parquet_and_csv(rows: pa.Table, folder: Path) -> None:
    first, second = parts(rows, 2)
    pq.write_table(first, folder / "a.parquet")
    (folder / "b.csv").write_text(csv_text(second))


@way
def pyarrow_csv(rows: pa.Table, folder: Path) -> None:
    pacsv.write_csv(rows, folder / "data.csv")


@way
def polars_csv(rows: pa.Table, folder: Path) -> None:
    pl.DataFrame(rows).write_csv(folder / "data.csv")


@way
def polars_csv_semicolon_comma(rows: pa.Table, folder: Path) -> None:
    pl.DataFrame(rows).write_csv(folder / "data.csv", separator=";", decimal_comma=True, include_bom=True)


@way
def polars_csv_null_word(rows: pa.Table, folder: Path) -> None:
    pl.DataFrame(rows).write_csv(folder / "data.csv", null_value="n/a")


@way
def polars_parquet(rows: pa.Table, folder: Path) -> None:
    pl.DataFrame(rows).write_parquet(folder / "data.parquet")


@way
def duckdb_csv(rows: pa.Table, folder: Path) -> None:
    _duckdb(rows, f"COPY rows TO '{folder / 'data.csv'}' (HEADER)")


@way
def duckdb_csv_zstd(rows: pa.Table, folder: Path) -> None:
    _duckdb(rows, f"COPY rows TO '{folder / 'data.csv.zst'}' (HEADER, DELIMITER '|', COMPRESSION zstd)")


@way
def duckdb_parquet(rows: pa.Table, folder: Path) -> None:
    _duckdb(rows, f"COPY rows TO '{folder / 'data.parquet'}' (FORMAT parquet)")


@way
def duckdb_parquet_nine_parts(rows: pa.Table, folder: Path) -> None:
    for number, part in enumerate(parts(rows, 9)):
        _duckdb(part, f"COPY rows TO '{folder / f'part-{number}.parquet'}' (FORMAT parquet, COMPRESSION gzip)")


def _duckdb(rows: pa.Table, statement: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")
        connection.register("rows", rows)
        connection.execute(statement)


def in_another_zone(moment: datetime) -> str:
    """A time as a person in Nepal writes it."""
    return moment.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()


@way
def csv_times_of_other_zones(rows: pa.Table, folder: Path) -> None:
    frame = frame_of(rows)
    for name in ("zeitpunkt", "abfahrt"):
        frame[name] = [in_another_zone(moment.to_pydatetime()) for moment in frame[name]]
    frame.to_csv(folder / "data.csv", index=False)


@way
def csv_numbers_in_other_words(rows: pa.Table, folder: Path) -> None:
    """1.0 and 1e0 for 1, TRUE for true, a space around each value."""
    frame = frame_of(rows)
    frame["code"] = [f"{code}e0" for code in frame["code"]]
    frame["gekündigt"] = [f" {label}.0 " for label in frame["gekündigt"]]
    frame["aktiv"] = [None if truth is None else f" {str(truth).upper()}" for truth in frame["aktiv"]]
    frame.to_csv(folder / "data.csv", index=False)

"""What people's tables hold, and what is made of it: read rightly, or refused by name."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homelab_mlops.errors import DataError, HomelabError
from homelab_mlops.model.spec import Csv
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import Reading, read, read_as_it_is
from homelab_mlops.tables.spelling import number_hint

ROWS = 40
Read = Callable[..., Reading]


@pytest.fixture
def reading(tmp_path: Path) -> Read:
    """Reads one column or more of files that are written here: text, bytes, or a table for Parquet."""

    def run(content: str | bytes | pa.Table | dict[str, Any], *columns: Declared, **options: Any) -> Reading:
        source = tmp_path / "in"
        files = content if isinstance(content, dict) else {"data": content}
        for name, held in files.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(held, pa.Table):
                pq.write_table(held, path)
            else:
                path.write_bytes(held if isinstance(held, bytes) else held.encode())
        in_order = options.pop("in_order", ())
        return read(str(source), tmp_path, list(columns), Csv(**options), in_order)

    return run


def column(found: Reading, name: str) -> list[Any]:
    values: list[Any] = found.table.column(name).to_pylist()
    return values


def one(kind: Any, *names: str) -> Declared:
    return Declared("v", kind, names)


MOMENT = datetime(2026, 1, 1, 5, 30, tzinfo=UTC)
X, C = one("number"), one("text")


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        ("number", ["1", "1.5", "-2e3", "+4", ".5", "1.", " 7 ", "NA", ""], [1, 1.5, -2000, 4, 0.5, 1, 7, None, None]),
        ("number", ["True", "FALSE", " true ", "0.5", ""], [1, 0, 1, 0.5, None]),
        ("integer", ["True", "false", "2", ""], [1, 0, 2, None]),
        ("number", ["inf", "-Infinity"], [float("inf"), float("-inf")]),
        ("number", ["1", "NaN", "<NA>", "#N/A", "null", "None", "NaT"], [1, *[None] * 6]),
        ("integer", ["1", "1.0", "1e3", "-0", ""], [1, 1, 1000, 0, None]),
        ("integer", ["9007199254740993", "", "9007199254740995"], [2**53 + 1, None, 2**53 + 3]),
        ("integer", ["9007199254740993.0", "1"], [2**53 + 1, 1]),
        ("integer", ["1", "1.5"], [1, 1.5]),
        ("integer", ["1", "inf"], [1, float("inf")]),
        ("integer", ["18446744073709551615", "1"], ["18446744073709551615", "1"]),
        ("text", ["2026-01-01T05:30Z", "2026-01-01 11:15:00.000000+0545", "2026-01-01 05:30:00.5 UTC"],
         ["2026-01-01 05:30:00+00:00", "2026-01-01 05:30:00+00:00", "2026-01-01 05:30:00.5+00:00"]),
        ("text", ["2026-01-01T05:30", "2026-01-01 00:00:00", "2026-13-01 05:30:00", "05:30", "05:30:00.000"],
         ["2026-01-01 05:30:00", "2026-01-01", "2026-13-01 05:30:00", "05:30", "05:30:00"]),
        ("boolean", ["True", "false", "TRUE", "1", "0.0", "1e0", " 1 ", ""], [1, 0, 1, 1, 0, 1, 1, None]),
        ("text", ["red", " red", "None", "", "007", "1.0", "1e0", "1234567", "True"],
         ["red", "red", None, None, "007", "1", "1", "1234567", "true"]),
        ("text", ["9007199254740993", "1.10", "1.1", "+49", "2026-01-01"],
         ["9007199254740993", "1.1", "1.1", "+49", "2026-01-01"]),
    ],
)  # fmt: skip
def test_texts_become(kind: Any, texts: list[str], expected: list[Any], reading: Read) -> None:
    found = reading("v,other\n" + "".join(f'"{text}",1\n' for text in texts), one(kind))
    assert expected == column(found, "v")


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("number", ["1_000", "1"]),
        ("number", ["0x10", "1"]),
        ("number", ["1,5", "2"]),
        ("number", ["١", "1"]),  # noqa: RUF001
        ("integer", ["0x10", "1"]),
        ("boolean", ["yes", "1"]),
        ("boolean", ["2", "1"]),
        ("time", ["1356998400", "1356998401"]),
        ("time", ["31.12.2026", "01.01.2027"]),
        ("time", ["0001-01-01T00:00:00+05:00", "2026-01-01"]),
    ],
)
def test_texts_of_another_kind_stay_text(kind: Any, texts: list[str], reading: Read) -> None:
    """Which validation names, or the window of a time split."""
    found = reading("v,other\n" + "".join(f'"{text}",1\n' for text in texts), one(kind), decimal=".")
    assert texts == column(found, "v")


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T05:30:00Z", "2026-01-01 05:30", "2026-01-01T11:15:00+05:45", "20260101T053000",
     "2026-01-01 05:30:00.000000000", "2026-01-01 05:30:00.000000000+00:00"],
)  # fmt: skip
def test_times_are_understood(text: str, reading: Read) -> None:
    assert column(reading(f"v,w\n{text},1\nNaT,2\n", one("time")), "v") == [MOMENT, None]


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("text", pa.array([2**60, None, 2**60 + 1]), [str(2**60), None, str(2**60 + 1)]),
        ("text", pa.array([1.0, 2.5, None]), ["1", "2.5", None]),
        ("text", pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
        ("text", pa.array([True, None]), ["true", None]),
        ("text", pa.array(["None", "a"]).dictionary_encode(), [None, "a"]),
        ("text", pa.array([b"a", b"\xc3\xa9"]), ["a", "é"]),
        ("text", pa.array(["e\u0301", "\u00a0é"]), ["é", "é"]),
        ("text", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16))), [str(UUID(int=0))]),
        ("text", pa.array([date(2026, 1, 1)]), ["2026-01-01"]),
        ("text", pa.array([datetime(2026, 1, 1)]), ["2026-01-01"]),  # noqa: DTZ001
        ("text", pa.array([MOMENT, None]), ["2026-01-01 05:30:00+00:00", None]),
        ("text", pa.array([19_800_000_000_001], pa.time64("ns")), ["05:30:00.000000001"]),
        ("integer", pa.array([2**64 - 1, 1], pa.uint64()), ["18446744073709551615", "1"]),
        ("integer", pa.array([1e19, None]), ["10000000000000000000", None]),
        ("integer", pa.array([2.0**60, None]), [2**60, None]),
        ("number", pa.array(["113.359", "0.1"]).cast(pa.decimal128(9, 3)), [113.359, 0.1]),
        ("number", pa.array([None, None]), [None, None]),
        ("number", pa.array([2**64 - 1, 1], pa.uint64()), [float(2**64), 1.0]),
        ("number", pa.array([1, None], pa.uint8()), [1.0, None]),
        ("number", pa.array([float("nan"), 1.0]), [None, 1.0]),
        ("integer", pa.array([2**53 + 1, None]), [2**53 + 1, None]),
        ("integer", pa.array([3.0, None]), [3, None]),
        ("boolean", pa.array([1.0, 0.0, None]), [1.0, 0.0, None]),
        ("time", pa.array([datetime(2026, 1, 1, 5, 30), None], pa.timestamp("ns")), [MOMENT, None]),  # noqa: DTZ001
        ("time", pa.array([date(2026, 1, 1)]), [datetime(2026, 1, 1, tzinfo=UTC)]),
        ("time", pa.array([20260101]), [datetime(2026, 1, 1, tzinfo=UTC)]),
    ],
)
def test_parquets_types_become(kind: Any, array: pa.Array, expected: list[Any], reading: Read) -> None:
    assert expected == column(reading(pa.table({"v": array, "w": array}), one(kind)), "v")


@pytest.mark.parametrize(
    "array",
    [
        pa.array([2**60, 0], pa.timestamp("ms")),
        pa.array([3 * 10**17, 0], pa.timestamp("us", "UTC")),
        pa.array([10**7, 0], pa.int32()).cast(pa.date32()),
    ],
)
def test_times_beyond_the_calendar_are_none(array: pa.Array, reading: Read) -> None:
    assert reading(pa.table({"v": array}), one("time")).table.schema.field("v").type == pa.string()


@pytest.mark.parametrize(
    ("kind", "array", "expected"),
    [
        ("number", pa.array([MOMENT]), "the column 'v' holds times (timestamp[us, tz=UTC]), not a number"),
        ("integer", pa.array([date(2026, 1, 1)]), "the column 'v' holds times (date32[day]), not an integer"),
        ("boolean", pa.array([time(1)]), "holds times"),
        ("time", pa.array([1.5]), "the column 'v' is not a time: it holds double"),
        ("number", pa.array([[1.0]]), "the column 'v' holds lists or records"),
        ("text", pa.array([{"a": 1}]), "the column 'v' holds lists or records"),
        ("text", pa.array([b"\xff\xfe"]), "the column 'v' holds bytes that are no text"),
        ("text", pa.array(pd.period_range("2026-01", periods=2, freq="M")), "type that is not read: pandas.period"),
        ("number", pa.array([1], pa.duration("s")), "the column 'v' holds values of a type that is not read: duration"),
    ],
)
def test_types_that_cannot_be_meant_are_refused(kind: Any, array: pa.Array, expected: str, reading: Read) -> None:
    with pytest.raises(DataError) as refusal:
        reading(pa.table({"v": array}), one(kind))
    assert expected in refusal.value.what


def test_a_listed_name_is_never_missing(reading: Read) -> None:
    listed = one("text", "None", "NA", "1", "true")
    for content in (
        "v,w\nNone,1\nNA,1\n1.0,1\nTRUE,1\nnull,1\n,1\n",
        pa.table({"v": ["None", "NA", "1.0", "TRUE", "null", None]}),
    ):
        assert column(reading(content, listed), "v") == ["None", "NA", "1", "true", None, None]


def test_what_is_taken_for_missing_or_for_one_name_is_said(reading: Read) -> None:
    found = reading("v,w\nNone,1\nNone,1\n1.10,1\n1.1,1\n", C)
    assert "column 'v': read as missing: 'None' (2); a name that model.yaml lists is none of these" in found.said
    assert "column 'v': equal by value: '1.10' as '1.1'" in found.said


def test_a_listed_time_is_that_category_as_it_is_listed(reading: Read) -> None:
    listed = one("text", "2026-01-01T05:30Z", "2026-01-01")
    written = pa.table({"v": pa.array([MOMENT]), "w": [1]})
    assert column(reading(written, listed), "v") == ["2026-01-01T05:30Z"]
    text = "v,w\n2026-01-01T05:30Z,1\n2026-01-01 05:30:00+00:00,1\n2026-01-01,1\n"
    assert column(reading(text, listed), "v") == ["2026-01-01T05:30Z", "2026-01-01T05:30Z", "2026-01-01"]


def test_numbers_that_cannot_be_told_apart_are_said(reading: Read) -> None:
    for kind, last in (("integer", 1767225602), ("number", 2**64 - 1)):
        (line,) = reading(f"v,w\n1767225601,1\n{last},1\n", one(kind)).said[:-1]
        assert "column 'v': XGBoost rounds to 32 bits, which leaves " in line
    assert len(reading("v,w\n17672256.5,1\n17672256.6,1\n", X).said) == 1
    assert len(reading("v,w\n16777217,1\n1,1\n", one("integer")).said) == 1
    (line,) = reading(pa.table({"v": [2.0**53 + 2, 1.0]}), C).said[:-1]
    assert "beyond 2^53 as floating point" in line


def test_a_pandas_index_is_a_column_like_any_other(tmp_path: Path) -> None:
    frame = pd.DataFrame({"v": [1.0, 2.0]}, index=pd.Index([7, 8], name="id"))
    frame.to_parquet(tmp_path / "named.parquet")
    both = [Declared("id", "text"), X]
    assert column(read(str(tmp_path / "named.parquet"), tmp_path, both), "id") == ["7", "8"]
    frame.rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    found = read_as_it_is(str(tmp_path / "unnamed.parquet"), tmp_path, Needed())
    assert found.table.column_names == ["v"]
    assert any("a column without a name is left out" in line for line in found.said)


BODY = "".join(f"{n % 2},{n},{n / 7:.3f},{'red' if n % 3 else 'blue'}\n" for n in range(1, ROWS))


@pytest.mark.parametrize(
    ("files", "names", "rows"),
    [
        ({"a": BODY}, ["label", "f0", "f1", "f2"], ROWS - 1),
        ({"a": BODY, "b": BODY.replace("red", "green")}, ["label", "f0", "f1", "f2"], 2 * ROWS - 2),
        ({"a": "y,n,x,c\n" + BODY}, ["y", "n", "x", "c"], ROWS - 1),
        (
            {"a": "y,n,x,c\n" + BODY, "b": "y,n,x,c\n" + BODY.replace("red", "green")},
            ["y", "n", "x", "c"],
            2 * ROWS - 2,
        ),
        ({"a": BODY.replace("0,", "True,").replace("1,", "False,")}, ["label", "f0", "f1", "f2"], ROWS - 1),
        ({"a": ",y,c\n" + "".join(f"{n},{n % 2},red\n" for n in range(9))}, ["y", "c"], 9),
        ({"a": "kind,colour\n" + "yes,red\nno,red\n" * 9}, ["kind", "colour"], 18),
        ({"a": "yes,red\nno,red\n" * 9}, ["label", "f0"], 18),
        ({"a": '"two\nlines",y\n' + "1,2\n" * 9}, ["two\nlines", "y"], 9),
        ({"a": '\n\r\n"two\nlines",y\n\n' + "1,2\n\n" * 9}, ["two\nlines", "y"], 9),
        ({"a": "\n\n" + "1,2\n" * 9}, ["label", "f0"], 9),
    ],
)
def test_whether_there_is_a_header_is_decided_once(
    files: dict[str, str], names: list[str], rows: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = read_as_it_is(str(tmp_path), tmp_path, Needed())
    assert names == found.table.column_names
    assert rows == found.table.num_rows


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "0,1,2,3\n" + BODY}, "cannot be told whether the first line is a header"),
        ({"a": "id,2025,2026\n" + "1,2,3\n" * 9}, "cannot be told whether the first line is a header"),
        ({"a": "red,blue\n" + "".join(f"n{n},m{n}\n" for n in range(9))}, "cannot be told whether the first line is"),
        ({"a": "y,n,x,c\n" + BODY, "b": BODY}, "one file begins with the names of the columns, another does not"),
        ({"a": "y,n,x,c\n" + BODY, "b": "y,n,x,d\n" + BODY}, "the files of the table have different columns: 'c', 'd'"),
        ({"a": "y,y\n" + "1,2\n" * 9}, "the column 'y' stands twice"),
        ({"a": "y,n\n" + "1,2\n" * 9, "b": "y;n\n" + "1;3\n" * 9}, "different delimiters: comma, semicolon here"),
        ({"a": "1;2;a\n" * 9, "b": "1,3,a\n" * 9}, "different delimiters: semicolon, comma here"),
        ({"a": "a,b;c\n" * 9}, "it cannot be told what separates the columns: comma and semicolon both fit"),
    ],
)
def test_what_cannot_be_told_is_said(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refusal:
        read_as_it_is(str(tmp_path), tmp_path, Needed())
    assert expected in refusal.value.what
    assert refusal.value.fix


def test_a_table_without_header_takes_the_models_order_or_the_listed_names(reading: Read) -> None:
    wanted = [
        Declared("y", "text", ("0", "1")),
        Declared("n", "integer"),
        Declared("x", "number"),
        Declared("c", "text"),
    ]
    for options in (
        {"in_order": ["y", "n", "x", "c"]},
        {"in_order": ["y", "n", "x", "c"], "header": False},
        {"header": ["y", "n", "x", "c"]},
    ):
        found = reading(BODY, *wanted, **options)
        assert found.table.num_rows == ROWS - 1
        assert list(range(1, ROWS)) == column(found, "n")
        assert "read as: no header" in found.said
    with pytest.raises(DataError, match="has 4 columns; the model has 2"):
        reading(BODY, *wanted, in_order=["y", "n"])


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("v;w\n1,5;a\n2,25;b\n", {}, "semicolon, decimal comma"),
        ("v;w\n1,5e0;a\n225,0e-2;b\n", {}, "semicolon, decimal comma"),
        ("v;w\n1.500,5;a\n2.000,25;b\n", {}, "semicolon, decimal comma, '.' between thousands"),
        ("v\tw\n1.5\ta\n", {}, "tab"),
        ("w|v\na|1.5\n", {}, "pipe"),
        ("# made by hand\nv,w\n# and a row\n1.5,a\n", {"comment": "#"}, None),
        ("v,w\n'1.5','a,b'\n", {"quote": "'"}, None),
        ('v,w\n1.5,5" pipe\n', {"quote": ""}, None),
        ('v,w\n"1,234.5",a\n', {"thousands": ","}, "',' between thousands"),
        ("v,w\n1 234.5,a\n", {"thousands": " "}, "' ' between thousands"),
        ("v w\n1.5 a\n", {"delimiter": " "}, "' '"),
        ("v,größe\n1.5,Köln\n".encode("cp1252"), {"encoding": "cp1252"}, "cp1252"),
        ("v,w\n1.5,a\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, "utf-16-le"),
        ("v,w\n-999,a\n1.5,b\n", {"missing": ["-999"]}, None),
    ],
)
def test_dialects(text: str | bytes, options: dict[str, Any], said: str | None, reading: Read) -> None:
    found = reading(text, X, **options)
    expected = {
        "1.500,5": [1500.5, 2000.25],
        "1,5;": [1.5, 2.25],
        "1,5e0": [1.5, 2.25],
        "-999": [None, 1.5],
        "234": [1234.5],
    }
    plain = text if isinstance(text, str) else ""
    assert next((values for mark, values in expected.items() if mark in plain), [1.5]) == column(found, "v")
    assert ([f"read as: {said}"] if said else []) == [line for line in found.said if line.startswith("read as")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (gzip.compress(("v,w\n" + "1,2\n" * 900).encode(), mtime=0)[:-20], "the gzip file is cut off"),
        (pa.compress(("v,w\n" + "1,2\n" * 90).encode(), "zstd", asbytes=True)[:-5], "the zstd file is cut off"),
        ("v,größe\n1,2\n".encode("cp1252"), None),
        ("größe,w\n1,2\n".encode("cp1252"), "the file is not UTF-8 text"),
        ("v,w\n1,2\n".encode("utf-16-le"), "UTF-16 without a mark is read with `data.csv.encoding: utf-16-le`"),
        ("v,w\n1,2\n".encode("utf-16")[:-1], "the file is cut off"),
        ("v,w,z\n1,2,3\n1,2", "it is cut off, its last line has 2 of 3 values"),
        ('v,w\n1,"2\n', "is never closed"),
        ("v,w\n1,2\n1,2,3\n", "not a regular CSV"),
        ('v,w\n1,"5\\" pipe"\n', "behind a backslash"),
        ('v, w\n1, "2,3"\n', "a space stands before a quotation mark"),
        (b"PK\x03\x04" + b"\0" * 99, "a zip archive or an Excel file"),
        (b"ARROW1\0\0" + b"\0" * 99, "an Arrow file"),
        ("v,v\n1,2\n", "the column 'v' stands twice"),
        ("0.5,b\n1,2\n", "names none of the model's columns"),
        ("a,b\nc,d\n", "the table lacks the column 'v'"),
    ],
)
def test_what_is_not_right_is_named(content: bytes | str, expected: str | None, reading: Read) -> None:
    if expected is None:
        assert column(reading(content, X), "v") == [1.0]
        return
    with pytest.raises(HomelabError) as refusal:
        reading(content, X)
    assert expected in refusal.value.what
    assert refusal.value.fix


def test_columns_that_nobody_needs_may_be_anything(reading: Read) -> None:
    nested = pa.table({"v": [1.0], "many": [[1, 2]], "when": [MOMENT]})
    assert column(reading(nested, X), "v") == [1.0]
    assert column(reading('v,,,a,a,"b\nc"\n1,,,2,3,"4\n5"\n', X), "v") == [1.0]


def test_nested_columns_that_nobody_needs_stay_with_the_rows(tmp_path: Path) -> None:
    for number in (1, 2):
        part = pa.table({"v": [float(number)] * 30, "tags": [["a", "b"]] * 30, "of": [{"k": number}] * 30})
        pq.write_table(part, tmp_path / f"{number}")
    found = read_as_it_is(str(tmp_path), tmp_path, Needed((X,))).table
    assert found.slice(29, 2).to_pylist() == [
        {"v": float(number), "tags": ["a", "b"], "of": {"k": number}} for number in (1, 2)
    ]
    with pytest.raises(DataError, match="the column 'tags' holds lists or records"):
        read_as_it_is(str(tmp_path), tmp_path, Needed((Declared("tags", "text"),)))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1,234", {"thousands": ","}),
        ("-1,234,567.5", {"thousands": ","}),
        ("1.234.567", {"thousands": "."}),
        ("1.234,5", {"thousands": ".", "decimal": ","}),
        ("1'234", {"thousands": "'"}),
        ("12 345", {"thousands": " "}),
        ("1_000", {"thousands": "_"}),
        ("12,25", {"decimal": ","}),
        (",5", {"decimal": ","}),
        ("k.A.", {"missing": ["k.A."]}),
        ("-", {"missing": ["-"]}),
    ],
)
def test_the_hint_on_a_cell_that_is_no_number_is_right(text: str, options: dict[str, Any], reading: Read) -> None:
    table = "v;w\n" + f"{text};a\n" * 2
    assert pa.types.is_floating(reading(table, X, header=True, **options).table.schema.types[0])
    hint = number_hint(text)
    assert repr(text) in hint
    for key, value in options.items():
        assert f"`data.csv.{key}:" + (f" {value!r}`" if key != "missing" else "`") in hint


@pytest.mark.parametrize("text", ["1.5", "true", "inf", "", "4 apples", "1,23,4", "0x10"])
def test_no_hint_is_better_than_a_wrong_one(text: str) -> None:
    assert number_hint(text) == ""


def test_a_folder_is_read_by_one_rule(reading: Read) -> None:
    found = reading(
        {
            "year=2026/month=1/part-00000": "v\tw\n1\ta\n",
            "year=2026/month=1/part-00001.CSV": "v\tw\n2\tb\n",
            "year=2027/month=__HIVE_DEFAULT_PARTITION__/data.parquet": pa.table({"v": [3.0]}),
            ".ipynb_checkpoints/data-checkpoint.csv": "v\tw\n9\tz\n",
            "_temporary/0/part-00000": "v\tw\n9\tz\n",
            "_SUCCESS": "",
            "README.md": "# About",
            "empty.csv": "",
        },
        X,
        Declared("year", "integer"),
        Declared("month", "text"),
    )
    assert column(found, "v") == [1.0, 2.0, 3.0]
    assert column(found, "year") == [2026, 2026, 2027]
    assert column(found, "month") == ["1", "1", None]
    assert found.files == 3
    left_out = " ".join(found.left_out)
    for name in (".ipynb_checkpoints", "_temporary", "_SUCCESS", "README.md", "empty.csv (empty)"):
        assert name in left_out
        assert any(name in line for line in found.said)
    assert f"read 3 files, 3 rows, {found.size:,} bytes" in found.said


def test_a_column_is_in_the_files_or_in_the_names_of_their_folders(reading: Read) -> None:
    found = reading(
        {"c=red/a.csv": "v,w\n1,x\n2,y\n", "b.csv": "v,w,c\n3,x,blue\n", "c=2/d": "v,w\n4,x\n"},
        X,
        Declared("c", "text"),
    )
    assert list(zip(column(found, "v"), column(found, "c"), strict=True)) == [
        (3.0, "blue"), (4.0, "2"), (1.0, "red"), (2.0, "red"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="the table lacks the column 'c'") as refusal:
        reading({"e.csv": "v,w\n5,x\n"}, X, Declared("c", "text"))
    assert refusal.value.where.endswith("e.csv")


@pytest.mark.parametrize("content", ["gro\u0308\u00dfe,w\n1,a\n2,b\n", pa.table({"gro\u0308\u00dfe": [1.0]})])
def test_a_name_that_unicode_composes_otherwise_is_said(content: Any, reading: Read) -> None:
    with pytest.raises(DataError) as refusal:
        reading(content, Declared("gr\u00f6\u00dfe", "number"))
    assert r"'gro\u0308\xdfe' looks the same" in refusal.value.what
    assert "NFC" in refusal.value.fix


def test_libsvm_is_read_as_the_container_reads_it(tmp_path: Path) -> None:
    (tmp_path / "part-0").write_text("1 1:0.5 3:2 # a comment\n0 1:-1e2\n1:0.25 3:7\n".replace("1:0.25 3", "1 3"))
    found = read_as_it_is(str(tmp_path), tmp_path, Needed()).table
    assert found.column_names == ["label", "f1", "f3"]
    assert found.column("f1").to_pylist() == [0.5, -100.0, None]
    assert found.column("f3").to_pylist() == [2.0, None, 7.0]
    (tmp_path / "part-0").write_text("1:0.5 1:2\n0:2 1:3\n")
    found = read_as_it_is(str(tmp_path), tmp_path, Needed()).table
    assert found.column("weight").to_pylist() == [0.5, 2.0]
    (tmp_path / "part-0").write_text("1 1:2 1:3\n0 1:3\n")
    with pytest.raises(DataError, match="a row names an index twice"):
        read_as_it_is(str(tmp_path), tmp_path, Needed())


LINES = "".join(f"{number % 2},{number / 8},{'red' if number % 3 else 'blue'}\n" for number in range(40))
NAMED = (Declared("y", "text", ("0", "1")), X, C)


@pytest.mark.parametrize("copy", ["text", "packed", "parquet"])
def test_a_copy_of_a_file_does_not_count_twice(copy: str, reading: Read) -> None:
    text = "y,v,c\n" + LINES.replace("blue", "None")
    frame = pd.read_csv(io.StringIO(text), keep_default_na=False)
    copies = {"text": text, "packed": gzip.compress(text.encode()), "parquet": pa.Table.from_pandas(frame)}
    with pytest.raises(DataError, match=r"hold the same 40 rows, which would count twice: .*a\.csv"):
        reading({"a.csv": text, "z": copies[copy]}, *NAMED[:2])


def test_a_part_may_have_no_row_and_no_end_of_its_line(reading: Read) -> None:
    found = reading({"a.csv": "v,w\n1,2\n", "b.csv": "v,w", "c.csv": gzip.compress(b"v,w")}, X)
    assert column(found, "v") == [1]


def test_few_equal_rows_may_be_chance_which_is_said(reading: Read) -> None:
    found = reading({"a.csv": "v\n1\n2\n", "b.csv": "v\n1\n2\n", "c.csv": "v\n1\n3\n"}, X)
    assert column(found, "v") == [1, 2, 1, 2, 1, 3]
    (line,) = [line for line in found.said if "same" in line]
    assert "a.csv" in line
    assert "b.csv" in line


@pytest.mark.parametrize("columns", [NAMED, ()])
@pytest.mark.parametrize("text", [LINES, LINES.replace("0,", "no,").replace("1,", "yes,").replace(".", "a")])
def test_a_header_that_stands_there_again_is_refused(columns: tuple[Declared, ...], text: str, tmp_path: Path) -> None:
    """As `cat a.csv b.csv` leaves it, also where a thousand rows come before."""
    for first in (text, text * 40):
        (tmp_path / "in.csv").write_text(f"y,v,c\n{first}y,v,c\n{text}")
        with pytest.raises(DataError, match="holds the names of the columns") as refusal:
            read_as_it_is(str(tmp_path / "in.csv"), tmp_path, Needed(columns))
        assert f"row {first.count(chr(10)) + 1:,} " in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y;v\n" + "0;5.366\n1;705\n0;12.500\n" * 3, "cannot be told whether '5.366' has a fraction"),
        ("sep=;\ny;v\n0;1\n1;2\n", "the first line is for Excel only"),
    ],
)
def test_what_may_be_either_is_refused(text: str, expected: str, reading: Read) -> None:
    with pytest.raises(DataError, match=expected):
        reading(text, NAMED[0], X)


def test_a_fraction_or_thousands_are_told_by_any_other_number(reading: Read) -> None:
    for other, expected in (("0.125", [5.366, 0.125]), ("1.5", [5.366, 1.5]), ("1,5", [5366, 1.5])):
        found = reading("y;v\n" + f"0;5.366\n1;{other}\n" * 6, NAMED[0], X)
        assert column(found, "v")[:2] == expected
    assert column(reading("y;v\n" + "0;5.366\n" * 6, NAMED[0], X, decimal="."), "v")[0] == 5.366
    assert column(reading("y;v\n" + "0;5.366\n" * 6, NAMED[0], X, thousands="."), "v")[0] == 5366


def test_libsvm_has_rows_of_zeros_comments_and_weights(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("# from a script\n0:2\n1:1 1:0.5 # a remark\n0:2 1:0.25 3:7\n")
    found = read_as_it_is(str(tmp_path / "data"), tmp_path, Needed())
    assert found.weighted
    assert found.table.to_pydict() == {
        "label": [0, 1, 0], "weight": [2, 1, 2], "f1": [None, 0.5, 0.25], "f3": [None, None, 7]
    }  # fmt: skip


def test_parquet_files_of_which_one_holds_its_numbers_as_text_fit_together(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"v": [1, 2]}), tmp_path / "in" / "a")
    pq.write_table(pa.table({"v": pa.array(["3", "x"], pa.large_string())}), tmp_path / "in" / "b")
    found = read_as_it_is(str(tmp_path / "in"), tmp_path, Needed())
    assert column(found, "v") == ["1", "2", "3", "x"]

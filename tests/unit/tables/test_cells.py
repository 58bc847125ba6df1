"""A CSV's columns get the types of their cells where `homelab predict` writes them."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homelab_mlops.model.spec import Csv
from homelab_mlops.tables.cells import with_types
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import Reading, read_as_it_is

MOMENT, MIDNIGHT = pa.timestamp("us"), datetime(2026, 1, 1)  # noqa: DTZ001 - a time without a zone
TEXT, INTEGER, NUMBER, TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        (["1", "-20"], INTEGER, [1, -20]),
        (["9007199254740993", ""], INTEGER, [9007199254740993, None]),
        (["1.50", "NA", "2e3"], NUMBER, [1.5, None, 2000.0]),
        (["True", "false"], TRUTH, [True, False]),
        (["007", "12"], TEXT, ["007", "12"]),
        (["+49", "1"], TEXT, ["+49", "1"]),
        (["1", "two", "None"], TEXT, ["1", "two", "None"]),
        (["2026-01-31", " x "], TEXT, ["2026-01-31", " x "]),
        (["NA", "NA"], TEXT, ["NA", "NA"]),
        (["123456789012345678901234567890"], TEXT, ["123456789012345678901234567890"]),
    ],
)
def test_the_cells_say_the_type(cells: list[str], kind: pa.DataType, expected: list[object], tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("k,v,end\n" + "".join(f"a,{cell},b\n" for cell in cells))
    found = read_as_it_is(str(tmp_path), tmp_path, Needed())
    assert found.untyped
    column = with_types(found.table, (), found.spelling).column("v")
    assert (kind, expected) == (column.type, column.to_pylist())


def test_a_declaration_comes_first_and_marks_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("code;price;whole\n1;1.234,5;3\n2;7,25;4\n")
    declared = [Declared("code", "text"), Declared("whole", "number")]
    found = read_as_it_is(str(tmp_path), tmp_path, Needed((*declared, Declared("price", "number"))))
    typed = with_types(found.table, declared, found.spelling)
    assert typed.to_pydict() == {"code": ["1", "2"], "price": [1234.5, 7.25], "whole": [3.0, 4.0]}
    assert typed.schema.types == [TEXT, NUMBER, NUMBER]


@pytest.mark.parametrize(
    ("kind", "value", "cells", "expected"),
    [
        (pa.int16(), 7, ["8", "9.0", ""], [7, 8, 9, None]),
        (pa.int16(), 7, ["70000"], [7, 70000]),
        (INTEGER, 7, ["9007199254740993"], [7, 2**53 + 1]),
        (pa.float32(), 0.5, ["0.1", "NA"], [0.5, 0.1, None]),
        (NUMBER, 0.5, ["1", "2"], [0.5, 1.0, 2.0]),
        (TRUTH, True, ["False", "true", ""], [True, False, True, None]),
        (pa.null(), None, ["1", "2"], [None, 1, 2]),
        (MOMENT, MIDNIGHT, ["2026-01-01 05:30:00"], [MIDNIGHT, MIDNIGHT + timedelta(hours=5.5)]),
        (pa.date32(), date(2026, 1, 1), ["2026-01-02"], [date(2026, 1, 1), date(2026, 1, 2)]),
        (pa.time64("us"), time(5, 30), ["06:30:00"], [time(5, 30), time(6, 30)]),
        (TEXT, "a", ["007", "NA", " x "], ["a", "007", "NA", " x "]),
        (pa.large_string(), "a", ["1"], ["a", "1"]),
        (pa.dictionary(pa.int8(), TEXT), "a", ["b"], ["a", "b"]),
    ],
)
def test_beside_parquet_a_csv_has_its_types(
    kind: pa.DataType, value: Any, cells: list[str], expected: list[object], tmp_path: Path
) -> None:
    found = beside(kind, value, cells, tmp_path)
    assert found.said[:-1] == ()
    assert expected == found.table.column("v").to_pylist()
    wider = {pa.int16(): (pa.int16(), INTEGER), pa.float32(): (NUMBER,), pa.null(): (INTEGER,)}
    assert found.table.schema.field("v").type in wider.get(kind, (kind,))


@pytest.mark.parametrize(
    ("kind", "value", "cells", "expected"),
    [
        (INTEGER, 7, ["007", "8"], ["7", "007", "8"]),
        (INTEGER, 7, ["8.5"], ["7", "8.5"]),
        (NUMBER, 0.5, ["9007199254740993"], ["0.5", "9007199254740993"]),
        (TRUTH, True, ["1"], ["true", "1"]),
        (MOMENT, MIDNIGHT, ["2026-01-02 05:30:00Z"], ["2026-01-01", "2026-01-02 05:30:00Z"]),
    ],
)
def test_what_does_not_fit_beside_parquet_is_said(
    kind: pa.DataType, value: Any, cells: list[str], expected: list[object], tmp_path: Path
) -> None:
    found = beside(kind, value, cells, tmp_path)
    assert expected == found.table.column("v").to_pylist()
    (line,) = found.said[:-1]
    for part in ("column 'v' becomes text", f"{kind} in {tmp_path / 'a.parquet'}", f"string in {tmp_path / 'b.csv'}"):
        assert part in line


def beside(kind: pa.DataType, value: Any, cells: list[str], folder: Path) -> Reading:
    pq.write_table(pa.table({"k": ["a"], "v": pa.array([value], kind), "end": ["b"]}), folder / "a.parquet")
    (folder / "b.csv").write_text("k,v,end\n" + "".join(f"a,{cell},b\n" for cell in cells))
    return read_as_it_is(str(folder), folder, Needed(), Csv(header=True))

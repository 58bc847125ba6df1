"""A CSV's columns get the types of their cells where `homelab predict` writes them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from homelab_mlops.tables.cells import with_types
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import read_as_it_is

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

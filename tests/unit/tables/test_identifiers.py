"""A warning names the column whose rows a random split would part, and no other column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.identifiers import RowSplit
from homelab_mlops.tables.read import Reading, read

RANDOM = np.random.default_rng(7)
CUSTOMER = RANDOM.permutation(np.repeat(np.arange(60), 5))
OF_CUSTOMER = RANDOM.integers(0, 2, 60)[CUSTOMER]
DELAY = RANDOM.integers(-40, 60, 300)
NEEDED = (Declared("y", "text", ("0", "1")), Declared("a", "number"))


def reading(table: pd.DataFrame, folder: Path, kind: str) -> Reading:
    table = table.assign(a=1.5)
    path = folder / "data"
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return read(str(path), folder, NEEDED, by_row=RowSplit("y", frozenset({"a"})))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("names", [CUSTOMER, [f"K{number}" for number in CUSTOMER]])
def test_a_label_a_customer_is_said(names: object, kind: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"customer": names, "y": OF_CUSTOMER, "row": range(300)})
    found = [line for line in reading(table, tmp_path, kind).said if line.startswith("warning")]
    assert len(found) == 1
    assert "'y' is the same in all rows of one 'customer' (60 values of it in the first 300 rows)" in found[0]
    assert "group: customer}" in found[0]


@pytest.mark.parametrize(
    "table",
    [
        {"delay": DELAY, "y": (DELAY > 10).astype(int)},
        {"kind": DELAY % 9, "y": (DELAY % 9 > 4).astype(int)},
        {"customer": CUSTOMER, "y": RANDOM.integers(0, 2, 300)},
        {"customer": CUSTOMER, "y": (CUSTOMER == 7).astype(int)},
        {"row": np.arange(300), "y": OF_CUSTOMER},
    ],
    ids=["a measure", "a class", "a label a row", "a rare label", "a key"],
)
def test_no_other_column_is(table: dict[str, object], tmp_path: Path) -> None:
    assert not [line for line in reading(pd.DataFrame(table), tmp_path, "csv").said if "warning" in line]

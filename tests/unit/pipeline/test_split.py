"""A row's part is its own, whatever else is in the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.errors import DataError
from homelab_mlops.model.spec import TimeSplit, load_spec
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.split import row_ids, split_rows
from homelab_mlops.tables.columns import declared, typed
from homelab_mlops.tables.frames import frame_of, table_of
from tests.conftest import FIXTURES, ROOT

SPEC = load_spec(str(FIXTURES / "models/valid/penguins"))


def penguins(rows: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = {
        "bill_length_mm": random.normal(44, 5, rows),
        "bill_depth_mm": random.normal(17, 2, rows),
        "flipper_length_mm": random.integers(170, 230, rows),
        "body_mass_g": random.integers(2700, 6300, rows),
        "sex": random.choice(["female", "male"], rows),
        "species": random.choice(["Adelie", "Chinstrap", "Gentoo"], rows),
    }
    return frame_of(typed(table_of(pd.DataFrame(table)), declared(SPEC), "here"))


def test_a_row_keeps_its_part_when_the_table_grows() -> None:
    table = penguins(3000)
    small, large = split_rows(table.head(1000), SPEC, None), split_rows(table, SPEC, None)
    for part in ("train", "validation", "holdout"):
        assert (getattr(small, part) == getattr(large, part)[:1000]).all()


def test_the_parts_are_disjoint_complete_and_as_large_as_declared() -> None:
    split = split_rows(penguins(20_000), SPEC, None)
    assert (split.train.astype(int) + split.validation + split.holdout == 1).all()
    assert split.holdout.mean() == pytest.approx(0.3, abs=0.015)
    assert split.validation.mean() == pytest.approx(0.7 * 0.2, abs=0.015)


def test_equal_rows_share_a_part() -> None:
    table = penguins(500)
    split = split_rows(pd.concat([table, table], ignore_index=True), SPEC, None)
    assert (split.holdout[:500] == split.holdout[500:]).all()


def test_another_seed_is_another_split() -> None:
    table = penguins(2000)
    other = SPEC.model_copy(update={"split": SPEC.split.model_copy(update={"seed": 1})})
    both = split_rows(table, SPEC, None).holdout & split_rows(table, other, None).holdout
    assert both.mean() == pytest.approx(0.09, abs=0.03)


def test_an_identity_is_of_the_content_not_of_the_file() -> None:
    table = penguins(200)
    as_text = table.astype("object").astype(str).where(table.notna(), None)
    assert (row_ids(table, SPEC) == row_ids(frame_of(typed(table_of(as_text), declared(SPEC), "here")), SPEC)).all()


def test_a_time_split_follows_the_window() -> None:
    spec = load_spec(str(ROOT / "workflows/models/flight-delay"))
    times = pd.date_range("2013-01-01", "2013-04-30", freq="h", tz="UTC")
    table = pd.DataFrame({"time": times})
    split = split_rows(table, spec, {"holdout": "2013-04-01T00:00:00+00:00"})
    assert table[split.holdout]["time"].min() == pd.Timestamp("2013-04-01", tz="UTC")
    assert table[split.train]["time"].max() < table[split.validation]["time"].min()
    assert table[split.validation]["time"].max() < table[split.holdout]["time"].min()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2026-01-01", "9999-12-31"], "a window that ends with 9999-12-31 leaves the calendar"),
        (["2026-01-01", "01/02/2026"], "the column 't' is not a time: '01/02/2026'"),
    ],
)
def test_a_time_that_is_none_is_named(times: list[str], expected: str, tmp_path: Path) -> None:
    split = TimeSplit(method="time", column="t", train="10 days", holdout="1 day")
    spec = SPEC.model_copy(update={"split": split})
    penguins(20).assign(t=times * 10).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(DataError) as refusal:
        ingest(spec, tmp_path / "work", str(tmp_path / "in.csv"))
    assert expected in refusal.value.what


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="would be empty"):
        split_rows(penguins(2), SPEC, None)

"""Rows of one customer are no independent evidence, and some rows count more than others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from homelab_mlops.model.spec import ModelSpec, load_spec, parse_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.metrics import Rows, holdout_metrics
from homelab_mlops.pipeline.split import group_ids, row_ids, split_rows
from homelab_mlops.pipeline.train import train
from tests.conftest import Homelab, refused

MODEL = """
name: visits
description: What a customer does on a visit.
task: binary
data: {source: visits.csv, key: [visit], min_rows: 20%(weight)s}
target: {column: buys, labels: [0, 1]}
features:
  age: {type: number}
  income: {type: number}
split: {method: random%(group)s}
train: {num_round: 60, max_depth: 3}
gate: {metric: auc}
"""


def model(folder: Path, group: str = "", weight: str = "") -> Path:
    path = folder / "model.yaml"
    parts = {"group": group and f", group: {group}", "weight": weight and f", weight: {weight}"}
    path.write_text(MODEL % parts)
    return path


def visits(customers: int, each: int, seed: int = 5) -> pd.DataFrame:
    """Customers who look alike on every visit, and whose label says nothing of them."""
    random = np.random.default_rng(seed)
    customer = np.repeat(np.arange(customers), each)
    table = {
        "visit": np.arange(customers * each),
        "customer": customer,
        "age": random.normal(size=customers)[customer] + random.normal(0, 0.005, customers * each),
        "income": random.normal(size=customers)[customer] + random.normal(0, 0.005, customers * each),
        "buys": random.integers(0, 2, customers)[customer],
    }
    return pd.DataFrame(table)


def retrained(homelab: Homelab, path: Path, table: pd.DataFrame, *options: str) -> dict[str, Any]:
    table.to_csv(path.parent / "visits.csv", index=False)
    done = homelab(
        "retrain", path, "--work", path.parent / "work", "--source", path.parent / "visits.csv", "--tracking", "files",
        "--json", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    decision: dict[str, Any] = json.loads(done.stdout)  # nothing but JSON stands there
    return decision


def test_a_random_label_a_customer_cannot_be_predicted(tmp_path: Path, homelab: Homelab) -> None:
    decision = retrained(homelab, model(tmp_path, group="customer"), visits(150, 8))
    auc = decision["metrics"]["challenger"]["auc"]
    assert not decision["promote"]
    assert auc["low"] < 0.5 < auc["high"]
    assert decision["holdout"]["groups"] == decision["holdout"]["rows"] / 8
    # Without groups the model knows the customers again.
    known = retrained(homelab, model(tmp_path), visits(150, 8))
    assert known["metrics"]["challenger"]["auc"]["value"] > 0.8


def test_a_model_without_groups_is_told_of_its_customers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    visits(150, 8).to_csv(tmp_path / "visits.csv", index=False)
    for group in ("", "customer"):
        ingest(load_spec(str(model(tmp_path, group=group))), tmp_path / "work", str(tmp_path / "visits.csv"))
        assert ("'buys' is the same in all rows of one 'customer'" in capsys.readouterr().err) is not bool(group)


def test_a_champion_is_compared_on_customers_whom_it_does_not_know_from_an_older_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has trained on other customers, by another seed, in rows that the table no longer holds."""
    table = visits(900, 4)
    table[table["visit"] % 4 < 2].to_csv(tmp_path / "old.csv", index=False)
    table[table["visit"] % 4 >= 2].to_csv(tmp_path / "new.csv", index=False)
    old, new = (spec_of("customer", method="random", seed=seed) for seed in (1, 0))
    without = spec_of(None, method="random", seed=1)
    for name, spec, rows in (("champion", old, "old"), ("without", without, "old"), ("work", new, "new")):
        ingest(spec, tmp_path / name, str(tmp_path / f"{rows}.csv"))
        train(spec, tmp_path / name, "files", {"num_round": "5"})
    decision = evaluate(new, tmp_path / "work", tmp_path / "champion" / "train")
    customers = pd.read_csv(tmp_path / "new.csv", dtype={"customer": str})
    mine, theirs = (split_rows(customers.astype({"buys": str}), spec, None) for spec in (new, old))
    assert decision["holdout"]["compared"] == int((mine.holdout & theirs.holdout).sum())
    assert 0 < decision["holdout"]["compared"] < decision["holdout"]["rows"]
    assert "without split.group" not in capsys.readouterr().err
    decision = evaluate(new, tmp_path / "work", tmp_path / "without" / "train")
    assert decision["holdout"]["compared"] == decision["holdout"]["rows"]
    assert "without split.group: customer; which of them it knows" in capsys.readouterr().err


def spec_of(group: str | None, **split: object) -> ModelSpec:
    spec = parse_spec(MODEL % {"group": "", "weight": ""}, "model.yaml")
    content = spec.model_dump(mode="json")
    content["split"] = {**split, "group": group} if split else {**content["split"], "group": group}
    return ModelSpec.model_validate(content)


@pytest.mark.parametrize("customers", [1, 6])
def test_no_customer_is_on_two_sides_of_a_time_split(customers: int) -> None:
    """Whether each comes on one day only, or all of them come every day."""
    spec = spec_of("customer", method="time", column="day", train="3 months", holdout="1 month")
    days = pd.Series(pd.date_range("2026-01-01", "2026-04-30", freq="6h", tz="UTC"))
    numbers = np.arange(len(days))
    table = pd.DataFrame({"day": days, "customer": numbers // 6 if customers == 1 else numbers % 97})
    window = {"holdout": "2026-04-01T00:00:00+00:00"}
    split = split_rows(table, spec, window)
    parts = [set(table["customer"][mask]) for mask in (split.train, split.validation, split.holdout)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert table["day"][split.holdout].min() >= pd.Timestamp(window["holdout"])
    assert table["day"][split.train].max() < pd.Timestamp(window["holdout"])


def test_a_customer_keeps_its_side_when_others_come() -> None:
    spec = spec_of("customer", method="random")
    few, many = visits(100, 3), visits(300, 3)
    small, large = split_rows(few, spec, None), split_rows(many, spec, None)
    assert (small.holdout == large.holdout[: len(few)]).all()


def test_integers_that_float64_cannot_tell_apart_are_two_rows_and_two_groups() -> None:
    spec = spec_of("customer", method="random").model_copy(
        update={"data": spec_of(None).data.model_copy(update={"key": ["visit"]})}
    )
    large = pd.array([2**53, 2**53 + 1, 2**62, 2**62 + 1, None], dtype="Int64")
    table = pd.DataFrame({"visit": large, "customer": large})
    assert len(set(row_ids(table, spec))) == 5
    assert len(set(group_ids(table, "customer"))) == 5
    small = pd.DataFrame({"visit": pd.array([1, 2, None], dtype="Int64")})
    assert (row_ids(small, spec) == row_ids(small.astype("float64"), spec)).all()


def test_an_interval_of_groups_is_as_wide_as_the_groups_are_few() -> None:
    random = np.random.default_rng(2)
    truth = np.repeat(random.integers(0, 2, 40), 25)
    scores = np.repeat(random.random(40), 25)
    alone = holdout_metrics("binary", truth, scores, 400)["auc"]
    together = holdout_metrics("binary", truth, scores, 400, rows=Rows(groups=np.repeat(np.arange(40), 25)))["auc"]
    assert together.value == alone.value
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_weights_count_in_training_and_in_the_gate(tmp_path: Path, homelab: Homelab) -> None:
    """Half of the rows are mislabelled, and count nothing."""
    table = visits(800, 1)
    table["buys"] = (table["age"] > 0).astype(int)
    table["counts"] = 1.5
    wrong = np.random.default_rng(0).random(len(table)) < 0.5
    table.loc[wrong, "buys"] = 1 - table.loc[wrong, "buys"]
    assert retrained(homelab, model(tmp_path), table)["metrics"]["challenger"]["auc"]["value"] < 0.8
    table.loc[wrong, "counts"] = 0
    path = model(tmp_path, weight="counts")
    decision = retrained(homelab, path, table)
    assert decision["metrics"]["challenger"]["auc"]["value"] > 0.98
    assert decision["metrics"]["trivial baseline"]["auc"]["value"] == 0.5
    # The same model as its own champion is measured with the same weights.
    again = homelab("evaluate", path, "--work", tmp_path / "work", "--champion", tmp_path / "work" / "train", "--json")
    metrics = json.loads(again.stdout)["metrics"]
    assert metrics["champion"] == metrics["challenger"]


def test_a_weighted_metric_is_that_of_repeated_rows() -> None:
    random = np.random.default_rng(9)
    truth, scores, weights = random.integers(0, 2, 300), random.random(300), random.integers(0, 4, 300).astype(float)
    found = holdout_metrics("binary", truth, scores, 200, rows=Rows(weights=weights))
    repeated = np.repeat(np.arange(300), weights.astype(int))
    assert found["auc"].value == pytest.approx(roc_auc_score(truth[repeated], scores[repeated]), abs=1e-12)
    accuracy = ((scores >= 0.5) == (truth == 1))[repeated].mean()
    assert found["accuracy"].value == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("-1", "counts: the weight is not negative"),
        ("", "counts: the weight is present"),
        ("many", "counts: the weight is a number"),
        ("inf", "counts: the weight is finite"),
        ("0", "counts: not every weight is zero"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights: str, expected: str, tmp_path: Path, homelab: Homelab) -> None:
    table = visits(60, 1).assign(counts=weights if weights == "0" else "1")
    table.loc[7, "counts"] = weights
    table.to_csv(tmp_path / "visits.csv", index=False)
    path, work = model(tmp_path, weight="counts"), tmp_path / "work"
    homelab("ingest", path, "--work", work, "--source", tmp_path / "visits.csv")
    refused(homelab("validate", path, "--work", work), expected)


def test_a_row_without_a_group_is_refused(tmp_path: Path, homelab: Homelab) -> None:
    table = visits(60, 1).astype({"customer": "Int64"})
    table.loc[3, "customer"] = pd.NA
    table.to_csv(tmp_path / "visits.csv", index=False)
    path, work = model(tmp_path, group="customer"), tmp_path / "work"
    homelab("ingest", path, "--work", work, "--source", tmp_path / "visits.csv")
    refused(homelab("validate", path, "--work", work), "customer: the group is present")

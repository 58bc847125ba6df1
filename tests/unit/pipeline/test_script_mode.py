"""Jobs of SageMaker's script mode as people have them: hyperparameters, what is learned, and how a job fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from homelab_mlops.pipeline.job import reported
from tests.conftest import ROOT, Homelab, clean_environment, listing, refused


def shells(rows: int) -> pd.DataFrame:
    """A label of whole years first, then measures of which it follows."""
    random = np.random.default_rng(rows)
    length = random.uniform(0.2, 0.8, rows)
    weight = length**3 * random.uniform(0.9, 1.1, rows)
    return pd.DataFrame({"rings": (3 + 15 * length + random.normal(0, 1, rows)).round(), "a": length, "b": weight})


def offers(rows: int) -> pd.DataFrame:
    """A label of 0 and 1 first."""
    random = np.random.default_rng(rows)
    calls, age = random.normal(size=rows), random.integers(18, 80, rows)
    taken = calls + random.normal(0, 0.7, rows) > 0
    return pd.DataFrame({"y": taken.astype(int), "calls": calls.round(4), "age": age})


def job(folder: Path, table: pd.DataFrame | str, **hyperparameters: object) -> dict[str, str]:
    """The environment of a job with one CSV file in its channel."""
    (folder / "in").mkdir(exist_ok=True)
    text = table if isinstance(table, str) else table.to_csv(index=False)
    (folder / "in" / "train.csv").write_text(text)
    given = {"num_round": "15", **{name: str(value) for name, value in hyperparameters.items()}}
    return {
        "SM_CHANNEL_TRAIN": str(folder / "in"),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output"),
        "SM_HPS": json.dumps(given),
    }


def record_of(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "model" / "record.json").read_text())
    return content


def test_an_alias_of_an_objective_trains(tmp_path: Path, homelab: Homelab) -> None:
    done = homelab("train", env=job(tmp_path, shells(300), objective="reg:linear", silent=1))
    assert done.returncode == 0, done.stderr
    assert "validation:rmse: " in done.stdout
    parameters = record_of(tmp_path)["parameters"]
    assert isinstance(parameters, dict)
    assert (parameters["objective"], parameters["verbosity"]) == ("reg:squarederror", 0)
    assert (tmp_path / "output" / "success").is_file()


def test_a_tuning_jobs_metric_is_reported_and_watched(tmp_path: Path, homelab: Homelab) -> None:
    env = job(tmp_path, offers(300), eval_metric="auc,error", _tuning_objective_metric="validation:logloss")
    done = homelab("train", "--json", env=env)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)  # nothing but JSON stands there
    assert printed["parameters"]["eval_metric"] == ["auc", "error", "logloss"]
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    history = metrics["history"]["validation:logloss"]
    assert metrics["best_round"] == int(np.argmin(history))


def test_it_says_what_it_learned(tmp_path: Path, homelab: Homelab) -> None:
    table = offers(300).astype({"calls": object})
    table.loc[[4, 9], "calls"] = ["unknown", "n.k."]
    table["member"] = ["True", "False", "False"] * 100
    table["town"] = ["Ulm", "Linz"] * 150
    table["known"] = ["None", "TRUE", "0"] * 100
    table["two\nlines"] = 1.5
    done = homelab("train", env=job(tmp_path, table))
    assert done.returncode == 0, done.stderr
    assert re.search(r"label y: binary, 0 \(\d+ rows\), 1 \(\d+ rows\)", done.stderr)
    assert "since 2 of 300 cells are no number: row 5: 'unknown', row 10: 'n.k.'" in done.stderr
    assert "age: number" in done.stderr
    assert "member: boolean" in done.stderr
    assert "known: boolean" in done.stderr
    assert r"train: 'two\nlines': number" in done.stderr
    assert "town: category of 2 values, such as " in done.stderr


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            [f"K{number:05}" for number in range(300)],
            "is text with 300 different values in 300 rows: it names the rows",
        ),
        ([*("0", "1") * 149, "1", "Total"], "is no number in 1 of 300 rows: row 300: 'Total'"),
        ([*(f"{number}.5" for number in range(299)), "n.k."], "is no number in 1 of 300 rows: row 300: 'n.k.'"),
    ],
)
def test_a_target_of_text_with_a_value_a_row_is_refused(
    target: list[str], expected: str, tmp_path: Path, homelab: Homelab
) -> None:
    table = offers(300)
    table.insert(0, "id", target)
    refused(homelab("train", env=job(tmp_path, table)), expected)
    assert expected in (tmp_path / "output" / "failure").read_text()


@pytest.mark.parametrize("times", [["2026-01-31", "2026-02-01 05:30"], ["2026-01-31T05:30:00Z", ""], ["5:30", "17:45"]])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_are_no_features_in_any_file(times: list[str], kind: str, tmp_path: Path, homelab: Homelab) -> None:
    table = offers(60)
    table["seen"] = times * 30
    env = job(tmp_path, table)
    if kind == "parquet":
        (tmp_path / "in" / "train.csv").unlink()
        moments = pd.to_datetime(table["seen"], format="mixed", utc=True)
        table.assign(seen=moments if "-" in times[0] else moments.dt.time).to_parquet(tmp_path / "in" / "train")
    refused(homelab("train", env=env), "the column 'seen' holds times, and a time is no feature")


@pytest.mark.parametrize(
    ("hyperparameters", "expected"),
    [
        ({"objective": "multi:softmax"}, "use multi:softprob"),
        ({"objective": "reg:squarederror", "eval_metric": "auc"}, "is for a binary or multiclass task"),
        ({"eval_metric": "tweedie-nloglik"}, "tweedie-nloglik@1.5"),
        ({"num_rounds": 5}, "did you mean num_round"),
        ({"_kfold": 5}, "the hyperparameter _kfold=5"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_row_is_read(
    hyperparameters: dict[str, object], expected: str, tmp_path: Path, homelab: Homelab
) -> None:
    env = job(tmp_path, "", **hyperparameters)
    (tmp_path / "in" / "train.csv").unlink()  # so that reading would fail
    done = homelab("train", env=env)
    refused(done, expected.split(";")[0])
    assert (tmp_path / "output" / "failure").read_text().strip()


def test_a_metric_that_these_rows_do_not_have_is_refused_by_name(tmp_path: Path, homelab: Homelab) -> None:
    table = shells(100)
    table.loc[::7, "rings"] = 0
    refused(homelab("train", env=job(tmp_path, table, eval_metric="rmse,mape")), "the metric train:mape is inf")
    assert "train:mape is inf" in (tmp_path / "output" / "failure").read_text()


@pytest.mark.parametrize(
    ("arguments", "env", "expected"),
    [
        (["train", "nowhere"], {}, "there is no model 'nowhere'"),
        (["train", "--set", "eta"], {}, "is not NAME=VALUE"),
        (["train", "--max-depth", "5"], {}, "No such option: --max-depth"),
        (["--max-depth", "5", "train"], {}, "No such option: --max-depth"),
        (["train", "--seed", "many"], {}, "Invalid value for '--seed'"),
        (["train"], {"SM_HOSTS": '["algo-1", "algo-2"]'}, "the job runs on 2 machines"),
    ],
)
def test_every_failure_is_in_the_file(
    arguments: list[str], env: dict[str, str], expected: str, tmp_path: Path, homelab: Homelab
) -> None:
    done = homelab(*arguments, env={**job(tmp_path, offers(100)), **env})
    assert done.returncode != 0
    assert expected in (tmp_path / "output" / "failure").read_text()
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TypeError("what nobody thought of"), "internal error: TypeError: what nobody thought of\n"),
        (SystemExit(143), "stopped by a signal\n"),
    ],
)
def test_what_nobody_thought_of_is_in_the_file_too(error: BaseException, expected: str, tmp_path: Path) -> None:
    env = job(tmp_path, offers(100))
    with pytest.raises(type(error)), reported(["train"], env):
        raise error
    assert (tmp_path / "output" / "failure").read_text() == expected
    (tmp_path / "output" / "failure").unlink()
    with pytest.raises(type(error)), reported(["models"], env):
        raise error
    assert not (tmp_path / "output" / "failure").exists()


# The command line, with SageMaker's mounts in another place than /opt/ml.
MOUNTED = """
import sys
from pathlib import Path
from homelab_mlops.pipeline import job
job.ROOT = Path(sys.argv.pop(1))
sys.argv[0] = "homelab"
from homelab_mlops.cli import main
main()
"""


def test_a_job_that_is_stopped_says_so_where_it_is_mounted(tmp_path: Path) -> None:
    """SageMaker stops a job by SIGTERM."""
    channel = tmp_path / "input/data/train"
    channel.mkdir(parents=True)
    offers(300).to_csv(channel / "part-0", index=False)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            MOUNTED,
            tmp_path,
            "train",
            "--set",
            "num_round=100000",
            "--set",
            "early_stopping_rounds=100000",
        ],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line)
            if "boosting rounds" in line:
                running.terminate()
    assert running.returncode == 128 + signal.SIGTERM, said
    assert (tmp_path / "output" / "failure").read_text() == "stopped by a signal\n"
    assert list(listing(tmp_path / "output")) == ["failure"]
    assert not listing(tmp_path / "model")


def mounted(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MOUNTED, folder, *arguments],
        env=clean_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_job_with_mounts_alone_trains_the_model_that_it_names(tmp_path: Path) -> None:
    channel, configuration = tmp_path / "input/data/train", tmp_path / "input/config"
    channel.mkdir(parents=True)
    configuration.mkdir()
    (configuration / "hyperparameters.json").write_text('{"max_depth": "2", "num_round": "7"}')
    offers(300).rename(columns={"calls": "a"}).to_csv(channel / "part-0", index=False)
    (tmp_path / "model.yaml").write_text(SEPARABLE)

    done = mounted(tmp_path, "train", "./model.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "success").is_file()
    record = json.loads((tmp_path / "model" / "record.json").read_text())
    assert (record["model"], record["parameters"]["max_depth"]) == ("separable", 2)
    assert record["parameter_sources"]["num_round"] == "environment"

    refused(mounted(tmp_path, "train", "nowhere"), "there is no model 'nowhere'")
    assert "there is no model" in (tmp_path / "output" / "failure").read_text()
    channel.rename(channel.with_name("other"))
    refused(mounted(tmp_path, "train", "./model.yaml"), "the channel does not exist")
    assert list(listing(tmp_path / "output")) == ["data/metrics.json", "failure"]


def test_the_weights_of_libsvm_weigh_the_rows(tmp_path: Path, homelab: Homelab) -> None:
    table = offers(300)
    env = job(tmp_path, "\n".join(f"{row.y}:1.5 0:{row.calls} 1:{row.age}" for row in table.itertuples()) + "\n")
    done = homelab("train", env=env)
    assert done.returncode == 0, done.stderr
    assert "weight: how much each row counts" in done.stderr
    spec = record_of(tmp_path)["spec"]
    assert isinstance(spec, dict)
    assert (spec["data"]["weight"], list(spec["features"])) == ("weight", ["f0", "f1"])


def test_files_of_libsvm_may_name_other_indices(tmp_path: Path, homelab: Homelab) -> None:
    """A column of which a file has only zeros is in none of its rows."""
    lines = {index: "".join(f"{n % 2} 0:{n / 7:.3f} {index}:{n % 5}\n" for n in range(60)) for index in (3, 12)}
    env = job(tmp_path, lines[3])
    (tmp_path / "in" / "more").write_text(lines[12])
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "part").write_text(lines[12])
    done = homelab("train", env={**env, "SM_CHANNEL_VALIDATION": str(tmp_path / "validation")})
    assert done.returncode == 0, done.stderr
    assert record_of(tmp_path)["rows"] == {"train": 120, "validation": 60, "holdout": 0}
    assert "validation: no row has a value of f3" in done.stderr


def test_validation_categories_that_are_not_in_training_are_said(tmp_path: Path, homelab: Homelab) -> None:
    env = job(tmp_path, offers(300).assign(where="home"))
    (tmp_path / "validation").mkdir()
    offers(90).assign(where="work").to_csv(tmp_path / "validation" / "part", index=False)
    done = homelab("train", env={**env, "SM_CHANNEL_VALIDATION": str(tmp_path / "validation")})
    assert "validation: column 'where': 90 of 90 cells count as missing" in done.stderr


def test_csv_weights_are_the_second_column_and_a_validation_channel_needs_none(
    tmp_path: Path, homelab: Homelab
) -> None:
    table = offers(400)
    wrong = np.random.default_rng(1).random(400) < 0.5
    table.loc[wrong, "y"] = 1 - table.loc[wrong, "y"]
    table.insert(1, "w", np.where(wrong, 0.0, 2.0))
    env = job(tmp_path, table.to_csv(index=False, header=False), csv_weights=1)
    (tmp_path / "validation").mkdir()
    offers(200).to_csv(tmp_path / "validation" / "data.csv", index=False, header=False)
    done = homelab("train", env={**env, "SM_CHANNEL_VALIDATION": str(tmp_path / "validation")})
    assert done.returncode == 0, done.stderr
    assert "weight: how much each row counts" in done.stderr
    spec = record_of(tmp_path)["spec"]
    assert isinstance(spec, dict)
    assert spec["data"]["weight"] == "weight"
    assert list(spec["features"]) == ["f0", "f1"]
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert metrics["validation:auc"] > 0.8


BRACKETS = """
name: rooms
description: Whether a room is too cold.
task: binary
data: {source: rooms.csv}
target: {column: y, labels: [0, 1]}
features:
  "calls [n]": {type: number}
  "age < 99": {type: integer}
split: {method: random, holdout: 0.3}
train: {num_round: 15, monotone_constraints: {"calls [n]": 1}, interaction_constraints: [["calls [n]", "age < 99"]]}
gate: {metric: logloss}
"""


def test_names_that_xgboost_refuses_train_and_stay_in_every_output(tmp_path: Path, homelab: Homelab) -> None:
    (tmp_path / "model.yaml").write_text(BRACKETS)
    offers(400).rename(columns={"calls": "calls [n]", "age": "age < 99"}).to_csv(tmp_path / "rooms.csv", index=False)
    work = tmp_path / "work"
    arguments = ["--work", work, "--source", tmp_path / "rooms.csv", "--tracking", "files", "--json"]
    done = homelab("retrain", tmp_path / "model.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    decision = json.loads(done.stdout)
    assert decision["metrics"]["challenger"]["auc"]["value"] > 0.8
    booster = xgb.Booster()
    booster.load_model(bytearray((work / "train" / "xgboost-model").read_bytes()))
    assert booster.feature_names == ["calls [n]", "age < 99"]
    assert "calls [n]" in booster.get_score()
    assert json.loads((work / "train" / "input_example.json").read_text())["columns"] == booster.feature_names


SEPARABLE = """
name: separable
description: Two labels that one column tells apart.
task: binary
data: {source: data.csv}
target: {column: y, labels: [0, 1]}
features:
  a: {type: number}
split: {method: random}
gate: {metric: logloss, floor: 0.2}
"""


def test_early_stopping_watches_the_gates_metric_and_not_the_auc(tmp_path: Path, homelab: Homelab) -> None:
    """Of separable rows the AUC is 1 after the first round, when the logloss still is large."""
    a = np.random.default_rng(2).normal(size=600)
    pd.DataFrame({"a": a, "y": (a > 0).astype(int)}).to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "model.yaml").write_text(SEPARABLE)
    arguments = ["--work", tmp_path / "work", "--source", tmp_path / "data.csv", "--tracking", "files", "--json"]
    done = homelab("retrain", tmp_path / "model.yaml", *arguments, "--set", 'eval_metric=["logloss", "auc"]')
    assert done.returncode == 0, done.stderr
    decision = json.loads(done.stdout)
    assert decision["promote"]
    assert decision["metrics"]["challenger"]["logloss"]["value"] < 0.05


@pytest.mark.parametrize("objective", ["multi:softmax", "rank:pairwise", "binary:logitraw"])
def test_a_training_of_another_kind_is_refused_at_once(objective: str, tmp_path: Path, homelab: Homelab) -> None:
    (tmp_path / "model.yaml").write_text(SEPARABLE)
    arguments = ["--work", tmp_path / "work", "--source", tmp_path / "nowhere.csv", "--tracking", "files"]
    done = homelab("retrain", tmp_path / "model.yaml", *arguments, "--set", f"objective={objective}")
    refused(done, f"the objective '{objective}' is not supported")


DOCUMENT = (ROOT / "docs" / "script-mode.md").read_text()


def inputs(folder: Path) -> None:
    """Small tables in the form of the three public jobs."""
    for part, rows in (("train", 300), ("validation", 100)):
        for name in ("abalone", "marketing"):
            (folder / name / part).mkdir(parents=True)
        lines = [f"{row.rings:.0f} 0:{row.a:.4f} 1:{row.b:.4f}" for row in shells(rows).itertuples()]
        (folder / "abalone" / part / "abalone").write_text("\n".join(lines) + "\n")
        offers(rows).to_csv(folder / "marketing" / part / "data.csv", index=False, header=False)
    (folder / "taxi").mkdir()
    random = np.random.default_rng(3)
    times = pd.date_range("2016-01-01", "2016-04-30 23:00", periods=600)
    places = {name: random.normal(-73.9 if "long" in name else 40.7, 0.05, 600).round(5)
              for name in ("pickup_longitude", "pickup_latitude", "dropoff_longitude", "dropoff_latitude")}  # fmt: skip
    away = np.hypot(places["pickup_longitude"] - places["dropoff_longitude"],
                    places["pickup_latitude"] - places["dropoff_latitude"])  # fmt: skip
    trips = {
        "id": [f"id{number:07}" for number in range(600)],
        "vendor_id": random.integers(1, 3, 600),
        "pickup_datetime": times.strftime("%Y-%m-%d %H:%M:%S"),
        "passenger_count": random.integers(1, 6, 600),
        **places,
        "store_and_fwd_flag": random.choice(["N", "Y"], 600),
        "trip_duration": (120 + 9000 * away + random.uniform(0, 60, 600)).astype(int),
    }
    pd.DataFrame(trips).to_csv(folder / "taxi" / "train.csv", index=False)
    (specification,) = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    (folder / "taxi" / "model.yaml").write_text(specification)


def test_the_three_public_jobs_of_the_document_are_brought_over(tmp_path: Path, homelab_on_path: str) -> None:
    inputs(tmp_path)
    for block in re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=clean_environment({"PATH": homelab_on_path}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "abalone" / "model" / "xgboost-model").is_file()
    assert json.loads((tmp_path / "marketing" / "record.json").read_text())["spec"]["task"] == "binary"
    metrics = json.loads((tmp_path / "marketing" / "output" / "metrics.json").read_text())
    assert metrics["validation:auc"] > 0.8
    assert (tmp_path / "taxi" / "work" / "evaluate" / "decision.json").is_file()

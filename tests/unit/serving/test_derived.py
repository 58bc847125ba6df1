"""Derived features are the same, bit for bit, in training, in `mlflow.pyfunc` and in the service."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homelab_mlops.errors import DataError
from homelab_mlops.model.scoring import ATTRIBUTE, Description, Input, Scorer, arrays, matrix
from homelab_mlops.model.spec import ModelSpec, load_spec, parse_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.predict import predict
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train
from homelab_mlops.pipeline.validate import validate
from homelab_mlops.serving.encoding import RowsError
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.protocol import read_invocation, read_rows
from homelab_mlops.tables.arrays import strings
from homelab_mlops.tables.quantities import as_time
from homelab_mlops.tables.spelling import PLAIN
from tests.conftest import FIXTURES
from tests.unit.serving.conftest import serving

ROWS = 10_000
SPEC = load_spec(str(FIXTURES / "models/valid/subscriptions"))
TIMES = [
    "2026-01-31", "2026-01-31 05:30", "2026-01-31T05:30:00Z", "2026-02-01T00:30:00+05:45", "1969-12-31T23:59:59.999999",
    "1969-12-31T23:59:59.9999999Z", "0001-01-01", "1582-10-04", "20240229", "2024-02-29T24:00:00", "NaT", "", " ",
]  # fmt: skip
NUMBERS = ["0", "-0.0", "1e-310", "3e38", "-3.4e38", "16777217", "0.1", "", "NaN", "1e3", " 7 ", ".5", "true"]
NOTES = ["e\u03011", "\u00e91", "", "NA", "1.0", "1", "True", "2026-01-31T00:00Z", "2026-01-31", " x ", "x"]
Cells = dict[str, list[str]]


def cells(count: int, seed: int) -> Cells:
    """Rows as a CSV or a form has them: texts."""
    source = random.Random(seed)

    def time() -> str:
        drawn = f"{source.randint(1900, 2099)}-{source.randint(1, 12):02}-{source.randint(1, 28):02}"
        zone = source.choice(["", "Z", "+02:00", "-0930"])
        clock = f"T{source.randint(0, 23):02}:{source.randint(0, 59):02}:07.{source.randint(0, 999999)}{zone}"
        return source.choice(TIMES[1 if source.random() < 0.3 else 2 :]) if source.random() < 0.4 else drawn + clock

    def number() -> str:
        return source.choice(NUMBERS) if source.random() < 0.4 else repr(source.lognormvariate(3, 2))

    return {
        "customer": [str(row) for row in range(count)],
        "signed_up": [time().replace("2024-02-29T24:00:00", "2024-03-01") for _ in range(count)],
        "last_seen": [time().replace("2024-02-29T24:00:00", "2024-03-01") for _ in range(count)],
        "renewed": [time().replace("2024-02-29T24:00:00", "2024-03-01") for _ in range(count)],
        "total_charges": [number() for _ in range(count)],
        "note": [source.choice(NOTES) for _ in range(count)],
        "tenure": [source.choice(["0", "1", "2", "48", "", "3.0", "16777217"]) for _ in range(count)],
        "plan": [source.choice(["basic", "gold", "1", "1.0", "true", "", " basic"]) for _ in range(count)],
        "paperless": [source.choice(["true", "False", "1", "0", ""]) for _ in range(count)],
        "ended": [source.choice(["yes", "no"]) for _ in range(count)],
    }


def written(rows: Cells) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([list(rows), *zip(*rows.values(), strict=True)])
    return text.getvalue()


@pytest.fixture(scope="module")
def rows() -> Cells:
    return cells(ROWS, 7)


@pytest.fixture(scope="module")
def work(rows: Cells, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the rows, with files alone."""
    folder = tmp_path_factory.mktemp("derived")
    (folder / "rows.csv").write_text(written(rows))
    ingest(SPEC, folder, str(folder / "rows.csv"))
    validate(SPEC, folder)
    train(SPEC, folder, "files", {})
    return folder


@pytest.fixture(scope="module")
def model(work: Path) -> Model:
    return Model(SPEC.name, "1", (work / "train/xgboost-model").read_bytes())


def codes(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """A training's matrix as float32: a category as the number of its name."""
    columns = [
        column.cat.codes.where(column.cat.codes >= 0) if isinstance(column.dtype, pd.CategoricalDtype) else column
        for _, column in frame.items()
    ]
    return np.stack([column.to_numpy(dtype=np.float32) for column in columns], axis=1)


def inputs(rows: Cells) -> Cells:
    return {name: rows[name] for name in SPEC.raw}


def as_json(rows: Cells) -> Cells:
    """The rows as JSON; pyfunc and the service take an empty text for a missing value, as in a CSV."""
    return {name: list(column) for name, column in inputs(rows).items()}


def test_the_matrix_is_that_of_the_training(rows: Cells, work: Path, model: Model) -> None:
    scorer = Scorer.load(work / "train/xgboost-model")
    frame, _ = load_ingested(SPEC, work)
    trained = codes(matrix(frame, scorer.description))
    by_pyfunc = codes(matrix(pd.DataFrame(as_json(rows)), scorer.description))
    table = read_invocation(json.dumps({"inputs": as_json(rows)}).encode(), "application/json")
    served = model.encoder.encode(table.columns, table.rows)
    of_csv = read_invocation(written(rows).encode(), "text/csv")
    np.testing.assert_array_equal(trained.view(np.int32), by_pyfunc.view(np.int32))
    np.testing.assert_array_equal(trained.view(np.int32), served.view(np.int32))
    np.testing.assert_array_equal(served, model.encoder.encode(of_csv.columns, of_csv.rows))
    assert trained.shape == (ROWS, len(SPEC.features))
    assert not np.isinf(trained).any()
    shares = dict(zip(SPEC.features, np.isnan(trained).mean(axis=0), strict=True))
    assert all(share < 0.9 for share in shares.values()), shares
    different = {name: len(np.unique(trained[:, number])) for number, name in enumerate(SPEC.features)}
    assert min(different.values()) > 1, different


def test_a_typed_table_gives_the_same(work: Path) -> None:
    """What `homelab predict` reads of Parquet, with times of other units and zones."""
    frame, _ = load_ingested(SPEC, work)
    scorer = Scorer.load(work / "train/xgboost-model")
    expected = codes(matrix(frame, scorer.description))
    zoned = frame.assign(signed_up=frame["signed_up"].dt.tz_convert("Asia/Kathmandu"))
    np.testing.assert_array_equal(expected, codes(matrix(zoned, scorer.description)))
    naive = frame.assign(last_seen=frame["last_seen"].dt.tz_localize(None))
    np.testing.assert_array_equal(expected, codes(matrix(naive, scorer.description)))
    objects = frame.assign(last_seen=frame["last_seen"].astype(object))
    np.testing.assert_array_equal(expected, codes(matrix(objects, scorer.description)))


def test_training_pyfunc_and_service_predict_the_same(
    rows: Cells, work: Path, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    ingest(SPEC, tmp_path, str(work / "rows.csv"))
    train(SPEC, tmp_path, "mlflow", {})
    evaluate(SPEC, tmp_path)
    version = register(SPEC, tmp_path)["version"]
    assert (tmp_path / "train/xgboost-model").read_bytes() == (work / "train/xgboost-model").read_bytes()
    frame, _ = load_ingested(SPEC, tmp_path)
    trained = Scorer.load(tmp_path / "train/xgboost-model").predict(frame)
    mlflow.set_tracking_uri(mlflow_uri)
    mlflow.set_registry_uri(mlflow_uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{SPEC.name}/{version}")
    np.testing.assert_array_equal(trained, loaded.predict(pd.DataFrame(as_json(rows))))
    assert [column.name for column in loaded.metadata.signature.inputs] == list(SPEC.raw)
    with serving(SPEC.name, version, tmp_path, {"MLFLOW_TRACKING_URI": mlflow_uri}) as service:
        records = pd.DataFrame(as_json(rows)).to_dict(orient="records")
        answers: list[float] = []
        for start in range(0, ROWS, 2500):
            answer = service.ask("/invocations", json={"dataframe_records": records[start : start + 2500]})
            assert answer.status_code == 200, answer.text
            answers += answer.json()["predictions"]
        np.testing.assert_array_equal(trained, np.array(answers, dtype=np.float32))
        description = service.ask("/", method="GET").json()
        assert [item["name"] for item in description["inputs"]] == list(SPEC.raw)
        typed = {
            "signed_up": "2026-01-31T05:30:00Z", "last_seen": None, "renewed": "1969-12-31", "total_charges": 7.5,
            "note": None, "tenure": 3, "plan": "gold", "paperless": True,
        }  # fmt: skip
        one = service.ask("/rows", json=typed).json()["prediction"]
        assert one == pytest.approx(loaded.predict(pd.DataFrame([typed]))[0], abs=0)
        refused = service.ask("/rows", json={**typed, "per_month": 3})
        assert (refused.status_code, "no input 'per_month'" in refused.text) == (400, True)


def test_predict_writes_what_the_service_answers(rows: Cells, work: Path, model: Model, tmp_path: Path) -> None:
    target = tmp_path / "scored.parquet"
    predict(str(work / "train"), str(work / "rows.csv"), str(target))
    table = read_invocation(written(rows).encode(), "text/csv")
    np.testing.assert_array_equal(pd.read_parquet(target)["prediction"], model.predict(table))


@pytest.mark.parametrize(
    ("column", "value"),
    [("total_charges", "inf"), ("total_charges", "1e39"), ("tenure", "-inf"), ("signed_up", "yesterday")],
)
def test_what_is_no_value_is_refused_by_all(
    column: str, value: str, rows: Cells, model: Model, work: Path, tmp_path: Path
) -> None:
    few = {name: cells[:200] for name, cells in rows.items()}
    few[column] = [*few[column][:-1], value]
    (tmp_path / "rows.csv").write_text(written(few))
    ingest(SPEC, tmp_path, str(tmp_path / "rows.csv"))
    with pytest.raises(DataError, match=column):
        validate(SPEC, tmp_path)
    with pytest.raises(ValueError, match=column):
        Scorer.load(work / "train/xgboost-model").predict(pd.DataFrame(as_json(few)))
    with pytest.raises(RowsError, match=f"{column}, row 199"):
        model.predict(read_invocation(json.dumps({"inputs": as_json(few)}).encode(), "application/json"))


def test_a_number_is_no_time(model: Model) -> None:
    row: dict[str, Any] = dict.fromkeys(SPEC.raw)
    with pytest.raises(RowsError, match="last_seen, row 0: 20260131 is not the text of a time"):
        model.predict(read_rows(json.dumps({**row, "last_seen": 20260131}).encode(), list(SPEC.raw))[0], strict=True)


def test_the_model_holds_the_expressions_as_json(work: Path) -> None:
    scorer = Scorer.load(work / "train/xgboost-model")
    content = json.loads(scorer.booster.attr(ATTRIBUTE) or "")
    trees = {item["name"]: item["tree"] for item in content["derived"]}
    one = {"call": "max", "arguments": [{"column": "tenure"}, {"number": 1.0}]}
    assert trees["per_month"] == {"call": "/", "arguments": [{"column": "total_charges"}, one]}
    assert Description.from_json(scorer.description.to_json()) == scorer.description
    record = json.loads((work / "train/record.json").read_text())
    assert ModelSpec.model_validate(record["spec"]) == SPEC


def test_the_report_and_the_baseline_know_derived_features(work: Path) -> None:
    evaluate(SPEC, work)
    diagnostics = json.loads((work / "evaluate/diagnostics.json").read_text())
    named = {item["feature"] for item in diagnostics["contributions"]["features"]}
    assert named <= set(SPEC.features)
    assert named & set(SPEC.derived)
    assert {item["feature"] for item in diagnostics["slices"]} <= set(SPEC.features)


def test_a_feature_that_no_row_has_ends_the_training(work: Path, tmp_path: Path) -> None:
    text = (FIXTURES / "models/valid/subscriptions/model.yaml").read_text()
    spec = parse_spec(text.replace("{from: month(signed_up)}", "{from: tenure / 0}"), "model.yaml")
    ingest(spec, tmp_path, str(work / "rows.csv"))
    with pytest.raises(DataError, match="'month' is missing in all 6,422 training rows"):
        train(spec, tmp_path, "files", {})


def test_a_constraint_may_name_a_derived_feature(work: Path, tmp_path: Path) -> None:
    text = (FIXTURES / "models/valid/subscriptions/model.yaml").read_text()
    spec = parse_spec(
        text.replace("num_round: 60,", "num_round: 2, monotone_constraints: {per_month: 1},"), "model.yaml"
    )
    ingest(spec, tmp_path, str(work / "rows.csv"))
    train(spec, tmp_path, "files", {})
    assert Scorer.load(tmp_path / "train/xgboost-model").booster.feature_names == list(SPEC.features)


def test_a_part_of_a_microsecond_before_1970_is_left_out_as_in_text() -> None:
    texts = ["1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.000000001Z", "1970-01-01T00:00:00.000000999Z"]
    moments = np.array([text.removesuffix("Z") for text in texts], dtype="datetime64[ns]")
    of_text, of_parquet = (as_time(array, PLAIN) for array in (strings(texts), pa.array(moments)))
    assert of_text is not None
    assert of_text == of_parquet
    np.testing.assert_array_equal(of_text.cast(pa.int64()), arrays_of(pd.Series(moments)))
    np.testing.assert_array_equal(of_text.cast(pa.int64()), arrays_of(pd.Series(texts)))


def arrays_of(series: Any) -> np.ndarray[Any, Any]:
    """A column of times as an expression takes it, in microseconds."""
    found = arrays(pd.DataFrame({"time": series}), (Input("time", "datetime"),), ["time"])["time"]
    return found.astype(np.int64)

"""The same raw row gives the same prediction from memory, from the file, and from MLflow without this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from homelab_mlops.model.demo_tables import built_in
from homelab_mlops.model.parameters import resolve
from homelab_mlops.model.scoring import Scorer, booleans, encode
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline import tracking
from homelab_mlops.pipeline.fit import fit, prepare
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import train
from tests.conftest import FIXTURES, ROOT, clean_environment

MODELS = {
    "churn": ROOT / "workflows/models/churn",
    "penguins": FIXTURES / "models/valid/penguins",
    "diamonds": FIXTURES / "models/valid/diamonds",
}
# A stranger to this package, which cannot be imported here, with rows that plain pandas reads from a CSV file.
STRANGER = """
import sys
sys.modules["homelab_mlops"] = None
import mlflow, numpy, pandas
for line in sys.stdin:
    name, rows, answers = line.rstrip().split(",")
    model = mlflow.pyfunc.load_model(name)
    numpy.save(answers, numpy.asarray(model.predict(pandas.read_csv(rows))))
    print("answered", flush=True)
"""
Stranger = Callable[[str, Path, Path], None]


@pytest.fixture(scope="module")
def stranger(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    log = tmp_path_factory.mktemp("stranger") / "log"
    environment = clean_environment({"MLFLOW_TRACKING_URI": mlflow_uri})
    command = [sys.executable, "-c", STRANGER]
    pipe = subprocess.PIPE
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=errors) as process,
    ):
        asked, said = process.stdin, process.stdout
        assert asked is not None
        assert said is not None

        def answer(model: str, rows: Path, answers: Path) -> None:
            asked.write(f"{model},{rows},{answers}\n")
            asked.flush()
            assert said.readline() == "answered\n", log.read_text()

        yield answer
        asked.close()


def raw_rows(spec: ModelSpec) -> pd.DataFrame:
    """1,000 raw rows, a fifth of the cells missing or, among the categories, never seen before."""
    random = np.random.default_rng(5)
    source = spec.data.demo or spec.data.source
    rows = built_in(source)[list(spec.features)].sample(1000, replace=True, random_state=5).reset_index(drop=True)
    for name, feature in spec.features.items():
        if name == next(iter(spec.features)):
            continue  # one column stays whole, so that whole numbers arrive as whole numbers too
        rows[name] = rows[name].astype("object")
        rows.loc[random.random(1000) < 0.1, name] = None
        if feature.type == "category":
            rows.loc[random.random(1000) < 0.1, name] = "never seen before"
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_memory_file_and_mlflow_agree(
    name: str, tmp_path: Path, mlflow_uri: str, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    spec = load_spec(str(MODELS[name]))
    ingest(spec, tmp_path, "demo" if spec.data.demo else None)
    train(spec, tmp_path, "mlflow", {"num_round": "60"})
    rows = raw_rows(spec)

    frame, manifest = load_ingested(spec, tmp_path)
    split = split_rows(frame, spec, manifest["window"])
    parameters = resolve(spec.task, spec.train, {}, {"num_round": "60"})
    memory = fit(
        spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters
    ).scorer.predict(rows)

    file = Scorer.load(tmp_path / "train" / "xgboost-model").predict(rows)
    run = tracking.load_run(tmp_path / "train")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    stranger(f"models:/{run['model_id']}", tmp_path / "rows.csv", tmp_path / "predicted.npy")
    np.testing.assert_array_equal(memory, file)
    np.testing.assert_allclose(np.load(tmp_path / "predicted.npy"), file, rtol=0, atol=1e-6)
    assert len(np.unique(file.round(4), axis=0)) > 50


def test_the_file_loads_with_plain_xgboost(tmp_path: Path) -> None:
    spec = load_spec(str(MODELS["churn"]))
    ingest(spec, tmp_path, "demo")
    train(spec, tmp_path, "files", {"num_round": "40"})
    booster = xgb.Booster()
    with pytest.warns(UserWarning, match="Unknown file format"):  # SageMaker's name for the file has no ending
        booster.load_model(tmp_path / "train" / "xgboost-model")
    scorer = Scorer.load(tmp_path / "train" / "xgboost-model")
    rows = raw_rows(spec)
    encoded = encode(rows, scorer.description.inputs)
    plain = booster.predict(xgb.DMatrix(encoded, enable_categorical=True))
    np.testing.assert_array_equal(plain, scorer.predict(rows))


def test_an_unseen_category_counts_as_missing(tmp_path: Path) -> None:
    spec = load_spec(str(MODELS["churn"]))
    ingest(spec, tmp_path, "demo")
    train(spec, tmp_path, "files", {"num_round": "40"})
    scorer = Scorer.load(tmp_path / "train" / "xgboost-model")
    rows = built_in(str(spec.data.demo)).head(50)
    unseen, missing = rows.assign(contract="Ten years"), rows.assign(contract=None)
    np.testing.assert_array_equal(scorer.predict(unseen), scorer.predict(missing))


def test_a_boolean_is_read_however_it_is_written() -> None:
    written = pd.Series([True, "true", "False", 1, 0.0, "1", None], dtype="object")
    assert booleans(written)[:6].tolist() == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert booleans(written).isna().tolist()[6]
    assert booleans(pd.Series([True, False])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"contract": None}, "lack the columns contract"),
        ({"tenure": "long"}, "column tenure"),
        ({"female": "perhaps"}, "neither true nor false"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, str | None], expected: str, tmp_path: Path) -> None:
    spec = load_spec(str(MODELS["churn"]))
    ingest(spec, tmp_path, "demo")
    train(spec, tmp_path, "files", {"num_round": "5"})
    scorer = Scorer.load(tmp_path / "train" / "xgboost-model")
    rows = built_in(str(spec.data.demo)).head(3)
    for name, value in change.items():
        rows = rows.drop(columns=name) if value is None else rows.assign(**{name: value})
    with pytest.raises(ValueError, match=expected):
        scorer.predict(rows)

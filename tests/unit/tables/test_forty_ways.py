"""One table, however it is written, is one table: the same hash, the same model, the same predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homelab_mlops.errors import DataError
from homelab_mlops.model.parameters import resolve
from homelab_mlops.model.spec import Csv, ModelSpec, parse_spec
from homelab_mlops.pipeline.fit import fit, prepare
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.predict import predict
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import train
from homelab_mlops.pipeline.validate import validate
from tests import forks
from tests.conftest import PATIENCE, ROOT, Homelab, Store, answering, clean_environment, free_port
from tests.unit.tables import ways

SPEC = parse_spec(ways.MODEL, "forty-ways")
PARAMETERS = {"num_round": "8", "max_depth": "4", "nthread": "1"}
# By the real command, too.
BY_COMMAND = ("pandas_csv_below_folders", "polars_csv_semicolon_comma")
# The service takes CSV as MLflow's does, with commas and in UTF-8; of other bodies it says why not.
NOT_UTF_8 = "the body is not CSV in UTF-8"
REFUSED = {
    "pandas_csv_semicolon": "semicolons stand between its values",
    "pandas_csv_tab": "tabs stand between its values",
    "pandas_csv_pipe": "pipes stand between its values",
    "pandas_csv_decimal_comma": "semicolons stand between its values",
    "polars_csv_semicolon_comma": "semicolons stand between its values",
    "pandas_csv_decimal_comma_quoted": "column größe, row 0: '-17,294' is not a number",
    "pandas_csv_utf_16": NOT_UTF_8,
    "pandas_csv_utf_16_be": NOT_UTF_8,
    "pandas_csv_utf_32": NOT_UTF_8,
    "pandas_csv_gzip": NOT_UTF_8,
    "pandas_csv_gzip_hidden": NOT_UTF_8,
    "pandas_csv_gzip_of_two": NOT_UTF_8,
    "pandas_csv_bzip2": NOT_UTF_8,
    "pandas_csv_zstd": NOT_UTF_8,
    "pandas_csv_utf_16_gzip": NOT_UTF_8,
    "duckdb_csv_zstd": NOT_UTF_8,
}
# Bytes; a file with a header and no row is smaller.
A_ROW = 200


@dataclass(frozen=True)
class Expected:
    """What each way has to give: the table's hash, the model's bytes, and its answers in the order of the rows.

    ``folder`` is that of the trained model.
    """

    sha256: str
    booster: bytes
    answers: np.ndarray[Any, np.dtype[np.float32]]
    folder: Path


def booster_of(spec: ModelSpec, work: Path) -> bytes:
    """What the step *train* makes of an ingested table, without the files that it writes beside."""
    frame, manifest = load_ingested(spec, work)
    split = split_rows(frame, spec, manifest["window"])
    parameters = resolve(spec.task, spec.train, {}, PARAMETERS, gate_metric=spec.gate.metric)
    fitted = fit(spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters)
    return bytes(fitted.scorer.booster.save_raw("ubj"))


def predicted(model: Path, source: Path, target: Path) -> pa.Table:
    """The table that `homelab predict` writes."""
    predict(str(model), str(source), str(target), Csv(), target.parent)
    return pq.read_table(target)


def written(name: str, rows: pa.Table, folder: Path) -> Path:
    source = folder / "in"
    source.mkdir()
    ways.WAYS[name](rows, source)
    return source


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return ways.table()


@pytest.fixture(scope="module")
def expected(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    folder = tmp_path_factory.mktemp("expected")
    ways.pyarrow_parquet(rows, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        manifest = ingest(SPEC, folder / "work", str(folder / "data.parquet"))
        train(SPEC, folder / "work", "files", PARAMETERS)
        model = folder / "work" / "train"
        answers = predicted(model, folder / "data.parquet", folder / "out.parquet")["prediction"].to_numpy()
    assert len(set(answers)) > 20
    return Expected(manifest["sha256"], (model / "xgboost-model").read_bytes(), answers, model)


@pytest.fixture(scope="module")
def service(expected: Expected, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The running service on the trained model."""
    port = free_port()
    log = tmp_path_factory.mktemp("service") / "log"
    program = forks.homelab(["serve", expected.folder, "--port", str(port)], clean_environment(), ROOT, log)
    with (
        answering(program, f"http://127.0.0.1:{port}/ping", log),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as client,
    ):
        yield client


def test_there_are_forty_ways() -> None:
    assert len(ways.WAYS) >= 40
    assert set(ways.WAYS) > set(REFUSED)


@pytest.mark.parametrize("name", ways.WAYS)
def test_it_is_the_same_table(name: str, rows: pa.Table, expected: Expected, tmp_path: Path) -> None:
    source = written(name, rows, tmp_path)

    manifest = ingest(SPEC, tmp_path / "work", str(source))
    assert rows.num_rows == manifest["read"]["rows"]
    assert expected.sha256 == manifest["sha256"]
    assert expected.booster == booster_of(SPEC, tmp_path / "work")

    scored = predicted(expected.folder, source, tmp_path / "out.parquet")
    np.testing.assert_array_equal(expected.answers, scored["prediction"].to_numpy())


@pytest.mark.parametrize("name", ways.WAYS)
def test_the_service_answers_alike(
    name: str, rows: pa.Table, expected: Expected, service: httpx.Client, tmp_path: Path
) -> None:
    """What a client sends of each file: a CSV as it is, Parquet as its library writes it as JSON."""
    answers: list[float] = []
    for number, path in enumerate(files_of(written(name, rows, tmp_path))):
        body, media = request_of(path, number)
        answer = service.post("/invocations", content=body, headers={"content-type": media})
        if name in REFUSED:
            assert answer.status_code == httpx.codes.BAD_REQUEST, answer.text
            assert REFUSED[name] in answer.json()["message"]
            return
        assert answer.status_code == httpx.codes.OK, answer.text
        answers += answer.json()["predictions"]
    np.testing.assert_array_equal(expected.answers, np.array(answers, dtype=np.float32))


def files_of(source: Path) -> list[Path]:
    """The files that hold rows, in the order in which the table has them."""
    named = [(path.relative_to(source), path) for path in sorted(source.rglob("*")) if path.is_file()]
    hidden = (".", "_")
    return [
        path
        for name, path in named
        if path.stat().st_size > A_ROW and not any(part.startswith(hidden) for part in name.parts)
    ]


def request_of(path: Path, number: int) -> tuple[bytes, str]:
    if not path.read_bytes().startswith(b"PAR1"):
        return path.read_bytes(), "text/csv"
    if number % 2:
        content = pl.read_parquet(path).write_json()
        return f'{{"instances": {content}}}'.encode(), "application/json"
    content = pd.read_parquet(path).to_json(orient="split", index=False, date_format="iso")
    return f'{{"dataframe_split": {content}}}'.encode(), "application/json"


def uploaded(name: str, rows: pa.Table, store: Store, folder: Path) -> tuple[Path, str]:
    """A way's folder, and its copy in the store."""
    source, client = written(name, rows, folder), store.client()
    for path in source.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "datasets", f"{name}/{path.relative_to(source)}")
    return source, f"s3://datasets/{name}"


def without_place(said: str, place: str) -> list[str]:
    """What was said of a table but for the last line, which names the source."""
    return [line.replace(f"{place}/", "") for line in said.splitlines()[:-1]]


@pytest.mark.parametrize("name", ways.WAYS)
def test_a_store_gives_the_same_table(
    name: str,
    rows: pa.Table,
    expected: Expected,
    minio: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    source, address = uploaded(name, rows, minio, tmp_path)
    for variable, value in minio.env.items():
        monkeypatch.setenv(variable, value)
    ingest(SPEC, tmp_path / "local", str(source))
    here = without_place(capsys.readouterr().err, str(source))
    manifest = ingest(SPEC, tmp_path / "work", address)
    assert expected.sha256 == manifest["sha256"]
    # What was read and left out is said in the same words.
    assert here == without_place(capsys.readouterr().err, address)
    assert any("read" in line for line in here)


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_commands_give_the_same_from_a_store(
    name: str, rows: pa.Table, expected: Expected, minio: Store, homelab: Homelab, tmp_path: Path
) -> None:
    _, address = uploaded(name, rows, minio, tmp_path)
    (tmp_path / "model.yaml").write_text(ways.MODEL)
    arguments: list[str | Path] = ["ingest", tmp_path / "model.yaml", "--work", tmp_path / "work", "--json"]
    ingested = homelab(*arguments, "--source", address, env=minio.env)
    assert ingested.returncode == 0, ingested.stderr
    assert expected.sha256 == json.loads(ingested.stdout)["sha256"]
    target = tmp_path / "scored.parquet"
    scored = homelab("predict", expected.folder, "--source", f"{address}/", "--target", target, env=minio.env)
    assert scored.returncode == 0, scored.stderr
    np.testing.assert_array_equal(expected.answers, pq.read_table(target)["prediction"].to_numpy())


def test_the_service_takes_the_rows_that_predict_wrote(
    expected: Expected, service: httpx.Client, rows: pa.Table, tmp_path: Path
) -> None:
    for name in ("pandas_parquet", "pyarrow_parquet_other_types", "csv_numbers_in_other_words", "hive_folders"):
        (tmp_path / name).mkdir()
        scored = predicted(expected.folder, written(name, rows, tmp_path / name), tmp_path / "out.parquet")
        content = json.loads(pl.DataFrame(scored).write_json())
        answer = service.post("/invocations", json={"dataframe_records": content})
        assert answer.status_code == httpx.codes.OK, answer.text
        np.testing.assert_array_equal(expected.answers, np.array(answer.json()["predictions"], dtype=np.float32))


def test_predict_keeps_the_types_of_a_folder_of_both(expected: Expected, rows: pa.Table, tmp_path: Path) -> None:
    scored = predicted(expected.folder, written("parquet_and_csv", rows, tmp_path), tmp_path / "out.parquet")
    assert rows.equals(scored.drop_columns(["prediction", "model_version"]))


def test_predict_writes_no_parquet_under_the_name_of_another_format(expected: Expected, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the predictions are written as Parquet"):
        predicted(expected.folder, tmp_path / "in.csv", tmp_path / "out.csv")


def test_predict_names_a_number_that_is_too_large(expected: Expected, rows: pa.Table, tmp_path: Path) -> None:
    frame = ways.frame_of(rows)
    frame.loc[3, "größe"] = 1e39
    frame.to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(DataError) as refusal:
        predicted(expected.folder, tmp_path / "in.csv", tmp_path / "out.parquet")
    assert refusal.value.what.endswith("column größe: row 4: 1e+39 is too large a number")


@pytest.mark.parametrize(
    ("cell", "here", "in_model_yaml"),
    [("1'234", '`--thousands "\'"`', '`data.csv.thousands: "\'"`'), ("k.A.", "`--missing`", "`data.csv.missing:`")],
)
def test_a_cell_that_is_no_number_is_named_with_the_key_that_reads_it(
    cell: str, here: str, in_model_yaml: str, expected: Expected, rows: pa.Table, tmp_path: Path
) -> None:
    frame = ways.frame_of(rows).astype({"größe": "object"})
    frame.loc[3, "größe"] = cell
    frame.to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(DataError) as refusal:
        predicted(expected.folder, tmp_path / "in.csv", tmp_path / "out.parquet")
    assert here in refusal.value.fix
    ingest(SPEC, tmp_path / "work", str(tmp_path / "in.csv"))
    with pytest.raises(DataError, match="größe: is a number") as refusal:
        validate(SPEC, tmp_path / "work")
    assert in_model_yaml in refusal.value.what


def test_predict_says_how_many_categories_the_training_did_not_see(
    expected: Expected, rows: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = ways.frame_of(rows)
    frame["tag"] = [day.strftime("%d.%m.%Y") for day in frame["tag"]]
    frame.to_csv(tmp_path / "in.csv", index=False)
    predicted(expected.folder, tmp_path / "in.csv", tmp_path / "out.parquet")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "no such category" in line]
    assert "column 'tag': 260 of 260 cells count as missing" in line
    assert frame["tag"][0] in line

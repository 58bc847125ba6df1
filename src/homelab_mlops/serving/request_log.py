"""A sample of what clients ask, for later comparison with the training rows: off by default.

The inputs of the model gather in memory, by rows, and go to the bucket `datasets` as gzipped JSON lines. The log never
slows or fails a request, and has limits in bytes: of a row, of what it takes of one request, of a file, and of all
that waits in memory. It counts and drops what is beyond them, and batches that the store refuses.
"""

from __future__ import annotations

import gzip
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from homelab_mlops.clients import s3
from homelab_mlops.console import say
from homelab_mlops.errors import StorageError
from homelab_mlops.serving.protocol import Table

ROW_BYTES, REQUEST_BYTES, BATCH_BYTES, WAITING_BYTES = 2**14, 2**21, 2**22, 2**23
# What the memory of a line costs beside its bytes.
LINE_BYTES = 64
BATCH_ROWS = 2_000
BATCH_SECONDS = 60.0
LOOK_SECONDS = 0.5
UPLOAD_SECONDS = 10


class _Waiting:
    """The lines that wait for their upload, `WAITING_BYTES` at most."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def full(self) -> bool:
        """Whether the lines fill a file."""
        return len(self._lines) >= BATCH_ROWS or self._bytes >= BATCH_BYTES

    def put(self, line: bytes) -> bool:
        """Takes a line, or says that there is no room for it."""
        size = len(line) + LINE_BYTES
        with self._lock:
            if self._bytes + size > WAITING_BYTES:
                return False
            self._lines.append(line)
            self._bytes += size
            return True

    def take(self) -> list[bytes]:
        """The lines of the next file."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._lines and len(taken) < BATCH_ROWS and size + len(self._lines[0]) <= BATCH_BYTES:
                line = self._lines.popleft()
                size += len(line)
                self._bytes -= len(line) + LINE_BYTES
                taken.append(line)
        return taken


class RequestLog:
    """Writes a share of the rows below ``address``, an ``s3://BUCKET/PREFIX``.

    Args:
        share: of the rows, from 0 to 1.
        lost: is called with the number of sampled rows that are dropped.
    """

    def __init__(self, address: str, share: float, model: str, version: str, lost: Callable[[int], None]) -> None:
        where = urlsplit(address)
        if where.scheme != "s3" or not where.netloc or not 0 < share <= 1:
            raise StorageError(
                f"the request log goes to s3://BUCKET/PREFIX, and its share is above 0 and at most 1, not {share:g}",
                where=f"HOMELAB_REQUEST_LOG={address}",
            )
        self._bucket, self._prefix = where.netloc, where.path.strip("/")
        self._share, self._lost = share, lost
        self._of = {"model": model, "version": version}
        self._random = random.Random()  # noqa: S311 - a sample
        self._waiting = _Waiting()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    @classmethod
    def of_environment(cls, model: str, version: str, lost: Callable[[int], None]) -> RequestLog | None:
        """The log that ``HOMELAB_REQUEST_LOG`` asks for, or none."""
        address = os.environ.get("HOMELAB_REQUEST_LOG", "")
        if not address:
            return None
        given = os.environ.get("HOMELAB_REQUEST_LOG_SHARE", "1")
        try:
            share = float(given)
        except ValueError:
            raise StorageError(f"{given!r} is not a share", where="HOMELAB_REQUEST_LOG_SHARE") from None
        return cls(address, share, model, version, lost)

    def offer(self, table: Table, inputs: Sequence[str], predicted: list[Any]) -> None:
        """Takes a sample of the rows, of which it keeps the ``inputs`` of the model; never waits."""
        left = REQUEST_BYTES
        for row in range(table.rows):
            if self._random.random() >= self._share:
                continue
            values = {name: table.columns[name][row] for name in inputs}
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = orjson.dumps({"at": now, **self._of, "row": values, "prediction": predicted[row]})
            if len(line) > min(ROW_BYTES, left) or not self._waiting.put(line):
                self._lost(1)
            else:
                left -= len(line)

    def close(self) -> None:
        """Writes the gathered rows, within seconds."""
        self._stopped.set()
        self._thread.join(2 * UPLOAD_SECONDS)

    def _run(self) -> None:
        written = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            if self._waiting.full or time.monotonic() - written > BATCH_SECONDS:
                self._write()
                written = time.monotonic()
        self._write()

    def _write(self) -> None:
        while lines := self._waiting.take():
            try:
                self._upload(gzip.compress(b"\n".join(lines) + b"\n", compresslevel=4))
            except Exception as error:
                self._lost(len(lines))
                say(f"request log: {len(lines)} rows are lost: {type(error).__name__}: {str(error)[:200]}")
                return

    def _upload(self, content: bytes) -> None:
        options = {
            "connect_timeout": UPLOAD_SECONDS,
            "read_timeout": UPLOAD_SECONDS,
            "retries": {"max_attempts": 1, "mode": "standard"},
        }
        client = s3.client(options, style="path")
        now = datetime.now(UTC)
        key = f"{self._prefix}/{self._of['model']}/{now:%Y/%m/%d}/{now:%H%M%S}-{uuid.uuid4().hex[:8]}.jsonl.gz"
        client.put_object(Bucket=self._bucket, Key=key.lstrip("/"), Body=content)

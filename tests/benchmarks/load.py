"""A load generator that is quicker than what it loads: prints requests, seconds and the latencies' quantiles as JSON.

Each connection sends its next request when it has the whole answer to the last one.

    python tests/benchmarks/load.py PORT REQUEST-FILE CONNECTIONS SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

END_OF_HEADERS = b"\r\n\r\n"
WARM_UP_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, latencies: list[float], failures: list[str]) -> None:
        self.request, self.latencies, self.failures = request, latencies, failures
        self.received = b""
        self.whole = 0
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self.received, self.whole = b"", 0
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.whole:
            head, mark, _ = self.received.partition(END_OF_HEADERS)
            if not mark:
                return
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self.whole = len(head) + len(mark) + int(length.partition(b":")[2])
            if not head.startswith(b"HTTP/1.1 200"):
                self.failures.append(self.received.decode(errors="replace")[:300])
        if len(self.received) >= self.whole:
            self.latencies.append(time.perf_counter() - self.sent)
            self._send()


async def load(port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    failures: list[str] = []
    made = [
        await loop.create_connection(lambda: Connection(request, latencies, failures), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(WARM_UP_SECONDS)
    latencies.clear()
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    taken, done = time.perf_counter() - start, sorted(latencies)
    for transport, _ in made:
        transport.abort()
    if failures or not done:
        sys.exit(f"the server fails: {failures[:1] or 'no answer'}")
    at = {f"p{share}": 1e3 * done[min(len(done) - 1, len(done) * share // 100)] for share in (50, 99)}
    return {"per_second": len(done) / taken, **at}


if __name__ == "__main__":
    port, file, connections, seconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(int(port), Path(file).read_bytes(), int(connections), float(seconds)))))

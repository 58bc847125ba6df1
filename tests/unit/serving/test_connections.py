"""The limits of connections, on a server in this process, whose limits are small enough to be met at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from homelab_mlops.serving import app, connections
from homelab_mlops.serving.app import Refusal, Service
from homelab_mlops.serving.metrics import Metrics

GET, ANSWER = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 200 OK"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body; of `/large`, with more than any buffer takes."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"x" * 2**24 if scope["path"] == "/large" else str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Server:
    """Opens connections to a server with the protocol of the service."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.writers: list[asyncio.StreamWriter] = []

    async def open(self, first: bytes = b"") -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(first)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """All that comes back until the server closes."""
        reader, _ = await self.open(request)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    config = uvicorn.Config(echo, http=connections.limited(), lifespan="off", log_level="critical", access_log=False)
    config.load()
    protocol: Any = config.http_protocol_class
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    clients = Server(server.sockets[0].getsockname()[1])
    try:
        yield clients
    finally:
        server.close()
        for writer in clients.writers:
            writer.transport.abort()
        for connection in [*state.connections]:
            connection.transport.abort()
        await asyncio.sleep(0)


def run(test: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with serving() as server, asyncio.timeout(60):
            await test(server)

    asyncio.run(within())


HEADS = {
    "value": b"GET / HTTP/1.1\r\na: " + b"x" * 2**20,
    "name": b"GET / HTTP/1.1\r\n" + b"x" * 2**20,
    "number": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    "path": b"GET /" + b"x" * 2**20,
    "trailers": POST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"a: b\r\n" * 20_000,
    "chunk extension": POST + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 2**20,
}


@pytest.mark.parametrize("what", HEADS)
def test_a_head_beyond_its_limit_is_refused(what: str) -> None:
    async def test(server: Server) -> None:
        assert (await server.ask(HEADS[what]))[:12] in {b"HTTP/1.1 400", b""}
        reader, _ = await server.open(GET)
        assert await reader.readline() == ANSWER + b"\r\n"

    run(test)


def test_a_head_that_is_large_but_real_is_answered() -> None:
    async def test(server: Server) -> None:
        cookies = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncookie: " + b"x" * 2**15 + b"\r\n\r\n"
        assert (await server.ask(cookies)).startswith(ANSWER)

    run(test)


@pytest.mark.parametrize("begun", [b"", GET[:20], GET + GET[:20]], ids=["nothing", "half", "a second one"])
def test_a_head_that_never_ends_is_dropped(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def test(server: Server) -> None:
        assert (await server.ask(begun)).count(b"HTTP/1.1") == begun.count(GET)

    run(test)


def test_of_too_many_connections_the_longest_silent_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)

    async def test(server: Server) -> None:
        silent = [await server.open() for _ in range(3)]
        slow = await server.open(POST + b"content-length: 9\r\n\r\n1")
        good, _ = await server.open(GET)
        assert await good.readline() == ANSWER + b"\r\n"
        for reader, _ in silent[:2]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        slow[1].write(b"23456789")
        assert await slow[0].readline() == ANSWER + b"\r\n"

    run(test)


def test_requests_ahead_of_their_answers_are_few() -> None:
    async def test(server: Server) -> None:
        reader, _ = await server.open(GET * connections.MAX_AHEAD)
        for _ in range(connections.MAX_AHEAD):
            await reader.readuntil(b"\r\n\r\n0")
        assert (await server.ask(GET * 10_000)).count(ANSWER) <= connections.MAX_AHEAD

    run(test)


def test_answers_that_nobody_takes_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_UNREAD_BYTES", 2**22)

    async def test(server: Server) -> None:
        loop = asyncio.get_running_loop()
        gone = loop.create_future()

        class Deaf(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
                gone.set_result(True)

        transport, _ = await loop.create_connection(Deaf, "127.0.0.1", server.port)
        transport.pause_reading()
        transport.write(GET.replace(b"GET /", b"GET /large"))
        # What it writes later meets a connection that is gone.
        while not gone.done():
            transport.write(b"x")
            await asyncio.sleep(0)
        reader, _ = await server.open(GET)
        assert await reader.readline() == ANSWER + b"\r\n"

    run(test)


def test_a_body_in_tiny_chunks_is_refused_and_one_in_lines_is_not() -> None:
    async def test(server: Server) -> None:
        chunked = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        assert (await server.ask(chunked + b"1\r\nx\r\n" * 100_000))[:12] in {b"HTTP/1.1 400", b""}
        lines = await server.ask(chunked + (b"40\r\n" + b"x" * 64 + b"\r\n") * 10_000 + b"0\r\n\r\n")
        assert lines.endswith(b"640000")
        assert (await server.ask(chunked + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n")).endswith(b"500")

    run(test)


def test_large_bodies_count_until_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread scores them, so those that wait for it would fill the memory."""
    monkeypatch.setattr(app, "MAX_WAITING_BYTES", 3 * app.ASIDE_BYTES)
    service = Service("any", "1", None, None, Metrics("any", "1", CollectorRegistry()))
    scope = {"headers": [(b"content-type", b"application/json")]}

    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": b" " * 2 * app.ASIDE_BYTES, "more_body": False}

    async def test() -> None:
        scored = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", lambda *_: scored)
        first = asyncio.ensure_future(service._score(Any, "/rows", scope, body))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="too many large requests"):
            await service._score(Any, "/rows", scope, body)  # type: ignore[arg-type]
        scored.set_result((b"{}", 1))
        assert await first == b"{}"
        assert await service._score(Any, "/rows", scope, body) == b"{}"  # type: ignore[arg-type]

    asyncio.run(test())


@pytest.mark.parametrize("most", [0, 1])
def test_refused_bodies_are_read_to_their_end_for_a_few_clients(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_DISCARDS", most)
    service = Service("any", "1", None, None, Metrics("any", "1", CollectorRegistry()))
    service.model = Any  # type: ignore[assignment]
    length = b"%d" % (app.MAX_BODY_BYTES + 1)
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    scope = {"type": "http", "path": "/rows", "method": "POST", "headers": headers}
    read: list[int] = []
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b" ", "more_body": len(read) < 5}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(service(scope, receive, send))
    assert len(read) == 5 * most
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert not sent[-1].get("more_body")

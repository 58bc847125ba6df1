"""The service itself, an ASGI application: one worker, one model, no framework between the socket and the booster."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from homelab_mlops.serving.encoding import RowsError
from homelab_mlops.serving.metrics import Metrics
from homelab_mlops.serving.protocol import (
    UnsupportedError,
    content_type,
    predictions,
    read_invocation,
    read_rows,
)
from homelab_mlops.serving.request_log import RequestLog

if TYPE_CHECKING:
    from homelab_mlops.serving.model import Model

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

MLFLOW_VERSION = b"3.17.2"
MAX_BODY_BYTES = 4 * 2**20
# The limit of all bodies that arrive, or wait for their answer, at the same time.
MAX_WAITING_BYTES = 32 * 2**20
BODY_SECONDS = 30.0
# The service reads a refused body to its end, within limits, so that the client reads the answer.
DISCARD_BYTES, DISCARD_SECONDS = 256 * 2**20, 10.0
# Of more clients at the same time it does not: they cost the others their time.
MAX_DISCARDS = 8
# Requests that take longer than a millisecond or two let single rows pass.
ASIDE_BYTES = 32 * 2**10
OPEN = ("/ping", "/health")
ENDPOINTS = {"/invocations": "POST", "/rows": "POST", "/": "GET", "/version": "GET", "/ping": "GET", "/health": "GET"}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that is not a prediction."""

    def __init__(self, status: int, code: str, message: str, headers: Iterable[Header] = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, list(headers)


class Login:
    """The one login of the service, as HTTP Basic or as a bearer token."""

    def __init__(self, username: str, password: str) -> None:
        basic = base64.b64encode(f"{username}:{password}".encode())
        self._accepted = (b"Bearer " + password.encode(), b"Basic " + basic)

    def admits(self, headers: Iterable[Header]) -> bool:
        """Whether the request carries the login. A wrong one takes the same time."""
        given = next((value for name, value in headers if name == b"authorization"), b"")
        return any([hmac.compare_digest(given, accepted) for accepted in self._accepted])  # noqa: C419 - all of them


class Service:
    """Answers requests; without a ``model`` it says why there is none."""

    def __init__(self, name: str, version: str, login: Login | None, log: RequestLog | None, metrics: Metrics) -> None:
        self.name, self.version = name, version
        self.model: Model | None = None
        self.waiting_for = "the model is being loaded"
        # Git names no version: that is right until one is promoted.
        self.empty = version == "0"
        self.draining = False
        self._login, self._log, self._metrics = login, log, metrics
        self._waiting_bytes = self._discards = 0
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._prefix = f"/{name}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(self._prefix) and path[len(self._prefix) : len(self._prefix) + 1] in ("", "/"):
            path = path[len(self._prefix) :] or "/"
        endpoint = path if path in ENDPOINTS else "other"
        headers: list[Header] = []
        discard = False
        try:
            body, media = await self._answer(path, scope, receive)
            status = 200
        except Refusal as refusal:
            status, media, headers = refusal.status, b"application/json", refusal.headers
            body = orjson.dumps({"error_code": refusal.code, "message": refusal.message})
            discard = status in (408, 413, 429)
        headers += [(b"content-type", media), (b"content-length", str(len(body)).encode())]
        if self.draining or discard:
            headers.append((b"connection", b"close"))
        discard = discard and self._discards < MAX_DISCARDS
        self._metrics.answered(endpoint, status)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": discard})
        if discard:
            self._discards += 1
            try:
                await _discard(receive)
            finally:
                self._discards -= 1
            await send({"type": "http.response.body", "body": b""})

    async def _answer(self, path: str, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        method = ENDPOINTS.get(path)
        if method is None:
            known = ", ".join(ENDPOINTS)
            raise Refusal(404, "ENDPOINT_NOT_FOUND", f"there is no {path[:100]!r}; there are {known}")
        if path in OPEN:
            if self.draining or (self.model is None and not self.empty):
                raise Refusal(503, "TEMPORARILY_UNAVAILABLE", "shutting down" if self.draining else self.waiting_for)
            return b"\n", b"application/json"
        if self._login is not None and not self._login.admits(scope["headers"]):
            challenge = [(b"www-authenticate", b'Basic realm="models", Bearer realm="models"')]
            raise Refusal(
                401, "UNAUTHENTICATED", "a login is needed: `homelab seal --show serving` prints it", challenge
            )
        if scope["method"] not in (method, "HEAD" if method == "GET" else method):
            allow = [(b"allow", method.encode())]
            raise Refusal(405, "METHOD_NOT_ALLOWED", f"{path} takes {method}", allow)
        if path == "/version":
            return MLFLOW_VERSION, b"application/json"
        if self.model is None:
            raise Refusal(503, "TEMPORARILY_UNAVAILABLE", self.waiting_for)
        if path == "/":
            return self._description(self.model), b"application/json"
        return await self._score(self.model, path, scope, receive), b"application/json"

    async def _score(self, model: Model, path: str, scope: Scope, receive: Receive) -> bytes:
        header = length = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                header = value.decode("latin-1")
            elif name == b"content-length":
                length = int(value)
        try:
            media = content_type(header or "")
        except UnsupportedError as error:
            raise Refusal(415, "BAD_REQUEST", str(error)) from error
        if path == "/rows" and media != "application/json":
            raise Refusal(415, "BAD_REQUEST", "/rows takes application/json")
        body = await self._body(receive, length)
        # A large body waits for the others, so it counts until it is answered.
        held = len(body) if len(body) > ASIDE_BYTES else 0
        self._hold(held)
        start = time.perf_counter()
        try:
            if len(body) > ASIDE_BYTES:
                loop = asyncio.get_running_loop()
                answer, rows = await loop.run_in_executor(self._aside, self._scored, model, path, body, media)
            else:
                answer, rows = self._scored(model, path, body, media)
        except RowsError as error:
            raise Refusal(400, "BAD_REQUEST", str(error)) from error
        finally:
            self._waiting_bytes -= held
        self._metrics.seconds.observe(time.perf_counter() - start)
        self._metrics.rows.inc(rows)
        return answer

    def _scored(self, model: Model, path: str, body: bytes, media: str) -> tuple[bytes, int]:
        strict = path == "/rows"
        if strict:
            table, single = read_rows(body, model.encoder.names)
        else:
            table, single = read_invocation(body, media, model.encoder.names), False
        predicted = model.predict(table, strict=strict)
        values = predictions(predicted, model.labels)
        if self._log is not None:
            self._log.offer(table, model.encoder.names, values)
        if not strict:
            return orjson.dumps({"predictions": values}), table.rows
        of = {"model": model.name, "version": model.version}
        given = {"prediction": values[0]} if single else {"predictions": values}
        return orjson.dumps({**of, **given}), table.rows

    async def _body(self, receive: Receive, length: int | None) -> bytes:
        if length is not None and length > MAX_BODY_BYTES:
            raise _too_large()
        message = await receive()
        if not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise _too_large()
            return body
        parts, size = [message["body"]], len(message["body"])
        self._waiting_bytes += size
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while message.get("more_body"):
                    if size > MAX_BODY_BYTES:
                        raise _too_large()
                    self._hold(0)
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "BAD_REQUEST", "the client went away")
                    parts.append(message["body"])
                    size += len(message["body"])
                    self._waiting_bytes += len(message["body"])
        except TimeoutError:
            raise Refusal(408, "REQUEST_TIMEOUT", f"the body took more than {BODY_SECONDS:.0f} s") from None
        finally:
            self._waiting_bytes -= size
        if size > MAX_BODY_BYTES:
            raise _too_large()
        return b"".join(parts)

    def _hold(self, size: int) -> None:
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            retry = [(b"retry-after", b"1")]
            raise Refusal(429, "RESOURCE_EXHAUSTED", "too many large requests at the same time", retry)
        self._waiting_bytes += size

    def _description(self, model: Model) -> bytes:
        """What a person or a form needs to ask: the inputs by name."""
        description = model.description
        return orjson.dumps(
            {
                "model": model.name,
                "version": model.version,
                "task": description.task,
                "labels": description.labels,
                "inputs": [
                    {"name": item.name, "type": item.type, **({"values": item.categories} if item.categories else {})}
                    for item in description.inputs
                ],
            }
        )


def _too_large() -> Refusal:
    limit = f"{MAX_BODY_BYTES // 2**20} MiB"
    return Refusal(413, "BAD_REQUEST", f"the body is larger than {limit}; send the rows in several requests")


async def _discard(receive: Receive) -> None:
    size = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while size < DISCARD_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                size += len(message["body"])
    except TimeoutError:
        return

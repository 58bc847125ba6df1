"""Connections with limits: heads, waits, pipelines, answers that nobody reads, and how many there are at the same time.

uvicorn has none of these. Without them one client without a login fills the memory of the service, or holds every
file descriptor.
"""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Names, values and framing of a request that are not its body.
HEAD_BYTES = 64 * 2**10
HEAD_SECONDS = 15.0
# A body in tiny chunks costs the time of a hundred bodies: beyond so many, a chunk has so many bytes on average.
MAX_CHUNKS, CHUNK_BYTES = 1_000, 32
# Requests that a client may send before it has the answer to its first.
MAX_AHEAD = 16
# Below the 1,024 file descriptors that many systems give a process.
MAX_CONNECTIONS = 800
# The limit of all answers that wait for their clients.
MAX_UNREAD_BYTES = 16 * 2**20


class _Refused(Exception):  # noqa: N818 - an answer
    """Stops the parser: what comes is no request that this service reads."""


class Connections:
    """All connections of a server; those that a client keeps waiting are the first to go."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}
        self._count = 0

    def opened(self, connection: Connection) -> None:
        """Counts a connection; where there are too many, the one that has waited longest for its client goes."""
        self._count += 1
        self.waits(connection)
        if self._count > MAX_CONNECTIONS:
            next(iter(self._waiting)).drop()

    def closed(self, connection: Connection) -> None:
        """Forgets a connection."""
        self._count -= 1
        self.works(connection)
        self.read(connection)

    def waits(self, connection: Connection) -> None:
        """The client has the word."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def works(self, connection: Connection) -> None:
        """The service has the word."""
        self._waiting.pop(connection, None)

    def unread(self, connection: Connection) -> None:
        """The client does not take its answer; where too much waits, the oldest of these answers goes."""
        self._unread[connection] = None
        waiting = {one: one.unread_bytes for one in self._unread}
        size = sum(waiting.values())
        for one, held in waiting.items():
            if size <= MAX_UNREAD_BYTES:
                break
            one.drop()
            size -= held

    def read(self, connection: Connection) -> None:
        """The client has taken its answer."""
        self._unread.pop(connection, None)


class Connection(HttpToolsProtocol):
    """One connection; `limited` binds it to the others of its server."""

    others: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come, and has to send a request."""
        super().connection_made(transport)
        self._head = 0
        self._in_head = False
        self._deadline: asyncio.TimerHandle | None = None
        self._expect(HEAD_SECONDS)
        self.others.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client, or this service, has closed."""
        self._expect(None)
        self._unset_keepalive_if_required()
        self.others.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses within the limits; what it refuses it answers once, and writes no line a request."""
        if self.transport.is_closing():
            return
        self._head += len(data)
        try:
            self.parser.feed_data(data)
            if self._head > HEAD_BYTES:
                raise _Refused
        except httptools.HttpParserUpgrade:
            pass
        except (httptools.HttpParserError, _Refused):
            if self._in_head and self.cycle is not None and not self.cycle.response_complete:
                self.drop()  # the client would take a refusal for the answer to its request before
            else:
                self.send_400_response("This is no HTTP request, its head is too large, or its chunks are too small.")
                self._expect(HEAD_SECONDS)
            return
        if self._in_head and self._deadline is None:
            self._expect(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._in_head = True
        self._fields = self._chunks = self._body = 0

    def on_url(self, url: bytes) -> None:
        """Adds a piece of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header, or a trailer."""
        self._count(len(name) + len(value) + 32)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hands the request on."""
        self._head, self._in_head = 0, False
        self._expect(None)
        if len(self.pipeline) >= MAX_AHEAD:
            self._in_head = True
            raise _Refused
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Adds a piece of the body."""
        self._head = 0
        self._chunks += 1
        self._body += len(body)
        if self._chunks > MAX_CHUNKS + self._body // CHUNK_BYTES:
            raise _Refused
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._head = 0
        super().on_message_complete()
        if self.cycle is not None and not self.cycle.response_complete:
            self.others.works(self)

    def on_response_complete(self) -> None:
        """The client has the word again, unless it has sent more requests."""
        super().on_response_complete()
        if self.parser is None:
            return
        if self.cycle.response_complete:
            self.others.waits(self)
        if self.transport.is_closing():
            self._expect(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """The client has sent nothing for long; nor may it have taken its last answer."""
        self.drop()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it comes."""
        super().pause_writing()
        self.others.unread(self)

    def resume_writing(self) -> None:
        """The client has taken nearly all of its answer."""
        super().resume_writing()
        self.others.read(self)

    @property
    def unread_bytes(self) -> int:
        """What the client has not taken yet."""
        return self.transport.get_write_buffer_size()

    def drop(self) -> None:
        """Ends the connection, whatever is still to be sent."""
        self.others.works(self)
        self.transport.abort()

    def _count(self, size: int) -> None:
        self._fields += size
        if self._fields > HEAD_BYTES:
            raise _Refused

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.drop)


def limited() -> type[Connection]:
    """The protocol of one server."""
    return type("Limited", (Connection,), {"others": Connections()})

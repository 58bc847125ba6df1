"""Servers on loopback that stand between a client and the real one: proxies with a rule, TLS, silence."""

from __future__ import annotations

import datetime
import functools
import http.client
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import PATIENCE


@dataclass(frozen=True)
class Request:
    """What a proxy has read of a request when it decides."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)


# Status, content type and body; of a redirect the body is where it leads to.
Answer = tuple[int, str, bytes]
Rule = Callable[[Request], Answer | None]


def xml(status: int, code: str, message: str = "") -> Answer:
    """An error as an S3 store writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, "application/xml", body.encode()


@contextmanager
def proxy(
    upstream: str, rule: Rule, *, tls: ssl.SSLContext | None = None, path: Callable[[Request], str] | None = None
) -> Iterator[str]:
    """The address of a proxy before ``upstream`` that answers itself where ``rule`` says so."""
    target = urlsplit(upstream)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def _serve(self) -> None:
            request = Request(self.command, self.path, dict(self.headers.items()))
            body = (
                self._chunks()
                if "chunked" in self.headers.get("Transfer-Encoding", "")
                else self.rfile.read(request.length)
            )
            own = rule(request)
            if own is not None:
                status, kind, content = own
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if 300 <= status < 400:
                    self.send_header("Location", content.decode())
            else:
                connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=PATIENCE)
                connection.putrequest(
                    self.command, path(request) if path else self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in ("connection", "expect", "content-length", "transfer-encoding"):
                        connection.putheader(name, value)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                        self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    with _listening(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler), tls) as port:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


@contextmanager
def _listening(server: http.server.ThreadingHTTPServer, tls: ssl.SSLContext | None) -> Iterator[int]:
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def web_page() -> Iterator[str]:
    """A web server that is something else."""

    def page(_request: Request) -> Answer:
        return 200, "text/html", b"<html><title>Console</title></html>"

    with proxy("http://127.0.0.1:9", page) as url:
        yield url


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """A web server of the files in a folder, as git reads a repository from one."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    with _listening(server, None) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def talking(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes every connection and does with it as ``answer`` says."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


def silence(_connection: socket.socket) -> None:
    """Takes the connection and never answers."""


def hang_up(connection: socket.socket) -> None:
    """Reads a request and closes."""
    connection.recv(65536)
    connection.close()


@contextmanager
def black_hole() -> Iterator[str]:
    """An address whose connections are neither taken nor refused: the queue of its socket is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            waiting.append(client)
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            for client in waiting:
                client.close()


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate, which is its own authority."""

    file: Path
    context: ssl.SSLContext


def certificate(folder: Path, name: str = "127.0.0.1", *, expired: bool = False, outdated: bool = False) -> Certificate:
    """A certificate for an address or a name, valid from yesterday, or until then.

    ``outdated``: its server speaks no newer TLS than 1.1, which clients refuse.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    alternative: x509.GeneralName = (
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now - day if expired else now + day)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    stem = f"{name}-{'expired' if expired else 'valid'}"
    file, private = folder / f"{stem}.pem", folder / f"{stem}.key"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    if outdated:
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return Certificate(file, context)


def through(_request: Request) -> Answer | None:
    """The rule of a proxy that lets everything pass."""
    return None

"""What is wrong with the connection to a server: name, port, TLS; the faults that all servers have in common."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.visit import Visit

RESOLVE_SECONDS = 4.0
CONNECT_SECONDS = 3.0
_HANDSHAKE_SECONDS = 3.0
# How long the server may take to answer the plain request that shows its protocol. A later check asks again.
_FIRST_BYTES_SECONDS = 1.5
# Of OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED, CERT_NOT_YET_VALID, HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH.
_EXPIRED, _WRONG_HOST = {9, 10}, {62, 64}


def http_address(url: str) -> SplitResult | None:
    """The parts of an http:// or https:// address, or None where it is no such thing."""
    try:
        address = urlsplit(url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        return None
    return address if usable and not re.search(r"\s", url) else None


def connect(visit: Visit, prefix: str, url: str, context: ssl.SSLContext) -> None:
    """Connects to the server of ``url`` by the protocol of the address, http or https.

    Where the environment names a proxy, a connection says nothing about the server, so none is made.

    Raises:
        Finding: one of the faults ``{prefix}_DNS`` to ``{prefix}_HTTP_TO_TLS``.
    """
    address = http_address(url)
    if address is None or proxy_of(address):
        return
    _resolve(visit, prefix, url, address.hostname or "")
    with _connected(visit, prefix, url, address) as connection:
        if address.scheme == "https":
            _handshake(visit, prefix, url, address, connection, context)
            return
    if _speaks_tls_only(visit, prefix, url, address):
        raise Finding(f"{prefix}_HTTP_TO_TLS", url)


def tls_context(prefix: str, bundle: str, *, insecure: bool) -> ssl.SSLContext:
    """The TLS context of requests and of botocore: it trusts the authorities of ``bundle``, or those of certifi.

    Raises:
        Finding: ``bundle`` cannot be read.
    """
    import certifi

    try:
        context = ssl.create_default_context(cafile=bundle or certifi.where())
    except OSError as error:
        what = f"TLS fails: the certificates to trust cannot be read: {error.strerror or error}"
        raise Finding(f"{prefix}_TLS_UNTRUSTED", bundle, what) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def proxy_of(address: SplitResult) -> str:
    """The proxy that the environment names for an address, or nothing."""
    proxy = getproxies().get(address.scheme, "")
    return "" if proxy_bypass(address.hostname or "") else proxy


def breaks_off(prefix: str, url: str, error: Exception) -> Finding:
    """The fault ``{prefix}_BREAKS_OFF``. Where the environment names a proxy, that one may have closed the
    connection."""
    code = f"{prefix}_BREAKS_OFF"
    what, proxy = f"{Finding(code, '').what}: {error}", proxy_of(urlsplit(url))
    if proxy:
        return Finding(code, f"{url} through the proxy {proxy}", what, "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY")
    return Finding(code, url, what)


def fits_a_header(text: str) -> bool:
    """Whether HTTP can send a credential: it cannot send a line end, a space or another alphabet."""
    return text.isascii() and text.isprintable() and " " not in text


def leads_to_tls(url: str, status: int, location: str) -> bool:
    """Whether an answer sends a client that asks in plain http to https, where it would lose its login."""
    return url.startswith("http://") and 300 <= status < 400 and location.startswith("https://")


def _resolve(visit: Visit, prefix: str, url: str, host: str) -> None:
    """Checks that the name resolves. It does so in a thread, since a silent resolver would make it wait much longer.

    Raises:
        Finding: it does not.
    """
    said: list[Exception | None] = []

    def ask() -> None:
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            said.append(error)
        else:
            said.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(visit.seconds(RESOLVE_SECONDS))
    error = said[0] if said else socket.gaierror(socket.EAI_AGAIN, "no answer")
    if error is not None:
        what = f"{_subject(prefix)} cannot be reached: the name {host} does not resolve{_resolver(error)}"
        raise Finding(f"{prefix}_DNS", url, what) from error


@contextlib.contextmanager
def _connected(visit: Visit, prefix: str, url: str, address: SplitResult) -> Iterator[socket.socket]:
    host = address.hostname or ""
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        connection = socket.create_connection((host, port), visit.seconds(CONNECT_SECONDS))
    except TimeoutError as error:
        raise Finding(
            f"{prefix}_TIMEOUT", url, f"{_subject(prefix)} cannot be reached: no answer from {host}"
        ) from error
    except ConnectionRefusedError as error:
        raise Finding(
            f"{prefix}_REFUSED", url, f"{_subject(prefix)} cannot be reached: the connection is refused"
        ) from error
    except OSError as error:
        raise Finding(
            f"{prefix}_TIMEOUT", url, f"{_subject(prefix)} cannot be reached: {error.strerror or error}"
        ) from error
    with connection:
        yield connection


def _resolver(error: Exception) -> str:
    """What to add where no resolver answered; nothing where one did not know the name."""
    unanswered = getattr(error, "errno", None) == socket.EAI_AGAIN
    return " (the resolver does not answer; in a pod, NetworkPolicies have to allow DNS)" if unanswered else ""


def _subject(prefix: str) -> str:
    return "the tracking server" if prefix == "TRACKING" else "the store"


def _handshake(
    visit: Visit, prefix: str, url: str, address: SplitResult, connection: socket.socket, context: ssl.SSLContext
) -> None:
    connection.settimeout(visit.seconds(_HANDSHAKE_SECONDS))
    try:
        with context.wrap_socket(connection, server_hostname=address.hostname):
            return
    except ssl.SSLCertVerificationError as error:
        kind = (
            "EXPIRED"
            if error.verify_code in _EXPIRED
            else "WRONG_HOST"
            if error.verify_code in _WRONG_HOST
            else "UNTRUSTED"
        )
        raise Finding(f"{prefix}_TLS_{kind}", url, _with_reason(prefix, kind, error.verify_message)) from error
    except (ssl.SSLError, ConnectionError, TimeoutError, OSError) as error:
        if _speaks_http(visit, prefix, url, address):
            raise Finding(f"{prefix}_TLS_TO_HTTP", url) from error
        reason = getattr(error, "reason", None) or str(error)
        raise Finding(f"{prefix}_TLS_FAILS", url, f"TLS fails with {_subject(prefix)}: {reason}") from error


def _with_reason(prefix: str, kind: str, reason: str) -> str:
    title = Finding(f"{prefix}_TLS_{kind}", "").what
    return f"{title} ({reason})"


def _speaks_http(visit: Visit, prefix: str, url: str, address: SplitResult) -> bool:
    try:
        with _connected(visit, prefix, url, address) as connection:
            return (_plain_answer(visit, address, connection) or b"").startswith(b"HTTP/")
    except Finding:
        return False


def _speaks_tls_only(visit: Visit, prefix: str, url: str, address: SplitResult) -> bool:
    """Whether the server answers TLS with a handshake, and plain http with nothing or a complaint."""
    with _connected(visit, prefix, url, address) as connection:
        answer = _plain_answer(visit, address, connection)
    complains = answer is not None and b" 400 " in answer[:16] and b"https" in answer.lower()
    if answer is None or (answer.startswith(b"HTTP/") and not complains):
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(visit, prefix, url, address) as connection:
            connection.settimeout(visit.seconds(_HANDSHAKE_SECONDS))
            with context.wrap_socket(connection, server_hostname=address.hostname):
                return True
    except (Finding, OSError):
        return False


def _plain_answer(visit: Visit, address: SplitResult, connection: socket.socket) -> bytes | None:
    """The first bytes that the server answers to a plain request, or None where it does not answer in time."""
    connection.settimeout(visit.seconds(_FIRST_BYTES_SECONDS))
    request = f"GET / HTTP/1.1\r\nHost: {address.netloc.rpartition('@')[2]}\r\nConnection: close\r\n\r\n"
    try:
        connection.sendall(request.encode())
        return connection.recv(2048)
    except TimeoutError:
        return None
    except OSError:
        return b""

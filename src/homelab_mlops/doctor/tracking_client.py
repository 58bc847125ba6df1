"""A client of the tracking server for one visit, and which fault each of its failures means."""

from __future__ import annotations

import configparser
import contextlib
import netrc
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from homelab_mlops.clients.authority import authority_of
from homelab_mlops.doctor import connection
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.visit import PATIENCE_SECONDS, NotLookedAtError, OutOfTimeError, Visit

ANSWER_SECONDS = 5.0


def tracking_uri(visit: Visit) -> str:
    """``MLFLOW_TRACKING_URI``, without a slash at its end.

    Raises:
        NotLookedAtError: it is not set.
    """
    uri = visit.variable("MLFLOW_TRACKING_URI").rstrip("/")
    if not uri:
        raise NotLookedAtError("MLFLOW_TRACKING_URI is not set")
    return uri


def tls_of(visit: Visit) -> ssl.SSLContext:
    if urlsplit(tracking_uri(visit)).scheme == "http":
        return ssl.create_default_context()
    insecure = visit.variable("MLFLOW_TRACKING_INSECURE_TLS").lower() in ("true", "1")
    bundle = visit.variable("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = bundle or authority_of(tracking_uri(visit))
    context = connection.tls_context("TRACKING", "" if insecure else bundle, insecure=insecure)
    if own := visit.variable("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        try:
            context.load_cert_chain(own)
        except OSError as error:
            what = f"TLS fails: the client's certificate cannot be read: {error.strerror or error}"
            raise Finding("TRACKING_TLS_FAILS", own, what, "correct MLFLOW_TRACKING_CLIENT_CERT_PATH") from error
    return context


def _login(visit: Visit) -> httpx.Auth | None:
    """What MLflow's client would log in with: the address, the environment, ~/.mlflow/credentials, or ~/.netrc."""
    address = urlsplit(tracking_uri(visit))
    if address.username:
        return httpx.BasicAuth(unquote(address.username), unquote(address.password or ""))
    # Not stripped: MLflow's client sends a line end at their end too, and the server refuses it.
    user, password = (visit.env.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    kept = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        kept.read(Path.home() / ".mlflow" / "credentials")
    user = user or kept.get("mlflow", "mlflow_tracking_username", fallback="")
    password = password or kept.get("mlflow", "mlflow_tracking_password", fallback="")
    if user:
        return httpx.BasicAuth(user, password)
    with contextlib.suppress(netrc.NetrcParseError, OSError):
        known = netrc.netrc(visit.variable("NETRC") or Path.home() / ".netrc").authenticators(address.hostname or "")
        return httpx.BasicAuth(known[0], known[2]) if known and not _token(visit) else None
    return None


def _token(visit: Visit) -> str:
    """The bearer token.

    Raises:
        Finding: it cannot be sent.
    """
    token = visit.env.get("MLFLOW_TRACKING_TOKEN", "")
    if not connection.fits_a_header(token):
        what = "the tracking server rejects the credentials: the token holds what no token can, such as a line end"
        raise Finding("TRACKING_LOGIN_WRONG", "MLFLOW_TRACKING_TOKEN", what, "set MLFLOW_TRACKING_TOKEN anew")
    return token


def _client(visit: Visit) -> httpx.Client:
    if "client" not in visit.shared:
        token = _token(visit)
        try:
            client = httpx.Client(
                base_url=tracking_uri(visit),
                auth=_login(visit),
                # No connection is used again: a server that failed may have closed it.
                headers={"Connection": "close", **({"Authorization": f"Bearer {token}"} if token else {})},
                verify=tls_of(visit),
                trust_env=True,
                event_hooks={"request": [lambda _: visit.count("tracking")]},
            )
            visit.shared["client"] = visit.keep(client)
        except ImportError as error:
            raise NotLookedAtError(f"the tracking server, behind a proxy of the environment: {error}") from None
    kept: httpx.Client = visit.shared["client"]
    return kept


def ask(visit: Visit, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **arguments: Any) -> httpx.Response:
    uri = tracking_uri(visit)
    allowed, to_connect = visit.seconds(seconds), visit.seconds(connection.CONNECT_SECONDS)
    limits = httpx.Timeout(allowed, connect=to_connect)
    shown = path.partition("/homelab-doctor")[0]
    try:
        return _client(visit).request(method, path, timeout=limits, **arguments)
    except httpx.TimeoutException as error:
        if min(allowed, to_connect) < PATIENCE_SECONDS:
            raise OutOfTimeError(f"{uri}{shown} has not answered yet") from error
        if isinstance(error, httpx.ConnectTimeout):
            raise Finding("TRACKING_TIMEOUT", uri) from error
        what = f"the tracking server does not answer {shown} in time"
        raise Finding("TRACKING_NO_ANSWER", uri, what) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise connection.breaks_off("TRACKING", uri, error) from error


def refused(visit: Visit, response: httpx.Response) -> Iterator[Finding]:
    uri = tracking_uri(visit)
    if "Invalid Host header" in response.text[:300]:
        name = urlsplit(uri).netloc.rpartition("@")[2]
        fix = f"add {name!r} to MLFLOW_SERVER_ALLOWED_HOSTS of the server, with and without port"
        raise Finding("TRACKING_HOST_HEADER", uri, fix=fix)
    if response.status_code == 401:
        given = "authorization" in response.request.headers
        raise Finding("TRACKING_LOGIN_WRONG" if given else "TRACKING_LOGIN_MISSING", uri)
    if response.status_code == 403:
        raise Finding("TRACKING_FORBIDDEN", f"{uri}{response.request.url.path.partition('/homelab-doctor')[0]}")
    yield from ()


def message_of(response: httpx.Response) -> str:
    """What MLflow says of a failure, with a colon before it; nothing where it says nothing."""
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {' '.join(text.split())[:240]}"


def with_message(code: str, response: httpx.Response) -> str:
    return Finding(code, "").what + message_of(response)

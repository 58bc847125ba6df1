"""The checks of the tracking server, in the order in which a run meets them: connection, login, database, store."""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import netrc
import re
import ssl
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from homelab_mlops.doctor import connection, store
from homelab_mlops.doctor.checks import PATIENCE_SECONDS, NotLookedAtError, Visit, check, out_of_time
from homelab_mlops.doctor.faults import Finding

ANSWER_SECONDS = 5.0
# Above 8 MiB, where boto3 begins to send in parts; and above the 1 MiB that nginx allows where nobody says otherwise.
LARGE = 8 * 1024 * 1024 + 1
_SMALL = b"homelab\n"
_OTHER_SCHEMA = re.compile(
    r"out-of-date database schema|no such (?:table|column)|has no column|(?:relation|column) \S+ does not exist"
    r"|Undefined(?:Table|Column)|Unknown column|Table '\S+' doesn't exist",
    re.IGNORECASE,
)
_UPLOADS = "/api/2.0/mlflow-artifacts"


def tracking_uri(visit: Visit) -> str:
    """``MLFLOW_TRACKING_URI``, without a slash at its end.

    Raises:
        NotLookedAtError: it is not set.
    """
    uri = visit.variable("MLFLOW_TRACKING_URI").rstrip("/")
    if not uri:
        raise NotLookedAtError("MLFLOW_TRACKING_URI is not set")
    return uri


@check("tracking", "TRACKING_URI")
def address(visit: Visit) -> Iterator[Finding]:
    """Whether the variable holds an address."""
    uri = tracking_uri(visit)
    if connection.http_address(uri) is None:
        yield Finding("TRACKING_URI", f"MLFLOW_TRACKING_URI={uri}")


@check(
    "tracking",
    "TRACKING_DNS",
    "TRACKING_REFUSED",
    "TRACKING_TIMEOUT",
    "TRACKING_TLS_*",
    "TRACKING_HTTP_TO_TLS",
    after=[address],
)
def reachable(visit: Visit) -> None:
    """Whether name, port and TLS lead to a server."""
    connection.connect(visit, "TRACKING", tracking_uri(visit), _tls(visit))


@check(
    "tracking",
    "TRACKING_NO_ANSWER",
    "TRACKING_BREAKS_OFF",
    "TRACKING_NOT_MLFLOW",
    "TRACKING_HTTP_TO_TLS",
    "TRACKING_HOST_HEADER",
    "TRACKING_LOGIN_*",
    "TRACKING_FORBIDDEN",
    "TRACKING_SERVER_FAILS",
    "TRACKING_SCHEMA_BEHIND",
    after=[reachable],
)
def answers(visit: Visit) -> Iterator[Finding]:
    """Whether it is an MLflow that knows us and can read its database."""
    uri = tracking_uri(visit)
    search = "/api/2.0/mlflow/experiments/search"
    response = _ask(visit, "POST", search, json={"max_results": 1, "view_type": "ACTIVE_ONLY"})
    yield from _refused(visit, response)
    if response.status_code >= 400 and _OTHER_SCHEMA.search(response.text):
        raise Finding("TRACKING_SCHEMA_BEHIND", uri, _with_message("TRACKING_SCHEMA_BEHIND", response))
    # A web server that knows no POST answers 501; what MLflow itself refuses comes as JSON with a message.
    status = response.status_code
    if (status in (429, 500) or status > 501) or _message(response):
        what = f"the tracking server fails with status {status}{_message(response)}"
        raise Finding("TRACKING_SERVER_FAILS", uri, what)
    location = response.headers.get("location", "")
    if connection.leads_to_tls(uri, status, location):
        raise Finding(
            "TRACKING_HTTP_TO_TLS", uri, f"the tracking server is at {urlsplit(location).netloc} by https only"
        )
    if status != 200 or not _lists_experiments(response):
        raise Finding("TRACKING_NOT_MLFLOW", uri, f"this is no MLflow server: it answers {status}")


def _lists_experiments(response: httpx.Response) -> bool:
    try:
        answer = response.json()
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.keys() <= {"experiments", "next_page_token"}


@check("tracking", "TRACKING_CLIENT_NEWER", "TRACKING_SERVER_NEWER", after=[answers])
def versions(visit: Visit) -> Iterator[Finding]:
    """Whether client and server are the same release; another patch release is no matter."""
    response = _ask(visit, "GET", "/version")
    try:
        ours = metadata.version("mlflow-skinny")
    except metadata.PackageNotFoundError:
        raise NotLookedAtError("the version: no MLflow client is installed here") from None
    theirs = response.text.strip()
    here, there = _release(ours), _release(theirs)
    if response.status_code != 200 or here is None or there is None or here == there:
        return
    code = "TRACKING_CLIENT_NEWER" if here > there else "TRACKING_SERVER_NEWER"
    severity = "broken" if here[0] != there[0] else None
    yield Finding(
        code,
        tracking_uri(visit),
        f"the tracking server is MLflow {theirs}, this client is {ours}",
        severity="broken" if severity else None,
    )


def _release(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


@check("tracking", "TRACKING_SCHEMA_BEHIND")
def database(visit: Visit) -> Iterator[Finding]:
    """Where this is the server's own environment, whether its database has the schema of the MLflow installed here."""
    uri = visit.variable("MLFLOW_BACKEND_STORE_URI")
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in ("postgresql", "mysql", "sqlite", "mssql"):
        raise NotLookedAtError("the database: only where MLFLOW_BACKEND_STORE_URI names it, as in the server's own pod")
    try:
        import sqlalchemy
    except ImportError:
        raise NotLookedAtError("the database: this needs the server's packages (mlflow, not mlflow-skinny)") from None
    head = _newest_revision()
    where = "MLFLOW_BACKEND_STORE_URI"
    try:
        address = sqlalchemy.make_url(uri)
        where = address.render_as_string(hide_password=True)
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
        with engine.connect() as opened:
            tables = sqlalchemy.inspect(opened).get_table_names()
            if not tables:
                return  # the server makes them when it starts
            known = "alembic_version" in tables
            revision = (
                opened.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar() if known else ""
            )
    except ImportError as error:
        raise NotLookedAtError(f"the database: its driver is not installed here ({error.name})") from None
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        # What cannot be read as an address may hold the password anywhere.
        unread = where == "MLFLOW_BACKEND_STORE_URI"
        reason = "this is no address of a database" if unread else str(getattr(error, "orig", error)).splitlines()[0]
        raise Finding("TRACKING_SERVER_FAILS", where, f"MLflow's database cannot be opened: {reason}") from error
    if revision != head:
        what = f"MLflow's database has the schema {revision or 'of no version'}, the MLflow here needs {head}"
        yield Finding("TRACKING_SCHEMA_BEHIND", where, what, about="schema")


def _newest_revision() -> str:
    """The last migration of the MLflow installed here, read from its scripts: to import MLflow takes seconds.

    Raises:
        NotLookedAtError: it is not installed.
    """
    spec = importlib.util.find_spec("mlflow")
    folders = [
        Path(place) / "store" / "db_migrations" / "versions"
        for place in (spec and spec.submodule_search_locations) or []
    ]
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py")]
    made, replaced = (
        {match for text in texts for match in re.findall(rf"^{name} = [\"'](\w+)[\"']", text, re.MULTILINE)}
        for name in ("revision", "down_revision")
    )
    newest = made - replaced
    if len(newest) != 1:
        raise NotLookedAtError("the database: no MLflow with its migrations is installed here")
    return str(newest.pop())


@check(
    "tracking",
    "TRACKING_NOT_PROXIED",
    "TRACKING_EXPERIMENT_DELETED",
    "TRACKING_FORBIDDEN",
    after=[answers],
    before=[store.usable],
)
def artifact_root(visit: Visit) -> None:
    """Whether the experiments' artifacts go through MLflow; leaves where a probe of them can lie."""
    uri = tracking_uri(visit)
    found = [experiment for model in visit.models if (experiment := _experiment(visit, model.name))]
    visit.shared["own"] = bool(found)
    if not found:
        # An experiment of before the server was set right says nothing of those that are made now.
        search = {"max_results": 50, "view_type": "ACTIVE_ONLY", "order_by": ["creation_time DESC"]}
        response = _ask(visit, "POST", "/api/2.0/mlflow/experiments/search", json=search)
        every = response.json().get("experiments", []) if response.status_code == 200 else []
        found = ([one for one in every if _is_served(one)] or every)[:1]
    if not found:
        raise NotLookedAtError("the artifacts: there is no experiment yet")
    for experiment in found:
        if not _is_served(experiment):
            location = experiment["artifact_location"]
            what = f"the artifacts of the experiment {experiment['name']!r} are not served by MLflow: {location}"
            fix = (
                "start the server with --serve-artifacts --artifacts-destination; then, since an experiment keeps the "
                f"location that it was made with: mlflow experiments rename -x {experiment['experiment_id']} "
                f"--new-name {experiment['name']}-direct"
            )
            raise Finding("TRACKING_NOT_PROXIED", uri, what, fix)
    visit.shared["artifacts"] = str(found[0]["artifact_location"]).partition(":")[2].strip("/").split("//")[-1]


def _is_served(experiment: dict[str, Any]) -> bool:
    return str(experiment["artifact_location"]).startswith("mlflow-artifacts:")


def _experiment(visit: Visit, name: str) -> dict[str, Any] | None:
    """The experiment, or None where there is none."""
    uri, path = tracking_uri(visit), "/api/2.0/mlflow/experiments/get-by-name"
    response = _ask(visit, "GET", path, params={"experiment_name": name})
    if response.status_code == 404 and visit.may_create:
        _make_experiment(visit, name)
        response = _ask(visit, "GET", path, params={"experiment_name": name})
    if response.status_code == 404:
        return None
    for finding in _refused(visit, response):
        raise finding
    if response.status_code != 200:
        what = f"the experiment {name!r} cannot be opened: status {response.status_code}{_message(response)}"
        raise Finding("TRACKING_SERVER_FAILS", uri, what)
    experiment: dict[str, Any] = response.json()["experiment"]
    if experiment.get("lifecycle_stage") == "deleted":
        raise Finding(
            "TRACKING_EXPERIMENT_DELETED",
            uri,
            f"the experiment {name!r} is deleted",
            f"restore it: mlflow experiments restore -x {experiment['experiment_id']}",
        )
    return experiment


def _make_experiment(visit: Visit, name: str) -> None:
    """Makes it, and takes it back where its artifacts are not served: it would keep that for ever.

    Raises:
        Finding: it may not be made, or its artifacts are not served.
    """
    uri, experiments = tracking_uri(visit), "/api/2.0/mlflow/experiments"
    served = _ask(visit, "GET", f"{_UPLOADS}/artifacts", params={"path": ""})
    if served.status_code == 503 and "--no-serve-artifacts" in served.text:
        raise Finding("TRACKING_NOT_PROXIED", uri)
    created = _ask(visit, "POST", f"{experiments}/create", json={"name": name})
    for finding in _refused(visit, created):
        raise finding
    if created.status_code != 200:
        return
    body = created.json()
    made = _ask(visit, "GET", f"{experiments}/get", params=body).json()["experiment"]
    if not _is_served(made):
        aside = {**body, "new_name": f"{name}-{body['experiment_id']}"}
        _ask(visit, "POST", f"{experiments}/update", json=aside)
        _ask(visit, "POST", f"{experiments}/delete", json=body)
        raise Finding("TRACKING_NOT_PROXIED", f"{uri}, {made['artifact_location']}")


@check(
    "tracking",
    "TRACKING_PROXY_*",
    "TRACKING_UPLOAD_TOO_LARGE",
    "STORE_DENIED_DELETE",
    "TRACKING_FORBIDDEN",
    *store.NAMED_BY_MLFLOW,
    after=[artifact_root, store.endpoint, store.reachable, store.credentials, store.usable],
)
def artifacts(visit: Visit) -> Iterator[Finding]:
    """Whether what a client sends arrives in MLflow's store and comes back: the probe object, deleted again."""
    probe = f"{visit.shared['artifacts']}/{visit.probe}"
    path = f"{_UPLOADS}/artifacts/{probe}"
    if _may_not_delete(visit, path):
        yield from _may_not_write(visit, probe)
        if trouble := _of_mlflows_store(visit, probe):
            raise trouble
        raise NotLookedAtError("writing artifacts: this user may not delete the probe that it would need")
    with visit.removing(lambda: _delete(visit, path)):
        yield from _written_and_read(visit, path, probe)


def _written_and_read(visit: Visit, path: str, probe: str) -> Iterator[Finding]:
    where = f"{tracking_uri(visit)}, {visit.shared['artifacts']}"
    written = _put(visit, path, _SMALL)
    if written is None or written.status_code >= 300:
        raise _why_not(visit, written, probe, "TRACKING_PROXY_CANNOT_WRITE", where)
    if visit.stopped.is_set():
        return
    read = _ask(visit, "GET", path)
    if read.status_code != 200 or read.content != _SMALL:
        raise store.named_by_mlflow(_message(read)) or Finding("TRACKING_PROXY_CANNOT_READ", where)
    # Before something large is written, which would stay. MLflow says that it is deleted where the store refused it.
    if _ask(visit, "DELETE", path).status_code >= 400 or _ask(visit, "GET", path).status_code == 200:
        what = "MLflow may not delete in its artifact store: the doctor's probe object stays"
        yield Finding("STORE_DENIED_DELETE", where, what)
        return
    # Between the pods of a cluster nothing limits a body, and the old versions of a bucket would keep it each night.
    if visit.in_cluster or visit.stopped.is_set():
        return
    large = _put(visit, path, b"\0" * LARGE)
    if large is None or large.status_code >= 300:
        raise _why_not(visit, large, probe, "TRACKING_PROXY_CANNOT_WRITE_LARGE", where)


def _put(visit: Visit, path: str, content: bytes) -> httpx.Response | None:
    """The answer to an upload; None where MLflow waited in vain for its store."""
    try:
        return _ask(visit, "PUT", path, content=content, seconds=6.0)
    except Finding as finding:
        if finding.code == "TRACKING_NO_ANSWER":
            return None
        if finding.code == "TRACKING_BREAKS_OFF" and len(content) > len(_SMALL):
            # A proxy that has seen enough answers and closes while the body is still sent.
            raise Finding("TRACKING_UPLOAD_TOO_LARGE", finding.where) from finding
        raise


def _why_not(visit: Visit, response: httpx.Response | None, probe: str, code: str, where: str) -> Finding:
    """The fault behind an upload that failed; MLflow says it when it is asked to list, and not when it writes."""
    if response is not None:
        if response.status_code == 413:
            return Finding("TRACKING_UPLOAD_TOO_LARGE", where)
        for finding in _refused(visit, response):
            return finding
        if trouble := _of_mlflows_store(visit, probe):
            return trouble
    answered = f"status {response.status_code}" if response is not None else "no answer in time"
    what = Finding(code, "").what
    return Finding(code, where, f"{what}: {answered}")


def _of_mlflows_store(visit: Visit, probe: str) -> Finding | None:
    """What MLflow says of its store when it is asked to list in it."""
    listed = _ask(visit, "GET", f"{_UPLOADS}/artifacts", params={"path": probe.rpartition("/")[0]})
    return store.named_by_mlflow(_message(listed)) if listed.status_code >= 400 else None


def _may_not_delete(visit: Visit, path: str) -> bool:
    return _ask(visit, "DELETE", path).status_code in (401, 403)


def _may_not_write(visit: Visit, probe: str) -> Iterator[Finding]:
    """Asks to end an upload that never began: whoever may write gets another answer than 403."""
    folder, _, name = probe.rpartition("/")
    body = {"path": name, "upload_id": "none"}
    response = _ask(visit, "POST", f"{_UPLOADS}/mpu/abort/{folder}", json=body)
    # Where no experiment of a model is there yet, the training makes its own, in which it may write.
    if response.status_code == 403 and visit.shared["own"]:
        yield from _refused(visit, response)


def _delete(visit: Visit, path: str) -> None:
    with contextlib.suppress(Finding):
        _ask(visit, "DELETE", path)


def _tls(visit: Visit) -> ssl.SSLContext:
    if urlsplit(tracking_uri(visit)).scheme == "http":
        return ssl.create_default_context()
    insecure = visit.variable("MLFLOW_TRACKING_INSECURE_TLS").lower() in ("true", "1")
    bundle = visit.variable("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
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
    # As they are: a line end at the end of one is a part of it, and the server refuses it.
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
            visit.shared["client"] = httpx.Client(
                base_url=tracking_uri(visit),
                auth=_login(visit),
                # No connection is used again: a server that failed may have closed it.
                headers={"Connection": "close", **({"Authorization": f"Bearer {token}"} if token else {})},
                verify=_tls(visit),
                trust_env=True,
            )
        except ImportError as error:
            raise NotLookedAtError(f"the tracking server, behind a proxy of the environment: {error}") from None
    client: httpx.Client = visit.shared["client"]
    return client


def _ask(visit: Visit, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **arguments: Any) -> httpx.Response:
    uri = tracking_uri(visit)
    allowed, to_connect = visit.seconds(seconds), visit.seconds(connection.CONNECT_SECONDS)
    limits = httpx.Timeout(allowed, connect=to_connect)
    shown = path.partition("/homelab-doctor")[0]
    try:
        return _client(visit).request(method, path, timeout=limits, **arguments)
    except httpx.TimeoutException as error:
        if min(allowed, to_connect) < PATIENCE_SECONDS:
            raise out_of_time(f"{uri}{shown}") from error
        if isinstance(error, httpx.ConnectTimeout):
            raise Finding("TRACKING_TIMEOUT", uri) from error
        what = f"the tracking server does not answer {shown} in time"
        raise Finding("TRACKING_NO_ANSWER", uri, what) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise connection.breaks_off("TRACKING", uri, error) from error


def _refused(visit: Visit, response: httpx.Response) -> Iterator[Finding]:
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


def _message(response: httpx.Response) -> str:
    """What MLflow says of a failure, with a colon before it; nothing where it says nothing."""
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {' '.join(text.split())[:240]}"


def _with_message(code: str, response: httpx.Response) -> str:
    return Finding(code, "").what + _message(response)

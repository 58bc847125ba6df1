"""The checks of the tracking server, in the order in which a run meets them: connection, login, database, store."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from homelab_mlops.clients.mlflow import API, ARTIFACTS
from homelab_mlops.doctor import connection, store, store_client
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.tracking_client import ask, message_of, refused, tls_of, tracking_uri, with_message
from homelab_mlops.doctor.visit import NotLookedAtError, OutOfTimeError, Visit

# Bytes: above 8 MiB, where boto3 begins to send in parts, and above the 1 MiB that nginx allows by default.
LARGE = 8 * 1024 * 1024 + 1
_SMALL = b"homelab\n"
_OTHER_SCHEMA = re.compile(
    r"out-of-date database schema|no such (?:table|column)|has no column|(?:relation|column) \S+ does not exist"
    r"|Undefined(?:Table|Column)|Unknown column|Table '\S+' doesn't exist",
    re.IGNORECASE,
)


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
    connection.connect(visit, "TRACKING", tracking_uri(visit), tls_of(visit))


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
    """Whether the server is an MLflow that takes the login and can read its database."""
    uri = tracking_uri(visit)
    search = f"{API}/experiments/search"
    response = ask(visit, "POST", search, json={"max_results": 1, "view_type": "ACTIVE_ONLY"})
    yield from refused(visit, response)
    if response.status_code >= 400 and _OTHER_SCHEMA.search(response.text):
        raise Finding("TRACKING_SCHEMA_BEHIND", uri, with_message("TRACKING_SCHEMA_BEHIND", response))
    # A web server that knows no POST answers 501; what MLflow itself refuses comes as JSON with a message.
    status = response.status_code
    if (status in (429, 500) or status > 501) or message_of(response):
        what = f"the tracking server fails with status {status}{message_of(response)}"
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
    """Whether client and server are the same release; the patch release may differ."""
    response = ask(visit, "GET", "/version")
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
        # An address that cannot be read is not shown: the password may be anywhere in it.
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
    """Whether the experiments' artifacts go through MLflow. It leaves to other checks where a probe object can lie."""
    uri = tracking_uri(visit)
    found = [experiment for model in visit.models if (experiment := _experiment(visit, model.name))]
    visit.shared["own"] = bool(found)
    if not found:
        # An experiment that is older than the server's settings says nothing of one that is made now.
        search = {"max_results": 50, "view_type": "ACTIVE_ONLY", "order_by": ["creation_time DESC"]}
        response = ask(visit, "POST", f"{API}/experiments/search", json=search)
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
    uri, path = tracking_uri(visit), f"{API}/experiments/get-by-name"
    response = ask(visit, "GET", path, params={"experiment_name": name})
    if response.status_code == 404 and visit.may_create:
        _make_experiment(visit, name)
        response = ask(visit, "GET", path, params={"experiment_name": name})
    if response.status_code == 404:
        return None
    for finding in refused(visit, response):
        raise finding
    if response.status_code != 200:
        what = f"the experiment {name!r} cannot be opened: status {response.status_code}{message_of(response)}"
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
    """Makes the experiment; deletes it again where MLflow does not serve its artifacts, which would never change.

    Raises:
        Finding: it may not be made, or its artifacts are not served.
    """
    uri, experiments = tracking_uri(visit), f"{API}/experiments"
    served = ask(visit, "GET", f"{ARTIFACTS}/artifacts", params={"path": ""})
    if served.status_code == 503 and "--no-serve-artifacts" in served.text:
        raise Finding("TRACKING_NOT_PROXIED", uri)
    created = ask(visit, "POST", f"{experiments}/create", json={"name": name})
    for finding in refused(visit, created):
        raise finding
    if created.status_code != 200:
        return
    body = created.json()
    made = ask(visit, "GET", f"{experiments}/get", params=body).json()["experiment"]
    if not _is_served(made):
        aside = {**body, "new_name": f"{name}-{body['experiment_id']}"}
        ask(visit, "POST", f"{experiments}/update", json=aside)
        ask(visit, "POST", f"{experiments}/delete", json=body)
        raise Finding("TRACKING_NOT_PROXIED", f"{uri}, {made['artifact_location']}")


@check(
    "tracking",
    "TRACKING_PROXY_*",
    "TRACKING_UPLOAD_TOO_LARGE",
    "STORE_DENIED_DELETE",
    "TRACKING_FORBIDDEN",
    *store_client.NAMED_BY_MLFLOW,
    after=[artifact_root, store.endpoint, store.reachable, store.credentials, store.usable],
)
def artifacts(visit: Visit) -> Iterator[Finding]:
    """Whether what a client sends arrives in MLflow's store and comes back: the probe object, deleted again."""
    probe = f"{visit.shared['artifacts']}/{visit.probe}"
    path = f"{ARTIFACTS}/artifacts/{probe}"
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
    read = ask(visit, "GET", path)
    if read.status_code != 200 or read.content != _SMALL:
        raise store_client.named_by_mlflow(message_of(read)) or Finding("TRACKING_PROXY_CANNOT_READ", where)
    # The deletion is tried before the large write, which might stay. MLflow says "deleted" even where its store
    # refuses.
    if ask(visit, "DELETE", path).status_code >= 400 or ask(visit, "GET", path).status_code == 200:
        what = "MLflow may not delete in its artifact store: the doctor's probe object stays"
        yield Finding("STORE_DENIED_DELETE", where, what)
        return
    # Not in a pod: no proxy between pods limits a body, and a bucket with versions would keep 8 MiB each night.
    if visit.in_cluster or visit.stopped.is_set():
        return
    large = _put(visit, path, b"\0" * LARGE)
    if large is None or large.status_code >= 300:
        raise _why_not(visit, large, probe, "TRACKING_PROXY_CANNOT_WRITE_LARGE", where)


def _put(visit: Visit, path: str, content: bytes) -> httpx.Response | None:
    """The answer to an upload; None where MLflow waited in vain for its store."""
    try:
        return ask(visit, "PUT", path, content=content, seconds=6.0)
    except Finding as finding:
        if finding.code == "TRACKING_NO_ANSWER":
            return None
        if finding.code == "TRACKING_BREAKS_OFF" and len(content) > len(_SMALL):
            # A proxy that limits the body may answer, and close, while the body is still sent.
            raise Finding("TRACKING_UPLOAD_TOO_LARGE", finding.where) from finding
        raise


def _why_not(visit: Visit, response: httpx.Response | None, probe: str, code: str, where: str) -> Finding:
    """The fault behind an upload that failed; MLflow says it when it is asked to list, and not when it writes."""
    if response is not None:
        if response.status_code == 413:
            return Finding("TRACKING_UPLOAD_TOO_LARGE", where)
        for finding in refused(visit, response):
            return finding
        if trouble := _of_mlflows_store(visit, probe):
            return trouble
    answered = f"status {response.status_code}" if response is not None else "no answer in time"
    what = Finding(code, "").what
    return Finding(code, where, f"{what}: {answered}")


def _of_mlflows_store(visit: Visit, probe: str) -> Finding | None:
    """What MLflow says of its store when it is asked to list in it."""
    listed = ask(visit, "GET", f"{ARTIFACTS}/artifacts", params={"path": probe.rpartition("/")[0]})
    return store_client.named_by_mlflow(message_of(listed)) if listed.status_code >= 400 else None


def _may_not_delete(visit: Visit, path: str) -> bool:
    return ask(visit, "DELETE", path).status_code in (401, 403)


def _may_not_write(visit: Visit, probe: str) -> Iterator[Finding]:
    """Asks to end an upload that never began: whoever may write gets another answer than 403."""
    folder, _, name = probe.rpartition("/")
    body = {"path": name, "upload_id": "none"}
    response = ask(visit, "POST", f"{ARTIFACTS}/mpu/abort/{folder}", json=body)
    # Where the model has no experiment yet, the training makes one, in which it may write.
    if response.status_code == 403 and visit.shared["own"]:
        yield from refused(visit, response)


def _delete(visit: Visit, path: str) -> None:
    try:
        ask(visit, "DELETE", path)
    except (Finding, OutOfTimeError):
        visit.doubt("tracking", f"whether the probe object {path.removeprefix(ARTIFACTS)} is deleted")

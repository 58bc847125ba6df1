"""Whether tracking will work, told within seconds and before any training: server, credentials, artifact store."""

from __future__ import annotations

import os
import socket
import ssl
import uuid
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import httpx

from homelab_mlops.errors import TrackingError

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 8.0


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, without a slash at its end.

    Raises:
        TrackingError: it is not set, or is no http address.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip().rstrip("/")
    if not uri:
        raise TrackingError(
            "there is no tracking server: MLFLOW_TRACKING_URI is not set",
            where="environment",
            fix="export MLFLOW_TRACKING_URI=http://..., or train with `--tracking files`",
        )
    address = urlsplit(uri)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise TrackingError(
            "the tracking server is not an http:// or https:// address",
            where=f"MLFLOW_TRACKING_URI={uri}",
            fix="run an MLflow server and name its address, or train with `--tracking files`",
        )
    return uri


def check_tracking(experiment: str) -> None:
    """Reads and writes what a run will read and write: the experiment, and one small artifact that is deleted again.

    Raises:
        TrackingError: names which of server, credentials and artifact store is wrong, and what to do.
    """
    uri = tracking_uri()
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    verify: bool | ssl.SSLContext = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() not in ("true", "1")
    if verify and (bundle := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")):
        verify = ssl.create_default_context(cafile=bundle)
    with httpx.Client(
        base_url=uri,
        auth=(user, password or "") if user else None,
        headers=headers,
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        verify=verify,
        trust_env=True,
    ) as client:
        _check_server(client, uri)
        _check_artifacts(client, uri, _artifact_location(client, uri, experiment))


def _ask(client: httpx.Client, uri: str, method: str, path: str, **arguments: Any) -> httpx.Response:
    host = urlsplit(uri).hostname
    try:
        return client.request(method, path, **arguments)
    except httpx.ConnectTimeout as error:
        what, fix = f"no answer from {host}", "check the address, the firewall, and NetworkPolicies"
        raise _unreachable(what, uri, fix) from error
    except httpx.TimeoutException as error:
        raise TrackingError(
            f"the tracking server took more than {ANSWER_SECONDS:.0f} s to answer {path}",
            where=uri,
            fix="look at its log: its database or its artifact store may not answer",
            transient=True,
        ) from error
    except httpx.ConnectError as error:
        cause = _root_cause(error)
        if isinstance(cause, socket.gaierror):
            what, fix = f"the name {host} does not resolve", "check the host in MLFLOW_TRACKING_URI"
        elif isinstance(cause, ssl.SSLError):
            what, fix = f"TLS fails: {cause.reason}", "check http:// or https://, and MLFLOW_TRACKING_SERVER_CERT_PATH"
        else:
            what, fix = "the connection is refused", "start the server, and check the port in MLFLOW_TRACKING_URI"
        raise _unreachable(what, uri, fix) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise TrackingError(
            f"the tracking server breaks the connection off: {error}",
            where=f"{uri}{path}",
            fix="look at its log; http:// or https:// may be wrong",
            transient=True,
        ) from error


def _unreachable(what: str, uri: str, fix: str) -> TrackingError:
    return TrackingError(f"the tracking server cannot be reached: {what}", where=uri, fix=fix, transient=True)


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
        if isinstance(error, socket.gaierror | ssl.SSLError):
            break
    return error


def _refused(response: httpx.Response, uri: str) -> TrackingError | None:
    text = response.text[:300]
    if "Invalid Host header" in text:
        return TrackingError(
            "MLflow does not allow its clients to call it by this name",
            where=uri,
            fix=f"add {urlsplit(uri).netloc!r} to MLFLOW_SERVER_ALLOWED_HOSTS of the server, with and without port",
        )
    match response.status_code:
        case 401:
            given = "are wrong" if os.environ.get("MLFLOW_TRACKING_USERNAME") else "are missing"
            return TrackingError(
                f"the tracking server rejects the credentials: user and password {given}",
                where=uri,
                fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        case 403:
            return TrackingError(
                "the tracking server denies this user the access",
                where=f"{uri}{response.request.url.path}",
                fix="give the user EDIT permission on the experiment, or use another user",
            )
    return None


def _check_server(client: httpx.Client, uri: str) -> None:
    response = _ask(client, uri, "POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1})
    if refused := _refused(response, uri):
        raise refused
    if response.status_code >= 500 and response.status_code != 501:
        raise TrackingError(
            f"the tracking server fails with status {response.status_code}",
            where=uri,
            fix="look at its log; its database may be down",
            transient=True,
        )
    if response.status_code != 200 or "json" not in response.headers.get("content-type", ""):
        raise TrackingError(
            f"this is no MLflow server: it answers {response.status_code}",
            where=uri,
            fix="check host, port and path of MLFLOW_TRACKING_URI",
        )
    version = _ask(client, uri, "GET", "/version")
    ours, theirs = metadata.version("mlflow-skinny"), version.text.strip()
    if version.status_code == 200 and theirs.split(".")[0] != ours.split(".")[0]:
        raise TrackingError(
            f"the tracking server is MLflow {theirs}, this client is {ours}",
            where=uri,
            fix="bring both to the same major version",
        )


def _artifact_location(client: httpx.Client, uri: str, name: str) -> str:
    path = "/api/2.0/mlflow/experiments/get-by-name"
    response = _ask(client, uri, "GET", path, params={"experiment_name": name})
    if response.status_code == 404:
        created = _ask(client, uri, "POST", "/api/2.0/mlflow/experiments/create", json={"name": name})
        if refused := _refused(created, uri):
            raise refused
        response = _ask(client, uri, "GET", path, params={"experiment_name": name})
    if refused := _refused(response, uri):
        raise refused
    if response.status_code != 200:
        raise TrackingError(
            f"the experiment {name!r} cannot be opened: status {response.status_code} {response.text[:120]}", where=uri
        )
    experiment = response.json()["experiment"]
    if experiment.get("lifecycle_stage") == "deleted":
        raise TrackingError(
            f"the experiment {name!r} is deleted",
            where=uri,
            fix=f"restore it: mlflow experiments restore -x {experiment['experiment_id']}",
        )
    return str(experiment["artifact_location"])


def _check_artifacts(client: httpx.Client, uri: str, location: str) -> None:
    scheme, _, rest = location.partition(":")
    if scheme != "mlflow-artifacts":
        raise TrackingError(
            f"the artifacts of this experiment are not served by MLflow: {location}",
            where=uri,
            fix="start the server with --serve-artifacts --artifacts-destination, and use a new experiment: "
            "an experiment keeps the location that it was made with",
        )
    folder = rest.strip("/").split("//")[-1]
    probe = f"/api/2.0/mlflow-artifacts/artifacts/{folder}/homelab-check/{uuid.uuid4().hex}.txt"
    written = _ask(client, uri, "PUT", probe, content=b"homelab\n")
    if refused := _refused(written, uri):
        raise refused
    if written.status_code >= 300:
        raise TrackingError(
            f"MLflow cannot write to its artifact store: status {written.status_code}",
            where=f"{uri}, {location}",
            fix="look at MLflow's log: its --artifacts-destination has a wrong endpoint, key or bucket, or is full",
            transient=True,
        )
    read = _ask(client, uri, "GET", probe)
    _ask(client, uri, "DELETE", probe)
    if read.status_code != 200 or read.content != b"homelab\n":
        raise TrackingError(
            "MLflow cannot read back what it wrote to its artifact store",
            where=f"{uri}, {location}",
            fix="give MLflow's store user s3:GetObject on the bucket; look at MLflow's log",
        )

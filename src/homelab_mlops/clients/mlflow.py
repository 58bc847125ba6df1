"""The model registry as a person's commands see it: over MLflow's REST interface, through the API server if need be."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from homelab_mlops.errors import ClusterError, TrackingError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster

READER = "serving", "mlflow-reader"
MLFLOW = "mlflow", "app.kubernetes.io/name=mlflow", 5000
SECONDS = 15.0
HOLDOUT = "homelab.holdout."
PAGE = 200


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
            code="TRACKING_URI",
        )
    return uri


class Version(NamedTuple):
    """A model version, with what the gate said of it."""

    version: str
    gate: str
    evidence: str
    promoted_by: str
    alias: str = ""
    why: str = ""


class Registry:
    """Reads the registry."""

    def __init__(self, uri: str, username: str, password: str) -> None:
        self._uri = uri
        self._client = httpx.Client(base_url=uri, auth=(username, password) if username else None, timeout=SECONDS)

    def close(self) -> None:
        self._client.close()

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, the newest first.

        Raises:
            TrackingError: MLflow does not answer.
        """
        aliases = self._aliases(model)
        items = self._all("model-versions/search", "model_versions", filter=f"name = '{model}'")
        versions = [_version(item, aliases.get(str(item["version"]), "")) for item in items]
        return sorted(versions, key=lambda item: -int(item.version))

    def models(self) -> list[str]:
        """The names of all registered models.

        Raises:
            TrackingError: MLflow does not answer.
        """
        return sorted(item["name"] for item in self._all("registered-models/search", "registered_models"))

    def champion(self, model: str) -> str | None:
        """The version that the alias `champion` points at.

        Raises:
            TrackingError: MLflow does not answer.
        """
        found = self._ask("registered-models/alias", name=model, alias="champion")
        return str(found["model_version"]["version"]) if found else None

    def _aliases(self, model: str) -> dict[str, str]:
        """The aliases of each version that has some, by version."""
        found = self._ask("registered-models/get", name=model)
        aliases: dict[str, list[str]] = {}
        for item in (found or {}).get("registered_model", {}).get("aliases", []):
            aliases.setdefault(str(item["version"]), []).append(item["alias"])
        return {version: ", ".join(sorted(names)) for version, names in aliases.items()}

    def _all(self, endpoint: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            found = self._ask(endpoint, max_results=PAGE, page_token=token, **parameters) or {}
            items += found.get(key, [])
            token = found.get("next_page_token", "")
            if not token:
                return items

    def _ask(self, endpoint: str, **parameters: Any) -> Any:
        try:
            answer = self._client.get(f"/api/2.0/mlflow/{endpoint}", params=parameters)
            if answer.status_code == httpx.codes.OK:
                return answer.json()
            # Of a model that does not exist, a server with passwords says only that access is denied.
            if answer.status_code in (400, 403, 404):
                return None
        except (httpx.HTTPError, ValueError) as error:
            raise TrackingError(
                f"MLflow does not answer: {type(error).__name__}",
                where=self._uri,
                fix="`homelab status`",
                transient=True,
            ) from error
        raise TrackingError(f"MLflow answers {answer.status_code}", where=self._uri, fix="check the login and its log")


def _version(item: dict[str, Any], alias: str) -> Version:
    tags = {tag["key"]: tag["value"] for tag in item.get("tags", [])}
    figures = [f"{key.removeprefix(HOLDOUT)} {value}" for key, value in sorted(tags.items()) if key.startswith(HOLDOUT)]
    return Version(
        str(item["version"]),
        tags.get("homelab.gate", ""),
        ", ".join(figures),
        tags.get("homelab.promoted_by", ""),
        alias,
        tags.get("homelab.why", ""),
    )


@contextlib.contextmanager
def registry_of(cluster: Cluster) -> Iterator[Registry]:
    """The cluster's registry, read with the login of the service.

    Raises:
        ClusterError: MLflow does not run, or the login is not there.
    """
    namespace, name = READER
    secret = cluster.get("v1", "Secret", name, namespace)
    if secret is None:
        raise ClusterError(f"there is no Secret {namespace}/{name}", fix="homelab status")
    login = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    namespace, selector, port = MLFLOW
    pods = [
        pod["metadata"]["name"]
        for pod in cluster.find("v1", "Pod", namespace, selector)
        if pod.get("status", {}).get("phase") == "Running"
    ]
    if not pods:
        raise ClusterError("MLflow does not run", where=f"namespace {namespace}", fix="homelab status", transient=True)
    with cluster.port_forward(pods[0], namespace, port) as local:
        registry = Registry(
            f"http://127.0.0.1:{local}", login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]
        )
        with contextlib.closing(registry):
            yield registry


@contextlib.contextmanager
def any_registry(context: str | None) -> Iterator[Registry]:
    """The registry of ``MLFLOW_TRACKING_URI`` where that is set, otherwise the cluster's."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if uri:
        login = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
        with contextlib.closing(Registry(uri, *login)) as registry:
            yield registry
        return
    from homelab_mlops.clients.kubernetes import Cluster

    with registry_of(Cluster(context)) as registry:
        yield registry

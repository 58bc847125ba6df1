"""MLflow's REST interface: its address, its paths, and the model registry, from outside a cluster through the API
server."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx

from homelab_mlops.clients.authority import authority_of
from homelab_mlops.clients.patience import unresolved
from homelab_mlops.errors import ClusterError, TrackingError
from homelab_mlops.model import artifact

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster

READER = "serving", "mlflow-reader"
MLFLOW = "mlflow", "app.kubernetes.io/name=mlflow", 5000
SECONDS = 15.0
HOLDOUT = "homelab.holdout."
API, ARTIFACTS = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts"
CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 60.0
PAGE = 200
# A model of this platform has a dozen files.
MOST_FILES = 1000
SHA256 = "homelab.sha256"
# The variables by which a person names the authorities that MLflow's client trusts.
TRUSTS = "MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, without a slash at its end; MLflow's client then trusts the clone's own authority there.

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
    if not any(os.environ.get(name) for name in TRUSTS) and (authority := authority_of(uri)):
        os.environ[TRUSTS[0]] = authority
    return uri


def _trusted(uri: str) -> str:
    """The file of the authorities to trust at ``uri``; nothing for those that httpx brings."""
    return next((path for name in TRUSTS if (path := os.environ.get(name))), "") or authority_of(uri)


class Version(NamedTuple):
    """A model version, with the verdict of the gate; ``sha256`` is that of its files, as its training recorded it."""

    version: str
    gate: str
    evidence: str
    promoted_by: str
    alias: str = ""
    why: str = ""
    sha256: str = ""


class ModelRegistry:
    """MLflow's model registry, and the artifacts of its models."""

    def __init__(self, uri: str, username: str, password: str, seconds: float = SECONDS) -> None:
        self.uri = uri
        self._client = httpx.Client(
            base_url=uri,
            auth=(username, password) if username else None,
            timeout=httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
            verify=ssl.create_default_context(cafile=trusted) if (trusted := _trusted(uri)) else True,
        )

    @classmethod
    def of_environment(cls) -> Self:
        """The registry at ``MLFLOW_TRACKING_URI``, with the login of the environment.

        Raises:
            TrackingError: there is no such address.
        """
        return cls(tracking_uri(), *_login(), seconds=ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        found = self._read("registered-models/alias", model, name=model, alias="champion")
        return str(found["model_version"]["version"]) if found else None

    def set_champion(self, model: str, version: str, commit: str) -> None:
        """Points the alias ``champion`` at the version, and tags the version with the commit that names it.

        Raises:
            TrackingError: the registry lacks the version, refuses, or does not answer.
        """
        where = f"{model} version {version}"
        if commit:
            tag = {"name": model, "version": version, "key": "homelab.promoted_by", "value": commit}
            self._ask("POST", f"{API}/model-versions/set-tag", tag, where)
        self._ask(
            "POST", f"{API}/registered-models/alias", {"name": model, "alias": "champion", "version": version}, where
        )

    def files(self, model: str, version: str) -> dict[str, bytes]:
        """Every file of a version as it lies in the store now, by its path in the model's folder.

        Raises:
            TrackingError: the registry lacks the version, refuses, or does not answer; or MLflow does not serve its
            files.
        """
        where = f"{model} version {version}"
        query = {"name": model, "version": version}
        answer = self._ask("GET", f"{API}/model-versions/get-download-uri", query, where)
        folder = str(answer.json()["artifact_uri"])
        if not folder.startswith("mlflow-artifacts:"):
            raise TrackingError(f"its artifacts are not served by MLflow: {folder}", where=where)
        folder = folder.removeprefix("mlflow-artifacts:").lstrip("/")
        return {path: self._file(folder, path, where) for path in self._paths(folder, where)}

    def sha256(self, model: str, version: str) -> str:
        """The SHA-256 of the files of a version as they lie in the store now.

        Raises:
            TrackingError: as `files`; or the store holds what cannot be a model.
        """
        try:
            return artifact.sha256_of(self.files(model, version))
        except ValueError as error:
            raise TrackingError(f"{model} version {version}: {error}", where=self.uri) from error

    def _paths(self, folder: str, where: str) -> list[str]:
        """The paths of all files below ``folder``."""
        paths: list[str] = []
        folders = [""]
        while folders:
            below = folders.pop()
            listed = self._ask("GET", f"{ARTIFACTS}/artifacts", {"path": f"{folder}/{below}".rstrip("/")}, where)
            for item in listed.json().get("files", []):
                path = f"{below}/{item['path']}".lstrip("/")
                (folders if item.get("is_dir") else paths).append(path)
            if len(paths) + len(folders) > MOST_FILES:
                raise TrackingError(f"{where} has more than {MOST_FILES} files", where=self.uri)
        return paths

    def _file(self, folder: str, path: str, where: str) -> bytes:
        return self._ask("GET", f"{ARTIFACTS}/artifacts/{quote(folder)}/{quote(path)}", {}, f"{where}, {path}").content

    def _aliases(self, model: str) -> dict[str, str]:
        """The aliases of the versions that have one, by version."""
        found = self._read("registered-models/get", model, name=model)
        aliases: dict[str, list[str]] = {}
        for item in (found or {}).get("registered_model", {}).get("aliases", []):
            aliases.setdefault(str(item["version"]), []).append(item["alias"])
        return {version: ", ".join(sorted(names)) for version, names in aliases.items()}

    def _all(self, endpoint: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            found = self._read(endpoint, endpoint, max_results=PAGE, page_token=token, **parameters) or {}
            items += found.get(key, [])
            token = found.get("next_page_token", "")
            if not token:
                return items

    def _read(self, endpoint: str, where: str, **query: Any) -> dict[str, Any] | None:
        """What an endpoint answers, or None where there is no such thing.

        A server with passwords says of a missing model only that access is denied.
        """
        answer = self._request("GET", f"{API}/{endpoint}", query, where)
        if answer.status_code in (400, 403, 404):
            return None
        self._hold(answer, where)
        found: dict[str, Any] = answer.json()
        return found

    def _ask(self, method: str, path: str, content: dict[str, Any], where: str) -> httpx.Response:
        answer = self._request(method, path, content, where)
        self._hold(answer, where)
        return answer

    def _request(self, method: str, path: str, content: dict[str, Any], where: str) -> httpx.Response:
        try:
            if method == "GET":
                return self._client.get(path, params=content)
            return self._client.post(path, json=content)
        except httpx.HTTPError as error:
            said, fix = str(error)[:200] or type(error).__name__, "wait for it, and look at `homelab status`"
            if unresolved(error):
                said = f"the name {urlsplit(self.uri).hostname} does not resolve: {said}"
                fix = "check MLFLOW_TRACKING_URI"
            raise TrackingError(
                f"MLflow cannot be reached: {said}",
                where=f"{self.uri}, for {where}",
                fix=fix,
                transient=True,
            ) from error

    def _hold(self, answer: httpx.Response, where: str) -> None:
        """Checks that MLflow did not refuse.

        Raises:
            TrackingError: MLflow refused; transient where the server may give another answer soon.
        """
        if answer.status_code == httpx.codes.OK:
            return
        code, message = _explained(answer)
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise TrackingError(
                f"the registry lacks {where}: {message}",
                where=self.uri,
                fix="`homelab models` lists the versions; promote one of them, or revert the commit",
            )
        if answer.status_code in (401, 403):
            raise TrackingError(
                f"MLflow refuses this login ({answer.status_code}), or has no such model",
                where=f"{self.uri}, for {where}",
                fix="check MLFLOW_TRACKING_USERNAME and its password, and `homelab models`",
                # A server that has just been set up may not know the login yet.
                transient=answer.status_code == 401,
            )
        raise TrackingError(
            f"MLflow fails with status {answer.status_code}: {message}",
            where=f"{self.uri}, for {where}",
            fix="look at MLflow's log",
            transient=answer.status_code >= 500,
        )


def _login() -> tuple[str, str]:
    """User and password of the environment; empty where it has none."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")


def _explained(answer: httpx.Response) -> tuple[str, str]:
    """MLflow's code and words for a failure."""
    try:
        content = answer.json()
        return str(content["error_code"]), str(content.get("message", ""))[:200]
    except (ValueError, KeyError, TypeError):
        return "", answer.text.strip()[:200]


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
        tags.get(SHA256, ""),
    )


@contextlib.contextmanager
def registry_of(cluster: Cluster) -> Iterator[ModelRegistry]:
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
        registry = ModelRegistry(
            f"http://127.0.0.1:{local}", login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]
        )
        with contextlib.closing(registry):
            yield registry


@contextlib.contextmanager
def any_registry(context: str | None) -> Iterator[ModelRegistry]:
    """The registry of ``MLFLOW_TRACKING_URI`` where that is set, otherwise the cluster's."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if uri:
        with ModelRegistry(uri, *_login()) as registry:
            yield registry
        return
    from homelab_mlops.clients.kubernetes import Cluster

    with registry_of(Cluster(context)) as registry:
        yield registry

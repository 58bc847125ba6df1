"""A cluster, as plain dictionaries: what a kubeconfig context names, read and applied to through its API."""

from __future__ import annotations

import contextlib
import functools
import select
import shutil
import socket
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

TIMEOUT = 30
# As Argo CD names itself, so that it takes over what the bootstrap applied instead of sharing it.
FIELD_MANAGER = "argocd-controller"

Object = dict[str, Any]


class Cluster:
    """The cluster of one kubeconfig context.

    Raises:
        ClusterError: there is no such context, or its API server does not answer.
    """

    def __init__(self, context: str | None = None, *, timeout: float = TIMEOUT) -> None:
        import urllib3
        import yaml
        from kubernetes import client, config, dynamic

        self._timeout = timeout
        try:
            contexts, active = config.list_kube_config_contexts()
            self.context: str = context or (active or {}).get("name", "")
            if self.context not in [known["name"] for known in contexts]:
                raise ClusterError(
                    f"the kubeconfig has no context {self.context!r}",
                    fix=f"--context {' | '.join(known['name'] for known in contexts)}",
                )
            configuration = client.Configuration()
            configuration.retries = False
            config.load_kube_config(context=self.context, client_configuration=configuration)
        except (config.ConfigException, yaml.YAMLError, OSError) as error:
            raise ClusterError(
                f"no usable kubeconfig: {error}", fix="set KUBECONFIG, or log in to the cluster"
            ) from error
        self._api = client.ApiClient(configuration)
        self.server: str = configuration.host
        # What a CRD brings is looked up again when it is missing, so what another run saw is of no use.
        cache = tempfile.mkdtemp(prefix="homelab-")
        weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        try:
            self.version: str = client.VersionApi(self._api).get_code(_request_timeout=timeout).git_version
            self._dynamic = dynamic.DynamicClient(self._api, cache_file=str(Path(cache) / "discovery"))
        except (urllib3.exceptions.HTTPError, client.ApiException, dynamic.exceptions.DynamicApiError) as error:
            raise ClusterError(
                f"the API server does not answer: {_reason(error)}", where=f"{self.server} ({self.context})"
            ) from error

    @functools.cached_property
    def _core(self) -> CoreV1Api:
        """The API of logs and port forwards, made when it is asked for: its models take a second to load."""
        from kubernetes import client

        return client.CoreV1Api(self._api)

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has the kind."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            self._dynamic.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError:
            return False
        return True

    def predict(self, document: Object) -> Object | None:
        """What a server-side apply would make of an object, which is not applied; None where it is refused."""
        metadata = document["metadata"]
        try:
            done = self._call(
                document["apiVersion"],
                document["kind"],
                "server_side_apply",
                body=document,
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
                dry_run="All",
            )
        except ClusterError:
            return None
        return None if done is None else _without_nulls(done.to_dict())

    def find(self, api_version: str, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """The objects of a kind in one namespace or in all; none where the cluster does not know the kind."""
        found = self._call(api_version, kind, "get", namespace=namespace, label_selector=selector)
        return [] if found is None else [_without_nulls(item) for item in found.to_dict()["items"]]

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None where there is none."""
        found = self._call(api_version, kind, "get", name=name, namespace=namespace)
        return None if found is None else _without_nulls(found.to_dict())

    def apply(self, document: Object) -> None:
        """Server-side apply of one object; what someone else set in its fields is overwritten."""
        metadata = document["metadata"]
        done = self._call(
            document["apiVersion"],
            document["kind"],
            "server_side_apply",
            body=document,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )
        if done is None:
            raise ClusterError(f"the cluster does not know the kind {document['kind']}", where=_name(document))

    def create(self, document: Object) -> Object:
        """Creates one object; its name may be left to the server by ``generateName``."""
        done = self._call(
            document["apiVersion"],
            document["kind"],
            "create",
            body=document,
            namespace=document["metadata"].get("namespace"),
        )
        if done is None:
            raise ClusterError(f"the cluster does not know the kind {document['kind']}", where=_name(document))
        return dict(done.to_dict())

    def annotate(
        self, api_version: str, kind: str, name: str, namespace: str | None, annotations: dict[str, str]
    ) -> None:
        """Adds annotations to one object; it is no error when there is none."""
        body = {"metadata": {"annotations": annotations}}
        content_type = "application/merge-patch+json"
        self._call(api_version, kind, "patch", name=name, namespace=namespace, body=body, content_type=content_type)

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> None:
        """Deletes one object; it is no error when there is none."""
        # As kubectl does: the default of a Job would leave its pods.
        self._call(api_version, kind, "delete", name=name, namespace=namespace, propagation_policy="Background")

    def log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        """The last lines that a container wrote, or nothing where it wrote none yet."""
        from kubernetes.client import ApiException

        try:
            return str(self._core.read_namespaced_pod_log(pod, namespace, container=container, tail_lines=lines))
        except ApiException:
            return ""

    @contextlib.contextmanager
    def port_forward(self, pod: str, namespace: str, port: int) -> Iterator[int]:
        """A port of this machine, while the context lasts, that leads to ``port`` of the pod."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=self._serve, args=(server, pod, namespace, port), daemon=True)
            thread.start()
            try:
                yield server.getsockname()[1]
            finally:
                server.shutdown(socket.SHUT_RDWR)

    def _serve(self, server: socket.socket, pod: str, namespace: str, port: int) -> None:
        from kubernetes.stream import portforward

        while True:
            try:
                local, _ = server.accept()
            except OSError:
                return
            forward = portforward(self._core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
            threading.Thread(target=_pump, args=(local, forward.socket(port)), daemon=True).start()

    def _call(self, api_version: str, kind: str, verb: str, **arguments: Any) -> Any:
        import urllib3
        from kubernetes.client import ApiException
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        where = "/".join(part for part in (kind, arguments.get("namespace"), arguments.get("name")) if part)
        try:
            resource = self._dynamic.resources.get(api_version=api_version, kind=kind)
            return getattr(self._dynamic, verb)(resource, _request_timeout=self._timeout, **arguments)
        except ResourceNotFoundError:
            return None
        except ApiException as error:
            if error.status == 404 and verb in {"get", "patch", "delete"}:
                return None
            raise ClusterError(f"the API server refused to {verb}: {_reason(error)}", where=where) from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"the API server does not answer: {_reason(error)}", where=self.server) from error


def _pump(local: socket.socket, remote: Any) -> None:
    with local, contextlib.closing(remote):
        while True:
            ready, _, _ = select.select([local, remote], [], [], TIMEOUT)
            for source, target in ((local, remote), (remote, local)):
                if source in ready:
                    try:
                        data = source.recv(65536)
                        if not data:
                            return
                        target.sendall(data)
                    except OSError:
                        return


def _without_nulls(value: Any) -> Any:
    """The same, where a field that is null is a field that is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _name(document: Object) -> str:
    metadata = document["metadata"]
    return f"{document['kind']} {metadata.get('namespace', '')}/{metadata.get('name', metadata.get('generateName'))}"


def _reason(error: Exception) -> str:
    import json

    body = getattr(error, "body", None)
    if body:
        try:
            return str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            return str(body)
    return str(getattr(error, "reason", None) or error)

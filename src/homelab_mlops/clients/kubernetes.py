"""The client of a cluster, which a kubeconfig context names: it reads and applies objects as plain dictionaries."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from homelab_mlops.clients.discovery import Discovery
from homelab_mlops.clients.patience import NotYetError, Patience, UnknownKindError, reason_of, transient
from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api

TIMEOUT = 30
# How many seconds a command without a deadline of its own waits for an API server that is starting.
PATIENCE = 60.0
# As Argo CD names itself, so that it takes over what the bootstrap applied instead of sharing it.
FIELD_MANAGER = "argocd-controller"

Object = dict[str, Any]
_WRITES = {"server_side_apply", "create"}
# As the API server completes generateName: without vowels, and without digits that look like letters.
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_NAME_LENGTH = 5


class Cluster:
    """The cluster of one kubeconfig context; a context manager that closes the connections at its end.

    They are also closed when the object goes. ``on_request`` is called before each request.

    Each call waits for ``timeout`` seconds for its answer. A call that fails for a moment (429, 500, 503, a broken
    connection, a kind that is not served yet) is tried again, for ``patience`` seconds over all calls together.

    Attributes:
        context: the name of the context.
        server: the address of the API server.
        version: the API server's version of Kubernetes, such as ``v1.35.4``.

    Raises:
        ClusterError: there is no such context, or its API server does not answer.
    """

    def __init__(
        self,
        context: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = 0.0,
        on_request: Callable[[], object] | None = None,
    ) -> None:
        import urllib3
        import yaml
        from kubernetes import client, config

        self._timeout = timeout
        self._patience = Patience(patience)
        # Read now: the client library reads the variable once, when it is imported.
        file = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            contexts, active = config.list_kube_config_contexts(file)
            self.context: str = context or (active or {}).get("name", "")
            if self.context not in [known["name"] for known in contexts]:
                raise ClusterError(
                    f"the kubeconfig has no context {self.context!r}",
                    fix=f"--context {' | '.join(known['name'] for known in contexts)}",
                )
            configuration = client.Configuration()
            configuration.retries = False
            config.load_kube_config(file, context=self.context, client_configuration=configuration)
        except (config.ConfigException, yaml.YAMLError, OSError) as error:
            raise ClusterError(
                f"no usable kubeconfig: {error}", fix="set KUBECONFIG, or log in to the cluster"
            ) from error
        api = client.ApiClient(configuration)
        self._api = api if on_request is None else _observed(api, on_request)
        self._close = weakref.finalize(self, api.close)
        self.server: str = configuration.host
        try:
            self.version: str = self._patience.call(lambda _: self._server_version())
            self._dynamic: Any = None
            self._patience.call(lambda _: self._discovered())
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            raise ClusterError(
                f"the API server does not answer: {reason_of(error)}",
                where=f"{self.server} ({self.context})",
                transient=transient(error) is not None,
            ) from error

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._close()

    def _server_version(self) -> str:
        from kubernetes import client

        return str(client.VersionApi(self._api).get_code(_request_timeout=self._timeout).git_version)

    @functools.cached_property
    def _core(self) -> CoreV1Api:
        """The API of logs and port forwards, made when it is asked for: its models take a second to load."""
        from kubernetes import client

        return client.CoreV1Api(self._api)

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has the kind.

        Raises:
            ClusterError: the API server does not answer.
        """
        return self._tried(kind, "discover", lambda _: self._resource(api_version, kind)) is not None

    def predict(self, document: Object) -> Object | None:
        """The object as a server-side apply would leave it, without applying it; None where the server refuses it."""
        try:
            done = self._applied(document, dry_run="All")
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
        """Applies one object on the server, and overwrites what someone else set in its fields."""
        if self._applied(document) is None:
            raise ClusterError(f"the cluster does not know the kind {document['kind']}", where=_name(document))

    def _applied(self, document: Object, **options: str) -> Any:
        """The answer to a server-side apply; None where the cluster does not know the kind."""
        metadata = document["metadata"]
        return self._call(
            document["apiVersion"],
            document["kind"],
            "server_side_apply",
            body=document,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            **options,
        )

    def create(self, document: Object) -> Object:
        """Creates one object; ``generateName`` is completed here, so that it can be tried again safely."""
        metadata = dict(document["metadata"])
        if "generateName" in metadata:
            suffix = "".join(secrets.choice(_NAME_LETTERS) for _ in range(_NAME_LENGTH))
            metadata["name"] = metadata.pop("generateName") + suffix
        named = {**document, "metadata": metadata}
        done = self._call(named["apiVersion"], named["kind"], "create", body=named, namespace=metadata.get("namespace"))
        if done is None:
            raise ClusterError(f"the cluster does not know the kind {document['kind']}", where=_name(named))
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
        import urllib3
        from kubernetes.client import ApiException

        def read(_: bool) -> str:
            return str(
                self._core.read_namespaced_pod_log(
                    pod, namespace, container=container, tail_lines=lines, _request_timeout=self._timeout
                )
            )

        try:
            return self._patience.call(read)
        except (ApiException, urllib3.exceptions.HTTPError):
            return ""

    def token(self, namespace: str, account: str, *, seconds: int) -> str:
        """A new token of a ServiceAccount, which is valid for ``seconds``.

        Raises:
            ClusterError: there is no such ServiceAccount, or the API server refuses.
        """
        from kubernetes import client

        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=seconds)
        )

        def ask(_: bool) -> str:
            granted = self._core.create_namespaced_service_account_token(
                account, namespace, request, _request_timeout=self._timeout
            )
            return str(granted.status.token)  # type: ignore[union-attr]

        return str(self._tried(f"ServiceAccount/{namespace}/{account}", "make a token", ask))

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
            try:
                forward = portforward(
                    self._core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
                )
            except Exception:  # its client sees that the connection is closed
                local.close()
                continue
            threading.Thread(target=_pump, args=(local, forward.socket(port)), daemon=True).start()

    def _call(self, api_version: str, kind: str, verb: str, **arguments: Any) -> Any:
        """The answer, or None: the cluster has no such object, or does not know the kind."""
        from kubernetes.dynamic import exceptions

        where = "/".join(part for part in (kind, arguments.get("namespace"), arguments.get("name")) if part)

        def attempt(failed_before: bool) -> Any:
            resource = self._resource(api_version, kind)
            if resource is None:
                if verb in _WRITES:
                    raise UnknownKindError(f"the cluster does not know the kind {kind} of {api_version}")
                return None
            try:
                answer = getattr(self._dynamic, verb)(resource, **arguments)
            except exceptions.NotFoundError as error:
                if not _is_status(error) and self._serves(api_version, kind):
                    raise NotYetError(f"{kind} of {api_version} is not served yet") from error
                if verb in _WRITES:
                    raise
                return None
            except exceptions.ConflictError as error:
                if verb == "create" and failed_before:
                    # The answer to an earlier attempt was lost; the object is the one that it made.
                    return self._dynamic.get(resource, arguments["body"]["metadata"]["name"], arguments["namespace"])
                if verb == "create":
                    raise
                raise NotYetError(f"someone else changes {where}: {reason_of(error)}") from error
            if isinstance(answer, str):
                raise ClusterError("the answer is not one of an API server", where=self.server)
            return answer

        return self._tried(where, verb, attempt)

    def _tried(self, where: str, verb: str, attempt: Callable[[bool], Any]) -> Any:
        import urllib3
        from kubernetes.client import ApiException

        try:
            return self._patience.call(attempt)
        except UnknownKindError:
            return None
        except NotYetError as error:
            raise ClusterError(str(error), where=where, transient=True) from error
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            again = transient(error) is not None
            if isinstance(error, ApiException):
                what = f"the API server refused to {verb}: {reason_of(error)}"
                raise ClusterError(what, where=where, transient=again) from error
            what = f"the API server does not answer: {reason_of(error)}"
            raise ClusterError(what, where=self.server, transient=again) from error

    def _resource(self, api_version: str, kind: str) -> Any:
        """The kind as the API server serves it, or None where the API server does not know the kind."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            return self._discovered().resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError:
            if self._serves(api_version, kind):
                raise NotYetError(f"{kind} of {api_version} is not listed yet") from None
            return None

    def _discovered(self) -> Any:
        """The client, with what the API server serves; a failure leaves none, or the one that there was."""
        if self._dynamic is None:
            self._dynamic = _dynamic_client(self._api, self._timeout)
        return self._dynamic

    def _serves(self, api_version: str, kind: str) -> bool:
        """Whether the API serves the kind: the client library takes an API that answers 503 for one without kinds."""
        from kubernetes.dynamic.exceptions import NotFoundError

        try:
            answer = self._discovered().request("GET", f"/{_prefix(api_version)}/{api_version}")
        except NotFoundError:
            return False
        return any(item["kind"] == kind for item in answer.to_dict().get("resources", []))


def _prefix(api_version: str) -> str:
    return "apis" if "/" in api_version else "api"


def _dynamic_client(api: ApiClient, timeout: float) -> Any:
    from kubernetes.dynamic import DynamicClient

    class Client(DynamicClient):
        """Limits how long discovery, too, waits for its answer."""

        def request(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
            return super().request(method, path, body, **{"_request_timeout": timeout, **parameters})

    untyped: Any = Client
    return untyped(api, discoverer=Discovery)


def _is_status(error: Exception) -> bool:
    """Whether an API answered, and not a server that stands in for an API that is not there yet."""
    body = getattr(error, "body", None) or b""
    return b'"kind"' in (body if isinstance(body, bytes) else str(body).encode())


def _observed(api: ApiClient, on_request: Callable[[], object]) -> ApiClient:
    """The client, which calls ``on_request`` before each request that it sends."""
    transport: Any = api.rest_client
    send = transport.request

    def observed(*arguments: Any, **more: Any) -> Any:
        on_request()
        return send(*arguments, **more)

    transport.request = observed
    return api


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
    """A copy without the fields that are null."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _name(document: Object) -> str:
    metadata = document["metadata"]
    return f"{document['kind']} {metadata.get('namespace', '')}/{metadata.get('name', metadata.get('generateName'))}"

"""The kinds that an API server knows, read in two requests; the client library asks once for each API group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homelab_mlops.errors import ClusterError

# Kubernetes 1.30 or later answers with all groups at once. https://kubernetes.io/docs/concepts/overview/kubernetes-api/
ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Discovery:
    """The kinds of one API server, in the form that `DynamicClient` takes. It asks again for a kind that is missing.

    Raises:
        ApiException: the API server refuses to list its kinds.
        ClusterError: the answer is no list of kinds.
    """

    def __init__(self, client: Any, _cache_file: str | None = None) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], Any] = {}
        self._read()

    def get(self, *, api_version: str, kind: str) -> Any:
        """The `Resource` of a kind.

        Raises:
            ResourceNotFoundError: the API server does not know the kind.
        """
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        if (api_version, kind) not in self._kinds:
            self._read()
        try:
            return self._kinds[api_version, kind]
        except KeyError:
            raise ResourceNotFoundError(f"the API server does not know the kind {kind} of {api_version}") from None

    def _read(self) -> None:
        self._kinds = {
            (resource.group_version, resource.kind): resource
            for prefix in ("api", "apis")
            for resource in self._resources(prefix)
        }

    def _resources(self, prefix: str) -> Iterator[Any]:
        from kubernetes.dynamic.resource import Resource

        answer = self._client.request(
            "GET",
            f"/{prefix}",
            header_params={"Accept": ACCEPT},
            serializer=lambda _client, plain: plain,
        )
        if not isinstance(answer, dict) or answer.get("kind") != "APIGroupDiscoveryList":
            raise ClusterError(
                f"the API server does not list its kinds at /{prefix}",
                where=str(self._client.configuration.host),
                fix="check the address in the kubeconfig; Kubernetes has to be 1.30 or later",
            )
        for group in answer["items"]:
            for version in group["versions"]:
                for item in version.get("resources", []):
                    yield Resource(
                        prefix=prefix,
                        group=group["metadata"].get("name", ""),
                        api_version=version["version"],
                        kind=item["responseKind"]["kind"],
                        name=item["resource"],
                        namespaced=item["scope"] == "Namespaced",
                        verbs=item["verbs"],
                        client=self._client,
                    )

"""The connections that the platform needs, and which of them NetworkPolicies block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from homelab_mlops.manifests.network import admitted, directions, has_port, selects

Policy = dict[str, Any]
Labels = dict[str, str]


@dataclass(frozen=True)
class Pods:
    """The pods of a namespace that have some labels.

    Attributes:
        name: what people call them.
    """

    name: str
    namespace: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Connection:
    """One connection that the platform needs.

    Attributes:
        source: the pods that open it.
        to: the pods that answer, or the name of what lies outside of the pods' network.
    """

    source: Pods
    to: Pods | str
    port: int
    port_name: str = ""
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source.name} → {self.to if isinstance(self.to, str) else self.to.name}:{self.port}"


def _named(namespace: str, name: str) -> Pods:
    return Pods(name, namespace, (("app.kubernetes.io/name", name),))


_STEP = ("workflows.argoproj.io/workflow", "any")
STEPS = Pods("the steps of a retraining", "training", (_STEP,))
PROPOSE = Pods("the step propose", "training", (_STEP, ("homelab-mlops/step", "propose")))
MODELS = Pods("the models", "serving", (("app.kubernetes.io/component", "model"),))
DNS = Pods("DNS", "kube-system", (("k8s-app", "kube-dns"),))
# Found by the settings of the cluster, or by the name of its pods, wherever it runs.
INGRESS = Pods("the ingress controller", "", ())
INGRESS_NAMES = ("traefik", "ingress-nginx")
MINIO, PROVISION = _named("minio", "minio"), _named("minio", "provision")
MLFLOW, POSTGRESQL = _named("mlflow", "mlflow"), _named("mlflow", "postgresql")
CONTROLLER, SERVER = _named("argo-workflows", "workflow-controller"), _named("argo-workflows", "argo-server")
SEALED = _named("sealed-secrets", "sealed-secrets")
ALIAS = _named("serving", "alias")
ARGO_CD, REPO_SERVER = _named("argo-cd", "argocd-application-controller"), _named("argo-cd", "argocd-repo-server")
ARGO_CD_SERVER, REDIS = _named("argo-cd", "argocd-server"), _named("argo-cd", "argocd-redis")
API_SERVER, GIT = "the API server", "the git host"
API_PORTS = (443, 6443)
CONNECTIONS = (
    Connection(STEPS, MINIO, 9000, "s3"),
    Connection(STEPS, MLFLOW, 5000, "http"),
    Connection(MLFLOW, POSTGRESQL, 5432, "postgresql"),
    Connection(MLFLOW, MINIO, 9000, "s3"),
    Connection(PROVISION, MINIO, 9000, "s3"),
    Connection(SERVER, MINIO, 9000, "s3"),
    Connection(MODELS, MLFLOW, 5000, "http"),
    Connection(ALIAS, MLFLOW, 5000, "http"),
    Connection(ARGO_CD, REPO_SERVER, 8081),
    Connection(ARGO_CD_SERVER, REPO_SERVER, 8081),
    *(Connection(pods, REDIS, 6379, "redis") for pods in (ARGO_CD, REPO_SERVER, ARGO_CD_SERVER)),
    Connection(INGRESS, MLFLOW, 5000, "http"),
    Connection(INGRESS, MINIO, 9000, "s3"),
    Connection(INGRESS, SERVER, 2746, "http"),
    Connection(INGRESS, MODELS, 8080, "http"),
    *(
        Connection(pods, DNS, 53, protocol="UDP")
        for pods in (STEPS, MLFLOW, PROVISION, CONTROLLER, SERVER, MODELS, ALIAS, REPO_SERVER)
    ),
    *(
        Connection(pods, API_SERVER, port)
        for pods in (STEPS, CONTROLLER, SERVER, SEALED, ARGO_CD)
        for port in API_PORTS
    ),
)


def blocked(
    policies: list[Policy],
    namespaces: dict[str, Labels],
    pods: list[dict[str, Any]],
    git_port: int | None = None,
    ingress: Pods = INGRESS,
) -> Iterator[tuple[Connection, str]]:
    """The needed connections that are blocked, each with the side that blocks it: ``egress of NAMESPACE``, for one.

    Args:
        namespaces: the labels of each namespace that exists. A connection of another namespace is left out.
        pods: the pods of the cluster. Where a connection's own pods are among them, their labels count.
        git_port: the port of the git host, where Argo CD fetches and the step propose pushes, if it is known.
        ingress: the pods of the cluster's own ingress controller, if they are known.
    """
    seen: set[tuple[Pods, Pods | str]] = set()
    to_git = [Connection(source, GIT, git_port) for source in (PROPOSE, REPO_SERVER)] if git_port else []
    controllers = _ingress_controllers(pods, ingress)
    for needed in (*CONNECTIONS, *to_git):
        sources = controllers if needed.source is INGRESS else [needed.source]
        for source in sources:
            connection = replace(needed, source=_live(source, pods), to=_live(needed.to, pods))
            both = (connection.source, connection.to)
            if both in seen or any(isinstance(side, Pods) and side.namespace not in namespaces for side in both):
                continue
            if side := _blocking_side(policies, connection, namespaces):
                seen.add(both)
                yield connection, side


def _blocking_side(policies: list[Policy], connection: Connection, namespaces: dict[str, Labels]) -> str:
    """``egress of NAMESPACE`` or ``ingress of NAMESPACE``; nothing where both sides let the connection through."""
    source, to = connection.source, connection.to
    for direction, here, there in (("Egress", source, to), ("Ingress", to, source)):
        if isinstance(here, Pods) and not _allowed(policies, direction, here, there, connection, namespaces):
            return f"{direction.lower()} of {here.namespace}"
    return ""


def _ingress_controllers(pods: list[dict[str, Any]], own: Pods) -> list[Pods]:
    """The pods of an ingress controller, for each namespace that has one."""
    found = {}
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        namespace = pod["metadata"]["namespace"]
        # Where the setting selects a whole namespace, only well-known names count: other pods may lie in it too.
        is_own = own.labels and namespace == own.namespace and dict(own.labels).items() <= labels.items()
        if is_own or labels.get("app.kubernetes.io/name") in INGRESS_NAMES:
            found[namespace] = tuple(sorted(labels.items()))
    return [replace(INGRESS, namespace=namespace, labels=labels) for namespace, labels in found.items()]


def _live(wanted: Pods | str, pods: list[dict[str, Any]]) -> Any:
    """The same pods with every label that one of them has in the cluster; unchanged where none is there."""
    if isinstance(wanted, str):
        return wanted
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        if pod["metadata"]["namespace"] == wanted.namespace and dict(wanted.labels).items() <= labels.items():
            return replace(wanted, labels=tuple(sorted(labels.items())))
    return wanted


def _allowed(
    policies: list[Policy],
    direction: str,
    here: Pods,
    there: Pods | str,
    connection: Connection,
    namespaces: dict[str, Labels],
) -> bool:
    """Whether the policies that select the pods ``here`` let the connection through; with none, all is let through."""
    restricting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == here.namespace
        and selects(policy["spec"].get("podSelector"), dict(here.labels))
        and direction in directions(policy["spec"])
    ]
    return not restricting or any(
        has_port(port, connection.port, connection.port_name, connection.protocol)
        and _is_peer(peer, there, policy["metadata"]["namespace"], namespaces)
        for policy in restricting
        for peer, port in admitted(policy["spec"], direction.lower())
    )


def _is_peer(peer: dict[str, Any] | None, there: Pods | str, own: str, namespaces: dict[str, Labels]) -> bool:
    """Whether a peer of a rule in the namespace ``own`` is, or contains, the other side of the connection."""
    if peer is None:
        return True
    if "ipBlock" in peer:
        # Only the owner knows the cluster's addresses, so the doctor assumes that the block contains them.
        return isinstance(there, str) or there.namespace == "kube-system"
    if isinstance(there, str):
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], namespaces[there.namespace])
        if "namespaceSelector" in peer
        else there.namespace == own
    )
    # The labels of the pods in kube-system differ from cluster to cluster.
    return in_namespace and (there.namespace == "kube-system" or selects(peer.get("podSelector"), dict(there.labels)))

"""The connections that the platform needs, and whether NetworkPolicies let each through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Policy = dict[str, Any]
Labels = dict[str, str]


@dataclass(frozen=True)
class End:
    """Pods of a namespace with a label; ``name`` is what people call them."""

    name: str
    namespace: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Path:
    """One connection; ``to`` a text leads out of the pods' network, to what the text names."""

    source: End
    to: End | str
    port: int
    port_name: str = ""
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source.name} → {self.to if isinstance(self.to, str) else self.to.name}:{self.port}"


def _named(namespace: str, name: str) -> End:
    return End(name, namespace, (("app.kubernetes.io/name", name),))


_STEP = ("workflows.argoproj.io/workflow", "any")
STEPS = End("the steps of a retraining", "training", (_STEP,))
PROPOSE = End("the step propose", "training", (_STEP, ("homelab-mlops/step", "propose")))
MODELS = End("the models", "serving", (("app.kubernetes.io/component", "model"),))
DNS = End("DNS", "kube-system", (("k8s-app", "kube-dns"),))
# Found by the settings of the cluster, or by the name of its pods, wherever it runs.
INGRESS = End("the ingress controller", "", ())
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
PATHS = (
    Path(STEPS, MINIO, 9000, "s3"),
    Path(STEPS, MLFLOW, 5000, "http"),
    Path(MLFLOW, POSTGRESQL, 5432, "postgresql"),
    Path(MLFLOW, MINIO, 9000, "s3"),
    Path(PROVISION, MINIO, 9000, "s3"),
    Path(SERVER, MINIO, 9000, "s3"),
    Path(MODELS, MLFLOW, 5000, "http"),
    Path(ALIAS, MLFLOW, 5000, "http"),
    Path(ARGO_CD, REPO_SERVER, 8081),
    Path(ARGO_CD_SERVER, REPO_SERVER, 8081),
    *(Path(end, REDIS, 6379, "redis") for end in (ARGO_CD, REPO_SERVER, ARGO_CD_SERVER)),
    Path(INGRESS, MLFLOW, 5000, "http"),
    Path(INGRESS, MINIO, 9000, "s3"),
    Path(INGRESS, SERVER, 2746, "http"),
    Path(INGRESS, MODELS, 8080, "http"),
    *(
        Path(end, DNS, 53, protocol="UDP")
        for end in (STEPS, MLFLOW, PROVISION, CONTROLLER, SERVER, MODELS, ALIAS, REPO_SERVER)
    ),
    *(Path(end, API_SERVER, port) for end in (STEPS, CONTROLLER, SERVER, SEALED, ARGO_CD) for port in API_PORTS),
)


def cut(
    policies: list[Policy],
    namespaces: dict[str, Labels],
    pods: list[dict[str, Any]],
    git_port: int | None = None,
    ingress: End = INGRESS,
) -> Iterator[tuple[Path, str]]:
    """The needed paths that are cut, each with the side that cuts it: ``egress of NAMESPACE`` or ``ingress of ...``.

    Args:
        namespaces: the labels of each namespace that exists; a path of one that does not is left out.
        pods: those of the cluster, whose own labels count where there are some.
        git_port: where Argo CD fetches and the step propose pushes, if that is known.
        ingress: the namespace and the labels of the cluster's own ingress controller, if they are known.
    """
    seen: set[tuple[End, End | str]] = set()
    to_git = [Path(end, GIT, git_port) for end in (PROPOSE, REPO_SERVER)] if git_port else []
    controllers = _ingress_controllers(pods, ingress)
    for needed in (*PATHS, *to_git):
        sources = controllers if needed.source is INGRESS else [needed.source]
        for path in (replace(needed, source=_live(source, pods), to=_live(needed.to, pods)) for source in sources):
            ends = [end for end in (path.source, path.to) if isinstance(end, End)]
            if any(end.namespace not in namespaces for end in ends) or (path.source, path.to) in seen:
                continue
            for direction, here, there in (("Egress", path.source, path.to), ("Ingress", path.to, path.source)):
                if isinstance(here, End) and not _allowed(policies, direction, here, there, path, namespaces):
                    seen.add((path.source, path.to))
                    yield path, f"{direction.lower()} of {here.namespace}"
                    break


def _ingress_controllers(pods: list[dict[str, Any]], own: End) -> list[End]:
    """One for each namespace that has one."""
    found = {}
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        namespace = pod["metadata"]["namespace"]
        # Of a whole namespace only the well-known names count: not each of its pods is the controller.
        is_own = own.labels and namespace == own.namespace and _selects({"matchLabels": dict(own.labels)}, labels)
        if is_own or labels.get("app.kubernetes.io/name") in INGRESS_NAMES:
            found[namespace] = tuple(sorted(labels.items()))
    return [replace(INGRESS, namespace=namespace, labels=labels) for namespace, labels in found.items()]


def _live(end: End | str, pods: list[dict[str, Any]]) -> Any:
    """The end with all the labels that a pod of it has; as it is where there is none."""
    if isinstance(end, str):
        return end
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        if pod["metadata"]["namespace"] == end.namespace and _selects({"matchLabels": dict(end.labels)}, labels):
            return replace(end, labels=tuple(sorted(labels.items())))
    return end


def _allowed(
    policies: list[Policy], direction: str, here: End, there: End | str, path: Path, namespaces: dict[str, Labels]
) -> bool:
    chosen = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == here.namespace
        and _selects(policy["spec"].get("podSelector"), dict(here.labels))
        and direction in _types(policy)
    ]
    if not chosen:
        return True
    key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _port(rule.get("ports"), path) and _peer(rule.get(peers), there, policy["metadata"]["namespace"], namespaces)
        for policy in chosen
        for rule in policy["spec"].get(key) or []
    )


def _types(policy: Policy) -> list[str]:
    spec = policy["spec"]
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])])


def _port(ports: list[dict[str, Any]] | None, path: Path) -> bool:
    if not ports:
        return True
    for port in ports:
        number = port.get("port")
        last = port.get("endPort", number)
        if port.get("protocol", "TCP") != path.protocol:
            continue
        if number is None or number in (path.port, path.port_name) or str(number) == str(path.port):
            return True
        if isinstance(number, int) and isinstance(last, int) and number <= path.port <= last:
            return True
    return False


def _peer(peers: list[dict[str, Any]] | None, end: End | str, own: str, namespaces: dict[str, Labels]) -> bool:
    if not peers:
        return True
    for peer in peers:
        if "ipBlock" in peer:
            if isinstance(end, str) or end.namespace == "kube-system":
                return True  # an address of this cluster, which its owner knows
            continue
        if isinstance(end, str):
            continue
        spaces = (
            _selects(peer["namespaceSelector"], namespaces[end.namespace])
            if "namespaceSelector" in peer
            else end.namespace == own
        )
        # Which labels the pods of kube-system have differs from cluster to cluster.
        if spaces and (end.namespace == "kube-system" or _selects(peer.get("podSelector"), dict(end.labels))):
            return True
    return False


def _selects(selector: dict[str, Any] | None, labels: Labels) -> bool:
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        value, values = labels.get(rule["key"]), rule.get("values") or []
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[rule["operator"]]:
            return False
    return True

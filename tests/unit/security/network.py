"""The table of pods and destinations in docs/security.md, made of the rendered NetworkPolicies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from homelab_mlops.gitops.render import read_yaml, render
from homelab_mlops.manifests.network import admitted, directions, has_port, selects
from homelab_mlops.manifests.objects import Manifest
from tests.conftest import ROOT
from tests.sections import Section

SECTION = Section("the network")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
# The label that Argo gives to the pod of each step.
STEP = {"workflows.argoproj.io/workflow": "any"}


class End(NamedTuple):
    """One end of a connection: a pod by namespace and labels, or an address outside of the cluster."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it
    address: str = ""


class Target(NamedTuple):
    """What answers, and at which port."""

    end: End
    port: int
    port_name: str = ""
    protocol: str = "TCP"


def _pod(namespace: str, name: str) -> End:
    return End(name, namespace, {"app.kubernetes.io/name": name})


OUTSIDE = "203.0.113.1"
TARGETS = (
    Target(_pod("minio", "minio"), 9000, "s3"),
    Target(_pod("mlflow", "mlflow"), 5000, "http"),
    Target(_pod("mlflow", "postgresql"), 5432, "postgresql"),
    Target(_pod("argo-workflows", "argo-server"), 2746, "http"),
    Target(End("models", "serving", {"app.kubernetes.io/component": "model"}), 8080, "http"),
    Target(End("models' metrics", "serving", {"app.kubernetes.io/component": "model"}), 9090, "metrics"),
    Target(End("Argo CD", "argo-cd", {"app.kubernetes.io/name": "argocd-server"}), 8080),
    Target(End("other pods", "elsewhere", {"app.kubernetes.io/name": "any"}), 8080),
    Target(End("a kubelet", address="192.168.1.10"), 10250),
    Target(End("metadata", address="169.254.169.254"), 80),
    Target(End("any address: 53", address=OUTSIDE), 53, protocol="UDP"),
    Target(End("443", address=OUTSIDE), 443),
    Target(End("6443", address=OUTSIDE), 6443),
    Target(End("22", address=OUTSIDE), 22),
    Target(End("80", address=OUTSIDE), 80),
)
ARGO_CD = End("every pod", "argo-cd", {"app.kubernetes.io/name": "argocd-server"})
# Whoever is no pod of the platform; the controller of the ingress is Traefik in kube-system, as k3s has it.
STRANGERS = (
    End("the ingress controller", "kube-system", {"app.kubernetes.io/name": "traefik"}),
    End("a Prometheus in `monitoring`", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
    End("any other pod", "elsewhere", {"app.kubernetes.io/name": "any"}),
)


def platform() -> list[Manifest]:
    """What the overlays render, each object with its namespace, and the policy of Argo CD, whose rest is upstream's."""
    folders = sorted(path.parent for path in (ROOT / "overlays" / "homelab").glob("*/kustomization.yaml"))
    rendered = [(folder.name, item) for folder in folders for item in render(folder)]
    rendered += [("argo-cd", item) for item in read_yaml(ROOT / "clusters/homelab/argo-cd/networkpolicy.yaml")]
    return [{**item, "metadata": {"namespace": namespace, **item["metadata"]}} for namespace, item in rendered]


def pods(manifests: Iterable[Manifest]) -> Iterator[End]:
    """The pods of each workload, and of the steps of each workflow."""
    for item in manifests:
        namespace = item["metadata"]["namespace"]
        if item["kind"] in WORKLOADS:
            spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
            yield End(item["metadata"]["name"], namespace, spec["template"]["metadata"]["labels"])
        if item["kind"] in ("WorkflowTemplate", "CronWorkflow"):
            for template in item["spec"].get("templates") or []:
                if "container" in template or "script" in template:
                    labels = (template.get("metadata") or {}).get("labels") or {}
                    yield End(template["name"], namespace, {**STEP, **labels})


def reaches(policies: Iterable[Manifest], source: End, target: Target) -> bool:
    """Whether the policies of both ends let the connection through."""
    both = [*policies]
    out = bool(source.address) or _lets(both, "Egress", source, target.end, target)
    return out and (bool(target.end.address) or _lets(both, "Ingress", target.end, source, target))


def _lets(policies: list[Manifest], direction: str, pod: End, other: End, target: Target) -> bool:
    own = [
        item["spec"]
        for item in policies
        if item["metadata"]["namespace"] == pod.namespace
        and selects(item["spec"].get("podSelector"), pod.labels)
        and direction in directions(item["spec"])
    ]
    return not own or any(
        has_port(port, target.port, target.port_name, target.protocol) and _is(peer, other, pod.namespace)
        for spec in own
        for peer, port in admitted(spec, direction.lower())
    )


def _is(peer: dict[str, Any] | None, other: End, namespace: str) -> bool:
    """Whether a peer of a rule is that end. No block of the platform's policies stands for pods alone."""
    if peer is None:
        return True
    if other.address:
        return "ipBlock" in peer and _holds(peer["ipBlock"], other.address)
    if "ipBlock" in peer:
        return False
    named = {"kubernetes.io/metadata.name": other.namespace}
    inside = selects(peer["namespaceSelector"], named) if "namespaceSelector" in peer else other.namespace == namespace
    return inside and selects(peer.get("podSelector"), other.labels)


def _holds(block: dict[str, Any], address: str) -> bool:
    at = ipaddress.ip_address(address)
    inside = at in ipaddress.ip_network(block["cidr"])
    return inside and not any(at in ipaddress.ip_network(other) for other in block.get("except") or [])


def matrix(manifests: Iterable[Manifest]) -> dict[str, set[str]]:
    """For each pod, and each stranger, the names of what it reaches."""
    items = [*manifests]
    policies = [item for item in items if item["kind"] == "NetworkPolicy"]
    found: dict[str, set[str]] = {}
    for source in [*pods(items), ARGO_CD, *STRANGERS]:
        name = source.name if source in STRANGERS else f"{source.namespace}/{source.name}"
        reached = {
            target.end.name
            for target in TARGETS
            if (source.namespace, source.name) != (target.end.namespace, target.end.name)
            and not (source in STRANGERS and (target.end.address or target.end.namespace == "elsewhere"))
            and reaches(policies, source, target)
        }
        found[name] = found.get(name, set()) | reached
    return found


def table(found: dict[str, set[str]]) -> str:
    """The matrix as Markdown; strangers come last."""
    names = [target.end.name for target in TARGETS]
    rows = sorted(found, key=lambda name: ("/" not in name, name))
    lines = [" | ".join([f"| {name}", *("yes" if one in found[name] else "" for one in names)]) + " |" for name in rows]
    return "\n".join([" | ".join(["| from", *names]) + " |", "|---" * (len(names) + 1) + "|", *lines])


def with_table(text: str) -> str:
    """The document with its table made anew."""
    return SECTION.written(text, table(matrix(platform())))

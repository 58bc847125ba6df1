"""The parts of a manifest that every reader needs: its group and name, its pods, its containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
BUILT_IN = re.compile(r"^(apps|batch|autoscaling|policy|[a-z.]+\.k8s\.io)?$")
SERVERS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod")
WORKLOADS = (*SERVERS, "Job", "CronJob")
CLUSTER_SCOPED = {
    "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding",
    "ClusterWorkflowTemplate", "CustomResourceDefinition", "FlowSchema", "IngressClass", "MutatingWebhookConfiguration",
    "Namespace", "Node", "PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "RuntimeClass",
    "StorageClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
    "VolumeAttributesClass", "VolumeSnapshotClass", "ClusterIssuer",
}  # fmt: skip


def identity(manifest: Manifest) -> str:
    """An object as people name it: ``Deployment mlflow/mlflow``."""
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace")
    return f"{manifest['kind']} {f'{namespace}/' if namespace else ''}{metadata.get('name')}"


def has_kind(document: Any) -> bool:
    """Whether a document of YAML is an object that Kubernetes may know."""
    return isinstance(document, dict) and bool(document.get("kind"))


def group(manifest: Manifest) -> str:
    """The API group of an object; empty for the core."""
    return str(manifest.get("apiVersion", "")).rpartition("/")[0]


def is_built_in(manifest: Manifest) -> bool:
    """Whether the API server itself knows the kind, and fills in its defaults."""
    return BUILT_IN.match(group(manifest)) is not None


def is_workflow(manifest: Manifest) -> bool:
    """Whether Argo Workflows runs it, or runs others from it."""
    return group(manifest) == "argoproj.io" and str(manifest.get("kind", "")).endswith(("Workflow", "WorkflowTemplate"))


def get(node: Any, *keys: str) -> Any:
    """The value at the path ``keys``, or None where a part of the path is missing or no mapping."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def entries(node: Any) -> list[dict[str, Any]]:
    """The mappings of a list; none where it is no list."""
    return [item for item in node if isinstance(item, dict)] if isinstance(node, list) else []


def strings(node: Any) -> list[str]:
    """The items of a list as text; none where it is no list."""
    return [str(item) for item in node] if isinstance(node, list) else []


def pod_specs(manifest: Manifest) -> list[dict[str, Any]]:
    """The specification of the pods that a workload starts; empty for any other kind."""
    kind, spec = manifest.get("kind"), get(manifest, "spec")
    if kind not in WORKLOADS:
        return []
    if kind == "CronJob":
        spec = get(spec, "jobTemplate", "spec")
    found = spec if kind == "Pod" else get(spec, "template", "spec")
    return [found] if isinstance(found, dict) else []


@dataclass(frozen=True)
class Container:
    """A container with the pod around it; ``kind`` is that of the object that starts the pod."""

    name: str
    kind: str
    spec: dict[str, Any]
    pod: dict[str, Any]
    is_init: bool = False

    def security(self, key: str) -> Any:
        """A setting of its security context, or of its pod's where it has none of its own."""
        own = get(self.spec, "securityContext", key)
        return own if own is not None else get(self.pod, "securityContext", key)


def containers(manifest: Manifest) -> Iterator[Container]:
    """The containers of a workload, or of the steps of a workflow with its defaults merged in."""
    kind = str(manifest.get("kind"))
    if is_workflow(manifest):
        yield from _step_containers(kind, manifest)
    for pod in pod_specs(manifest):
        for key in ("containers", "initContainers", "ephemeralContainers"):
            for own in entries(pod.get(key)):
                yield Container(str(own.get("name")), kind, own, pod, key == "initContainers")


def _step_containers(kind: str, manifest: Manifest) -> Iterator[Container]:
    spec = get(manifest, "spec", "workflowSpec") or get(manifest, "spec") or {}
    defaults = get(spec, "templateDefaults", "container") or {}
    for template in entries(spec.get("templates")):
        pod, name = {**spec, **template}, str(template.get("name"))
        for own in (template.get("container"), template.get("script")):
            if isinstance(own, dict):
                yield Container(name, kind, {**defaults, **own}, pod)
        for key in ("initContainers", "sidecars"):
            for own in entries(template.get(key)):
                yield Container(f"{name}/{own.get('name')}", kind, own, pod, key == "initContainers")
    if defaults and not spec.get("templates"):
        yield Container("defaults", kind, defaults, spec)

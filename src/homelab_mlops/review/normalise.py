"""Objects as Kubernetes means them: defaults written out, quantities in one unit, generated names undone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Set
from typing import Any

from homelab_mlops.manifests.network import directions
from homelab_mlops.manifests.objects import CLUSTER_SCOPED, Manifest, entries, get, group, is_built_in, pod_specs

# This field identifies an entry of these lists, whose order means nothing.
KEYED: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "webhooks": ("name",),
    "versions": ("name",),
    "templates": ("name",),
    "parameters": ("name",),
    "artifacts": ("name",),
    "tasks": ("name",),
    "mutexes": ("name",),
    "volumeClaimTemplates": ("metadata",),
}
ORDER_MATTERS = {"initContainers"}
SETS = {
    "accessModes", "add", "apiGroups", "apiVersions", "categories", "clusterResourceBlacklist",
    "clusterResourceWhitelist", "destinations", "drop", "egress", "externalIPs", "finalizers", "from", "ingress",
    "limits", "loadBalancerSourceRanges", "matchExpressions", "matchFields", "metrics", "namespaceResourceBlacklist",
    "namespaceResourceWhitelist", "nodeSelectorTerms", "nonResourceURLs", "operations", "policyTypes",
    "preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution",
    "resourceNames", "resources", "scopes", "shortNames", "sourceRepos", "subjects", "syncOptions", "to",
    "tolerations", "verbs", "except", "mountOptions", "allowedTopologies", "ignoreDifferences", "tls", "namespaces",
    "orphanedResources", "roles",
}  # fmt: skip
_OF_QUANTITIES = {
    "requests", "limits", "hard", "capacity", "overhead", "default", "defaultRequest", "max", "min",
    "maxLimitRequestRatio",
}  # fmt: skip
HASHED = re.compile(r"^(.+)-([2456789bcdfghkmt]{10})$")


def is_quantity(path: tuple[str, ...]) -> bool:
    """Whether a field of a known kind holds a quantity."""
    return path[-1] in ("sizeLimit", "divisor") or (len(path) > 1 and path[-2] in _OF_QUANTITIES)


def normalise(manifest: Manifest, namespace: str, cluster_scoped: Set[tuple[str, str]]) -> Manifest:
    """A copy of an object in one canonical form. Objects that Kubernetes tells apart stay different."""
    copy: Manifest = _without_nulls(manifest)
    metadata = copy.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        metadata = copy["metadata"] = {}
    for key in ("labels", "annotations", "finalizers"):
        if metadata.get(key) in ({}, []):
            metadata.pop(key)
    if (group(copy), str(copy.get("kind"))) in cluster_scoped or (
        (is_built_in(copy) or copy.get("kind") == "ClusterWorkflowTemplate") and copy.get("kind") in CLUSTER_SCOPED
    ):
        metadata.pop("namespace", None)
    else:
        metadata.setdefault("namespace", namespace)
    if is_built_in(copy):
        _drop(copy, "status", {})
        _fill(copy)
    return copy


def _without_nulls(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key if type(key) is str else str(key): value if type(value) is str else _without_nulls(value)
            for key, value in node.items()
            if value is not None
        }
    if isinstance(node, list):
        return [value if type(value) is str else _without_nulls(value) for value in node]
    return node


def _mapping(parent: Any, *keys: str) -> dict[str, Any] | None:
    found = get(parent, *keys)
    return found if isinstance(found, dict) else None


def _defaults(node: dict[str, Any] | None, **values: Any) -> None:
    if node is not None:
        for key, value in values.items():
            node.setdefault(key, value)


def _drop(node: dict[str, Any], key: str, *values: Any) -> None:
    if key in node and any(node[key] == value and type(node[key]) is type(value) for value in values):
        del node[key]


def _fill(manifest: Manifest) -> None:
    filler = _FILLERS.get(str(manifest.get("kind")))
    spec = manifest.get("spec")
    if filler is not None:
        filler(manifest, spec if isinstance(spec, dict) else {})
    for pod in pod_specs(manifest):
        if manifest["kind"] not in ("Job", "CronJob"):
            pod.setdefault("restartPolicy", "Always")
        _fill_pod(pod)


def _deployment(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    if isinstance(strategy, dict):
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            _defaults(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")
    _drop(spec, "minReadySeconds", 0)
    _drop(spec, "paused", False)


def _stateful_set(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", updateStrategy={})
    strategy = spec["updateStrategy"]
    if isinstance(strategy, dict):
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            _defaults(strategy.setdefault("rollingUpdate", {}), partition=0)
    _defaults(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    _drop(spec, "minReadySeconds", 0)
    for claim in entries(get(spec, "volumeClaimTemplates")):
        _defaults(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _defaults(_mapping(claim, "spec"), volumeMode="Filesystem")


def _daemon_set(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, revisionHistoryLimit=10, updateStrategy={})
    if isinstance(spec["updateStrategy"], dict):
        spec["updateStrategy"].setdefault("type", "RollingUpdate")
        if spec["updateStrategy"]["type"] == "RollingUpdate":
            _defaults(spec["updateStrategy"].setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)
    _drop(spec, "minReadySeconds", 0)


def _job(_: Manifest, spec: dict[str, Any]) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _defaults(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False)
    _drop(spec, "manualSelector", False)


def _cron_job(manifest: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job = _mapping(spec, "jobTemplate", "spec")
    if job is not None:
        _job(manifest, job)


def _service(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    for port in entries(get(spec, "ports")):
        port.setdefault("protocol", "TCP")
        if "port" in port:
            port.setdefault("targetPort", port["port"])
    _drop(spec, "publishNotReadyAddresses", False)


def _network_policy(_: Manifest, spec: dict[str, Any]) -> None:
    spec["policyTypes"] = directions(spec)
    for key in ("ingress", "egress"):
        _drop(spec, key, [])
        for rule in entries(get(spec, key)):
            for inside in ("from", "to", "ports"):
                _drop(rule, inside, [])
            for port in entries(get(rule, "ports")):
                port.setdefault("protocol", "TCP")


def _claim(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, volumeMode="Filesystem")


def _volume(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")


def _binding(manifest: Manifest, _: dict[str, Any]) -> None:
    _defaults(_mapping(manifest, "roleRef"), apiGroup="rbac.authorization.k8s.io")
    for subject in entries(get(manifest, "subjects")):
        core = subject.get("kind") == "ServiceAccount"
        subject.setdefault("apiGroup", "" if core else "rbac.authorization.k8s.io")


def _secret(manifest: Manifest, _: dict[str, Any]) -> None:
    manifest.setdefault("type", "Opaque")
    written = manifest.pop("stringData", None)
    if isinstance(written, dict):
        texts = {key: value for key, value in written.items() if isinstance(value, str)}
        # The API server refuses what is no text.
        encoded = {**written, **{key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}}
        manifest["data"] = {**(manifest.get("data") or {}), **encoded}
    data = manifest.get("data")
    if isinstance(data, dict):
        manifest["data"] = {key: decoded(value) for key, value in data.items()}
    _drop(manifest, "data", {})
    _drop(manifest, "immutable", False)


def _config_map(manifest: Manifest, _: dict[str, Any]) -> None:
    data = manifest.get("binaryData")
    if isinstance(data, dict):
        manifest["binaryData"] = {key: decoded(value) for key, value in data.items()}
    for key in ("data", "binaryData"):
        _drop(manifest, key, {})
    _drop(manifest, "immutable", False)


def decoded(value: Any) -> Any:
    """The content of a base64 text, as text or as a digest of bytes; the value itself where it is no base64."""
    if not isinstance(value, str):
        return value
    try:
        content = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return value
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"


def _storage_class(manifest: Manifest, _: dict[str, Any]) -> None:
    _defaults(manifest, reclaimPolicy="Delete", volumeBindingMode="Immediate")
    _drop(manifest, "allowVolumeExpansion", False)


def _priority_class(manifest: Manifest, _: dict[str, Any]) -> None:
    _defaults(manifest, preemptionPolicy="PreemptLowerPriority")
    _drop(manifest, "globalDefault", False)


def _definition(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, conversion={"strategy": "None"})
    names = _mapping(spec, "names")
    if names is not None and isinstance(names.get("kind"), str):
        _defaults(names, listKind=f"{names['kind']}List", singular=names["kind"].lower())
    _drop(spec, "preserveUnknownFields", False)


def _scaler(_: Manifest, spec: dict[str, Any]) -> None:
    _defaults(spec, minReplicas=1)


_FILLERS: dict[str, Callable[[Manifest, dict[str, Any]], None]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "NetworkPolicy": _network_policy,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "Secret": _secret,
    "ConfigMap": _config_map,
    "StorageClass": _storage_class,
    "PriorityClass": _priority_class,
    "CustomResourceDefinition": _definition,
    "HorizontalPodAutoscaler": _scaler,
}


def _fill_pod(pod: dict[str, Any]) -> None:
    _defaults(
        pod,
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        enableServiceLinks=True,
    )
    _drop(pod, "securityContext", {})
    if "priorityClassName" not in pod:
        _drop(pod, "priority", 0)
        _drop(pod, "preemptionPolicy", "PreemptLowerPriority")
    for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        _drop(pod, key, False)
    if "serviceAccount" in pod and pod.get("serviceAccountName", pod["serviceAccount"]) == pod["serviceAccount"]:
        pod["serviceAccountName"] = pod.pop("serviceAccount")
    for key in ("containers", "initContainers"):
        for container in entries(get(pod, key)):
            _fill_container(container)
    for volume in entries(get(pod, "volumes")):
        for key in ("configMap", "secret", "projected", "downwardAPI"):
            _defaults(_mapping(volume, key), defaultMode=0o644)
        for source in entries(get(_mapping(volume, "projected"), "sources")):
            _defaults(_mapping(source, "serviceAccountToken"), expirationSeconds=3600)
        _fill_fields(entries(get(_mapping(volume, "downwardAPI"), "items")), "fieldRef")
        _defaults(_mapping(volume, "hostPath"), type="")


def _fill_fields(items: list[dict[str, Any]], *keys: str) -> None:
    for item in items:
        _defaults(_mapping(item, *keys), apiVersion="v1")


def _fill_container(container: dict[str, Any]) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    pulls_always = "@" not in image and tag in ("", "latest")
    _defaults(
        container,
        imagePullPolicy="Always" if pulls_always else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for key in ("resources", "securityContext"):
        _drop(container, key, {})
    for key in ("stdin", "stdinOnce", "tty"):
        _drop(container, key, False)
    for port in entries(get(container, "ports")):
        port.setdefault("protocol", "TCP")
    _fill_fields(entries(get(container, "env")), "valueFrom", "fieldRef")
    for item in entries(get(container, "env")):
        if item.get("value") == "":
            del item["value"]
    for mount in entries(get(container, "volumeMounts")):
        _drop(mount, "readOnly", False)
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = _mapping(container, key)
        if probe is not None:
            _defaults(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _drop(probe, "initialDelaySeconds", 0)
            _defaults(_mapping(probe, "httpGet"), scheme="HTTP", path="/")
            _defaults(_mapping(probe, "grpc"), service="")
    for hook in (_mapping(container, "lifecycle") or {}).values():
        _defaults(_mapping(hook, "httpGet"), scheme="HTTP", path="/")
    limits = _mapping(container, "resources", "limits")
    resources = _mapping(container, "resources")
    if limits and resources is not None and resources.get("requests", {}) is not None:
        _defaults(resources.setdefault("requests", {}), **limits)


def generated_hash(manifest: Manifest) -> str:
    """The suffix that Kustomize gives to the name of a generated ConfigMap or Secret with this content."""
    content: dict[str, Any] = {"kind": manifest["kind"], "name": ""}
    if manifest["kind"] == "Secret":
        content["type"] = manifest.get("type", "")
    content["data"] = manifest.get("data", "")
    for key in ("binaryData", "stringData"):
        if isinstance(manifest.get(key), dict):
            content[key] = manifest[key]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return digest.translate(str.maketrans("013ae", "ghkmt"))

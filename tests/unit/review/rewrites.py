"""Random changes of manifests: mutations, which change the cluster, and neutral rewrites, which do not."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import yaml

from homelab_mlops.manifests.objects import Manifest

Place = tuple[Any, Any]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
# What the API server writes where a manifest says nothing: removing one of these changes nothing.
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "apiGroup": ("rbac.authorization.k8s.io", ""),
    "apiVersion": ("v1",),
    "automountServiceAccountToken": (True,),
    "backoffLimit": (6,),
    "concurrencyPolicy": ("Allow",),
    "defaultMode": (0o644, 420),
    "dnsPolicy": ("ClusterFirst",),
    "failureThreshold": (3,),
    "imagePullPolicy": ("IfNotPresent",),
    "initialDelaySeconds": (0,),
    "path": ("/",),
    "periodSeconds": (10,),
    "podManagementPolicy": ("OrderedReady",),
    "progressDeadlineSeconds": (600,),
    "protocol": ("TCP",),
    "readOnly": (False,),
    "replicas": (1,),
    "restartPolicy": ("Always",),
    "revisionHistoryLimit": (10,),
    "scheme": ("HTTP",),
    "successThreshold": (1,),
    "suspend": (False,),
    "terminationGracePeriodSeconds": (30,),
    "timeoutSeconds": (1,),
    "type": ("ClusterIP", "RollingUpdate", "Opaque"),
    "volumeMode": ("Filesystem",),
}
SETS = {
    "accessModes", "apiGroups", "containers", "drop", "egress", "env", "from", "ingress", "ports", "resources",
    "rules", "subjects", "to", "tolerations", "verbs", "volumeMounts", "volumes",
}  # fmt: skip


def places(node: Any) -> Iterator[Place]:
    """Every scalar and every entry: its parent and its key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from places(value)


def mutate(manifest: Manifest, rng: random.Random) -> str | None:
    """Changes one thing that the cluster distinguishes, and returns it in words; None where there is nothing to do."""
    parts = [manifest[key] for key in manifest if key not in ("apiVersion", "kind", "metadata")]
    parts += [manifest["metadata"][key] for key in ("labels", "annotations") if manifest["metadata"].get(key)]
    found = [place for part in parts for place in places(part)]
    if not found:
        return None
    parent, key = rng.choice(found)
    value = parent[key]
    match value:
        case bool():
            parent[key] = not value
        case int() | float():
            parent[key] = value + rng.choice([1, 7, 100])
        case str() if rng.random() < 0.7:
            parent[key] = f"{value}{rng.choice(['x', '0', '-old', ' '])}" if value else "x"
        case dict() if value and rng.random() < 0.5:
            value[f"added{rng.randrange(99)}"] = "x"
        case list() if value and rng.random() < 0.5:
            value.append(copy.deepcopy(value[0]) if isinstance(value[0], dict) else "added")
            if isinstance(value[-1], dict):
                value[-1]["name"] = "added"
        case _ if _means_nothing(parent, key, value):
            return None
        case _:
            del parent[key]
    return f"{key}: {value!r} → {parent.get(key, 'removed') if isinstance(parent, dict) else parent!r}"


def _means_nothing(parent: Any, key: Any, value: Any) -> bool:
    """Whether the API server fills in the same where ``key`` is removed, or a copy of it stands beside it."""
    if value in ({}, [], "", None) or isinstance(value, dict):
        return True
    if any(type(value) is type(default) and value == default for default in DEFAULTS.get(str(key), ())):
        return True
    if isinstance(parent, list):
        return parent.count(value) > 1
    if key == "policyTypes":
        return bool(set(value) == {"Ingress", *(["Egress"] if parent.get("egress") else [])})
    # Kustomize builds no binding whose subject has no name.
    return bool(key == "name" or (key == "targetPort" and parent.get("port") == value))


def neutral(manifest: Manifest, rng: random.Random) -> Manifest:
    """The same object for the cluster, written otherwise."""
    written = copy.deepcopy(manifest)
    for rewrite in rng.sample(REWRITES, rng.randint(1, len(REWRITES))):
        rewrite(written, rng)
    shuffled: Manifest = _shuffled(written, rng)
    return shuffled


def _shuffled(node: Any, rng: random.Random) -> Any:
    if isinstance(node, dict):
        items = list(node.items())
        rng.shuffle(items)
        return {key: _shuffled(value, rng) for key, value in items}
    return [_shuffled(item, rng) for item in node] if isinstance(node, list) else node


def _reorder(manifest: Manifest, rng: random.Random) -> None:
    if manifest["kind"] in ("Ingress", "CustomResourceDefinition", "ConfigMap", "Secret"):
        return
    for parent, key in list(places(manifest)):
        items = parent[key]
        if key in SETS and isinstance(items, list) and "$(" not in str(items):
            rng.shuffle(items)


def _requantify(manifest: Manifest, rng: random.Random) -> None:
    units = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
    for parent, key in list(places(manifest)):
        if key in ("requests", "limits") and isinstance(parent[key], dict):
            for name, value in parent[key].items():
                text = str(value)
                if text[-2:] in units and text[:-2].isdigit():
                    number = int(text[:-2]) * units[text[-2:]]
                    parent[key][name] = rng.choice([number, str(number), f"{number * 1000}m", f"{number}e0"])
                elif text.endswith("m") and text[:-1].isdigit():
                    parent[key][name] = rng.choice([f"{int(text[:-1]) * 1000}u", f"{Decimal(text[:-1]) / 1000}"])


def _write_defaults(manifest: Manifest, rng: random.Random) -> None:
    spec = manifest.get("spec") or {}
    for key, value in DEFAULTS_OF_KIND.get(manifest["kind"], {}).items():
        if rng.random() < 0.7:
            spec.setdefault(key, copy.deepcopy(value))
    if manifest["kind"] == "Job" and not {"completions", "parallelism"} & set(spec):
        spec |= {"completions": 1, "parallelism": 1}
    if manifest["kind"] == "Service":
        for port in spec.get("ports") or []:
            port.setdefault("targetPort", port["port"])
    if manifest["kind"] in WORKLOADS:
        template = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
        _write_defaults_of_pod(template["template"]["spec"], rng)
    if manifest["kind"] in (*WORKLOADS, "Service", "NetworkPolicy"):
        for parent, key in list(places(spec)):
            if key == "ports" and isinstance(parent[key], list):
                for port in parent[key]:
                    port.setdefault("protocol", "TCP")
    for subject in manifest.get("subjects") or []:
        if subject["kind"] == "ServiceAccount":
            subject.setdefault("apiGroup", "")
    manifest["metadata"].setdefault("creationTimestamp", None)
    if manifest["kind"] in (*WORKLOADS, "Service"):
        manifest.setdefault("status", {})


DEFAULTS_OF_KIND: dict[str, dict[str, Any]] = {
    "Deployment": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "StatefulSet": {"replicas": 1, "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate"}},
    "DaemonSet": {"revisionHistoryLimit": 10},
    "Job": {"backoffLimit": 6, "suspend": False},
    "CronJob": {"concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3},
    "Service": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
    "PersistentVolumeClaim": {"volumeMode": "Filesystem"},
}


def _write_defaults_of_pod(pod: dict[str, Any], rng: random.Random) -> None:
    for key, value in {
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "enableServiceLinks": True,
        "hostNetwork": False,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
    }.items():
        if rng.random() < 0.5:
            pod.setdefault(key, value)
    if "serviceAccountName" in pod:
        pod.setdefault("serviceAccount", pod["serviceAccountName"])
    for volume in pod.get("volumes") or []:
        for kind in ("configMap", "secret"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 420)
    for container in [*pod["containers"], *(pod.get("initContainers") or [])]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        for mount in container.get("volumeMounts") or []:
            mount.setdefault("readOnly", False)
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            probe = container.get(name)
            if probe:
                for key, value in {"failureThreshold": 3, "timeoutSeconds": 1, "periodSeconds": 10}.items():
                    probe.setdefault(key, value)
                if "httpGet" in probe:
                    probe["httpGet"].setdefault("scheme", "HTTP")


REWRITES: list[Callable[[Manifest, random.Random], None]] = [_reorder, _requantify, _write_defaults]


def as_text(manifest: Manifest, rng: random.Random) -> str:
    """The object as YAML: with anchors, comments, another indentation and other quotes."""
    shared: dict[str, Any] = {}
    if rng.random() < 0.5:
        manifest = _shared(manifest, shared)

    class Dumper(yaml.CSafeDumper):
        """Of this text alone."""

    Dumper.add_representer(str, _quoted(rng))
    text = yaml.dump(manifest, Dumper=Dumper, sort_keys=False, indent=rng.choice([2, 4]), width=10_000)
    return f"# {rng.random()}\n{text}# the end\n"


def _shared(node: Any, seen: dict[str, Any]) -> Any:
    """The same with equal mappings and lists made one, so that they are written as anchors."""
    if isinstance(node, dict):
        node = {key: _shared(value, seen) for key, value in node.items()}
    elif isinstance(node, list):
        node = [_shared(value, seen) for value in node]
    else:
        return node
    return seen.setdefault(repr(node), node) if node else node


def _quoted(rng: random.Random) -> Callable[[yaml.CSafeDumper, str], yaml.ScalarNode]:
    def represent(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else rng.choice([None, '"', "'"])
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    return represent

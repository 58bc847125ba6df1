"""What of a change is dangerous: one table of rules, each with what it looks for, why, and what to do."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import product
from typing import Any, Literal

from homelab_mlops.gitops.policies import MEMORY_BUDGET_MIB
from homelab_mlops.gitops.render import Manifest
from homelab_mlops.review.compare import BOOTSTRAP, MISSING, Change, everything, sync_options
from homelab_mlops.review.masking import is_reference, is_secret_name, is_secret_value, mask_text
from homelab_mlops.review.normalise import group, is_built_in, pod_specs, quantity
from homelab_mlops.review.sources import Side
from homelab_mlops.review.trees import changed

Level = Literal["note", "warning", "danger"]
LEVELS: tuple[Level, ...] = ("note", "warning", "danger")
Said = Iterator[tuple[str, str]]
"""What a rule finds: the object that it is about, and what is so."""


@dataclass
class Review:
    """All that a rule may look at."""

    base: Side
    head: Side
    changes: list[Change]

    def of(self, *kinds: str) -> Iterator[Change]:
        """The changes of the given kinds that reach the cluster."""
        return (change for change in self.changes if change.id.kind in kinds and change.action != "orphaned")

    @cached_property
    def totals(self) -> tuple[Totals, Totals]:
        """What all Applications request, before and after."""
        return _totals(self.base, self.head), _totals(self.head, self.base)

    @cached_property
    def files(self) -> list[str]:
        """The files that differ."""
        return changed(self.base.tree, self.head.tree)

    @cached_property
    def new_namespaces(self) -> set[str]:
        return {change.id.name for change in self.of("Namespace") if change.action == "added"}


@dataclass(frozen=True)
class Flag:
    """One finding of a rule."""

    level: Level
    rule: str
    where: str
    what: str
    reason: str
    action: str


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    name: str
    level: Level
    looks_for: str
    reason: str
    action: str
    find: Callable[[Review], Said]


def flags(review: Review) -> list[Flag]:
    """Everything that the rules find, the most dangerous first."""
    found = [
        Flag(rule.level, rule.name, mask_text(where), mask_text(what), rule.reason, rule.action)
        for rule in RULES
        for where, what in dict.fromkeys(rule.find(review))
    ]
    return sorted(found, key=lambda flag: -LEVELS.index(flag.level))


# What the rules share.


def _get(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _entries(node: Any) -> list[dict[str, Any]]:
    return [item for item in node if isinstance(item, dict)] if isinstance(node, list) else []


def _strings(node: Any) -> list[str]:
    return [str(item) for item in node] if isinstance(node, list) else []


@dataclass(frozen=True)
class Container:
    """A container with the pod around it."""

    name: str
    spec: dict[str, Any]
    pod: dict[str, Any]
    starts_first: bool = False


def containers(manifest: Manifest) -> Iterator[Container]:
    """The containers of a workload or of a workflow's templates."""
    if group(manifest) == "argoproj.io" and str(manifest.get("kind", "")).endswith(("Workflow", "WorkflowTemplate")):
        spec = manifest.get("spec") or {}
        spec = spec.get("workflowSpec") or spec
        defaults = _get(spec, "templateDefaults", "container") or {}
        for template in _entries(spec.get("templates")):
            pod = {**spec, **template}
            for own in (template.get("container"), template.get("script")):
                if isinstance(own, dict):
                    yield Container(str(template.get("name")), {**defaults, **own}, pod)
            for key in ("initContainers", "sidecars"):
                for own in _entries(template.get(key)):
                    yield Container(f"{template.get('name')}/{own.get('name')}", own, pod)
        if defaults and not spec.get("templates"):
            yield Container("defaults", defaults, spec)
        return
    for pod in pod_specs(manifest):
        for key in ("containers", "initContainers", "ephemeralContainers"):
            for own in _entries(pod.get(key)):
                yield Container(str(own.get("name")), own, pod, key == "initContainers")


def _paired(change: Change) -> Iterator[tuple[Container | None, Container]]:
    """Each container after the change, with itself before."""
    before = {item.name: item for item in containers(change.old)}
    for item in containers(change.new):
        yield before.get(item.name), item


def _fields(change: Change, *prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for item in change.fields:
        if item.path[: len(prefix)] == prefix:
            yield item.where, item.before, item.after


def _say(value: Any) -> str:
    return "nothing" if value is MISSING or value is None else str(value)


# Data and deletion.

DATA = ("PersistentVolumeClaim", "PersistentVolume", "StatefulSet", "Namespace", "CustomResourceDefinition")


def _pruned_data(review: Review) -> Said:
    for change in review.of(*DATA):
        if change.action == "removed":
            yield str(change.id), "Argo CD deletes it, with what it holds"


def _cascade(review: Review) -> Said:
    for change in review.of("Application", "AppProject"):
        gone = review.base.sources.get(change.id.name)
        if change.action == "removed" and change.id.kind == "Application" and gone is not None and gone.cascades:
            yield str(change.id), f"its finalizer deletes its {len(gone.documents)} objects"


def _deleted(review: Review) -> Said:
    quiet = (*DATA, "Application", "ConfigMap", "NetworkPolicy")
    for change in review.changes:
        if change.action == "removed" and change.id.kind not in quiet:
            yield str(change.id), "Argo CD deletes it"


def _left_behind(review: Review) -> Said:
    reasons: dict[str, list[str]] = defaultdict(list)
    for change in review.changes:
        if change.action == "orphaned":
            reasons[change.why].append(str(change.id))
    for why, ids in reasons.items():
        yield ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else ""), f"not in git any more: {why}"


def _protection(review: Review) -> Said:
    for change in review.changes:
        if change.action != "changed":
            continue
        lost = {"Prune=false", "Delete=false", "Prune=confirm", "Delete=confirm"} & (
            sync_options(change.old) - sync_options(change.new)
        )
        if lost:
            yield str(change.id), f"it loses {', '.join(sorted(lost))}"
    for change in review.of(*DATA[:1]):
        if change.action == "changed":
            for where, _, after in _fields(change, "metadata", "finalizers"):
                if after is MISSING:
                    yield str(change.id), f"{where} goes"
    for change in review.of("Application"):
        if change.action != "removed" and _cascades(change.new) and not _cascades(change.old):
            yield str(change.id), "it gets a finalizer: deleting it deletes all its objects"


def _cascades(manifest: Manifest) -> bool:
    return any("resources-finalizer" in item for item in _strings(_get(manifest, "metadata", "finalizers")))


# What will fail to apply.

_STATEFUL_SET_MAY = {
    "replicas", "ordinals", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
    "revisionHistoryLimit",
}  # fmt: skip


def _immutable(review: Review) -> Said:
    for change in review.changes:
        if change.action != "changed" or not is_built_in(change.new):
            continue
        if _is_replaced(change):
            continue
        for item in change.fields:
            if _may_not_change(change, item.path):
                yield str(change.id), f"{item.where} cannot change: {_brief(item.shown)}"


def _is_replaced(change: Change) -> bool:
    """Whether Argo CD deletes and creates it instead of changing it."""
    annotations = _get(change.new, "metadata", "annotations") or {}
    deletes = str(annotations.get("argocd.argoproj.io/hook-delete-policy", "BeforeHookCreation"))
    hook = "argocd.argoproj.io/hook" in annotations and "BeforeHookCreation" in deletes
    return hook or bool({"Replace=true", "Force=true"} & sync_options(change.new))


def _may_not_change(change: Change, path: tuple[str, ...]) -> bool:
    spec = path[1] if len(path) > 1 and path[0] == "spec" else ""
    match change.id.kind:
        case "Deployment" | "DaemonSet" | "ReplicaSet":
            return spec == "selector"
        case "StatefulSet":
            return bool(spec) and spec not in _STATEFUL_SET_MAY
        case "Job":
            return spec in ("selector", "template", "completions", "completionMode", "manualSelector")
        case "Service":
            return spec in ("clusterIP", "clusterIPs") and change.old.get("spec", {}).get("type") != "ExternalName"
        case "PersistentVolumeClaim":
            if path[:4] == ("spec", "resources", "requests", "storage"):
                one, other = (_storage(side) for side in (change.old, change.new))
                return one is not None and other is not None and other < one
            return bool(spec) and spec != "volumeAttributesClassName"
        case "PersistentVolume":
            return spec in (
                "csi",
                "hostPath",
                "local",
                "nfs",
                "iscsi",
                "storageClassName",
                "nodeAffinity",
                "volumeMode",
            )
        case "StorageClass":
            return path[0] in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")
        case "RoleBinding" | "ClusterRoleBinding":
            return path[0] == "roleRef"
        case "ConfigMap" | "Secret":
            kept = path[0] == "type" and change.id.kind == "Secret"
            return kept or (change.old.get("immutable") is True and path[0] in ("data", "binaryData", "immutable"))
        case "CustomResourceDefinition":
            return path[:2] in (("spec", "scope"), ("spec", "group")) or path[:3] == ("spec", "names", "kind")
        case "PriorityClass":
            return path[0] in ("value", "preemptionPolicy")
        case "IngressClass":
            return path[:2] == ("spec", "controller")
    return False


def _storage(manifest: Manifest) -> Decimal | None:
    value = _get(manifest, "spec", "resources", "requests", "storage")
    return quantity(str(value)) if value is not None else None


def _brief(shown: tuple[Any, Any]) -> str:
    texts = ["nothing" if value is MISSING else json.dumps(value, ensure_ascii=False, default=str) for value in shown]
    texts = [f"{text[:80]}…" if len(text) > 80 else text.strip('"') for text in texts]
    return f"{texts[0]} → {texts[1]}"


def _selects_itself(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        wanted = _get(change.new, "spec", "selector", "matchLabels") or {}
        labels = _get(change.new, "spec", "template", "metadata", "labels") or {}
        missing = [f"{key}={value}" for key, value in wanted.items() if labels.get(key) != value]
        if missing and change.new:
            yield str(change.id), f"its pods do not have the label {', '.join(missing)} that it selects"


def _grows(review: Review) -> Said:
    for change in review.of("PersistentVolumeClaim"):
        one, other = _storage(change.old), _storage(change.new)
        if change.action == "changed" and one is not None and other is not None and other > one:
            written = [_get(side, "spec", "resources", "requests", "storage") for side in (change.old, change.new)]
            name = _get(change.new, "spec", "storageClassName") or "default"
            yield str(change.id), f"{written[0]} → {written[1]}, of the StorageClass {name}"


# Rights.

_STRONG_VERBS = {"*", "escalate", "bind", "impersonate"}
_STRONG_RESOURCES = {
    "*", "secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes/proxy",
    "roles", "rolebindings", "clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
}  # fmt: skip
_STRONG_ROLES = {"cluster-admin", "admin", "edit"}
Right = tuple[str, str, str, str]


def _rights(manifest: Manifest) -> set[Right]:
    found: set[Right] = set()
    for rule in _entries(manifest.get("rules")):
        names = _strings(rule.get("resourceNames")) or [""]
        found |= set(
            product(
                _strings(rule.get("apiGroups")), _strings(rule.get("resources")), _strings(rule.get("verbs")), names
            )
        )
        found |= {
            ("url", url, verb, "")
            for url in _strings(rule.get("nonResourceURLs"))
            for verb in _strings(rule.get("verbs"))
        }
    return found


def _covers(right: Right, other: Right) -> bool:
    parts = all(one in ("*", two) for one, two in zip(right[:3], other[:3], strict=True))
    subresource = right[1] == f"*/{other[1].partition('/')[2]}" and "/" in other[1]
    return (parts or (subresource and right[0] in ("*", other[0]) and right[2] in ("*", other[2]))) and right[3] in (
        "",
        other[3],
    )


def _new_rights(change: Change) -> list[Right]:
    before = _rights(change.old)
    return sorted(right for right in _rights(change.new) if not any(_covers(old, right) for old in before))


def _is_strong(right: Right) -> bool:
    writes = right[2] not in ("get", "list", "watch")
    resource = right[1]
    return (
        right[2] in _STRONG_VERBS
        or right[0] == "*"
        or (resource in _STRONG_RESOURCES and (writes or (resource in ("*", "secrets") and not right[3])))
    )


def _say_rights(rights: list[Right]) -> str:
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for api, resource, verb, name in rights:
        what = f"{resource}.{api}" if api and api != "url" else resource
        texts[what, name].append(verb)
    said = [f"{', '.join(verbs)} of {what}{f' {name}' if name else ''}" for (what, name), verbs in texts.items()]
    return "; ".join(said[:6]) + (f"; and {len(said) - 6} more" if len(said) > 6 else "")


def _rbac(review: Review, strong: bool) -> Said:
    for change in review.of("Role", "ClusterRole"):
        if change.action != "removed":
            new = [right for right in _new_rights(change) if _is_strong(right) == strong]
            if new:
                yield str(change.id), f"it now allows {_say_rights(new)}"
            if not strong and change.new.get("aggregationRule") not in (None, change.old.get("aggregationRule")):
                yield str(change.id), "it gathers the rights of other roles"
    for change in review.of("RoleBinding", "ClusterRoleBinding"):
        if change.action == "removed":
            continue
        role = _get(change.new, "roleRef", "name")
        wide = role in _STRONG_ROLES
        before = (
            [] if _get(change.old, "roleRef") != _get(change.new, "roleRef") else _entries(change.old.get("subjects"))
        )
        for subject in _entries(change.new.get("subjects")):
            crowd = subject.get("kind") == "Group" and str(subject.get("name")).startswith("system:")
            if subject not in before and (wide or crowd) == strong:
                yield str(change.id), f"{subject.get('kind')} {subject.get('name')} gets {role}"


def _project(review: Review) -> Said:
    keys = ("sourceRepos", "destinations", "clusterResourceWhitelist", "namespaceResourceWhitelist", "sourceNamespaces")
    for change in review.of("AppProject"):
        if change.action == "removed":
            continue
        spec, old = change.new.get("spec") or {}, change.old.get("spec") or {}
        for key in keys:
            for item in spec.get(key) or []:
                if item not in (old.get(key) or []):
                    yield str(change.id), f"{key} now has {_compact(item)}"
        for key in ("clusterResourceBlacklist", "namespaceResourceBlacklist"):
            for item in old.get(key) or []:
                if item not in (spec.get(key) or []):
                    yield str(change.id), f"{key} no longer has {_compact(item)}"
        if old.get("namespaceResourceWhitelist") and not spec.get("namespaceResourceWhitelist"):
            yield str(change.id), "namespaceResourceWhitelist goes: every kind is allowed"


def _compact(item: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in item.items()) if isinstance(item, dict) else str(item)


# Network.


def _network(review: Review) -> Said:
    for change in review.of("NetworkPolicy"):
        old, new = change.old.get("spec") or {}, change.new.get("spec") or {}
        where = str(change.id)
        if change.action == "removed":
            yield where, "what it selects is no longer restricted by it"
            continue
        for direction, key in (("Ingress", "from"), ("Egress", "to")):
            opened = _opened(old, new, direction, key)
            if change.action == "added":
                if change.id.namespace in review.new_namespaces:
                    continue
                if opened:
                    yield where, f"{direction.lower()}: {'; '.join(opened[:4])}"
                continue
            if direction in _strings(old.get("policyTypes")) and direction not in _strings(new.get("policyTypes")):
                yield where, f"{direction.lower()} is no longer restricted"
            elif opened:
                yield where, f"{direction.lower()}: {'; '.join(opened[:4])}"
        if change.action == "changed" and old.get("podSelector") != new.get("podSelector"):
            yield where, f"it selects other pods: {_brief((old.get('podSelector'), new.get('podSelector')))}"


def _opened(old: dict[str, Any], new: dict[str, Any], direction: str, key: str) -> list[str]:
    """What the new policy admits that the old one did not."""
    if direction not in _strings(new.get("policyTypes")):
        return []
    before = _admitted(old, direction.lower(), key) if direction in _strings(old.get("policyTypes")) else []
    if old and direction not in _strings(old.get("policyTypes")):
        return []
    return [
        _say_atom(atom)
        for atom in _admitted(new, direction.lower(), key)
        if not any(_admits(known, atom) for known in before)
    ]


Atom = tuple[dict[str, Any] | None, dict[str, Any] | None]


def _admitted(spec: dict[str, Any], direction: str, key: str) -> list[Atom]:
    found: list[Atom] = []
    for rule in spec.get(direction) or []:
        peers: list[dict[str, Any] | None] = [*_entries((rule or {}).get(key))] or [None]
        ports: list[dict[str, Any] | None] = [*_entries((rule or {}).get("ports"))] or [None]
        found += list(product(peers, ports))
    return found


def _admits(known: Atom, atom: Atom) -> bool:
    return _peer_covers(known[0], atom[0]) and _port_covers(known[1], atom[1])


def _peer_covers(known: dict[str, Any] | None, peer: dict[str, Any] | None) -> bool:
    if known is None or known == peer:
        return True
    if peer is None:
        return False
    if "ipBlock" in known and "ipBlock" in peer:
        one, other = known["ipBlock"], peer["ipBlock"]
        try:
            inside = _subnet(other["cidr"], one["cidr"])
            kept = all(any(_subnet(gap, new) for new in other.get("except") or []) for gap in one.get("except") or [])
        except (ValueError, KeyError, TypeError):
            return False
        return inside and kept
    if "ipBlock" in known or "ipBlock" in peer:
        return False
    # More labels select fewer pods; no namespaceSelector means the policy's own namespace.
    if ("namespaceSelector" in known) != ("namespaceSelector" in peer):
        return False
    return all(_selector_covers(known.get(key), peer.get(key)) for key in ("namespaceSelector", "podSelector"))


def _subnet(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner, strict=False), ipaddress.ip_network(outer, strict=False)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def _selector_covers(known: Any, selector: Any) -> bool:
    if not known:
        return True
    if not isinstance(selector, dict):
        return False
    labels = known.get("matchLabels") or {}
    own = selector.get("matchLabels") or {}
    expressions = known.get("matchExpressions") or []
    return all(own.get(key) == value for key, value in labels.items()) and all(
        item in (selector.get("matchExpressions") or []) for item in expressions
    )


def _port_covers(known: dict[str, Any] | None, port: dict[str, Any] | None) -> bool:
    if known is None or known == port:
        return True
    if port is None or known.get("protocol") != port.get("protocol"):
        return False
    if "port" not in known:
        return True
    first, last = (item.get("port") for item in (known, port))
    until, end = known.get("endPort", first), port.get("endPort", last)
    if isinstance(first, int) and isinstance(last, int) and isinstance(until, int) and isinstance(end, int):
        return first <= last and end <= until
    return False


def _say_atom(atom: Atom) -> str:
    peer, port = atom
    who = "anyone" if peer is None else _say_peer(peer)
    if port is None:
        return f"{who}, any port"
    end = f"-{port['endPort']}" if "endPort" in port else ""
    where = f"port {port.get('port', 'any')}{end}"
    return f"{who}, {where}"


def _say_peer(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"].get("cidr"))
    parts = []
    for key, word in (("podSelector", "pods"), ("namespaceSelector", "namespaces")):
        if key in peer:
            labels = (peer[key] or {}).get("matchLabels") or {}
            named = [str(value) for value in labels.values()]
            parts.append(
                f"{word} {', '.join(named)}"
                if named
                else f"{word} {'of any label' if not peer[key] else 'by expression'}"
            )
    return " in ".join(parts)


def _exposed(review: Review) -> Said:
    for change in review.of("Service"):
        kind, old = _get(change.new, "spec", "type"), _get(change.old, "spec", "type")
        if change.action != "removed" and kind in ("NodePort", "LoadBalancer") and old != kind:
            yield str(change.id), f"its type is {kind}"
        elif change.action == "changed" and (_get(change.new, "spec", "externalIPs") or []) != (
            _get(change.old, "spec", "externalIPs") or []
        ):
            yield str(change.id), "its externalIPs change"
    for change in review.of("Ingress"):
        old = {str(item.get("host", "any host")) for item in _entries(_get(change.old, "spec", "rules"))}
        new = {str(item.get("host", "any host")) for item in _entries(_get(change.new, "spec", "rules"))}
        if change.action != "removed" and new - old:
            yield str(change.id), f"it answers for {', '.join(sorted(new - old))}"
        if _get(change.old, "spec", "tls") and change.new and not _get(change.new, "spec", "tls"):
            yield str(change.id), "it no longer has TLS"


# Security contexts.

_POD_SECURITY = {"privileged": 0, "baseline": 1, "restricted": 2}


def _weaknesses(item: Container) -> dict[str, str]:
    """What a container may that a hardened one may not, by the setting."""
    own, pod = item.spec.get("securityContext") or {}, item.pod.get("securityContext") or {}
    effective = {**pod, **own}
    found = {}
    if effective.get("runAsNonRoot") is not True:
        found["runAsNonRoot"] = "it may run as root (runAsNonRoot)"
    if effective.get("runAsUser") == 0:
        found["runAsUser"] = "it runs as root (runAsUser 0)"
    if effective.get("runAsGroup") == 0:
        found["runAsGroup"] = "it runs in the group root"
    if own.get("privileged") is True:
        found["privileged"] = "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        found["allowPrivilegeEscalation"] = "its processes may gain privileges (allowPrivilegeEscalation)"
    if own.get("readOnlyRootFilesystem") is not True:
        found["readOnlyRootFilesystem"] = "its root file system is writable"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in _strings(capabilities.get("drop")):
        found["drop"] = "not all capabilities are dropped"
    for name in _strings(capabilities.get("add")):
        found[f"add {name}"] = f"it has the capability {name}"
    profile = (effective.get("seccompProfile") or {}).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        found["seccomp"] = "its system calls are not filtered (seccompProfile)"
    if own.get("procMount") == "Unmasked":
        found["procMount"] = "/proc is unmasked"
    for key in ("appArmorProfile", "seLinuxOptions"):
        if (effective.get(key) or {}).get("type") in ("Unconfined", "spc_t"):
            found[key] = f"{key} is {(effective.get(key) or {}).get('type')}"
    for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"):
        if item.pod.get(key) is True and key != "hostUsers":
            found[key] = f"it shares the host's or its neighbours' {key.removeprefix('host')}"
    for port in _entries(item.spec.get("ports")):
        if port.get("hostPort"):
            found[f"hostPort {port['hostPort']}"] = f"it takes the host's port {port['hostPort']}"
    for volume in _entries(item.pod.get("volumes")):
        if "hostPath" in volume:
            path = _get(volume, "hostPath", "path")
            found[f"hostPath {path}"] = f"it mounts {path} of the host"
    return found


_NEVER = ("privileged", "host", "add ", "runAsUser", "procMount")


def _security(review: Review, strong: bool) -> Said:
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        for was, now in _paired(change):
            known = _weaknesses(was) if was else {}
            for key, text in _weaknesses(now).items():
                if key not in known and key.startswith(_NEVER) == strong:
                    yield f"{change.id} container {now.name}", text
        if not strong:
            yield from _service_account_token(change)
        if change.id.kind == "Namespace":
            yield from _pod_security(change, strong)


def _service_account_token(change: Change) -> Said:
    for old, new in zip(pod_specs(change.old), pod_specs(change.new), strict=False):
        if old.get("automountServiceAccountToken") is False and new.get("automountServiceAccountToken") is not False:
            yield str(change.id), "its pods get a token of the API server"
    held_back = change.id.kind == "ServiceAccount" and change.old.get("automountServiceAccountToken") is False
    if held_back and change.new and change.new.get("automountServiceAccountToken") is not False:
        yield str(change.id), "its pods get a token of the API server"


def _pod_security(change: Change, strong: bool) -> Said:
    old, new = ((_get(side, "metadata", "labels") or {}) for side in (change.old, change.new))
    for mode in ("enforce", "audit", "warn"):
        label = f"pod-security.kubernetes.io/{mode}"
        before, after = _POD_SECURITY.get(str(old.get(label)), 0), _POD_SECURITY.get(str(new.get(label)), 0)
        if change.action == "changed" and after < before and (mode == "enforce") == strong:
            yield str(change.id), f"{label}: {old.get(label)} → {new.get(label) or 'none'}"


# Secrets.


def _plain_secrets(review: Review) -> Said:
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        if change.id.kind == "Secret" and group(change.new) == "":
            values = [value for value in (change.new.get("data") or {}).values() if value not in ("", None)]
            if values and (change.new.get("data") != change.old.get("data")):
                yield str(change.id), "its values lie in git in plain text"
            continue
        for where, value in _new_leaves(change):
            name = where[-1]
            if is_secret_value(value) or (is_secret_name(name) and not is_reference(value) and _holds_values(where)):
                yield str(change.id), f"{'.'.join(where)} looks like a credential"


def _holds_values(where: tuple[str, ...]) -> bool:
    return "env" in where or "data" in where or "stringData" in where or "parameters" in where


def _new_leaves(change: Change) -> Iterator[tuple[tuple[str, ...], Any]]:
    old = set(_leaves((), change.old))
    yield from (leaf for leaf in _leaves((), change.new) if leaf not in old and isinstance(leaf[1], str))


def _leaves(path: tuple[str, ...], node: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and isinstance(node.get("value"), str):
            yield (*path, node["name"]), node["value"]
        for key, value in node.items():
            if str(key) not in ("encryptedData", "openAPIV3Schema"):
                yield from _leaves((*path, str(key)), value)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(path, value)
    else:
        yield path, node


def _sealed_elsewhere(review: Review) -> Said:
    ciphertexts = {
        value: change.old["metadata"]
        for change in review.changes
        if change.id.kind == "SealedSecret" and change.old
        for value in (_get(change.old, "spec", "encryptedData") or {}).values()
    }
    for change in review.of("SealedSecret"):
        if not change.new:
            continue
        metadata = change.new["metadata"]
        template = _get(change.new, "spec", "template", "metadata") or {}
        for key in ("name", "namespace"):
            if key in template and template[key] != metadata.get(key):
                yield str(change.id), f"its {key} is {metadata.get(key)}, that of its Secret {template[key]}"
        moved = {
            str(ciphertexts[value].get("namespace")) + "/" + str(ciphertexts[value].get("name"))
            for value in (_get(change.new, "spec", "encryptedData") or {}).values()
            if value and value in ciphertexts
        } - {f"{change.id.namespace}/{change.id.name}"}
        if moved and not _scope(change.new):
            yield str(change.id), f"it holds what was sealed for {', '.join(sorted(moved))}"


def _scope(manifest: Manifest) -> str:
    annotations = _get(manifest, "metadata", "annotations") or {}
    names = [
        name
        for name in ("namespace-wide", "cluster-wide")
        if str(annotations.get(f"sealedsecrets.bitnami.com/{name}")) == "true"
    ]
    return names[-1] if names else ""


def _sealed_wider(review: Review) -> Said:
    for change in review.of("SealedSecret"):
        scope, old = _scope(change.new), _scope(change.old)
        if scope and scope != old and old != "cluster-wide":
            yield str(change.id), f"it may be unsealed {scope}"
        sealed, before = ((_get(side, "spec", "encryptedData") or {}) for side in (change.new, change.old))
        empty = [key for key, value in sealed.items() if not value and before.get(key, "absent")]
        if empty:
            more = f" and {len(empty) - 4} more" if len(empty) > 4 else ""
            yield str(change.id), f"nothing is sealed for {', '.join(empty[:4])}{more}"


# Images.

_MOVING = re.compile(
    r"^(latest|main|master|stable|edge|nightly|dev|develop|canary|rolling|lts|beta|alpha|rc|current|head|testing|snapshot)([._-][a-z]+)?$",
    re.IGNORECASE,
)


def split_image(image: str) -> tuple[str, str, str]:
    """Repository, tag and digest of an image."""
    rest, _, digest = image.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, "", digest
    return repository, tag, digest


def _images(review: Review) -> Iterator[tuple[Change, str, str | None, str]]:
    """Each image that is new in its place: the change, the container, the image before and after."""
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        for was, now in _paired(change):
            image = now.spec.get("image")
            old = was.spec.get("image") if was else None
            if isinstance(image, str) and image != old:
                yield change, now.name, old, image
            seen = {str(item) for item in _strings((was.spec if was else {}).get("args"))}
            for argument in _strings(now.spec.get("args")):
                match = re.search(r"image=(\S+[:@]\S+)$", argument)
                if match and argument not in seen:
                    before = [item.partition("=")[2] for item in seen if item.startswith(argument.partition("=")[0])]
                    yield change, now.name, before[0] if before else None, match[1]


def _mutable(review: Review) -> Said:
    for change, name, _, image in _images(review):
        _, tag, digest = split_image(image)
        if not digest and (not tag or _MOVING.match(tag)):
            yield (
                f"{change.id} container {name}",
                f"{image} {'has no tag' if not tag else 'may be another image tomorrow'}",
            )


def _version(tag: str) -> tuple[tuple[int, ...], int, str] | None:
    match = re.match(r"^(?:v|release[._-])?(\d+(?:[._-]\d+)*)(.*)$", tag, re.IGNORECASE)
    if match is None:
        return None
    numbers = tuple(int(part) for part in re.split(r"[._-]", match[1]))
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    early = re.search(r"(alpha|beta|rc|pre|dev|snapshot)", match[2], re.IGNORECASE) is not None
    return numbers, 0 if early else 1, match[2] if early else ""


def is_older(before: str, after: str) -> bool:
    """Whether one version is older than the one before it."""
    one, other = _version(before), _version(after)
    return one is not None and other is not None and other < one


def _downgraded(review: Review) -> Said:
    for change, name, old, image in _images(review):
        if old:
            (repository, tag, _), (was, before, _) = split_image(image), split_image(old)
            if repository == was and is_older(before, tag):
                yield f"{change.id} container {name}", f"{repository}: {before} → {tag}"
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin:
            for (address, before), (_, after) in _refs(twin.remotes, source.remotes):
                if is_older(before, after):
                    yield f"Application {name}", f"{address}: {before} → {after}"


def _refs(before: list[str], after: list[str]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    known = {item.partition("?")[0]: item for item in before}
    for item in after:
        address = item.partition("?")[0]
        if address in known and known[address] != item:
            yield (address, known[address].partition("ref=")[2]), (address, item.partition("ref=")[2])


def _unbuilt(review: Review) -> Said:
    tree = review.head.tree
    registry = re.search(
        r"^imageRegistry:\s*[\"']?([^\s\"'#]+)", tree.read("clusters/homelab/settings.yaml") or "", re.MULTILINE
    )
    if registry is None:
        return
    built = {path.split("/")[1] for path in tree.entries if re.fullmatch(r"docker/[^/]+/Dockerfile", path)}
    workflows = [
        tree.read(path) or ""
        for path in tree.entries
        if re.fullmatch(r"\.(github|forgejo|gitea)/workflows/[^/]+\.ya?ml", path)
    ]
    listed: set[str] = set()
    for text in workflows:
        for match in re.finditer(r"^\s+image:\s*\[([^\]]*)\]", text, re.MULTILINE):
            listed |= {item.strip().strip("\"'") for item in match[1].split(",")}
        listed |= {name for name in built if re.search(rf"docker/{re.escape(name)}/Dockerfile", text)}
    for change, name, _, image in _images(review):
        repository = split_image(image)[0]
        if repository.startswith(f"{registry[1]}/"):
            own = repository.removeprefix(f"{registry[1]}/")
            if own not in built:
                yield f"{change.id} container {name}", f"{image}: there is no docker/{own}/Dockerfile"
            elif workflows and own not in listed:
                yield f"{change.id} container {name}", f"{image}: no workflow builds docker/{own}"


def _new_image(review: Review) -> Said:
    for change, name, old, image in _images(review):
        repository, tag, digest = split_image(image)
        if old and split_image(old)[0] != repository:
            yield f"{change.id} container {name}", f"{old} → {image}"
        elif old and split_image(old)[1] == tag and split_image(old)[2] != digest and tag:
            yield f"{change.id} container {name}", f"{repository}:{tag} is another image: {digest[:19] or 'no digest'}"


# Resources.

BUDGETS = {"memory": Decimal(MEMORY_BUDGET_MIB) * 2**20, "cpu": Decimal(2), "storage": Decimal(100) * 2**30}
"""What a homelab has for all Applications, Argo CD left out: bytes, cores, bytes. Memory is that of `homelab check`."""
EXECUTOR_MEMORY = Decimal(32) * 2**20


@dataclass
class Totals:
    """What all servers, the largest step of a workflow and all claims request: bytes, cores, bytes."""

    memory: Decimal = Decimal(0)
    cpu: Decimal = Decimal(0)
    storage: Decimal = Decimal(0)
    complete: bool = True


_REQUESTS = re.compile(r"\b(requests|limits):|^kind: (Cluster)?WorkflowTemplate$", re.MULTILINE)


def _totals(side: Side, other: Side) -> Totals:
    totals = Totals()
    steps = {"memory": Decimal(0), "cpu": Decimal(0)}
    for item in everything(side, other, _REQUESTS):
        if item.id.namespace == "argo-cd":
            continue
        kind = item.id.kind
        claims = (
            [item.normal]
            if kind == "PersistentVolumeClaim"
            else _entries(_get(item.normal, "spec", "volumeClaimTemplates"))
        )
        replicas = _get(item.normal, "spec", "replicas")
        count = replicas if isinstance(replicas, int) else 1
        for claim in claims:
            totals.storage += (_storage(claim) or Decimal(0)) * (count if kind == "StatefulSet" else 1)
        if group(item.normal) == "argoproj.io" or kind in ("Job", "CronJob"):
            for container in containers(item.normal):
                for key in steps:
                    steps[key] = max(
                        steps[key],
                        _request(container.spec, key)
                        + (EXECUTOR_MEMORY if key == "memory" and kind.endswith("Template") else 0),
                    )
            continue
        for pod in pod_specs(item.normal):
            for key in steps:
                running = sum((_request(own, key) for own in _entries(pod.get("containers"))), Decimal(0))
                first = max((_request(own, key) for own in _entries(pod.get("initContainers"))), default=Decimal(0))
                setattr(totals, key, getattr(totals, key) + max(running, first) * count)
    totals.memory += steps["memory"]
    totals.cpu += steps["cpu"]
    return totals


def _request(container: dict[str, Any], key: str) -> Decimal:
    value = _get(container, "resources", "requests", key)
    return (quantity(str(value)) if value is not None else None) or Decimal(0)


def say_quantity(key: str, value: Decimal) -> str:
    """A sum as people read it."""
    if key == "cpu":
        return f"{value * 1000:.0f}m"
    return f"{value / 2**20:.0f} MiB" if value < 2**33 else f"{value / 2**30:.1f} GiB".replace(".0 GiB", " GiB")


def requests_change(review: Review) -> bool:
    """Whether a changed object requests something."""
    kinds = ("PersistentVolumeClaim", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob")
    for change in review.changes:
        touched = any({"requests", "replicas", "limits"} & set(item.path) for item in change.fields)
        moved = any({"[(order)]"} & set(item.path) or item.path[-1].startswith("[") for item in change.fields)
        counts = change.id.kind in kinds or change.id.kind.endswith("WorkflowTemplate")
        if counts and (change.action != "changed" or touched or moved):
            return True
    return False


def sums(review: Review) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """Before, after and budget of each resource whose sum changes."""
    if not requests_change(review):
        return {}
    before, after = review.totals
    return {
        key: (getattr(before, key), getattr(after, key), budget)
        for key, budget in BUDGETS.items()
        if getattr(before, key) != getattr(after, key)
    }


def _requests(review: Review) -> Said:
    for key, (before, after, budget) in sums(review).items():
        if after <= budget or after < before:
            yield (
                f"{key} requests",
                f"{say_quantity(key, before)} → {say_quantity(key, after)} of {say_quantity(key, budget)}",
            )


def _over_budget(review: Review) -> Said:
    for key, (before, after, budget) in sums(review).items():
        if after > budget and after > before:
            yield (
                f"{key} requests",
                f"{say_quantity(key, before)} → {say_quantity(key, after)}, the budget is {say_quantity(key, budget)}",
            )


def _unlimited(review: Review) -> Said:
    for change in review.changes:
        if change.action in ("added", "changed") and change.id.kind != "CustomResourceDefinition":
            for was, now in _paired(change):
                for part, key in (("limits", "memory"), ("requests", "memory"), ("requests", "cpu")):
                    if _get(now.spec, "resources", part, key) is None and (
                        was is None or _get(was.spec, "resources", part, key) is not None
                    ):
                        yield f"{change.id} container {now.name}", f"it has no {key} {part.removesuffix('s')}"


def _probes(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet"):
        for was, now in _paired(change):
            for probe in ("readinessProbe", "livenessProbe"):
                if was and probe in was.spec and probe not in now.spec:
                    yield f"{change.id} container {now.name}", f"its {probe} goes"


# Definitions of kinds.


def _schemas(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {str(item.get("name")): item for item in _entries(_get(manifest, "spec", "versions"))}


def _properties(schema: Any, path: str = "") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(schema, dict):
        return found
    for name, inner in (schema.get("properties") or {}).items():
        here = f"{path}.{name}" if path else str(name)
        found[here] = inner if isinstance(inner, dict) else {}
        found |= _properties(inner, here)
    for key in ("items", "additionalProperties"):
        found |= _properties(schema.get(key), f"{path}[]")
    return found


def _crd(review: Review) -> Said:
    for change in review.of("CustomResourceDefinition"):
        if change.action != "changed":
            continue
        old, new = _schemas(change.old), _schemas(change.new)
        for version, item in old.items():
            after = new.get(version)
            if after is None:
                yield str(change.id), f"version {version} goes"
                continue
            for key in ("served", "storage"):
                if item.get(key) is True and after.get(key) is not True:
                    yield (
                        str(change.id),
                        f"version {version} is no longer {'served' if key == 'served' else 'what is stored'}",
                    )
            one, other = (_get(side, "schema", "openAPIV3Schema") for side in (item, after))
            before, now = _properties(one), _properties(other)
            gone = [name for name in before if name not in now]
            tops = [name for name in gone if not any(name.startswith((f"{top}.", f"{top}[]")) for top in gone)]
            more = f" and {len(tops) - 5} more" if len(tops) > 5 else ""
            if tops:
                yield (
                    str(change.id),
                    f"version {version} loses {', '.join(tops[:5])}{more}",
                )
            for name, schema in now.items():
                was = before.get(name)
                if was is None:
                    continue
                if schema.get("type") != was.get("type"):
                    yield str(change.id), f"version {version}: {name} is {schema.get('type')}, it was {was.get('type')}"
                lost = set(map(str, was.get("enum") or [])) - set(map(str, schema.get("enum") or was.get("enum") or []))
                if lost:
                    yield str(change.id), f"version {version}: {name} no longer takes {', '.join(sorted(lost))}"
            for name, (was, schema) in {
                "": (one, other),
                **{key: (before[key], now[key]) for key in now if key in before},
            }.items():
                needed = set(_strings(_get(schema, "required"))) - set(_strings(_get(was, "required")))
                if needed:
                    yield str(change.id), f"version {version}: {name or 'it'} now requires {', '.join(sorted(needed))}"


# Schedules.


def _schedules(manifest: Manifest) -> tuple[list[str], bool]:
    spec = manifest.get("spec") or {}
    found = _strings(spec.get("schedules") or [spec[key] for key in ("schedule",) if spec.get(key)])
    return found, spec.get("suspend") is True


def _cron(review: Review) -> Iterator[Change]:
    return (change for change in review.of("CronWorkflow", "CronJob") if change.new)


def _never(review: Review) -> Said:
    from homelab_mlops.manifests.schedules import runs_per_year

    for change in _cron(review):
        found, _ = _schedules(change.new)
        for schedule in found:
            if schedule not in _schedules(change.old)[0] and not runs_per_year(schedule):
                yield str(change.id), f"the schedule {schedule!r} never fires"
        if not found:
            yield str(change.id), "it has no schedule"


def _more_often(review: Review) -> Said:
    from homelab_mlops.manifests.schedules import runs_per_year

    for change in _cron(review):
        (old, slept), (new, sleeps) = _schedules(change.old), _schedules(change.new)
        before, after = (sum(runs_per_year(item) for item in items) for items in (old, new))
        if change.action == "changed" and before and not slept and not sleeps and after >= 2 * before:
            yield str(change.id), f"{', '.join(old)} → {', '.join(new)}: {after / before:.3g} times as often"


def _rescheduled(review: Review) -> Said:
    from homelab_mlops.manifests.schedules import runs_per_year

    for change in _cron(review):
        (old, slept), (new, sleeps) = _schedules(change.old), _schedules(change.new)
        if change.action != "changed":
            continue
        if sleeps != slept:
            yield str(change.id), "it is suspended" if sleeps else "it runs again"
        zones = [_get(side, "spec", "timezone") or _get(side, "spec", "timeZone") for side in (change.old, change.new)]
        if zones[0] != zones[1]:
            yield str(change.id), f"its time zone: {_say(zones[0])} → {_say(zones[1])}"
        before, after = (sum(runs_per_year(item) for item in items) for items in (old, new))
        if old != new and after and (not before or after < 2 * before):
            yield str(change.id), f"{', '.join(old)} → {', '.join(new)}"


# Applications.


def _appears(review: Review) -> Said:
    for change in review.of("Application", "ApplicationSet"):
        if change.action == "added":
            source = review.head.sources.get(change.id.name)
            yield (
                str(change.id),
                f"it brings {len(source.documents)} objects" if source else "what it generates is not shown here",
            )


def _disappears(review: Review) -> Said:
    for change in review.changes:
        if change.id.kind in ("Application", "ApplicationSet") and change.action in ("removed", "orphaned"):
            source = review.base.sources.get(change.id.name)
            if source is None or not source.cascades:
                yield str(change.id), "it disappears; its objects stay, and nobody looks after them"


def _source(review: Review) -> Said:
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin is not None:
            for key in ("repoURL", "path", "chart", "targetRevision"):
                one, other = ([_say(item.get(key)) for item in side.origins] for side in (twin, source))
                if one != other:
                    yield f"Application {name}", f"{key}: {', '.join(one)} → {', '.join(other)}"
            was, now = ((side.spec.get("destination") or {}) for side in (twin, source))
            if was != now:
                yield f"Application {name}", f"destination: {_compact(was)} → {_compact(now)}"


def _not_rendered(review: Review) -> Said:
    yield from _unknown(review, missing=False)


def _unknown(review: Review, missing: bool) -> Said:
    """Applications that differ and that a side cannot render, with the files and references that change."""
    for name in sorted({*review.base.sources, *review.head.sources}):
        twin, source = review.base.sources.get(name), review.head.sources.get(name)
        reasons = [side.unrendered for side in (source, twin) if side and side.unrendered]
        if not reasons or (source and twin and source.inputs and source.inputs == twin.inputs):
            continue
        if missing != bool(source and source.is_missing):
            continue
        moved = _refs(twin.remotes if twin else [], source.remotes if source else [])
        said = [f"{address}: {before} → {after}" for (address, before), (_, after) in moved]
        paths = {str(item.get("path")) for side in (source, twin) if side for item in side.origins if item.get("path")}
        files = [file for file in review.files if any(file.startswith(f"{path}/") for path in paths)]
        if files:
            said.append(
                f"changed here: {', '.join(files[:6])}{f' and {len(files) - 6} more' if len(files) > 6 else ''}"
            )
        yield f"Application {name}", "; ".join([reasons[0], *said])


def _reference(review: Review) -> Said:
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin and not source.unrendered:
            for (address, before), (_, after) in _refs(twin.remotes, source.remotes):
                yield f"Application {name}", f"{address}: {before} → {after}"


_WEAKENING = (
    "Prune=false",
    "Validate=false",
    "SkipDryRunOnMissingResource=true",
    "Replace=true",
    "Force=true",
    "PruneLast=false",
)


def _sync(review: Review) -> Said:
    for change in review.of("Application"):
        if change.action == "removed":
            continue
        old, new = ((_get(side, "spec", "syncPolicy") or {}) for side in (change.old, change.new))
        options, before = set(_strings(new.get("syncOptions"))), set(_strings(old.get("syncOptions")))
        for option in _WEAKENING:
            if option in options and option not in before:
                yield str(change.id), f"{option} for all its objects"
        if change.action != "changed":
            continue
        if old.get("automated") is not None and new.get("automated") is None:
            yield str(change.id), "it no longer syncs by itself"
        for key in ("prune", "selfHeal"):
            if (
                _get(old, "automated", key) is True
                and _get(new, "automated", key) is not True
                and new.get("automated") is not None
            ):
                yield str(change.id), f"automated.{key} goes"
        if _get(new, "automated", "enabled") is False and _get(old, "automated", "enabled") is not False:
            yield str(change.id), "it no longer syncs by itself"
        ignored = [
            item
            for item in _entries(_get(change.new, "spec", "ignoreDifferences"))
            if item not in _entries(_get(change.old, "spec", "ignoreDifferences"))
        ]
        if ignored:
            yield (
                str(change.id),
                f"differences of {', '.join(str(item.get('kind', 'any kind')) for item in ignored)} are ignored",
            )
    for change in review.changes:
        if change.action in ("added", "changed") and change.id.kind != "Application":
            new = sync_options(change.new) - sync_options(change.old)
            for option in sorted(
                new & {"Validate=false", "Replace=true", "Force=true", "SkipDryRunOnMissingResource=true"}
            ):
                yield str(change.id), option
            if "Prune=false" in new and change.id.kind not in DATA:
                yield str(change.id), "Prune=false: it stays when it leaves git"
            compare = str(_get(change.new, "metadata", "annotations", "argocd.argoproj.io/compare-options") or "")
            if "IgnoreExtraneous" in compare and "IgnoreExtraneous" not in str(
                _get(change.old, "metadata", "annotations", "argocd.argoproj.io/compare-options")
            ):
                yield str(change.id), "Argo CD ignores that it is extraneous"


def _moved(review: Review) -> Said:
    for change in review.changes:
        if change.before and change.after and change.before.application != change.after.application:
            yield str(change.id), f"from {change.before.application} to {change.after.application}"


def _twice(review: Review) -> Said:
    objects: dict[Any, list[str]] = defaultdict(list)
    if not any(change.action == "added" for change in review.changes):
        return
    added = {change.id for change in review.changes if change.action == "added"}
    named = re.compile("|".join(rf"^kind: {kind}$" for kind in sorted({item.kind for item in added})), re.MULTILINE)
    for item in everything(review.head, review.base, named):
        if item.id in added:
            objects[item.id].append(item.application)
    for identity, names in objects.items():
        if len(names) > 1:
            yield str(identity), f"declared by {' and '.join(sorted(names))}"


def _root(review: Review) -> Said:
    for change in review.changes:
        if change.application == BOOTSTRAP and change.action in ("changed", "added"):
            yield str(change.id), "it is changed by `homelab bootstrap`, not by a push"


def _restarts(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet"):
        if change.action == "changed" and any(item.path[:2] == ("spec", "template") for item in change.fields):
            still = _get(change.new, "spec", "strategy", "type") == "Recreate" or (
                change.id.kind == "StatefulSet" and _get(change.new, "spec", "replicas") == 1
            )
            yield (
                str(change.id),
                "its pods restart, and it is away meanwhile" if still else "its pods are replaced one by one",
            )
    for change in review.of("Deployment", "StatefulSet"):
        if change.action == "changed" and _get(change.new, "spec", "replicas") == 0 != _get(
            change.old, "spec", "replicas"
        ):
            yield str(change.id), "it runs no pod any more"


# Models.

_MODEL_KEY = re.compile(r"^(model[._-]?)?version$", re.IGNORECASE)
_MODEL_URI = re.compile(r"models:/([^/@\s]+)[/@]([^/\s]+)")


def model_versions(review: Review) -> Iterator[tuple[Change, str, str, str]]:
    """Each model whose version changes: the change, the model, the version before and after."""
    for change in review.changes:
        if change.action != "changed":
            continue
        for item in change.fields:
            before, after = str(item.before), str(item.after)
            uris = _MODEL_URI.search(before), _MODEL_URI.search(after)
            if uris[0] and uris[1]:
                yield change, uris[1][1], uris[0][2], uris[1][2]
            elif _is_model_version(change, item.path) and MISSING not in (item.before, item.after):
                yield change, _model_name(change, item.path), before, after


def _is_model_version(change: Change, path: tuple[str, ...]) -> bool:
    last = path[-1].strip("[]") if path[-1] != "value" else path[-2].strip("[]") if len(path) > 1 else ""
    if last.startswith(("app.kubernetes.io/", "helm.sh/")):
        return False
    last = last.rpartition("/")[2]
    if change.id.kind == "CustomResourceDefinition" or not _MODEL_KEY.match(last):
        return False
    text = " ".join((*path, change.id.name, *(_get(change.new, "metadata", "labels") or {}))).lower()
    return "model" in text or "serving" in text or "serving" in (change.id.namespace, change.application)


def _model_name(change: Change, path: tuple[str, ...]) -> str:
    for key in ("name", "model"):
        for part in path:
            if part.endswith((".yaml", ".json")):
                content = (change.new.get("data") or {}).get(part)
                match = re.search(rf"^\s*[\"']?{key}[\"']?:\s*[\"']?([\w.-]+)", str(content), re.MULTILINE)
                if match:
                    return match[1]
    labels = _get(change.new, "metadata", "labels") or {}
    for name in ("homelab-mlops/model", "app.kubernetes.io/instance"):
        if name in labels:
            return str(labels[name])
    return change.id.name.removeprefix("model-")


def _model_version(review: Review) -> Said:
    from homelab_mlops.review.promotions import metrics_of

    for change, model, before, after in model_versions(review):
        old, new = (metrics_of(side, model, version) for side, version in ((review.base, before), (review.head, after)))
        yield str(change.id), f"{model} {before} ({old}) → {model} {after} ({new})"


def _model_older(review: Review) -> Said:
    for change, model, before, after in model_versions(review):
        if before.isdigit() and after.isdigit() and int(after) < int(before):
            yield str(change.id), f"{model}: {before} → {after}"


def _spec_fields(review: Review, *parts: str) -> Iterator[tuple[Change, str, Any, Any]]:
    """The changes inside a model.yaml, by its top-level keys."""
    for change in review.of("ConfigMap"):
        for item in change.fields:
            if (
                len(item.path) > 2
                and item.path[0] == "data"
                and item.path[1].endswith("model.yaml")
                and item.path[2] in parts
            ):
                name = ".".join(item.path[2:])
                yield change, name, item.before, item.after


def _hyperparameters(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "train"):
        yield str(change.id), f"{name}: {_say(before)} → {_say(after)}"


def _model_data(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "data", "features", "target", "split", "task"):
        yield str(change.id), f"{name}: {_say(before)} → {_say(after)}"


def _gate(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "gate", "promotion"):
        numbers = all(isinstance(value, (int, float)) for value in (before, after))
        if not numbers or after < before or name not in ("gate.floor", "gate.margin"):
            yield str(change.id), f"{name}: {_say(before)} → {_say(after)}"


RULES: tuple[Rule, ...] = (
    Rule(
        "prune-data",
        "danger",
        "a volume claim, volume, StatefulSet, namespace or CRD that leaves git and is pruned",
        "What it holds is deleted with it, and no revert brings it back.",
        "Back it up first, or keep it with the annotation Prune=false,Delete=false.",
        _pruned_data,
    ),
    Rule(
        "prune-application",
        "danger",
        "an Application with a finalizer that leaves git",
        "Argo CD deletes everything that it deployed, volumes too.",
        "Remove the finalizer in a commit before, or make sure that all of it may go.",
        _cascade,
    ),
    Rule(
        "protection-removed",
        "danger",
        "Prune=false or Delete=false that goes, or a finalizer that comes",
        "The next commit that loses the object deletes it.",
        "Keep the annotation as long as the data matters.",
        _protection,
    ),
    Rule(
        "immutable-field",
        "danger",
        "a field that Kubernetes does not let change: selectors, claims, cluster IPs, roleRef, a smaller claim",
        "The API server refuses the object, and the sync fails until the change is reverted.",
        "Give the object a new name, or delete it yourself at the time that suits you.",
        _immutable,
    ),
    Rule(
        "selector-without-pods",
        "danger",
        "a workload whose pods lack the labels that it selects",
        "The API server refuses it.",
        "Give the template the selector's labels.",
        _selects_itself,
    ),
    Rule(
        "rbac-dangerous",
        "danger",
        "new rights that lead to all others: wildcards, secrets, exec, escalate, cluster-admin",
        "Whoever gets into the pod gets the namespace or the cluster.",
        "Name the exact resources and verbs that it needs.",
        lambda review: _rbac(review, strong=True),
    ),
    Rule(
        "rbac-widened",
        "warning",
        "new rights, or a new subject of a role",
        "Its holder may do more than before.",
        "Check that the program needs each of them.",
        lambda review: _rbac(review, strong=False),
    ),
    Rule(
        "project-widened",
        "warning",
        "an AppProject that admits more sources, destinations or kinds",
        "What the project was to keep out may now be deployed.",
        "Name exactly what is deployed.",
        _project,
    ),
    Rule(
        "network-loosened",
        "warning",
        "a NetworkPolicy that goes, selects other pods or admits more",
        "Traffic that was refused gets through.",
        "Check that each new peer and port has a user.",
        _network,
    ),
    Rule(
        "exposed",
        "warning",
        "a Service or Ingress that answers to the outside",
        "It can be reached from outside the cluster.",
        "Make sure that it asks for a login.",
        _exposed,
    ),
    Rule(
        "security-dangerous",
        "danger",
        "privileged, the host's namespaces, paths or ports, added capabilities, root, enforcement lowered",
        "A fault in the program becomes one of the node.",
        "Keep the restricted profile, or say why not in the pull request.",
        lambda review: _security(review, strong=True),
    ),
    Rule(
        "security-loosened",
        "warning",
        "a security context, token or Pod Security label that protects less than before",
        "A fault in the program reaches further.",
        "Keep the restricted profile.",
        lambda review: _security(review, strong=False),
    ),
    Rule(
        "plaintext-secret",
        "danger",
        "a Secret, or a value that looks like a credential, in plain text",
        "Git keeps it for ever, for everyone who can read the repository.",
        "Seal it with `homelab seal`, and make the credential new: this one is known.",
        _plain_secrets,
    ),
    Rule(
        "sealed-elsewhere",
        "danger",
        "a SealedSecret for another name or namespace than its own",
        "The controller cannot open it, and its pods wait for a Secret that does not come.",
        "Seal the value again for this name and namespace: `homelab seal`.",
        _sealed_elsewhere,
    ),
    Rule(
        "sealed-wider",
        "warning",
        "a SealedSecret whose scope is wider than strict, or with a key that is empty",
        "It can be opened under other names, or holds nothing.",
        "Seal it again with strict scope: `homelab seal`.",
        _sealed_wider,
    ),
    Rule(
        "image-mutable",
        "warning",
        "an image without tag, or with one that moves",
        "What runs is not what was reviewed.",
        "Name an exact version, best with its digest.",
        _mutable,
    ),
    Rule(
        "image-downgraded",
        "warning",
        "an older version of an image or of a remote base",
        "Data written by the newer one may not be readable by the older.",
        "Check that going back is meant and possible.",
        _downgraded,
    ),
    Rule(
        "image-unbuilt",
        "danger",
        "an image of this registry that no workflow builds",
        "No node can pull it: its pods never start.",
        "Add docker/NAME/Dockerfile and name it in .github/workflows/publish.yaml, or correct the name.",
        _unbuilt,
    ),
    Rule(
        "image-changed",
        "note",
        "an image from another repository, or another digest of a tag",
        "Another publisher is trusted.",
        "Check who publishes it.",
        _new_image,
    ),
    Rule(
        "over-budget",
        "danger",
        "memory, CPU or storage requests above what the homelab has",
        "Pods or claims stay Pending.",
        "Request less, or raise the budget with the hardware.",
        _over_budget,
    ),
    Rule(
        "resources-missing",
        "warning",
        "a container without requests or memory limit",
        "It can take the node's memory and CPU from all others.",
        "Give it requests, and a limit of memory.",
        _unlimited,
    ),
    Rule(
        "probe-removed", "warning", "a probe that goes", "A hung server stays in service.", "Keep the probe.", _probes
    ),
    Rule(
        "volume-grows",
        "warning",
        "a claim that asks for more",
        "Only a StorageClass with allowVolumeExpansion grows it; local-path does not, and the sync fails.",
        "Check `kubectl get storageclass`; without expansion make a new claim and copy.",
        _grows,
    ),
    Rule(
        "crd-incompatible",
        "danger",
        "a CRD that loses a version or field, or demands more",
        "Objects that have it lose it, or are refused.",
        "Move the objects first, and remove the field one release later.",
        _crd,
    ),
    Rule(
        "schedule-never",
        "danger",
        "a schedule that never fires, or is none",
        "The model is not retrained, and nothing says so.",
        "Write five fields that exist: minute, hour, day, month, weekday (0-6).",
        _never,
    ),
    Rule(
        "schedule-more-often",
        "warning",
        "a schedule that fires twice as often or more",
        "Retraining takes the cores from what serves.",
        "Check that it is meant, and that one run ends before the next.",
        _more_often,
    ),
    Rule(
        "schedule-changed",
        "note",
        "another schedule or time zone, suspended or resumed",
        "It runs at another time.",
        "Nothing, where it is meant.",
        _rescheduled,
    ),
    Rule(
        "application-appears",
        "note",
        "a new Application",
        "Everything that it renders is created.",
        "Read its objects below.",
        _appears,
    ),
    Rule(
        "application-disappears",
        "warning",
        "an Application without finalizer that leaves git",
        "Its objects go on running, out of git's sight.",
        "Delete them yourself, or take them out in a commit before.",
        _disappears,
    ),
    Rule(
        "application-source",
        "warning",
        "an Application with another repository, path, revision or destination",
        "Argo CD applies another tree; what the old one had is pruned.",
        "Check that the new source holds all that is to stay.",
        _source,
    ),
    Rule(
        "remote-missing",
        "danger",
        "a remote base whose reference is not there",
        "Argo CD cannot render the Application, and keeps the old state.",
        "Correct the reference.",
        lambda review: _unknown(review, missing=True),
    ),
    Rule(
        "not-rendered",
        "warning",
        "an Application that changes and cannot be rendered here",
        "What it changes in the cluster is not shown.",
        "Run `homelab diff` where its source can be reached, or read the upstream's release notes.",
        _not_rendered,
    ),
    Rule(
        "remote-base",
        "note",
        "another reference of a remote base",
        "Upstream's changes come in.",
        "Read the upstream's release notes.",
        _reference,
    ),
    Rule(
        "sync-weakened",
        "warning",
        "options that disable prune, self-heal, validation or comparison",
        "The cluster may differ from git, and nothing says so.",
        "Keep the option to the one object that needs it.",
        _sync,
    ),
    Rule(
        "moved",
        "warning",
        "an object that another Application takes over",
        "The old one may prune it before the new one has it.",
        "Annotate it with Prune=false in a commit before.",
        _moved,
    ),
    Rule(
        "declared-twice",
        "warning",
        "an object that is declared twice",
        "Two Applications undo each other without end.",
        "Keep one.",
        _twice,
    ),
    Rule(
        "root-changed",
        "note",
        "a change of the root Application",
        "Argo CD does not apply its own root.",
        "Run `homelab bootstrap` after the merge.",
        _root,
    ),
    Rule(
        "model-version",
        "note",
        "another version of a model in service",
        "Predictions change.",
        "Compare the metrics of both.",
        _model_version,
    ),
    Rule(
        "model-older",
        "warning",
        "an older version of a model",
        "It is a rollback.",
        "Check that it is meant.",
        _model_older,
    ),
    Rule(
        "hyperparameters",
        "note",
        "other training parameters",
        "The next training gives another model; the gate judges it.",
        "Nothing: `homelab run MODEL` trains now.",
        _hyperparameters,
    ),
    Rule(
        "model-data",
        "warning",
        "another source, target, feature, split or task of a model",
        "Old and new versions are no longer compared on the same rows.",
        "Check that the champion can still be compared.",
        _model_data,
    ),
    Rule(
        "gate-loosened",
        "warning",
        "a gate that admits more, measures something else, or another way of promotion",
        "A worse model may reach production.",
        "Say in the pull request why.",
        _gate,
    ),
    Rule(
        "requests",
        "note",
        "another sum of memory, CPU or storage requests",
        "The nodes have to have it.",
        "Nothing, where they do.",
        _requests,
    ),
    Rule(
        "restart",
        "note",
        "a change of a pod template",
        "Running pods end.",
        "Merge when a pause does not matter.",
        _restarts,
    ),
    Rule(
        "deleted",
        "note",
        "an object that Argo CD deletes",
        "It is gone after the sync.",
        "Nothing, where it is meant.",
        _deleted,
    ),
    Rule(
        "left-behind",
        "note",
        "an object that leaves git and stays in the cluster",
        "Nothing looks after it any more.",
        "Delete it by hand when it may go.",
        _left_behind,
    ),
)

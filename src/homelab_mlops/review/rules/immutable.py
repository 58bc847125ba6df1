"""What the API server will refuse to apply."""

from __future__ import annotations

from homelab_mlops.manifests.objects import get, is_built_in
from homelab_mlops.manifests.quantities import claimed_storage
from homelab_mlops.review.compare import Change, sync_options
from homelab_mlops.review.rules.rule import Review, Said, brief, rule

_STATEFUL_SET_MAY = {
    "replicas", "ordinals", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
    "revisionHistoryLimit",
}  # fmt: skip


@rule(
    "immutable-field",
    "danger",
    looks_for="a field that Kubernetes does not let change: selectors, claims, cluster IPs, roleRef, a smaller claim",
    reason="The API server refuses the object, and the sync fails until the change is reverted.",
    action="Give the object a new name, or delete the old object yourself when that suits you.",
)
def immutable_field(review: Review) -> Said:
    for change in review.changes:
        if change.action != "changed" or not is_built_in(change.new):
            continue
        if _is_replaced(change):
            continue
        for item in change.fields:
            if _may_not_change(change, item.path):
                yield str(change.id), f"{item.where} cannot change: {brief(item.shown)}"


def _is_replaced(change: Change) -> bool:
    """Whether Argo CD creates it anew instead of changing it, as by another digest in its name."""
    names = {get(side.raw, "metadata", "name") for side in (change.before, change.after) if side}
    annotations = get(change.new, "metadata", "annotations") or {}
    deletes = str(annotations.get("argocd.argoproj.io/hook-delete-policy", "BeforeHookCreation"))
    hook = "argocd.argoproj.io/hook" in annotations and "BeforeHookCreation" in deletes
    return hook or len(names) > 1 or bool({"Replace=true", "Force=true"} & sync_options(change.new))


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
                one, other = (claimed_storage(side) for side in (change.old, change.new))
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


@rule(
    "selector-without-pods",
    "danger",
    looks_for="a workload whose pods lack the labels that it selects",
    reason="The API server refuses the object.",
    action="Give the pod template the labels of the selector.",
)
def selector_without_pods(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        wanted = get(change.new, "spec", "selector", "matchLabels")
        labels = get(change.new, "spec", "template", "metadata", "labels")
        pairs = wanted.items() if isinstance(wanted, dict) else ()
        missing = [f"{key}={value}" for key, value in pairs if get(labels, key) != value]
        if missing and change.new:
            yield str(change.id), f"its pods do not have the label {', '.join(missing)} that it selects"

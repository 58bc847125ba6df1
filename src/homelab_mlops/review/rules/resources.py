"""The resources that the nodes must provide, and the pods that restart."""

from __future__ import annotations

from decimal import Decimal

from homelab_mlops.errors import RepositoryError
from homelab_mlops.location import SETTINGS
from homelab_mlops.manifests.objects import WORKLOADS, get, is_workflow
from homelab_mlops.manifests.quantities import say_quantity
from homelab_mlops.review.rules.rule import Review, Said, paired, rule


def requests_change(review: Review) -> bool:
    """Whether a changed object requests something."""
    kinds = ("PersistentVolumeClaim", *WORKLOADS)
    for change in review.changes:
        touched = any({"requests", "replicas", "limits"} & set(item.path) for item in change.fields)
        moved = any(item.path[-1].startswith("[") for item in change.fields)
        counts = change.id.kind in kinds or is_workflow(change.manifest)
        if counts and (change.action != "changed" or touched or moved):
            return True
    return False


def sums(review: Review) -> dict[str, tuple[Decimal, Decimal]]:
    """Before and after of each resource whose sum changes: bytes, cores, bytes."""
    if not requests_change(review):
        return {}
    before, after = (vars(side) for side in review.requests)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def say_sums(review: Review) -> dict[str, tuple[str, str, str]]:
    """Before, after and budget of each resource whose sum changes, as people read them."""
    try:
        budgets = review.budgets
    except RepositoryError:
        budgets = {}
    found = {}
    for key, (before, after) in sums(review).items():
        budget = say_quantity(key, budgets[key]) if budgets else "none"
        found[key] = (say_quantity(key, before), say_quantity(key, after), budget)
    return found


@rule(
    "over-budget",
    "danger",
    looks_for="memory, CPU or storage requests above the budgets of clusters/homelab/settings.yaml",
    reason="Pods or volume claims stay Pending.",
    action="Request less, or raise the budget in clusters/homelab/settings.yaml when the nodes have more.",
)
def over_budget(review: Review) -> Said:
    changed = sums(review)
    try:
        budgets = review.budgets if changed else {}
    except RepositoryError as error:
        yield str(SETTINGS), f"the budgets cannot be read, and the requests change: {error.what.splitlines()[0]}"
        return
    for key, (before, after) in changed.items():
        if key in budgets and after > budgets[key] and after > before:
            one, other, budget = say_sums(review)[key]
            yield f"{key} requests", f"{one} → {other}, the budget is {budget}"


@rule(
    "requests",
    "note",
    looks_for="another sum of memory, CPU or storage requests",
    reason="The nodes need this much free.",
    action="Check their capacity.",
)
def requests(review: Review) -> Said:
    flagged = {where for where, _ in over_budget(review)}
    for key, (one, other, budget) in say_sums(review).items():
        if f"{key} requests" not in flagged:
            yield f"{key} requests", f"{one} → {other}" + (f" of {budget}" if budget != "none" else "")


@rule(
    "resources-missing",
    "warning",
    looks_for="a container without requests or memory limit",
    reason="The container can take memory and CPU that other containers need.",
    action="Give the container requests, and a memory limit.",
)
def resources_missing(review: Review) -> Said:
    for change in review.changes:
        if change.action in ("added", "changed") and change.id.kind != "CustomResourceDefinition":
            for was, now in paired(change):
                for part, key in (("limits", "memory"), ("requests", "memory"), ("requests", "cpu")):
                    if get(now.spec, "resources", part, key) is None and (
                        was is None or get(was.spec, "resources", part, key) is not None
                    ):
                        yield f"{change.id} container {now.name}", f"it has no {key} {part.removesuffix('s')}"


@rule(
    "probe-removed",
    "warning",
    looks_for="a container that loses a probe",
    reason="Kubernetes no longer notices that the server hangs.",
    action="Keep the probe.",
)
def probe_removed(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet"):
        for was, now in paired(change):
            for probe in ("readinessProbe", "livenessProbe"):
                if was and probe in was.spec and probe not in now.spec:
                    yield f"{change.id} container {now.name}", f"it loses its {probe}"


@rule(
    "restart",
    "note",
    looks_for="a change of a pod template",
    reason="Running pods end.",
    action="Merge when a short pause does not matter.",
)
def restart(review: Review) -> Said:
    for change in review.of("Deployment", "StatefulSet", "DaemonSet"):
        if change.action == "changed" and any(item.path[:2] == ("spec", "template") for item in change.fields):
            still = get(change.new, "spec", "strategy", "type") == "Recreate" or (
                change.id.kind == "StatefulSet" and get(change.new, "spec", "replicas") == 1
            )
            yield (
                str(change.id),
                "its pods restart, and it does not answer meanwhile" if still else "its pods are replaced one by one",
            )
    for change in review.of("Deployment", "StatefulSet"):
        if change.action == "changed" and get(change.new, "spec", "replicas") == 0 != get(
            change.old, "spec", "replicas"
        ):
            yield str(change.id), "it runs no pod any more"

"""Data that a change deletes, leaves behind, or no longer protects."""

from __future__ import annotations

from collections import defaultdict

from homelab_mlops.manifests.objects import Manifest, get, strings
from homelab_mlops.manifests.quantities import claimed_storage
from homelab_mlops.review.compare import MISSING, sync_options
from homelab_mlops.review.rules.rule import Review, Said, fields_below, rule

DATA = ("PersistentVolumeClaim", "PersistentVolume", "StatefulSet", "Namespace", "CustomResourceDefinition")


@rule(
    "prune-data",
    "danger",
    looks_for="a volume claim, volume, StatefulSet, namespace or CRD that leaves git and that Argo CD deletes",
    reason="Argo CD deletes what the object holds, and a revert does not bring it back.",
    action="Back up the data first, or keep the object with the annotation Prune=false,Delete=false.",
)
def prune_data(review: Review) -> Said:
    for change in review.of(*DATA):
        if change.action == "removed":
            yield str(change.id), "Argo CD deletes it and the data that it holds"


@rule(
    "prune-application",
    "danger",
    looks_for="an Application with a finalizer, or an ApplicationSet of such ones, that leaves git",
    reason="Argo CD deletes every object that the Application deployed, volumes too.",
    action="Remove the finalizer in an earlier commit, or make sure that every object may be deleted.",
)
def prune_application(review: Review) -> Said:
    for change in review.of("Application", "AppProject"):
        gone = review.base.of(change.old, change.application)
        if change.action == "removed" and change.id.kind == "Application" and gone is not None and gone.cascades:
            yield str(change.id), f"its finalizer deletes its {len(gone.documents)} objects"
    for change in review.of("ApplicationSet"):
        cascading = [item for item in review.generated_before(change) if item.cascades]
        if change.action == "removed" and cascading:
            names = ", ".join(item.key for item in cascading)
            count = sum(len(item.documents) for item in cascading)
            yield str(change.id), f"its Applications {names} go with it, and their finalizers delete {count} objects"


@rule(
    "protection-removed",
    "danger",
    looks_for="an object that loses Prune=false or Delete=false, or an Application that gets a finalizer",
    reason="Argo CD deletes the object as soon as a later commit removes it from git.",
    action="Keep the annotation as long as the data matters.",
)
def protection_removed(review: Review) -> Said:
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
            for where, _, after in fields_below(change, "metadata", "finalizers"):
                if after is MISSING:
                    yield str(change.id), f"{where} is removed"
    for change in review.of("Application"):
        if change.action != "removed" and cascades(change.new) and not cascades(change.old):
            yield str(change.id), "it gets a finalizer: deleting it deletes all its objects"


def cascades(manifest: Manifest) -> bool:
    return any("resources-finalizer" in item for item in strings(get(manifest, "metadata", "finalizers")))


@rule(
    "volume-grows",
    "warning",
    looks_for="a volume claim that asks for more storage",
    reason="Only a StorageClass with allowVolumeExpansion can grow a claim. local-path cannot, and the sync fails.",
    action="Check `kubectl get storageclass`. Without expansion, make a new claim and copy the data.",
)
def volume_grows(review: Review) -> Said:
    for change in review.of("PersistentVolumeClaim"):
        one, other = claimed_storage(change.old), claimed_storage(change.new)
        if change.action == "changed" and one is not None and other is not None and other > one:
            written = [get(side, "spec", "resources", "requests", "storage") for side in (change.old, change.new)]
            name = get(change.new, "spec", "storageClassName") or "default"
            yield str(change.id), f"{written[0]} → {written[1]}, of the StorageClass {name}"


@rule(
    "deleted",
    "note",
    looks_for="an object that Argo CD deletes",
    reason="The object is gone after the sync.",
    action="Check that it is meant to go.",
)
def deleted(review: Review) -> Said:
    quiet = (*DATA, "Application", "ConfigMap", "NetworkPolicy")
    for change in review.changes:
        if change.action == "removed" and change.id.kind not in quiet:
            yield str(change.id), "Argo CD deletes it"


@rule(
    "left-behind",
    "note",
    looks_for="an object that leaves git and stays in the cluster",
    reason="Nobody updates or deletes the object any more.",
    action="Delete it by hand when it may go.",
)
def left_behind(review: Review) -> Said:
    reasons: dict[str, list[str]] = defaultdict(list)
    for change in review.changes:
        if change.action == "orphaned":
            reasons[change.why].append(str(change.id))
    for why, ids in reasons.items():
        yield ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else ""), f"not in git any more: {why}"

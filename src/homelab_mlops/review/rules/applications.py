"""Applications: where they come from, and how Argo CD treats their objects."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from homelab_mlops.gitops.argo_cd.addresses import branch, same_address
from homelab_mlops.manifests.objects import entries, get, strings
from homelab_mlops.review.compare import BOOTSTRAP, everything, sync_options
from homelab_mlops.review.rules.data import DATA
from homelab_mlops.review.rules.rule import Review, Said, compact, rule, say


@rule(
    "application-appears",
    "note",
    looks_for="a new Application",
    reason="Argo CD creates every object that the Application renders.",
    action="Read its objects below.",
)
def application_appears(review: Review) -> Said:
    for change in review.of("Application", "ApplicationSet"):
        if change.action != "added":
            continue
        if change.id.kind == "ApplicationSet":
            names = [item.key for item in review.head.generated_by(change.id.name, change.application)]
            yield str(change.id), f"it generates the Applications {', '.join(names) or '(none)'}"
            continue
        source = review.head.of(change.new, change.application)
        if source is None or source.key not in review.renamed.values():
            is_known = source is not None and not source.unrendered
            brought = f"it brings {len(source.documents) if source else 0} objects"
            yield str(change.id), brought if is_known else "its objects are not known"


@rule(
    "application-disappears",
    "warning",
    looks_for="an Application without finalizer that leaves git",
    reason="Its objects keep running, and git no longer describes them.",
    action="Delete them yourself, or remove them from git in an earlier commit.",
)
def application_disappears(review: Review) -> Said:
    for change in review.changes:
        if change.id.kind in ("Application", "ApplicationSet") and change.action in ("removed", "orphaned"):
            source = review.base.of(change.old, change.application) if change.id.kind == "Application" else None
            generated = review.generated_before(change) if change.action == "removed" else []
            sources = [source] if source else generated
            if not sources or not all(item.cascades or item.key in review.renamed for item in sources):
                yield str(change.id), "it leaves git; its objects stay, and Argo CD no longer updates them"


@rule(
    "application-source",
    "warning",
    looks_for="an Application with another repository, path, revision or destination",
    reason="Argo CD applies another tree, and deletes the objects that only the old one has.",
    action="Check that the new source has all objects that are to stay.",
)
def application_source(review: Review) -> Said:
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin is not None:
            for key in ("repoURL", "path", "chart", "targetRevision"):
                one, other = ([_meant(key, item.get(key)) for item in side.origins] for side in (twin, source))
                if one != other:
                    was, now = (", ".join(say(item.get(key)) for item in side.origins) for side in (twin, source))
                    yield f"Application {name}", f"{key}: {was} → {now}"
            left, right = ((side.spec.get("destination") or {}) for side in (twin, source))
            if left != right:
                yield f"Application {name}", f"destination: {compact(left)} → {compact(right)}"


def _meant(key: str, value: Any) -> str:
    """A field of a source, in one form for all ways to write the same address or branch."""
    if value is not None and key in ("repoURL", "targetRevision"):
        return same_address(value) if key == "repoURL" else branch(value)
    return say(value)


_WEAKENING = (
    "Prune=false",
    "Validate=false",
    "SkipDryRunOnMissingResource=true",
    "Replace=true",
    "Force=true",
    "PruneLast=false",
)


@rule(
    "sync-weakened",
    "warning",
    looks_for="options that disable prune, self-heal, validation or comparison",
    reason="The cluster may differ from git, and nothing reports it.",
    action="Set the option only on the object that needs it.",
)
def sync_weakened(review: Review) -> Said:
    for change in review.of("Application"):
        if change.action == "removed":
            continue
        policies = [get(side, "spec", "syncPolicy") for side in (change.old, change.new)]
        old, new = (policy if isinstance(policy, dict) else {} for policy in policies)
        options, before = set(strings(new.get("syncOptions"))), set(strings(old.get("syncOptions")))
        for option in _WEAKENING:
            if option in options and option not in before:
                yield str(change.id), f"{option} for all its objects"
        if change.action != "changed":
            continue
        if old.get("automated") is not None and new.get("automated") is None:
            yield str(change.id), "it no longer syncs by itself"
        for key in ("prune", "selfHeal"):
            if (
                get(old, "automated", key) is True
                and get(new, "automated", key) is not True
                and new.get("automated") is not None
            ):
                yield str(change.id), f"it no longer has automated.{key}"
        if get(new, "automated", "enabled") is False and get(old, "automated", "enabled") is not False:
            yield str(change.id), "it no longer syncs by itself"
        ignored = [
            item
            for item in entries(get(change.new, "spec", "ignoreDifferences"))
            if item not in entries(get(change.old, "spec", "ignoreDifferences"))
        ]
        if ignored:
            yield (
                str(change.id),
                f"differences of {', '.join(str(item.get('kind', 'any kind')) for item in ignored)} are ignored",
            )
    for change in review.changes:
        if change.action in ("added", "changed") and change.id.kind != "Application":
            added = sync_options(change.new) - sync_options(change.old)
            for option in sorted(
                added & {"Validate=false", "Replace=true", "Force=true", "SkipDryRunOnMissingResource=true"}
            ):
                yield str(change.id), option
            if "Prune=false" in added and change.id.kind not in DATA:
                yield str(change.id), "Prune=false: it stays in the cluster when it leaves git"
            compare = str(get(change.new, "metadata", "annotations", "argocd.argoproj.io/compare-options") or "")
            if "IgnoreExtraneous" in compare and "IgnoreExtraneous" not in str(
                get(change.old, "metadata", "annotations", "argocd.argoproj.io/compare-options")
            ):
                yield str(change.id), "Argo CD no longer reports that git lacks it"


@rule(
    "application-renamed",
    "warning",
    looks_for="an Application that gets another name",
    reason="The old Application may delete the objects before the new one has them.",
    action="Remove the old one's finalizer in an earlier commit, or annotate the objects with Prune=false.",
)
def application_renamed(review: Review) -> Said:
    for old, new in review.renamed.items():
        gone = review.base.sources[old]
        objects = f"its {len(gone.documents)} objects"
        fate = f"its finalizer deletes {objects}" if gone.cascades else f"{new} takes over {objects}"
        yield f"Application {old}", f"it is renamed to {new}: {fate}"


@rule(
    "moved",
    "warning",
    looks_for="an object that another Application takes over",
    reason="The old Application may delete the object before the new one has it.",
    action="Annotate the object with Prune=false in an earlier commit.",
)
def moved(review: Review) -> Said:
    for change in review.changes:
        if change.before and change.after and change.before.application != change.after.application:
            old, new = change.before.application, change.after.application
            if review.renamed.get(old) != new:
                yield str(change.id), f"from {old} to {new}"


@rule(
    "declared-twice",
    "warning",
    looks_for="an object that is declared twice",
    reason="Two Applications overwrite each other without end; of two in one Application the last one counts.",
    action="Keep one of the two.",
)
def declared_twice(review: Review) -> Said:
    for key, source in review.head.sources.items():
        before = review.base.sources[key].repeated if key in review.base.sources else []
        for name in sorted(set(source.repeated) - set(before)):
            yield f"Application {key}", f"it declares {name} several times; Argo CD applies the last one"
    objects: dict[tuple[Any, str], list[str]] = defaultdict(list)
    if not any(change.action == "added" for change in review.changes):
        return
    added = {change.id for change in review.changes if change.action == "added"}
    named = re.compile("|".join(rf"^kind: {kind}$" for kind in sorted({item.kind for item in added})), re.MULTILINE)
    for item in everything(review.head, review.base, named):
        if item.id in added:
            objects[item.id, review.head.sources[item.application].cluster].append(item.application)
    for (identity, _), names in objects.items():
        if len(names) > 1:
            yield str(identity), f"declared by {' and '.join(sorted(names))}"


@rule(
    "root-changed",
    "note",
    looks_for="a change of the root Application",
    reason="Argo CD does not apply its own root.",
    action="Run `homelab bootstrap` after the merge.",
)
def root_changed(review: Review) -> Said:
    for change in review.changes:
        if change.application == BOOTSTRAP and change.action in ("changed", "added"):
            yield str(change.id), "`homelab bootstrap` changes it; a push does not"

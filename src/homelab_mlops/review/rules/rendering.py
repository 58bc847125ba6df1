"""What cannot be rendered: Applications that do not build, and what lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from homelab_mlops.gitops.argo_cd.owners import reads
from homelab_mlops.review.rules.rule import Review, Said, changed_references, rule


@rule(
    "does-not-build",
    "danger",
    looks_for="an Application that does not build after the change",
    reason="Argo CD cannot render the Application, and keeps the old state.",
    action="Run `kustomize build` or `helm template` there, and mend what it says.",
)
def does_not_build(review: Review) -> Said:
    for key, source in review.head.sources.items():
        twin = review.base.sources.get(key)
        if source.is_broken and not (twin and source.inputs and source.inputs == twin.inputs):
            yield f"Application {key}", f"{source.unrendered}{_fate(review, key)}"


@rule(
    "remote-missing",
    "danger",
    looks_for="a remote base whose reference does not exist",
    reason="Argo CD cannot render the Application, and keeps the old state.",
    action="Correct the reference.",
)
def remote_missing(review: Review) -> Said:
    return _unknown(review, missing=True)


@rule(
    "not-rendered",
    "warning",
    looks_for="a changed file or Application that is not rendered here",
    reason="The review does not show what it changes in the cluster.",
    action="Run `homelab diff` where the source can be reached, or read the changed files and release notes.",
)
def not_rendered(review: Review) -> Said:
    yield from _unknown(review, missing=False)
    yield from _unexpanded(review)
    for item in review.unread:
        who = f"; the ApplicationSet {item.reader} may read it" if item.reader else ""
        yield item.file, f"{item.reason}{who}"


def _unexpanded(review: Review) -> Said:
    """The ApplicationSets whose Applications are not known at a side, with those of the other side."""
    for name in sorted({*review.base.unexpanded, *review.head.unexpanded}):
        why = [side.unexpanded[name][0] for side in (review.head, review.base) if name in side.unexpanded]
        if len(why) == 2 and not any(change.id.name == name for change in review.of("ApplicationSet")):
            continue
        known = review.head if name not in review.head.unexpanded else review.base
        generated = [source for source in known.sources.values() if source.generator == name]
        names = [source.key for source in (*generated, *known.below(generated)) if not source.documents]
        when = "before the change " if known is review.head else ""
        yield f"ApplicationSet {name}", f"{when}its Applications are not known: {why[0]}{_not_known(names)}"


@rule(
    "remote-base",
    "note",
    looks_for="another reference of a remote base",
    reason="The Application takes over what upstream changed.",
    action="Read upstream's release notes.",
)
def remote_base(review: Review) -> Said:
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin and not source.unrendered:
            for address, before, after in changed_references(twin.remotes, source.remotes):
                yield f"Application {name}", f"{address}: {before} → {after}"


def _unknown(review: Review, missing: bool) -> Said:
    """Applications that differ and that a side cannot render, with the files and references that change."""
    for name in sorted({*review.base.sources, *review.head.sources}):
        twin, source = review.base.sources.get(name), review.head.sources.get(name)
        if source and source.is_broken:
            continue
        reasons = [side.unrendered for side in (source, twin) if side and side.unrendered]
        if not reasons or (source and twin and source.inputs and source.inputs == twin.inputs):
            continue
        if missing != bool(source and source.is_missing):
            continue
        moved = changed_references(twin.remotes if twin else [], source.remotes if source else [])
        said = [f"{address}: {before} → {after}" for address, before, after in moved]
        files = [file for file in review.files if any(side and reads(side, file) for side in (source, twin))]
        if files:
            said.append(
                f"changed here: {', '.join(files[:6])}{f' and {len(files) - 6} more' if len(files) > 6 else ''}"
            )
        when = "" if source is None or source.unrendered else "before the change "
        yield f"Application {name}", "; ".join([f"{when}{reasons[0]}", *said]) + _fate(review, name)


def _fate(review: Review, key: str) -> str:
    """The Applications below one that is not rendered at a side: nothing is known of them there."""
    found: set[str] = set()
    for side, other in ((review.base, review.head), (review.head, review.base)):
        source = side.sources.get(key)
        if source is not None and not source.unrendered:
            found |= {item.key for item in side.below([source]) if item.key not in other.sources}
    return _not_known(found)


def _not_known(applications: Iterable[str]) -> str:
    names = ", ".join(sorted(applications))
    return f"; what becomes of the objects of {names} is not known" if names else ""

"""A review as one structure, which every output shows: terminal, Markdown, JSON and a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from homelab_mlops.gitops.argo_cd.applications import Side
from homelab_mlops.gitops.argo_cd.sides import render_sides
from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.review.compare import BOOTSTRAP, MISSING, Change, compare, shown_object
from homelab_mlops.review.rules.resources import say_sums
from homelab_mlops.review.rules.rule import LEVELS, Flag, Review
from homelab_mlops.review.rules.table import flags
from homelab_mlops.review.visible import visible, visible_value

SIGNS = {"added": "+", "removed": "-", "changed": "~", "orphaned": "!"}


@dataclass(frozen=True)
class Line:
    """One field that changes, safe to show; None where a side does not have it."""

    where: str
    before: Any
    after: Any
    note: str


@dataclass(frozen=True)
class Item:
    """One object that changes, with its credentials hidden."""

    action: str
    object: str
    group: str
    kind: str
    namespace: str
    name: str
    fields: list[Line]
    yaml: str
    why: str


@dataclass(frozen=True)
class Group:
    """The changes of one Application."""

    application: str
    items: list[Item]


@dataclass(frozen=True)
class Report:
    """What a change of the repository changes in the cluster."""

    base: str
    head: str
    applications: int
    touched: int
    files: int
    flags: list[Flag]
    groups: list[Group]
    sums: dict[str, tuple[str, str, str]]

    @property
    def counts(self) -> dict[str, int]:
        """How many objects are added, changed, removed, or stay without git."""
        items = [item.action for group in self.groups for item in group.items]
        return {action: items.count(action) for action in ("added", "changed", "removed", "orphaned")}

    @property
    def levels(self) -> dict[str, int]:
        """How many flags of each level there are."""
        return {level: sum(flag.level == level for flag in self.flags) for level in reversed(LEVELS)}

    @property
    def is_empty(self) -> bool:
        return not self.groups and not self.flags

    @property
    def summary(self) -> str:
        """One line."""
        if self.is_empty:
            files = "file" if self.files == 1 else "files"
            said = f"{self.applications} applications compared, {self.files} changed {files} accounted for"
            return f"Nothing changes in the cluster ({said})."
        counts, levels = self.counts, self.levels
        objects = [f"{counts[key]} {key}" for key in ("added", "changed", "removed") if counts[key]]
        if counts["orphaned"]:
            objects.append(f"{counts['orphaned']} left behind")
        marks = [f"{count} {level}{'s' if count > 1 else ''}" for level, count in levels.items() if count]
        where = f"in {self.touched} of {self.applications} applications"
        return f"{', '.join(objects) or 'No object changes'} {where}; {', '.join(marks) or 'no flags'}."

    def fails(self, level: str | None) -> bool:
        """Whether a flag is of ``level`` or worse."""
        return level is not None and any(LEVELS.index(flag.level) >= LEVELS.index(level) for flag in self.flags)

    def as_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "head": self.head,
            "summary": self.summary,
            "counts": self.counts,
            "levels": self.levels,
            "requests": {
                key: dict(zip(("before", "after", "budget"), value, strict=True)) for key, value in self.sums.items()
            },
            "flags": [asdict(flag) for flag in self.flags],
            "applications": [asdict(group) for group in self.groups],
        }


def review(base: Tree, head: Tree, roots: tuple[str, ...] = ()) -> Report:
    """Compares what Argo CD would apply at two sides.

    Raises:
        RepositoryError: a side has no Application.
    """
    return report_of(*render_sides(base, head, roots))


def report_of(before: Side, after: Side) -> Report:
    """Compares two sides that are rendered."""
    changes, _, _ = compare(before, after)
    looked_at = Review(before, after, changes)
    groups: dict[str, list[Item]] = {}
    for change in changes:
        if looked_at.is_only_renamed(change):
            continue  # the rule application-renamed reports all of them at once
        groups.setdefault(change.application, []).append(_item(change))
    names = {name for side in (before, after) for name in side.sources}
    listed = [
        Group("root, applied by `homelab bootstrap`" if name == BOOTSTRAP else visible(name), items)
        for name, items in groups.items()
    ]
    of_roots = [change.id for change in changes if change.application == BOOTSTRAP]
    roots_touched = {item.name for item in of_roots if item.kind == "Application"}
    touched = len(names & (groups.keys() | roots_touched))
    files, sums = len(looked_at.files), say_sums(looked_at)
    return Report(before.tree.label, after.tree.label, len(names), touched, files, flags(looked_at), listed, sums)


def _item(change: Change) -> Item:
    lines = [
        Line(visible(item.where), _shown(item.shown[0]), _shown(item.shown[1]), item.note) for item in change.fields
    ]
    whole = change.after or change.before
    text = visible(shown_object(whole), lines=True) if whole and change.action != "changed" else ""
    group, kind, namespace, name = map(visible, change.id)
    what, why = visible(str(change.id)), visible(change.why)
    return Item(change.action, what, group, kind, namespace, name, lines, text, why)


def _shown(value: Any) -> Any:
    return None if value is MISSING else visible_value(value)


def brief(value: Any, width: int = 120) -> str:
    """A value in one line."""
    import json

    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text if text else '""'
    text = text.replace("\n", "⏎")
    return text if len(text) <= width else f"{text[: width - 1]}…"

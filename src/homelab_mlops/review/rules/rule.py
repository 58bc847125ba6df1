"""What a rule is, what it may look at, and what the rules share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from homelab_mlops.gitops.argo_cd.applications import Side, Source
from homelab_mlops.gitops.argo_cd.owners import Unread, unread
from homelab_mlops.gitops.argo_cd.trees import changed
from homelab_mlops.gitops.budgets import load_budgets
from homelab_mlops.location import SETTINGS
from homelab_mlops.manifests.objects import Container, containers
from homelab_mlops.manifests.quantities import Requests
from homelab_mlops.review.compare import MISSING, Change, request_sums

Level = Literal["note", "warning", "danger"]
LEVELS: tuple[Level, ...] = ("note", "warning", "danger")
Said = Iterator[tuple[str, str]]
"""What a rule finds: an object, and a sentence about it."""


@dataclass
class Review:
    """Everything that a rule may look at."""

    base: Side
    head: Side
    changes: list[Change]

    def of(self, *kinds: str) -> Iterator[Change]:
        """The changes of the given kinds that reach the cluster."""
        return (change for change in self.changes if change.id.kind in kinds and change.action != "orphaned")

    @cached_property
    def requests(self) -> tuple[Requests, Requests]:
        """What all Applications request, before and after."""
        return request_sums(self.base, self.head), request_sums(self.head, self.base)

    @cached_property
    def budgets(self) -> dict[str, Decimal]:
        """The budgets in the settings of the head; empty where there are no settings.

        Raises:
            RepositoryError: the settings cannot be read.
        """
        if self.head.tree.read(str(SETTINGS)) is None:
            return {}
        return load_budgets(self.head.tree.folder)

    @cached_property
    def files(self) -> list[str]:
        """The files that differ."""
        return changed(self.base.tree, self.head.tree)

    @cached_property
    def unread(self) -> list[Unread]:
        """The changed files that no Application accounts for."""
        return unread(self.files, self.base, self.head)

    @cached_property
    def renamed(self) -> dict[str, str]:
        """The Applications that get another name and keep their sources and destination: the name before and after."""
        new = [source for key, source in self.head.sources.items() if key not in self.base.sources]
        found: dict[str, str] = {}
        for key, source in self.base.sources.items():
            twins = [item.key for item in new if item.renders_as(source) and item.key not in found.values()]
            if key not in self.head.sources and twins:
                found[key] = twins[0]
        return found

    def generated_before(self, application_set: Change) -> list[Source]:
        """The Applications that an ApplicationSet generated before the change."""
        return self.base.generated_by(application_set.id.name, application_set.application)

    def is_only_renamed(self, change: Change) -> bool:
        """Whether only the name of its Application changes."""
        if change.before is None or change.after is None or len(change.fields) != 1:
            return False
        return self.renamed.get(change.before.application) == change.after.application

    @cached_property
    def new_namespaces(self) -> set[str]:
        """The names of the namespaces that the change adds."""
        return {change.id.name for change in self.of("Namespace") if change.action == "added"}


@dataclass(frozen=True)
class Flag:
    """One answer of a rule, as the review shows it."""

    level: Level
    rule: str
    where: str
    what: str
    reason: str
    action: str


@dataclass(frozen=True)
class Rule:
    """What a rule looks for, why that matters, and what to do about it."""

    name: str
    level: Level
    looks_for: str
    reason: str
    action: str
    find: Callable[[Review], Said]


REGISTERED: list[Rule] = []


def rule(
    name: str, level: Level, *, looks_for: str, reason: str, action: str
) -> Callable[[Callable[[Review], Said]], Callable[[Review], Said]]:
    """Registers the function below it as the rule ``name``."""

    def register(find: Callable[[Review], Said]) -> Callable[[Review], Said]:
        REGISTERED.append(Rule(name, level, looks_for, reason, action, find))
        return find

    return register


def paired(change: Change) -> Iterator[tuple[Container | None, Container]]:
    """Each container after the change, with the same container before it."""
    before = {item.name: item for item in containers(change.old)}
    for item in containers(change.new):
        yield before.get(item.name), item


def fields_below(change: Change, *prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of each field that changes below ``prefix``."""
    for item in change.fields:
        if item.path[: len(prefix)] == prefix:
            yield item.where, item.before, item.after


def say(value: Any) -> str:
    """A value as people read it."""
    return "nothing" if value is MISSING or value is None else str(value)


def brief(shown: tuple[Any, Any]) -> str:
    """A change of a value in one short line."""
    texts = ["nothing" if value is MISSING else json.dumps(value, ensure_ascii=False, default=str) for value in shown]
    texts = [f"{text[:80]}…" if len(text) > 80 else text.strip('"') for text in texts]
    return f"{texts[0]} → {texts[1]}"


def compact(item: Any) -> str:
    """A small mapping in one line."""
    return ", ".join(f"{key}={value}" for key, value in item.items()) if isinstance(item, dict) else str(item)


def changed_references(before: list[str], after: list[str]) -> Iterator[tuple[str, str, str]]:
    """The remote bases whose reference changes: the address, the reference before and after."""
    known = {item.partition("?")[0]: item for item in before}
    for item in after:
        address = item.partition("?")[0]
        if address in known and known[address] != item:
            yield address, known[address].partition("ref=")[2], item.partition("ref=")[2]

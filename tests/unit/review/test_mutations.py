"""Every change of an object is reported, and what Kubernetes does not distinguish never is: 500 seeded ones of each."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from homelab_mlops.gitops.render import render_all
from homelab_mlops.manifests.objects import Manifest
from homelab_mlops.manifests.quantities import quantity
from homelab_mlops.review.compare import differences
from homelab_mlops.review.normalise import normalise
from tests.conftest import ROOT

COUNT = 500
SEED = 20261124
Place = tuple[Any, Any]


@pytest.fixture(scope="module")
def objects() -> list[Manifest]:
    found = [manifest for application in render_all(ROOT) for manifest in application.manifests]
    assert len(found) >= 100
    return found


def reported(before: Manifest, after: Manifest) -> bool:
    identity = [
        (item.get("kind"), item["metadata"].get("name"), item["metadata"].get("namespace")) for item in (before, after)
    ]
    if identity[0] != identity[1]:
        return True
    return any(differences(*(normalise(item, "default", set()) for item in (before, after))))


def places(node: Any) -> Iterator[Place]:
    """Every scalar and every entry: its parent and its key."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from places(value)


def mutate(manifest: Manifest, rng: random.Random) -> str:
    parent, key = rng.choice([place for place in places(manifest) if place[1] != "kind"])
    value = parent[key]
    match value:
        case bool():
            parent[key] = not value
        case int() | float():
            parent[key] = value + rng.choice([1, 7, -1])
        case str() if rng.random() < 0.7:
            parent[key] = value + rng.choice(["x", " ", "0", "-old"]) if value else "x"
        case dict() if value and rng.random() < 0.5:
            value[f"added{rng.randrange(99)}"] = "x"
        case list() if value and rng.random() < 0.5:
            value.append(copy.deepcopy(value[0]) if isinstance(value[0], dict) else "added")
            if isinstance(value[-1], dict):
                value[-1]["name"] = "added"
        case _:
            del parent[key]
    return f"{key}: {value!r}"


def test_every_mutation_is_reported(objects: list[Manifest]) -> None:
    rng = random.Random(SEED)
    missed = []
    for _ in range(COUNT):
        before = rng.choice(objects)
        after = copy.deepcopy(before)
        what = mutate(after, rng)
        if after.get("metadata") and "name" in after["metadata"] and not reported(before, after):
            missed.append((before["kind"], what))
    assert missed == []


def shuffled(node: Any, rng: random.Random) -> Any:
    if isinstance(node, dict):
        items = list(node.items())
        rng.shuffle(items)
        return {key: shuffled(value, rng) for key, value in items}
    return [shuffled(item, rng) for item in node] if isinstance(node, list) else node


def lists(node: Any, names: set[str]) -> Iterator[list[Any]]:
    for parent, key in places(node):
        if key in names and isinstance(parent[key], list) and len(parent[key]) > 1:
            yield parent[key]


def reorder(manifest: Manifest, rng: random.Random) -> None:
    names = {"containers", "env", "ports", "volumes", "volumeMounts", "tolerations", "verbs", "resources", "apiGroups"}
    names |= {"rules", "subjects", "policyTypes", "ingress", "egress", "from", "to", "accessModes", "finalizers"}
    if manifest["kind"] in ("Ingress", "CustomResourceDefinition"):
        return
    for items in lists(manifest, names):
        if "$(" not in str(items):
            rng.shuffle(items)


def requantify(manifest: Manifest, rng: random.Random) -> None:
    for parent, key in list(places(manifest)):
        if key in ("requests", "limits") and isinstance(parent[key], dict):
            for name, value in parent[key].items():
                number = quantity(str(value))
                if number is not None:
                    parent[key][name] = rng.choice([f"{number * 1000:f}m", f"{number:f}"])


def spell_defaults(manifest: Manifest, rng: random.Random) -> None:
    for parent, key in list(places(manifest)):
        value = parent[key]
        if manifest["kind"] in ("Deployment", "StatefulSet", "Service", "NetworkPolicy", "Job"):
            if key == "ports" and isinstance(value, list):
                for port in value:
                    port.setdefault("protocol", "TCP")
            if key in ("readinessProbe", "livenessProbe") and rng.random() < 0.7:
                value.setdefault("failureThreshold", 3)
                value.setdefault("timeoutSeconds", 1)
            if key == "template" and "spec" in value:
                value["spec"].setdefault("dnsPolicy", "ClusterFirst")
                value["spec"].setdefault("terminationGracePeriodSeconds", 30)
    if manifest["kind"] == "Deployment":
        manifest["spec"].setdefault("replicas", 1)
    manifest["metadata"].setdefault("creationTimestamp", None)


NEUTRAL: list[Callable[[Manifest, random.Random], None]] = [reorder, requantify, spell_defaults]


def test_no_neutral_rewrite_is_reported(objects: list[Manifest]) -> None:
    rng = random.Random(SEED)
    noise = []
    for _ in range(COUNT):
        before = rng.choice(objects)
        after = copy.deepcopy(before)
        rewrite = rng.choice(NEUTRAL)
        rewrite(after, rng)
        after = shuffled(after, rng)
        if reported(before, after):
            noise.append((before["kind"], rewrite.__name__, [item.where for item in differences(before, after)]))
    assert noise == []

"""Definitions of kinds that no longer fit the objects that exist."""

from __future__ import annotations

from typing import Any

from homelab_mlops.manifests.objects import Manifest, entries, get, strings
from homelab_mlops.review.rules.rule import Review, Said, rule


@rule(
    "crd-incompatible",
    "danger",
    looks_for="a CRD that loses a version or field, or that requires more",
    reason="Existing objects lose the field, or the API server refuses them.",
    action="Change the objects first, and remove the field one release later.",
)
def crd_incompatible(review: Review) -> Said:
    for change in review.of("CustomResourceDefinition"):
        if change.action != "changed":
            continue
        old, new = _schemas(change.old), _schemas(change.new)
        for version, item in old.items():
            after = new.get(version)
            if after is None:
                yield str(change.id), f"it loses version {version}"
                continue
            for key in ("served", "storage"):
                if item.get(key) is True and after.get(key) is not True:
                    yield (
                        str(change.id),
                        f"version {version} is no longer {'served' if key == 'served' else 'the stored one'}",
                    )
            one, other = (get(side, "schema", "openAPIV3Schema") for side in (item, after))
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
                needed = set(strings(get(schema, "required"))) - set(strings(get(was, "required")))
                if needed:
                    yield str(change.id), f"version {version}: {name or 'it'} now requires {', '.join(sorted(needed))}"


def _schemas(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {str(item.get("name")): item for item in entries(get(manifest, "spec", "versions"))}


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

"""Collects the rules of all subjects, and asks each of them about a change."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from homelab_mlops.review.masking import mask_text
from homelab_mlops.review.rules.rule import LEVELS, REGISTERED, Flag, Review, Rule
from homelab_mlops.review.visible import visible

SUBJECTS = (
    "data", "immutable", "rights", "network", "security", "secrets", "images", "resources", "crds", "schedules",
    "rendering", "applications", "models",
)  # fmt: skip
"""The modules, in the order in which their flags of one level are listed."""

_MODULES = [import_module(f"homelab_mlops.review.rules.{subject}").__name__ for subject in SUBJECTS]
RULES = sorted(REGISTERED, key=lambda rule: _MODULES.index(rule.find.__module__))


def flags(review: Review) -> list[Flag]:
    """Everything that the rules find, the most dangerous first."""
    found = [flag for rule in RULES for flag in _found(rule, review)]
    return sorted(found, key=lambda flag: -LEVELS.index(flag.level))


def _found(rule: Rule, review: Review) -> Iterator[Flag]:
    said: dict[tuple[str, str], None] = {}
    try:
        for one in rule.find(review):
            said[one] = None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A field of a form that Kubernetes refuses ends this rule, and is said.
        said["this rule", f"it ended early, at a field of another form than Kubernetes': {error}"] = None
    for where, what in said:
        yield Flag(rule.level, rule.name, visible(mask_text(where)), visible(mask_text(what)), rule.reason, rule.action)

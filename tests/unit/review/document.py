"""The table of docs/review.md, made of the rules."""

from __future__ import annotations

from homelab_mlops.review.rules.rule import LEVELS
from homelab_mlops.review.rules.table import RULES
from tests.conftest import ROOT
from tests.sections import Section

DOCUMENT = ROOT / "docs" / "review.md"
SECTION = Section("the rules")


def table() -> str:
    """A line for each rule, the most dangerous first."""
    ordered = sorted(RULES, key=lambda rule: -LEVELS.index(rule.level))
    rows = [f"| `{rule.name}` | {rule.level} | {rule.looks_for} |" for rule in ordered]
    return "\n".join(["| rule | level | looks for |", "|---|---|---|", *rows])


def with_tables(text: str) -> str:
    """The document with its table made anew."""
    return SECTION.written(text, table())

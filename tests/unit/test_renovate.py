"""Every pin of the repository is one that exactly one manager of Renovate finds."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

RENOVATE = json.loads((ROOT / "renovate.json").read_text())
# What looks like a pin, whoever reads it: an image with its tag, a version in quotes, a ref, an action, a requirement.
PINS = (
    r"\b[a-z][a-z0-9.-]*(?:/[a-z0-9._-]+)+:(v?\d[\w.-]*)",
    r"^FROM (?:[\w./-]+):(v?\d\S+)",
    r"[\"@=](v\d+\.\d+\.\d+[\w.-]*)",
    r"\buses: \S+@([0-9a-f]{40})",
    r"^\s+newTag: (\S+)$",
    r"==(\d[\w.]+)",
)
# Text that names versions without pinning one.
NO_PINS = re.compile(
    r"^(docs|tests|LICENSE|README|CONTRIBUTING|renovate\.json|.*\.md$|workflows/models/model\.schema\.json)"
)
# The files that a manager of Renovate reads by itself, as its source declares them; renovate.json may name others.
FILES = {
    "dockerfile": [r"/(^|/|\.)([Dd]ocker|[Cc]ontainer)file$/", r"/(^|/)([Dd]ocker|[Cc]ontainer)file[^/]*$/"],
    "github-actions": [
        r"/(^|/)(workflow-templates|\.(?:github|gitea|forgejo)/(?:workflows|actions))/.+\.ya?ml$/",
        r"/(^|/)action\.ya?ml$/",
    ],
    "kubernetes": [],
    "kustomize": [r"/(^|/)kustomization\.ya?ml$/"],
    "pep621": [r"/(^|/)pyproject\.toml$/"],
    "pip_requirements": [r"/(^|/)[\w-]*requirements([-._]\w+)?\.(txt|pip)$/"],
}
# Where each of these finds a version in them.
VERSIONS = {
    "dockerfile": (r"^FROM +[^\s:@]+:([^\s@]+)",),
    "github-actions": (r"^\s*(?:- )?uses: [\w./-]+@([0-9a-f]{40}) # v\S+$", r"^\s+image: [^:\s]+:(\S+)$"),
    "kubernetes": (r"^\s*(?:- )?image: [^:\s]+:(\S+)$",),
    "kustomize": (r"^\s+newTag: (\S+)$", r"^\s+- https://\S+\?ref=(\S+)$"),
    "pep621": (r"\"[\w-]+(?:\[[\w,-]+\])?==([^\",]+)\"",),
    "pip_requirements": (r"^[\w.-]+(?:\[[\w,-]+\])?==([^\s;]+)",),
}
# What the preset config:recommended leaves out.
IGNORED = re.compile(r"(^|/)(node_modules|bower_components|vendor|examples|__tests__|test|tests|__fixtures__)/")
# What JavaScript's regular expressions have and RE2, which Renovate runs them with, has not.
NOT_RE2 = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<")


class Place(NamedTuple):
    """Where a version stands."""

    file: str
    start: int
    version: str


@cache
def texts() -> dict[str, str]:
    """Every tracked file that may pin something."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [line for line in listed.stdout.split() if not NO_PINS.match(line) and (ROOT / line).is_file()]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def _reads(patterns: list[str], file: str) -> bool:
    """Whether a manager reads the file: one of its patterns, ``/regex/``, is of it."""
    assert all(len(pattern) > 2 and pattern[0] == pattern[-1] == "/" for pattern in patterns), "a glob: not known here"
    return not IGNORED.search(file) and any(re.search(pattern[1:-1], file) for pattern in patterns)


def _python(pattern: str) -> re.Pattern[str]:
    """A pattern of renovate.json as it stands there, but for how Python writes the name of a group."""
    assert not NOT_RE2.search(pattern), f"RE2 does not know this: {pattern}"
    return re.compile(re.sub(r"\(\?<(\w+)>", r"(?P<\1>", pattern))


def found_by(manager: str, patterns: list[str]) -> Iterator[Place]:
    """The versions that a manager which Renovate brings extracts."""
    for file, text in texts().items():
        if _reads(patterns, file):
            for pattern in VERSIONS[manager]:
                for match in re.finditer(pattern, text, re.MULTILINE):
                    yield Place(file, match.start(1), match[1])


def found_by_our_own(manager: dict[str, list[str]], pattern: str) -> Iterator[Place]:
    """The versions that one pattern of a manager of renovate.json extracts."""
    for file, text in texts().items():
        if _reads(manager["managerFilePatterns"], file):
            for match in _python(pattern).finditer(text):
                assert match["depName"], pattern
                yield Place(file, match.start("currentValue"), match["currentValue"])


def test_exactly_one_manager_finds_each_pin() -> None:
    finders: dict[Place, list[str]] = {}
    for name, patterns in FILES.items():
        for place in found_by(name, patterns + RENOVATE.get(name, {}).get("managerFilePatterns", [])):
            finders.setdefault(place, []).append(name)
    for number, manager in enumerate(RENOVATE["customManagers"]):
        for pattern in manager["matchStrings"]:
            for place in found_by_our_own(manager, pattern):
                finders.setdefault(place, []).append(f"custom {number}")
    pins = {
        Place(file, match.start(1), match[1])
        for file, text in texts().items()
        for pattern in PINS
        for match in re.finditer(pattern, text, re.MULTILINE)
    }

    assert {pin: finders.get(pin, []) for pin in pins if len(finders.get(pin, [])) != 1} == {}
    assert len(pins) > 100


def test_renovate_json_names_only_managers_that_are_known_here() -> None:
    configured = {key for key, value in RENOVATE.items() if isinstance(value, dict) and "managerFilePatterns" in value}

    assert configured <= FILES.keys()
    assert {manager["customType"] for manager in RENOVATE["customManagers"]} == {"regex"}
    assert all(manager["datasourceTemplate"] for manager in RENOVATE["customManagers"])


@pytest.mark.parametrize(
    ("number", "pattern"),
    [(number, text) for number, one in enumerate(RENOVATE["customManagers"]) for text in one["matchStrings"]],
)
def test_each_manager_of_our_own_finds_something(number: int, pattern: str) -> None:
    """A pattern that matches nothing any more would be silent."""
    assert list(found_by_our_own(RENOVATE["customManagers"][number], pattern))


@pytest.mark.parametrize("manager", FILES)
def test_each_manager_that_renovate_brings_finds_something(manager: str) -> None:
    patterns = FILES[manager] + RENOVATE.get(manager, {}).get("managerFilePatterns", [])
    assert list(found_by(manager, patterns))

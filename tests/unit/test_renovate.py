"""Every pin of the repository is one that Renovate finds."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

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


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.split() if not NO_PINS.match(line) and (ROOT / line).is_file()]


def matches(patterns: list[str], path: Path) -> bool:
    """Whether one of Renovate's file patterns, ``/regex/``, is of this file."""
    return any(re.search(pattern.strip("/"), str(path)) for pattern in patterns)


def found_by_renovate(path: Path, text: str) -> Iterator[str]:
    """The versions that Renovate's managers extract from a file, as their documentation says what each reads."""
    if path.name == "Dockerfile":
        yield from re.findall(r"^FROM \S+?:(\S+)", text, re.MULTILINE)
    if path.name == "kustomization.yaml":
        content = yaml.safe_load(text)
        yield from (image["newTag"] for image in content.get("images", []))
        for resource in content.get("resources", []):
            yield from re.findall(r"^https://\S+\?ref=(\S+)", resource)
    if path.parent in (Path(".github/workflows"), Path(".forgejo/workflows")):
        yield from re.findall(r"uses: \S+@(\S+) # v", text)
        yield from re.findall(r"^\s+image: [^:\s]+:(\S+)$", text, re.MULTILINE)
    if path.name == "pyproject.toml":
        yield from re.findall(r"\"[\w-]+==([^\"]+)\"", text)
    if matches(RENOVATE["kubernetes"]["managerFilePatterns"], path):
        yield from re.findall(r"^\s*(?:- )?image: [^:\s]+:(\S+)$", text, re.MULTILINE)
    if matches(RENOVATE["pip_requirements"]["managerFilePatterns"], path):
        yield from re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==(\S+)", text, re.MULTILINE)
    for manager in RENOVATE["customManagers"]:
        if matches(manager["managerFilePatterns"], path):
            for pattern in manager["matchStrings"]:
                for match in re.finditer(pattern.replace("(?<", "(?P<"), text):
                    assert match["depName"], pattern
                    yield match["currentValue"]


def test_renovate_finds_every_pin() -> None:
    pins = 0
    for path in tracked():
        text = (ROOT / path).read_text(encoding="utf-8")
        looks_pinned = {version for pattern in PINS for version in re.findall(pattern, text, re.MULTILINE)}
        pins += len(looks_pinned)
        assert looks_pinned <= set(found_by_renovate(path, text)), path
    assert pins > 100


def test_each_manager_of_our_own_finds_something() -> None:
    """A pattern that matches nothing any more would be silent."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in tracked()}
    for manager in RENOVATE["customManagers"]:
        for pattern in manager["matchStrings"]:
            assert any(
                re.search(pattern.replace("(?<", "(?P<"), text)
                for path, text in texts.items()
                if matches(manager["managerFilePatterns"], path)
            ), pattern

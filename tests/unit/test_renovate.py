"""Every pin of the repository is one that Renovate itself finds, once. ``make renovate`` installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import ROOT

INSTALLED = ROOT / ".tools" / "renovate" / "node_modules"
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
# What JavaScript's regular expressions have and RE2 has not. A forge's Renovate runs with RE2, which npm installs
# only by the scripts of packages.
NOT_RE2 = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<")


class Pin(NamedTuple):
    """A version that a file pins."""

    file: str
    version: str


def pins(tree: Path) -> Counter[Pin]:
    """How often each file pins each version."""
    listed = subprocess.run(["git", "ls-files"], cwd=tree, capture_output=True, text=True, check=True)
    found: Counter[Pin] = Counter()
    for file in listed.stdout.split():
        if not NO_PINS.match(file):
            text = (tree / file).read_text(encoding="utf-8")
            places = {match.span(1) for pattern in PINS for match in re.finditer(pattern, text, re.MULTILINE)}
            found.update(Pin(file, text[start:end]) for start, end in places)
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files as they are now, in a repository of their own, without what else lies in the folder."""
    tree = tmp_path_factory.mktemp("renovate") / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for file in listed.stdout.split("\0"):
        if (ROOT / file).is_file():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, tree / file)
    subprocess.run(["git", "init", "--quiet"], cwd=tree, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tree, check=True)
    return tree


@pytest.fixture(scope="module")
def extracted(tree: Path) -> dict[str, list[dict[str, Any]]]:
    """What Renovate extracts from the tree, by manager: for each file its dependencies. It asks no server for them."""
    if not INSTALLED.is_dir():
        pytest.skip("Renovate is not installed: make renovate")
    (node,) = INSTALLED.glob("node-linux-*/bin/node")
    environment = {
        "HOME": str(tree.parent),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
        "PATH": os.pathsep.join([str(node.parent), os.environ["PATH"]]),
        "RENOVATE_BASE_DIR": str(tree.parent / "work"),
    }
    command = [str(node), str(INSTALLED / "renovate/dist/renovate.js"), "--platform=local", "--dry-run=extract"]
    run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    messages = [json.loads(line) for line in run.stdout.splitlines()]
    (found,) = [message["packageFiles"] for message in messages if "packageFiles" in message]
    return dict(found)


def found_by(manager: str, files: list[dict[str, Any]]) -> Counter[Pin]:
    """How often a manager of Renovate finds each version in each file."""
    found: Counter[Pin] = Counter()
    for file in files:
        for one in file["deps"]:
            version = one.get("currentDigest") or one.get("currentValue") or ""
            found[Pin(file["packageFile"], version.removeprefix("=="))] += 1
            assert one.get("skipReason") in {None, "github-token-required", "contains-variable", "unspecified-version"}
    assert found, manager
    return found


def test_renovate_finds_each_pin_once(tree: Path, extracted: dict[str, list[dict[str, Any]]]) -> None:
    pinned, found = pins(tree), Counter[Pin]()
    for manager, files in extracted.items():
        found.update(found_by(manager, files))

    assert {pin: (times, found[pin]) for pin, times in pinned.items() if found[pin] != times} == {}
    assert len(pinned) > 100


def test_each_manager_of_our_own_finds_something(extracted: dict[str, list[dict[str, Any]]]) -> None:
    """A pattern that matches nothing any more would be silent."""
    configured = {
        pattern
        for manager in json.loads((ROOT / "renovate.json").read_text())["customManagers"]
        for pattern in manager["matchStrings"]
    }
    texts = [one["replaceString"] for file in extracted["regex"] for one in file["deps"]]

    assert [pattern for pattern in configured if not any(_python(pattern).search(text) for text in texts)] == []


def test_a_major_version_of_postgresql_is_proposed_by_nobody_but_a_person() -> None:
    (image,) = re.findall(r"image: (\S*postgres\S*):", (ROOT / "base/mlflow/postgresql.yaml").read_text())
    rules = json.loads((ROOT / "renovate.json").read_text())["packageRules"]
    majors = [
        rule
        for rule in rules
        if "major" in rule.get("matchUpdateTypes", []) and rule.get("dependencyDashboardApproval")
    ]
    assert [image] in [rule["matchPackageNames"] for rule in majors]


def _python(pattern: str) -> re.Pattern[str]:
    """A pattern of renovate.json, but for how Python writes the name of a group."""
    assert not NOT_RE2.search(pattern), f"RE2 does not know this: {pattern}"
    return re.compile(re.sub(r"\(\?<(\w+)>", r"(?P<\1>", pattern))

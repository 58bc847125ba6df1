"""Repositories of other people's shapes: every random edit that changes what kustomize or helm builds is said."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.unit.review.edits import edit_at_random
from tests.unit.review.oracle import FAILED, as_stored, built
from tests.unit.review.repository import REVIEWS, commit, diffed, git, of_shape

# A folder for each shape: apps of apps, sets over folders, several clusters with bases, charts with values elsewhere.
SHAPES = sorted(path.name for path in (REVIEWS / "shapes").iterdir() if path.is_dir())
EDITS = int(os.environ.get("EDITS", "12"))
SEED = os.environ.get("SEED", "0")


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = of_shape(tmp_path_factory.mktemp("shapes") / str(request.param), request.param)
    commit(root, "The tree before")
    return root


@pytest.fixture
def tree(shape: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(shape)
    yield shape
    restore(shape)


def restore(root: Path) -> None:
    git(root, "reset", "--quiet", "--hard")
    git(root, "clean", "--quiet", "-d", "--force")


def test_every_application_is_found(tree: Path) -> None:
    expected = (REVIEWS / "shapes" / f"{tree.name}.txt").read_text().split()
    (tree / "more.yaml").write_text("a: b\n")
    found = diffed()
    assert re.search(r"of (\d+) applications", found["summary"]), found["summary"]
    assert f"of {len(expected)} applications" in found["summary"]


def test_every_edit_is_reported_or_flagged(tree: Path) -> None:
    rng = random.Random(f"{tree.name} {SEED}")
    lines = (REVIEWS / "shapes" / f"{tree.name}.builds").read_text().splitlines()
    if any(line.split()[1] in ("helm", "inflate") for line in lines) and shutil.which("helm") is None:
        pytest.skip("helm is not here")
    before = built(tree, lines)
    assert not any(FAILED in objects for objects in before)
    unsaid = []
    for _ in range(EDITS):
        what = edit_at_random(tree, rng)
        found = diffed()
        # Silence is right where plain kustomize and helm build the same, as of a value that another one overrides.
        if not found["applications"] and not found["flags"]:
            after = built(tree, lines)
            unsaid += [(what, line) for line, one, other in zip(lines, before, after, strict=True) if one != other]
        restore(tree)
    assert unsaid == []


def test_the_oracle_fills_in_two_fields_alone() -> None:
    def stored(kind: str, metadata: dict[str, str], spec: dict[str, int]) -> list[str]:
        item = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", **metadata}, "spec": spec}
        return as_stored([yaml.safe_dump(item)], "web")

    whole = stored("Deployment", {"namespace": "web"}, {"replicas": 1})
    assert whole == stored("Deployment", {}, {})
    assert whole != stored("Deployment", {"namespace": "other"}, {"replicas": 1})
    assert whole != stored("Deployment", {}, {"replicas": 2})
    assert stored("DaemonSet", {}, {"replicas": 1}) != stored("DaemonSet", {}, {})

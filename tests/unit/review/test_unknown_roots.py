"""A root whose revision the clone lacks: what it renders is not known, and neither is what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import foreign
from tests.unit.review.repository import REVIEWS, commit, diffed, edit, git, of_shape

# By shape, the file of a root, its key and the Applications below it.
ROOTS = {
    "apps-of-apps": ("bootstrap/root.yaml", "root", {"more", "plain", "web"}),
    "clusters": ("clusters/west/root.yaml", "west/root", {"west/store"}),
    "sets": ("root.yaml", "root", {"api-dev", "api-prod", "one", "page-dev", "page-prod", "two"}),
}


def moved(root: Path, file: str) -> None:
    lines = (root / file).read_text().splitlines()
    lines = [f"{line.partition(':')[0]}: elsewhere" if "targetRevision:" in line else line for line in lines]
    assert lines != (root / file).read_text().splitlines()
    (root / file).write_text("\n".join(lines) + "\n")


def fates(found: dict[str, Any], key: str) -> set[str]:
    """The Applications of whose objects the flag of a root says that nothing is known."""
    (flag,) = [item for item in found["flags"] if item["rule"] == "not-rendered"]
    assert flag["where"] == f"Application {key}"
    assert "its revision elsewhere is not in this clone" in flag["what"]
    _, _, rest = flag["what"].partition("what becomes of the objects of ")
    return set(rest.removesuffix(" is not known").split(", "))


@pytest.mark.parametrize("shape", ROOTS)
def test_a_revision_that_the_clone_lacks(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, key, below = ROOTS[shape]
    root = of_shape(tmp_path / shape, shape)
    monkeypatch.chdir(root)
    commit(root, "before")
    moved(root, file)
    for what in ("there", "and back"):
        found = diffed()
        assert fates(found, key) == below
        # Of all objects the root alone changes: none is new, gone or left behind.
        assert [group["application"] for group in found["applications"]] == ["root, applied by `homelab bootstrap`"]
        commit(root, what)
        git(root, "checkout", "--quiet", "HEAD^", "--", file)
    edit(root, {"write": {file: (REVIEWS / "shapes" / shape / file).read_text()}})
    commit(root, "as it was")
    assert foreign.main(root, 4) == 0


def test_a_change_below_such_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = of_shape(tmp_path / "apps", "apps-of-apps")
    monkeypatch.chdir(root)
    moved(root, "bootstrap/root.yaml")
    commit(root, "before")
    edit(root, {"replace": {"workloads/web/web.yaml": {"kind: Deployment": "kind: StatefulSet"}}})
    assert [flag["where"] for flag in diffed()["flags"]] == ["workloads/web/web.yaml"]


def test_a_root_that_no_longer_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = of_shape(tmp_path / "apps", "apps-of-apps")
    monkeypatch.chdir(root)
    commit(root, "before")
    edit(root, {"write": {"argocd/apps/kustomization.yaml": "resources: [nothing.yaml]\n"}})
    found = diffed()
    assert found["applications"] == []
    (what,) = [flag["what"] for flag in found["flags"] if flag["where"] == "Application root"]
    assert "what becomes of the objects of more, plain, web is not known" in what

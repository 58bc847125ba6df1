"""What a chart of the repository takes from another one: `homelab diff` asks helm, as Argo CD does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.review.repository import commit, diffed, edit, needs_helm, of_shape

pytestmark = needs_helm


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = of_shape(tmp_path / "charts", "charts")
    commit(root, "before")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        ("chart/Chart.yaml", "version: 0.1.0", "version: 0.9.0", "does-not-build"),
        ("common/Chart.yaml", "version: 0.1.0", "version: 0.2.0", "does-not-build"),
        ("chart/Chart.yaml", "version: 0.1.0", "version: ~0.1.0", None),
        ("chart/Chart.yaml", "file://../common", "file://../../elsewhere", "does-not-build"),
        ("chart/Chart.yaml", "file://../common", "https://charts.invalid", "not-rendered"),
    ],
)
def test_a_version_that_another_chart_has(file: str, old: str, new: str, rule: str | None, tree: Path) -> None:
    edit(tree, {"replace": {file: {old: new}}})
    found = diffed()
    assert {flag["rule"] for flag in found["flags"]} == ({rule} if rule else set())
    assert found["applications"] == []


def test_a_packed_copy_comes_first(tree: Path) -> None:
    shutil.copytree(tree / "common", tree / "chart/charts/common")
    commit(tree, "packed")
    edit(tree, {"replace": {"common/templates/map.yaml": {"name: common": "name: beside"}}})
    assert diffed()["applications"] == []
    edit(tree, {"replace": {"chart/charts/common/templates/map.yaml": {"name: common": "name: packed"}}})
    names = {item["object"] for group in diffed()["applications"] for item in group["items"]}
    assert {"ConfigMap shop/packed", "ConfigMap stock/packed"} <= names

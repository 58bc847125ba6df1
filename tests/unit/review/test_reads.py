"""The files that the review takes for read are those that kustomize reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops.argo_cd.kustomizations import read_by_kustomize
from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.gitops.render import build
from homelab_mlops.review.run import sides
from tests.unit.review.repository import REVIEWS, commit, edit, git


@pytest.fixture
def root(tmp_path: Path) -> Path:
    target = tmp_path / "reads"
    shutil.copytree(REVIEWS / "shapes" / "kustomizations", target)
    git(target, "init", "--quiet", "--initial-branch", "main")
    return target


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    commit(root, "The tree")
    with sides(root, "HEAD", "HEAD") as (_, head):
        yield head


def test_a_file_is_read_where_the_build_misses_it(root: Path, tree: Tree) -> None:
    """Without a file that is read, kustomize builds something else, or nothing."""
    whole = build(root / "app")
    missed = set()
    for file in sorted(tree.below(".")):
        content = (root / file).read_bytes()
        (root / file).unlink()
        try:
            is_missed = build(root / "app") != whole
        except ToolError:
            is_missed = True
        (root / file).write_bytes(content)
        if is_missed:
            missed.add(file)
    assert read_by_kustomize(tree, "app", {}).files == missed
    assert len(missed) >= 25


def test_what_helm_charts_of_a_kustomization_name(root: Path) -> None:
    content = """
helmGlobals: {chartHome: my-charts}
helmCharts:
  - name: web
    valuesFile: values.yaml
    additionalValuesFiles: [more.yaml]
"""
    files = {"app/kustomization.yaml": content, "app/values.yaml": "a: b", "app/more.yaml": "a: b"}
    edit(root, {"write": files | {"app/my-charts/web/Chart.yaml": "name: web"}})
    commit(root, "The tree")
    with sides(root, "HEAD", "HEAD") as (_, head):
        found = read_by_kustomize(head, "app", {}).files
    assert found == {*files, "app/my-charts/web"}


def test_a_link_is_followed(root: Path) -> None:
    (root / "app/account.yaml").unlink()
    (root / "app/account.yaml").symlink_to("more/account.yaml")
    edit(root, {"write": {"app/more/account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n"}})
    commit(root, "The tree")
    with sides(root, "HEAD", "HEAD") as (_, head):
        found = read_by_kustomize(head, "app", {})
    assert {"app/account.yaml", "app/more/account.yaml"} <= found.files
    assert not found.is_known

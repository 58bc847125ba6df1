"""The tree holds to every policy, and a tree with one fault does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from homelab_mlops.gitops.check import check_repository
from homelab_mlops.gitops.policies import OPTIONAL, POLICIES
from homelab_mlops.gitops.render import render
from tests.conftest import ROOT

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
DECLARED = ("apps", "base", "clusters", "overlays", "workflows")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the declared platform, with the repository's tools."""
    for folder in DECLARED:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    return tmp_path


def test_the_tree_holds() -> None:
    report = check_repository(ROOT)
    assert [str(finding) for finding in report.findings] == []
    assert report.objects >= 100
    assert set(report.not_rendered) <= {"argo-cd"}


def test_each_policy_has_a_broken_tree() -> None:
    named = {yaml.safe_load(path.read_text())["finding"].partition("]")[0][1:] for path in BROKEN}
    assert named == {*POLICIES, "schema", "argo-lint"}


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_tree_is_found(path: Path, tree: Path) -> None:
    fault = yaml.safe_load(path.read_text())
    file = tree / fault["file"]
    text = file.read_text()
    assert fault["replace"] in text
    file.write_text(text.replace(fault["replace"], fault["with"]))
    found = [str(finding) for finding in check_repository(tree).findings]
    assert any(finding.startswith(fault["finding"]) for finding in found), found


@pytest.mark.parametrize("component", OPTIONAL)
def test_the_tree_with_an_optional_component_holds(component: str, tree: Path) -> None:
    kustomization = tree / "overlays" / "homelab" / component.split("/")[1] / "kustomization.yaml"
    text = kustomization.read_text()
    assert component not in text
    kustomization.write_text(text.replace("components:\n", f"components:\n  - ../../../{component}\n"))
    assert [str(finding) for finding in check_repository(tree).findings] == []
    rendered = render(kustomization.parent)
    assert any(
        "homelab-mlops/request-log" in str(manifest["spec"])
        for manifest in rendered
        if manifest["kind"] == "Deployment"
    )

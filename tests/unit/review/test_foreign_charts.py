"""A chart of somebody else renders the ApplicationSets: the review says by name what it could not render."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from homelab_mlops.cli import app
from tests.unit.review.repository import commit, diffed, edit, git

VALUES = """
applicationsets:
  all:
    generators: [{git: {repoURL: https://forge.example/me/lab.git, directories: [{path: apps/*}]}}]
"""
INFLATED = "helmCharts: [{name: argocd-apps, repo: https://charts.example, version: 2.0.0, valuesFile: values.yaml}]\n"
CHART = "apiVersion: v2\nname: apps\nversion: 1.0.0\ndependencies: [{name: argocd-apps, repository: https://charts.example}]\n"
ROOT = """
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: root, namespace: argocd}
spec:
  project: default
  sources:
  - repoURL: https://charts.example
    chart: argocd-apps
    targetRevision: 2.0.0
    helm: {valueFiles: [$values/argocd/values.yaml]}
  - {repoURL: https://forge.example/me/lab.git, targetRevision: main, ref: values}
  destination: {name: in-cluster, namespace: argocd}
"""
FOLDER = ROOT[: ROOT.index("  sources")] + (
    "  source: {repoURL: https://forge.example/me/lab.git, targetRevision: main, path: argocd}\n"
    "  destination: {name: in-cluster, namespace: argocd}\n"
)
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: b}\n"


def repository(root: Path, files: dict[str, str]) -> None:
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    edit(root, {"write": {"apps/web/map.yaml": MAP, "argocd/values.yaml": VALUES, **files}})
    commit(root, "before")


@pytest.mark.parametrize(("file", "text"), [("argocd/kustomization.yaml", INFLATED), ("argocd/Chart.yaml", CHART)])
def test_no_application(file: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "lab", {file: text})
    monkeypatch.chdir(tmp_path / "lab")
    edit(Path.cwd(), {"replace": {"apps/web/map.yaml": {"a: b": "a: c"}}})
    result = CliRunner().invoke(app, ["diff"])
    assert result.exit_code == 1
    said = " ".join(str(result.exception).split())
    assert f"what {file}, argocd/values.yaml render is not known" in said


def test_a_file_name_that_is_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "lab", {"argocd/\x1b[31m.yaml": INFLATED})
    monkeypatch.chdir(tmp_path / "lab")
    result = CliRunner().invoke(app, ["diff"])
    assert "argocd/\\x1b[31m.yaml" in str(result.exception)


@pytest.mark.parametrize(
    "files",
    [
        {"root.yaml": ROOT},
        {"root.yaml": FOLDER, "argocd/kustomization.yaml": INFLATED},
        {"root.yaml": FOLDER, "argocd/Chart.yaml": CHART},
    ],
)
def test_a_root_that_renders_it(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "lab", files)
    monkeypatch.chdir(tmp_path / "lab")
    edit(Path.cwd(), {"replace": {"apps/web/map.yaml": {"a: b": "a: c"}}})
    (flag,) = diffed()["flags"]
    assert (flag["rule"], flag["where"]) == ("not-rendered", "apps/web/map.yaml")
    assert "what root renders is not known" in flag["what"]
    commit(Path.cwd(), "the map")
    edit(Path.cwd(), {"replace": {"argocd/values.yaml": {"apps/*": "other/*"}}})
    (flag,) = diffed()["flags"]
    assert (flag["rule"], flag["where"]) == ("not-rendered", "Application root")
    assert "argocd/values.yaml" in flag["what"]

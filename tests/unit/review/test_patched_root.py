"""A root that changes the Applications of its files: the review shows what they render as changed, not as declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.review.repository import commit, diffed, git, link_programs

APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: {name}, namespace: argocd}}
spec:
  project: default
  source: {{repoURL: https://git.example.org/one.git, targetRevision: main, path: {path}}}
  destination: {{server: https://kubernetes.default.svc, namespace: {name}}}
"""
APPS = """\
resources: [web.yaml]
patches:
  - target: {kind: Application, name: web}
    patch: |-
      - {op: replace, path: /spec/source/path, value: new}
"""
CONFIGURATION = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {colour: green}\n"


@pytest.fixture
def patched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "root.yaml": APPLICATION.format(name="root", path="apps"),
        "apps/kustomization.yaml": APPS,
        "apps/web.yaml": APPLICATION.format(name="web", path="old"),
        **{f"{folder}/kustomization.yaml": "resources: [map.yaml]\n" for folder in ("old", "new")},
        **{f"{folder}/map.yaml": CONFIGURATION for folder in ("old", "new")},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    link_programs(tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit(tmp_path, "before")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_folder_that_the_root_names_is_rendered(patched: Path) -> None:
    (patched / "new/map.yaml").write_text(CONFIGURATION.replace("green", "red"))
    (item,) = [item for group in diffed()["applications"] for item in group["items"]]
    assert [(line["where"], line["before"], line["after"]) for line in item["fields"]] == [
        ("data.colour", "green", "red")
    ]


def test_the_folder_that_only_the_file_names_reaches_no_cluster(patched: Path) -> None:
    (patched / "old/map.yaml").write_text("no: [yaml")
    (patched / "old/kustomization.yaml").write_text("resources: [gone.yaml]\n")
    found = diffed()
    assert found["applications"] == []
    assert {flag["rule"] for flag in found["flags"]} == {"not-rendered"}
    assert {flag["where"] for flag in found["flags"]} == {"old/kustomization.yaml", "old/map.yaml"}

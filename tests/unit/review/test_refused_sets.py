"""ApplicationSets that Argo CD refuses to expand: it keeps what it has, and the review says why by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.review.repository import commit, diffed, edit, of_shape

FOLDERS, STAGES = "sets/folders.yaml", "sets/stages.yaml"
NAME = "name: '{{.path.basename}}'\n    spec"
STRICT = "  goTemplateOptions:\n  - missingkey=error\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = of_shape(tmp_path / "sets", "sets")
    monkeypatch.chdir(root)
    return root


def flagged(root: Path, file: str, old: str, new: str, name: str) -> str:
    """What the review says of the ApplicationSet, whose Applications and their objects stay as they are."""
    commit(root, "before")
    edit(root, {"replace": {file: {old: new}}})
    found = diffed()
    assert {item["action"] for group in found["applications"] for item in group["items"]} == {"changed"}
    flags = [item["what"] for item in found["flags"] if item["where"] == f"ApplicationSet {name}"]
    return flags[0] if flags else ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{{ .path.basname }}", "no parameter .path.basname"),
        ("{{ .pth.basename }}", "no parameter .pth.basename"),
        ('{{ .name | default "x" }}', "no parameter .name"),
        ("{{ if .name }}a{{ end }}{{ .path.basename }}", "no parameter .name"),
        ("{{ .path.basename | trunc 2 }}{{ $.name }}", "no parameter .name"),
        ("same", "two Applications named 'same'"),
        ("{{ .path.basename }}_x", "'one_x' is no name"),
        ("", "'' is no name"),
    ],
)
def test_a_name_that_is_refused(name: str, said: str, tree: Path) -> None:
    quoted = yaml.safe_dump(name, width=200).splitlines()[0]
    what = flagged(tree, FOLDERS, NAME, f"name: {quoted}\n    spec", "folders")
    assert said in what
    assert "what becomes of the objects of one, two is not known" in what


def test_a_name_that_is_no_parameter_and_need_not_be(tree: Path) -> None:
    edit(tree, {"replace": {FOLDERS: {STRICT: ""}}})
    assert "'<no value>' is no name" in flagged(tree, FOLDERS, NAME, "name: '{{ .name }}'\n    spec", "folders")


@pytest.mark.parametrize(
    "template",
    [
        '{{ index . "name" | default "x" }}',
        '{{ if hasKey . "name" }}{{ .name }}{{ end }}x',
        "{{ with .path }}{{ .basename }}{{ end }}",
        '{{ $x := .path }}{{ $x.basename }}{{ "{{ .a }}" }}',
        "{{/* .name */}}x",
        '{{ "a}}b" }}',
    ],
)
def test_what_asks_for_no_parameter_that_is_missing(template: str, tree: Path) -> None:
    project = yaml.safe_dump(template, width=200).splitlines()[0]
    what = flagged(tree, FOLDERS, "project: default", f"project: {project}", "folders")
    assert "no parameter" not in what


@pytest.mark.parametrize(
    ("old", "new"), [("- part: page", "- part: api"), ("{{part}}-{{stage}}'\n    spec", "{{part}}'\n    spec")]
)
def test_a_name_of_two_applications(old: str, new: str, tree: Path) -> None:
    assert "two Applications named " in flagged(tree, STAGES, old, new, "stages")


@pytest.mark.parametrize("options", ["- missingkey=none", "- 5", "  5", "  {a: b}"])
def test_options_that_there_are_not(options: str, tree: Path) -> None:
    assert "goTemplateOptions" in flagged(tree, FOLDERS, "- missingkey=error", options, "folders")


def test_a_set_without_namespace(tree: Path) -> None:
    """Its Applications are in the namespace of the set, whatever the template says."""
    edit(tree, {"replace": {FOLDERS: {"  namespace: argocd\nspec": "spec", NAME: f"namespace: other\n      {NAME}"}}})
    commit(tree, "before")
    edit(tree, {"replace": {FOLDERS: {"project: default": "project: other"}}})
    objects = {item["object"] for group in diffed()["applications"] for item in group["items"]}
    assert objects == {"ApplicationSet argocd/folders", "Application argocd/one", "Application argocd/two"}

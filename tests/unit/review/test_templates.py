"""Go templates of ApplicationSets with control flow, all functions and patches, filled in as Argo CD does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.review.repository import commit, diffed, edit, needs_helm, of_shape

SET = "sets/folders.yaml"
NAME = "name: '{{.path.basename}}'\n    spec"
PATCH = """  templatePatch: |
    {{- if eq .path.basename "one" }}
    spec:
      syncPolicy:
        automated: null
        syncOptions:
        {{- range list "Replace=true" "Prune=false" }}
        - {{ . }}
        {{- end }}
    {{- end }}
  template:"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = of_shape(tmp_path / "sets", "sets")
    commit(root, "before")
    monkeypatch.chdir(root)
    return root


def fields(found: dict[str, Any], name: str) -> dict[str, Any]:
    items = [item for group in found["applications"] for item in group["items"] if item["object"] == name]
    return {line["where"]: line["after"] for item in items for line in item["fields"]}


@needs_helm
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ('{{ if eq .path.basename "one" }}first{{ else }}{{ .path.basename }}{{ end }}', {"first"}),
        ('{{ printf "%s-%d" .path.basename (len .path.segments) }}', {"one-2", "two-2"}),
        ("{{ .path.basename | trunc 2 }}", {"on", "tw"}),
        ("a  {{- .path.basename -}}  b", {"aoneb", "atwob"}),
    ],
)
def test_a_name(name: str, expected: set[str], tree: Path) -> None:
    quoted = yaml.safe_dump(name, width=200).splitlines()[0]
    edit(tree, {"replace": {SET: {NAME: f"name: {quoted}\n    spec"}}})
    flags = [flag for flag in diffed()["flags"] if flag["rule"] == "application-renamed"]
    assert {flag["what"].split(":")[0].removeprefix("it is renamed to ") for flag in flags} == expected


@needs_helm
def test_a_patch(tree: Path) -> None:
    edit(tree, {"replace": {SET: {"  template:": PATCH}}})
    found = diffed()
    changed = fields(found, "Application argocd/one")
    assert changed["spec.syncPolicy.syncOptions"] == ["Replace=true", "Prune=false"]
    assert fields(found, "Application argocd/two") == {}
    assert "sync-weakened" in {flag["rule"] for flag in found["flags"]}


@pytest.mark.parametrize("part", ["{{ unknown .stage }}", "{{ if }}"])
def test_what_no_program_understands(part: str, tree: Path) -> None:
    """Such a template in the second generator of a matrix ends no review."""
    written = {"spec:\n  generators": "spec:\n  goTemplate: true\n  generators", "part: api": f"part: '{part}'"}
    edit(tree, {"replace": {"sets/stages.yaml": written}})
    assert "ApplicationSet stages" in {flag["where"] for flag in diffed()["flags"]}

"""Edits that were once passed over in silence, and files that Argo CD itself passes over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.review.repository import commit, diffed, edit, of_shape

WITHOUT_KIND = "namePrefix: brought-\n"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: more\n"


def said(root: Path, edits: dict[str, Any]) -> set[str]:
    """The flags, and the objects."""
    edit(root, edits)
    found = diffed()
    flags = {f"{flag['rule']} {flag['where']}" for flag in found["flags"]}
    return flags | {f"{item['action']} {item['object']}" for group in found["applications"] for item in group["items"]}


def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, edits: dict[str, Any]) -> Path:
    root = of_shape(tmp_path / shape, shape)
    edit(root, edits)
    commit(root, "before")
    monkeypatch.chdir(root)
    return root


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not here")
def test_a_chart_that_renders_a_document_without_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = committed(tmp_path, monkeypatch, "charts", {})
    found = said(root, {"write": {"chart/templates/more.yaml": WITHOUT_KIND}})
    assert {"does-not-build Application shop", "does-not-build Application stock"} <= found


def test_a_source_of_two_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(tmp_path, monkeypatch, "charts", {})
    found = said(Path.cwd(), {"write": {"chart/.argocd-source.yaml": "directory: {exclude: '*'}\n"}})
    assert {"does-not-build Application shop", "does-not-build Application stock"} <= found


def test_a_field_of_a_kustomization_in_any_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlays = [f"overlays/{name}/store/kustomization.yaml" for name in ("east", "west")]
    written = {"replace": {key: {"resources:": "Resources:"} for key in overlays}}
    root = committed(tmp_path, monkeypatch, "clusters", written)
    found = said(root, {"replace": {"base/store/kustomization.yaml": {"newTag: v3": "newTag: v4"}}})
    assert "changed Deployment store/store" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WITHOUT_KIND, set()),
        ("{{ if .Values.x }}\na: b\n{{ end }}\n", set()),
        (f"# +argocd:skip-file-rendering\n{MAP}", set()),
        (MAP, {"added ConfigMap plain/more"}),
        (f"{MAP}---\n{WITHOUT_KIND}", {"does-not-build Application plain"}),
        (f"{MAP}  broken: [\n", {"does-not-build Application plain"}),
    ],
)
def test_a_file_of_a_plain_folder(
    text: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argo CD passes over a file that is no manifest, and refuses one that is partly a manifest."""
    root = committed(tmp_path, monkeypatch, "apps-of-apps", {})
    assert said(root, {"write": {"workloads/plain/more.yaml": text}}) == expected

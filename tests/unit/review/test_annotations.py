"""Annotations that are appended to a kustomization give what `kustomize edit` gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops.argo_cd.annotations import append_annotations
from homelab_mlops.gitops.render import build, edit

PAIRS = ["homelab-mlops/commit:${ARGOCD_APP_REVISION}", "team:a.b/c-1", "number:1.10", "flag:true"]
OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, annotations: {team: old}}\ndata: {a: b}\n"
PLAIN = {
    "one field": "resources: [one.yaml]\n",
    "no end of line": "resources: [one.yaml]",
    "a comment at the end": "resources:\n- one.yaml\n# a comment",
    "a start of a document": "---\nResources:\n  - one.yaml\nnamespace: a\n",
    "a text at the end": "resources: [one.yaml]\npatches:\n  - target: {kind: ConfigMap}\n    patch: |+\n"
    "      - {op: add, path: /data/text, value: x}\n\n\n",
    "older fields": "resources: [one.yaml]\ncommonLabels: {a: b}\nimageTags: []\n",
    "a generator": "resources: [one.yaml]\nconfigMapGenerator: [{name: more, literals: [a=b]}]\n",
    "ends of lines of Windows": "resources:\r\n  - one.yaml\r\nnamespace: a\r\n",
}
OTHER = {
    "flow style": "{resources: [one.yaml]}\n",
    "annotations": "resources: [one.yaml]\nCommonAnnotations: {a: b}\n",
    "an end of a document": "resources: [one.yaml]\n...\n",
    "two documents": "resources: [one.yaml]\n---\nnamespace: a\n",
    "nothing": "",
    "no mapping": "- resources\n",
    "indented": "  resources: [one.yaml]\n",
    "an open text": "resources: [one.yaml]\nnamespace: 'a\n",
}


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_appended_annotations_are_those_that_kustomize_writes(tmp_path: Path, content: str) -> None:
    rendered = []
    for name in ("appended", "edited"):
        file = tmp_path / name / "kustomization.yaml"
        file.parent.mkdir()
        file.write_bytes(content.encode())
        (file.parent / "one.yaml").write_text(OBJECT)
        if name == "edited":
            edit(file.parent, "add", "annotation", "--", *PAIRS)
        else:
            assert append_annotations(file, PAIRS)
        rendered.append(build(file.parent))
    assert rendered[0] == rendered[1]
    assert "team: a.b/c-1" in rendered[0]


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
def test_what_is_not_plain_is_left_to_kustomize(tmp_path: Path, content: str) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text(content)
    assert not append_annotations(file, PAIRS)
    assert file.read_text() == content


@pytest.mark.parametrize("pair", ["a: b", "a:'b'", "a:b:c", "a", "a:", ":b", "a b:c", "a:b\n", "ä:b", "a:ä", "#a:b"])
def test_a_pair_that_is_not_plain_is_left_to_kustomize(tmp_path: Path, pair: str) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text("resources: [one.yaml]\n")
    assert not append_annotations(file, [pair])


def test_kustomize_refuses_what_it_refuses_without_annotations(tmp_path: Path) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text("resources: [one.yaml]\nunknown: 1\n")
    (tmp_path / "one.yaml").write_text(OBJECT)
    assert append_annotations(file, PAIRS)
    with pytest.raises(ToolError, match="unknown"):
        build(tmp_path)

"""Edits that were once passed over in silence, and files that Argo CD itself passes over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.review.repository import commit, diffed, edit, git, of_shape

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


def test_the_last_of_two_objects_of_one_name_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argo CD applies the last one, and shows a warning."""
    first, last = "workloads/plain/more.yaml", "workloads/plain/other.yaml"
    root = committed(tmp_path, monkeypatch, "apps-of-apps", {"write": {first: f"{MAP}data: {{a: b}}\n"}})
    twice = {"declared-twice Application plain"}
    assert said(root, {"write": {last: f"{MAP}data: {{a: c}}\n"}}) == {"changed ConfigMap plain/more", *twice}
    commit(root, "twice")
    assert said(root, {"write": {first: f"{MAP}data: {{a: d}}\n"}}) == set()
    assert said(root, {"remove": [last]}) == {"changed ConfigMap plain/more"}
    commit(root, "once")
    assert said(root, {"write": {last: f"{MAP}data: {{a: d}}\n"}}) == twice


@pytest.mark.parametrize("kind", ["List", "ConfigMapList"])
def test_a_list_with_an_item_without_kind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = committed(tmp_path, monkeypatch, "apps-of-apps", {})
    item = f"apiVersion: v1\nkind: {kind}\nitems:\n- metadata: {{name: more}}\n"
    assert said(root, {"write": {"workloads/plain/more.yaml": item}}) == {"does-not-build Application plain"}


def one_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **spec: Any) -> Path:
    """A repository with the Application `only`, of a folder with one ConfigMap."""
    root = tmp_path / "one"
    origin = {"repoURL": "https://git.invalid/one", "path": "only", "targetRevision": "main"}
    destination = {"server": "https://kubernetes.default.svc", "namespace": "only"}
    application = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "only", "namespace": "argocd"},
        "spec": {"source": origin, "destination": destination, "syncPolicy": {"automated": {"prune": True}}, **spec},
    }
    edit(root, {"write": {"only.yaml": yaml.safe_dump(application), "only/map.yaml": MAP}})
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "remote", "add", "origin", "https://git.invalid/one")
    commit(root, "before")
    monkeypatch.chdir(root)
    return root


def test_the_only_folder_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = one_application(tmp_path, monkeypatch)
    assert said(root, {"remove": ["only/map.yaml"]}) == {"does-not-build Application only"}


@pytest.mark.parametrize("revision", ["v1.0.0", "HEAD"])
def test_an_application_follows_another_revision_than_its_root(
    revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = one_application(tmp_path, monkeypatch)
    text = (root / "only.yaml").read_text()
    above = text.replace("name: only", "name: above").replace("path: only", "path: apps")
    edit(root, {"move": {"only.yaml": "apps/only.yaml"}, "write": {"root.yaml": above}})
    commit(root, "apps of apps")
    found = said(root, {"replace": {"apps/only.yaml": {"main": revision}}})
    assert "changed Application argocd/only" in found


def test_an_application_goes_to_another_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argo CD deletes nothing on the old one."""
    root = one_application(tmp_path, monkeypatch)
    found = said(root, {"replace": {"only.yaml": {"https://kubernetes.default.svc": "https://other:6443"}}})
    assert {"added ConfigMap only/more", "orphaned ConfigMap only/more"} <= found


def test_the_folder_of_an_application_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = one_application(tmp_path, monkeypatch)
    (root / "only").rename(root / "real")
    (root / "only").symlink_to("real")
    commit(root, "link")
    assert said(root, {"write": {"real/map.yaml": f"{MAP}data: {{a: b}}\n"}}) == {"changed ConfigMap only/more"}


def test_a_link_within_a_folder_accounts_for_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = one_application(tmp_path, monkeypatch)
    edit(root, {"move": {"only/map.yaml": "shared/map.yaml"}})
    (root / "only").mkdir(exist_ok=True)
    (root / "only/map.yaml").symlink_to("../shared/map.yaml")
    commit(root, "link")
    assert said(root, {"write": {"shared/map.yaml": f"{MAP}data: {{a: b}}\n"}}) == {"changed ConfigMap only/more"}


def test_a_secret_value_that_is_no_text_becomes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server refuses a number there."""
    root = one_application(tmp_path, monkeypatch)
    secret = MAP.replace("ConfigMap", "Secret") + "stringData: {port: 8080}\n"
    edit(root, {"write": {"only/secret.yaml": secret}})
    commit(root, "secret")
    found = said(root, {"write": {"only/secret.yaml": secret.replace("8080", "'8080'")}})
    assert "changed Secret only/more" in found


SET = """
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: set, namespace: argocd}
spec:
  goTemplate: true
  generators:
    - git: {repoURL: https://git.invalid/one, revision: main, KIND: [PATTERNS]}
  template:
    metadata: {name: "{{ .path.path | replace `/` `-` }}"}
    spec:
      project: default
      destination: {server: https://kubernetes.default.svc, namespace: only}
      source: {repoURL: https://git.invalid/one, targetRevision: main, path: "{{ .path.path }}"}
"""


@pytest.mark.parametrize(
    ("kind", "patterns", "expected"),
    [
        ("directories", "{path: a/**}", {"a-b"}),
        ("directories", "{path: 'a/[bc]'}", {"a-b"}),
        ("directories", "{path: 'a/[^b]'}", set()),
        ("directories", "{path: a/*}, {path: a/b/*}, {path: '*/?', exclude: true}", {"a-b-c"}),
        ("files", "{path: a/*.yaml}", {"a-b", "a-b-c"}),
        ("files", "{path: a/**/map.yaml}, {path: '*/c/*', exclude: true}", {"a-b"}),
    ],
)
def test_the_patterns_of_a_generator_are_those_of_argo_cd(
    kind: str, patterns: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are matched within one level, files at any depth."""
    root = one_application(tmp_path, monkeypatch)
    edit(root, {"write": {"a/b/map.yaml": MAP, "a/b/c/map.yaml": MAP, "only/two.yaml": MAP.replace("more", "two")}})
    commit(root, "folders")
    found = said(root, {"write": {"set.yaml": SET.replace("KIND", kind).replace("PATTERNS", patterns)}})
    assert "added ApplicationSet argocd/set" in found
    report = diffed()
    assert {group["application"] for group in report["applications"]} - {"only"} - ROOT_GROUP == expected


ROOT_GROUP = {"root, applied by `homelab bootstrap`"}


@pytest.mark.parametrize("arguments", [[], ["stage"], ["stage..HEAD"]])
def test_a_branch_for_each_environment(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Applications that follow the branch of the review are those that change."""
    root = one_application(tmp_path, monkeypatch)
    text = (
        (root / "only.yaml")
        .read_text()
        .replace("namespace: only", "namespace: NAME")
        .replace("name: only", "name: NAME")
    )
    for name in ("dev", "stage", "work"):
        edit(root, {"write": {f"{name}.yaml": text.replace("NAME", name).replace("main", name)}})
    (root / "only.yaml").unlink()
    commit(root, "environments")
    for name in ("dev", "stage"):
        git(root, "branch", name)
    git(root, "checkout", "--quiet", *(["-b", "feature"] if arguments else ["stage"]))
    edit(root, {"write": {"only/map.yaml": f"{MAP}data: {{a: b}}\n"}})
    if arguments == ["stage..HEAD"]:
        commit(root, "change")
    found = diffed(*(arguments or ["HEAD"]))
    assert [group["application"] for group in found["applications"]] == ["stage"]


def test_an_application_in_one_line_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = one_application(tmp_path, monkeypatch)
    application = yaml.safe_load((root / "only.yaml").read_text())
    application["metadata"]["name"] = "second"
    application["spec"]["destination"]["namespace"] = "second"
    found = said(root, {"write": {"second.json": json.dumps(application)}})
    assert {"added Application argocd/second", "added ConfigMap second/more"} <= found

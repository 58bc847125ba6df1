"""What `homelab diff` says of an ApplicationSet that changes, moves or leaves git, and of what it generates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.review.repository import REVIEWS, commit, diffed, of_shape

SET = "sets/folders.yaml"
KEEPING = "  syncPolicy:\n    preserveResourcesOnDeletion: true\n  template:"
CREATING = "  syncPolicy:\n    applicationsSync: create-only\n  template:"
GOES = "prune-application ApplicationSet argocd/folders"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = of_shape(tmp_path / "sets", "sets")
    monkeypatch.chdir(root)
    return root


def replaced(old: str, new: str) -> Callable[[str], str]:
    def replace(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return replace


def reported(root: Path, before: Callable[[str], str], after: Callable[[str], str]) -> tuple[set[str], set[str]]:
    """The flags and the objects, of a set that was written as ``before`` makes it and is now as ``after`` makes it."""
    text = before((root / SET).read_text())
    (root / SET).write_text(text)
    commit(root, "before")
    (root / SET).write_text(after(text))
    found = diffed()
    flags = {f"{flag['rule']} {flag['where']}" for flag in found["flags"]}
    return flags, {f"{item['action']} {item['object']}" for group in found["applications"] for item in group["items"]}


def unchanged(text: str) -> str:
    return text


def kept(text: str) -> str:
    return replaced("  template:", KEEPING)(text)


PLAIN = """
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: one, namespace: argocd}
spec:
  project: default
  source: {repoURL: https://forge.example/me/lab.git, targetRevision: main, path: system/one}
  destination: {name: in-cluster, namespace: one}
"""
CASES: dict[str, tuple[Callable[[str], str], Callable[[str], str], set[str], set[str]]] = {
    "another namespace": (
        unchanged,
        replaced("  namespace: argocd", "  namespace: other"),
        {GOES, "prune-application Application argocd/one", "application-appears Application other/one"},
        {"removed Application argocd/one", "added Application other/one"},
    ),
    "another name": (unchanged, replaced("name: folders", "name: other"), {GOES}, set()),
    "Applications instead of it": (unchanged, lambda _: PLAIN, {GOES}, {"removed ConfigMap two/two"}),
    "deleted": (unchanged, lambda _: "", {GOES}, {"removed ConfigMap one/one", "removed ConfigMap two/two"}),
    "deleted, its objects kept": (
        kept,
        lambda _: "",
        {"application-disappears ApplicationSet argocd/folders"},
        {"orphaned ConfigMap one/one", "orphaned ConfigMap two/two"},
    ),
    "no longer kept": (
        kept,
        replaced(KEEPING, "  template:"),
        {"protection-removed Application argocd/one"},
        {"changed Application argocd/one"},
    ),
    "made only once": (
        unchanged,
        replaced("  template:", CREATING),
        set(),
        {"changed ApplicationSet argocd/folders"},
    ),
    "created": (
        lambda _: "",
        lambda _: (REVIEWS / "shapes/sets" / SET).read_text(),
        {"application-appears ApplicationSet argocd/folders"},
        {"added ConfigMap one/one"},
    ),
    "other names of its Applications": (
        unchanged,
        replaced("name: '{{.path.basename}}'\n    spec", "name: 'x-{{.path.basename}}'\n    spec"),
        {"application-renamed Application one", "application-renamed Application two"},
        set(),
    ),
    "another project": (
        unchanged,
        replaced("project: default", "project: other"),
        set(),
        {"changed Application argocd/one"},
    ),
    "another cluster": (
        unchanged,
        replaced("name: in-cluster", "name: west"),
        {"application-source Application one", "application-source Application two"},
        {"changed Application argocd/one"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_set_that_changes(name: str, tree: Path) -> None:
    before, after, flags, objects = CASES[name]
    found = reported(tree, before, after)
    assert flags <= found[0]
    assert objects <= found[1]
    if GOES in flags:
        assert "application-disappears ApplicationSet argocd/folders" not in found[0]

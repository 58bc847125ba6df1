"""Environments whose roots and ApplicationSets have the same names, each in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.review.repository import commit, diffed, edit, of_shape

PATCHED = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Application",
    "metadata": {"name": "more", "namespace": "argocd"},
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = of_shape(tmp_path / "environments", "environments")
    commit(root, "before")
    monkeypatch.chdir(root)
    return root


def said(found: dict[str, Any]) -> set[str]:
    return {
        f"{group['application']}: {item['action']} {item['object']}"
        for group in found["applications"]
        for item in group["items"]
    }


def test_a_set_of_one_environment(tree: Path) -> None:
    edit(tree, {"replace": {"envs/west/parts.yaml": {"part: api": "part: other"}}})
    found = diffed()
    gone = {"west/root: changed ApplicationSet argocd/parts", "west/api: removed Deployment api/api"}
    assert said(found) == gone


def test_a_set_that_goes(tree: Path) -> None:
    edit(tree, {"remove": ["envs/west/parts.yaml"]})
    found = diffed()
    assert said(found) == {"west/root: removed ApplicationSet argocd/parts", "west/api: removed Deployment api/api"}
    (fate,) = [flag["what"] for flag in found["flags"] if flag["rule"] == "prune-application"]
    assert fate.startswith("its Applications west/api go with it")


def test_another_environment(tree: Path) -> None:
    """The first one by name takes no other one's place."""
    for file in ("root.yaml", "parts.yaml"):
        text = (tree / "envs/east" / file).read_text()
        edit(tree, {"write": {f"envs/alpha/{file}": text.replace("/east", "/alpha")}})
    text = (tree / "parts/api/east/kustomization.yaml").read_text()
    edit(tree, {"write": {"parts/api/alpha/kustomization.yaml": text.replace("east", "alpha")}})
    found = said(diffed())
    assert "api: added Deployment api/api" in found
    assert not any(" changed " in item or " removed " in item for item in found)


@pytest.mark.parametrize("environment", ["east", "west"])
def test_a_file_of_one_environment(environment: str, tree: Path) -> None:
    edit(tree, {"replace": {f"parts/api/{environment}/kustomization.yaml": {"-1": "-2"}}})
    name = {"east": "api", "west": "west/api"}[environment]
    assert said(diffed()) == {f"{name}: changed Deployment api/api"}


def test_applications_of_a_base(tree: Path) -> None:
    """They are those of the environments whose kustomizations read them, and no others."""
    for name in ("east", "west"):
        patch = yaml.safe_dump({**PATCHED, "spec": {"destination": {"namespace": name}}})
        text = yaml.safe_dump({"resources": ["parts.yaml", "../../shared"], "patches": [{"patch": patch}]})
        edit(tree, {"write": {f"envs/{name}/kustomization.yaml": text}})
    more = (tree / "envs/east/root.yaml").read_text().replace("name: root", "name: more")
    files = {"kustomization.yaml": "resources: [more.yaml]\n", "more.yaml": more.replace("envs/east", "parts/api/base")}
    edit(tree, {"write": {f"shared/{name}": text for name, text in files.items()}})
    commit(tree, "shared")
    edit(tree, {"replace": {"parts/api/base/deployment.yaml": {"value: fast": "value: slow"}}})
    applications = [group["application"] for group in diffed()["applications"]]
    assert sorted(applications) == ["api", "more", "west/api", "west/more"]


def test_an_application_that_goes_from_one_environment(tree: Path) -> None:
    """It is judged by its own finalizer, not by that of its namesake."""
    for name, finalizers in (("east", []), ("west", ["resources-finalizer.argocd.argoproj.io"])):
        more = yaml.safe_load((tree / f"envs/{name}/root.yaml").read_text())
        more["metadata"] |= {"name": "more", "finalizers": finalizers}
        more["spec"]["source"]["path"] = f"parts/api/{name}"
        edit(tree, {"write": {f"envs/{name}/more.yaml": yaml.safe_dump(more)}})
    commit(tree, "more")
    edit(tree, {"remove": ["envs/west/more.yaml"]})
    assert "prune-application" in {flag["rule"] for flag in diffed()["flags"]}


def test_a_root_of_another_form(tree: Path) -> None:
    edit(tree, {"replace": {"envs/east/root.yaml": {"  namespace: argocd\nspec": "  namespace: {a: b}\nspec"}}})
    assert diffed()["flags"]

"""An object with a field of another form than Kubernetes' or Argo CD's is reported, and ends no review."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.review.repository import commit, diffed, link_programs, of_shape, repository

FIELDS = [
    ("spec", "x"),
    ("spec.selector", ["x"]),
    ("spec.strategy", {"rollingUpdate": ["x"]}),
    ("spec.template", 1),
    ("spec.template.metadata.labels", 1),
    ("spec.template.spec", ["x"]),
    ("spec.template.spec.containers", "x"),
    ("spec.template.spec.containers", [["x"]]),
    ("spec.template.spec.volumes", [["x"]]),
    ("metadata.labels", ["x"]),
    ("metadata.annotations", "x"),
]
ORIGINS: list[tuple[str, Any]] = [
    ("spec", "x"),
    ("spec.source", "x"),
    ("spec.sources", ["x"]),
    ("spec.destination", "x"),
    ("spec.syncPolicy", "x"),
    ("spec.source.kustomize", True),
    ("spec.source.kustomize", {"images": "x"}),
    ("spec.source.helm", {"parameters": ["x"]}),
    ("spec.source.directory", "x"),
    ("metadata.finalizers", "x"),
    ("metadata.namespace", {"a": "b"}),
    ("spec.source.path", {"a": "b"}),
    ("spec.source.repoURL", ["x"]),
    ("spec.destination.namespace", {"a": "b"}),
    ("spec.project", ["x"]),
]


def put(manifest: dict[str, Any], where: str, value: Any) -> str:
    *parents, last = where.split(".")
    node = manifest
    for key in parents:
        node = node[key]
    node[last] = value
    return yaml.safe_dump(manifest)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose Application applies plain files, which no program looks at before."""
    root = of_shape(tmp_path / "plain", "apps-of-apps")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(("where", "value"), FIELDS, ids=str)
def test_an_object(where: str, value: Any, plain: Path) -> None:
    web = yaml.safe_load((plain / "workloads/web/web.yaml").read_text())
    (plain / "workloads/plain/web.yaml").write_text(yaml.safe_dump(web))
    commit(plain, "before")
    (plain / "workloads/plain/web.yaml").write_text(put(web, where, value))
    items = [item["object"] for group in diffed()["applications"] for item in group["items"]]
    assert items == ["Deployment plain/web"]


@pytest.mark.parametrize(("where", "value"), ORIGINS, ids=str)
def test_an_application(where: str, value: Any, plain: Path) -> None:
    commit(plain, "before")
    file = plain / "argocd/more/plain.yaml"
    file.write_text(put(yaml.safe_load(file.read_text()), where, value))
    found = {(flag["rule"], flag["where"]) for flag in diffed()["flags"]}
    assert ("does-not-build", "Application plain") in found


def test_a_rule_that_ends_early_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path / "clone")
    link_programs(root)
    network = root / "base/store/network.yaml"
    commit(root, "before")
    (policy,) = yaml.safe_load_all(network.read_text())
    network.write_text(put(policy, "spec.ingress", ["x"]))
    monkeypatch.chdir(root)
    assert [flag["where"] for flag in diffed()["flags"] if flag["rule"].startswith("network")] == ["this rule"]

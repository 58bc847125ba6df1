"""Pairs of trees, and what `homelab diff` says of each. `pytest --rewrite-golden` writes what is expected anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from homelab_mlops.errors import HomelabError
from homelab_mlops.review.rules.table import RULES
from homelab_mlops.review.text import plain
from tests.unit.review.repository import REVIEWS, commit, compared, edit, git, repository

CASES = sorted((REVIEWS / "cases").glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_pair_of_trees(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = yaml.safe_load(path.read_text())
    root = repository(tmp_path / "clone")
    edit(root, case.get("base", {}))
    base = commit(root, case.get("before", "The tree before"))
    edit(root, case["head"])
    head = commit(root, case.get("after", "The change"))
    try:
        found = plain(compared(root, base, head)).replace(head[:10], "HEAD").replace(base[:10], "BASE")
    except HomelabError as error:
        found = f"{error}\n".replace(head[:10], "HEAD").replace(base[:10], "BASE").replace(str(root), ".")
    golden = path.with_suffix(".expected")
    if request.config.getoption("--rewrite-golden"):
        golden.write_text(found)
    assert golden.read_text() == found
    if path.stem.startswith("quiet-"):
        assert found.splitlines()[1].startswith("Nothing changes")


def test_a_remote_base_that_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    git(upstream, "init", "--quiet")
    for version in ("v1.2.0", "v1.3.0"):
        manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: upstream\ndata:\n  version: {version}\n"
        edit(
            upstream,
            {"write": {"manifests/kustomization.yaml": "resources: [map.yaml]\n", "manifests/map.yaml": manifest}},
        )
        commit(upstream, version)
        git(upstream, "tag", version)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{upstream}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://upstream.invalid/up/stream")
    root = repository(tmp_path / "clone")
    file, remote = "overlays/homelab/jobs/kustomization.yaml", "https://upstream.invalid/up/stream//manifests?ref="
    edit(root, {"replace": {file: {"  - crd.yaml\n": f"  - crd.yaml\n  - {remote}v1.2.0\n"}}})
    base = commit(root, "before")
    edit(root, {"replace": {file: {"v1.2.0": "v1.3.0"}}})
    report = compared(root, base, commit(root, "after"))
    assert [(flag.rule, flag.what) for flag in report.flags] == [("remote-base", f"{remote[:-5]}: v1.2.0 → v1.3.0")]
    assert [item.object for group in report.groups for item in group.items] == ["ConfigMap jobs/upstream"]
    edit(root, {"replace": {file: {"v1.3.0": "v9.9.9"}}})
    assert "remote-missing" in {flag.rule for flag in compared(root, base).flags}


def test_each_rule_has_a_pair() -> None:
    expected = "".join(path.read_text() for path in REVIEWS.glob("cases/*.expected"))
    assert [rule.name for rule in RULES if f"[{rule.name}]" not in expected] == ["remote-missing", "remote-base"]
    assert len(CASES) >= 40

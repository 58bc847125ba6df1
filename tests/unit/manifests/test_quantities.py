"""A quantity and a sum of requests are read in one place, as Kubernetes reads them."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import yaml

from homelab_mlops.gitops.policies import Repository, budgets, requests
from homelab_mlops.gitops.render import render_all
from homelab_mlops.manifests.quantities import quantity, say_quantity
from tests.conftest import FIXTURES, ROOT
from tests.unit.review.repository import commit, compared, git

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: awkward
spec:
  selector:
    matchLabels: {app: awkward}
  template:
    metadata:
      labels: {app: awkward}
    spec:
      containers:
"""
AWKWARD = ("500M", "0.5Gi", "1G", "1e9", "128974848000m")


def test_quantities() -> None:
    expected = yaml.safe_load((FIXTURES / "manifests/quantities.yaml").read_text())
    found = {text: quantity(text) for text in expected}
    assert {text: None if value is None else Decimal(str(value)) for text, value in expected.items()} == found


def clone(tmp_path: Path) -> Path:
    """A clone of the declared platform, with one commit."""
    root = tmp_path / "clone"
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / ".gitignore").write_text(".tools\n")
    (root / ".tools").symlink_to(ROOT / ".tools")
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root, "The platform")
    return root


def test_check_and_diff_give_one_sum(tmp_path: Path) -> None:
    root = clone(tmp_path)
    before = requests(Repository(root, render_all(root)))
    folder = root / "overlays/homelab/serving"
    containers = [
        f"- {{name: c{i}, image: 'a/b:1', resources: {{requests: {{memory: {q}}}}}}}" for i, q in enumerate(AWKWARD)
    ]
    (folder / "awkward.yaml").write_text(DEPLOYMENT + "".join(f"        {item}\n" for item in containers))
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("resources:\n", "resources:\n  - awkward.yaml\n", 1))
    repository = Repository(root, render_all(root))
    after = requests(repository)
    assert after.memory - before.memory == 500_000_000 + 2**29 + 10**9 + 10**9 + 128_974_848
    reported = compared(root, "HEAD").sums["memory"]
    assert reported[:2] == tuple(say_quantity("memory", side.memory) for side in (before, after))
    assert [where for where, _ in budgets(repository)] == ["the platform"]


def test_a_budget_is_one_line(tmp_path: Path) -> None:
    """A sum above its budget is flagged by both, and one line of the settings raises the budget for both."""
    root = clone(tmp_path)
    volume = root / "overlays/homelab/minio/volume.yaml"
    volume.write_text(volume.read_text().replace("storage: 20Gi", "storage: 900Gi"))
    settings = root / "clusters/homelab/settings.yaml"

    def verdicts() -> tuple[list[str], list[str]]:
        found = budgets(Repository(root, render_all(root)))
        flagged = [flag.where for flag in compared(root, "HEAD").flags if flag.rule == "over-budget"]
        return [what.split(" requests")[0] for _, what in found], flagged

    assert verdicts() == (["its storage"], ["storage requests"])
    settings.write_text(settings.read_text().replace("storage: 100Gi", "storage: 1Ti"))
    assert verdicts() == ([], [])

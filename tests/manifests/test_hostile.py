"""No file ends `homelab check` without a word that its reader can act on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment, refused
from tests.unit.review.repository import commit, git

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: equals}\ndata: {sign: =}\n"
APPLICATION = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: odd}\nspec: "
MLFLOW = "overlays/homelab/mlflow"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone that declares the platform, with the repository's tools."""
    root = tmp_path / "clone"
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / ".gitignore").write_text(".tools\n")
    (root / ".tools").symlink_to((ROOT / ".tools").resolve())
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root, "before")
    return root


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return forks.run(["check"], clean_environment(), root, PATIENCE)


def test_hostile_files_are_findings(tree: Path, tmp_path: Path) -> None:
    """Deep aliases, a value that is `=`, a name that is no UTF-8, a submodule and a link out of the repository."""
    folder = tree / MLFLOW
    aliases = "".join(f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 12))
    (folder / "bomb.yaml").write_text(f"a0: &a0 [x]\n{aliases}")
    (folder / "equals.yaml").write_text(MAP)
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("resources:\n", "resources:\n  - equals.yaml\n"))
    (folder / "\udcff.yaml").write_text(MAP)
    (tmp_path / "outside.yaml").write_text(MAP)
    (folder / "outside.yaml").symlink_to(tmp_path / "outside.yaml")
    module = f"160000,{git(tree, 'rev-parse', 'HEAD')},overlays/homelab/module"
    git(tree, "update-index", "--add", "--cacheinfo", module)
    (tree / "overlays/homelab/module").mkdir()
    found = check(tree)
    assert found.returncode == 1, found.stderr
    findings = [line for line in found.stderr.splitlines() if line.startswith("[")]
    assert [line.partition(":")[0] for line in findings] == [
        "[labels] ConfigMap mlflow/equals",
        "[names] overlays/homelab/module",
        f"[no-orphans] {MLFLOW}/bomb.yaml",
        f"[no-orphans] {MLFLOW}/outside.yaml",
        f"[no-orphans] {MLFLOW}/\\udcff.yaml",
    ]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("apps/odd.yaml", f"{APPLICATION}x\n", "spec is no mapping"),
        ("apps/odd.yaml", f"{APPLICATION}{{source: x}}\n", "spec.source is no mapping"),
        ("apps/odd.yaml", f"{APPLICATION}{{source: {{path: nowhere}}}}\n", "the Application odd does not build"),
        ("apps/odd.yaml", "a: &a [*a]\n", "its aliases stand for more"),
        (f"{MLFLOW}/kustomization.yaml", "", "the Application mlflow does not build"),
        (f"{MLFLOW}/kustomization.yaml", "- a\n", "the Application mlflow does not build"),
    ],
)
def test_what_cannot_be_checked_is_refused(file: str, text: str, said: str, tree: Path) -> None:
    (tree / file).write_text(text)
    refused(check(tree), said)


def test_a_policy_that_ends_early_is_a_finding(tree: Path) -> None:
    project = tree / "apps/projects.yaml"
    project.write_text(project.read_text().replace("  sourceRepos:", "  otherRepos:"))
    found = check(tree)
    assert found.returncode == 1, found.stderr
    assert "[projects] this policy: it ended early" in found.stderr

"""Each finding of a grader is mended or accepted, and the graders do find what is wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from homelab_mlops.gitops.graders import ACCEPTED, VERSIONS, grade
from tests.conftest import ROOT

FAULTS = {
    "checkov": ("base/mlflow/mlflow.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
    "kube-score": ("base/minio/statefulset.yaml", "serviceName: minio-headless", "serviceName: nowhere"),
    "hadolint": ("docker/mlflow/Dockerfile", "FROM python:3.13-slim-trixie\n", "FROM python\n"),
    "actionlint": (".github/workflows/check.yaml", "runs-on: ubuntu-24.04", "runs-on: ubuntu-1.0"),
    "zizmor": (".github/workflows/check.yaml", "permissions: {}", "permissions: write-all"),
    "shellcheck": ("docker/training/trim.sh", 'cd "$1"', "cd $1"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is graded, as a git repository."""
    for folder in ("apps", "base", "clusters", "overlays", "workflows", "docker", ".github"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / ACCEPTED, tmp_path)
    (tmp_path / VERSIONS).parent.mkdir()
    shutil.copy(ROOT / VERSIONS, tmp_path / VERSIONS)
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "docker", ".github"], cwd=tmp_path, check=True)
    return tmp_path


def test_nothing_is_open_and_no_acceptance_is_stale() -> None:
    assert grade(ROOT) == ([], [])


def test_each_grader_finds_its_fault(tree: Path) -> None:
    for file, good, bad in FAULTS.values():
        text = (tree / file).read_text()
        assert good in text, file
        (tree / file).write_text(text.replace(good, bad))
    accepted = (tree / ACCEPTED).read_text()
    (tree / ACCEPTED).write_text(
        f"{accepted}  - grader: checkov\n    rule: CKV_NONE\n    reason: it covers nothing at all\n"
    )
    found, stale = grade(tree)
    assert {item.grader for item in found} == set(FAULTS), found
    assert [acceptance.rule for acceptance in stale] == ["CKV_NONE"]

"""Published images say what is in them and who built them, and a schedule asks for known holes in every lock."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

IMAGES = {path.parent.name for path in ROOT.glob("docker/*/Dockerfile")}
SCANS = sorted(ROOT.glob(".*/workflows/scan.yaml"))


def workflow(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def commands(job: dict[str, Any]) -> list[str]:
    """The shell commands of a job, a continued line as one."""
    texts = [step["run"].replace("\\\n", " ") for step in job["steps"] if "run" in step]
    return [line.strip() for text in texts for line in text.splitlines()]


def test_every_image_is_pushed_with_its_provenance_and_its_bill_of_materials() -> None:
    job = workflow(ROOT / ".github/workflows/publish.yaml")["jobs"]["build"]
    pushes = [line for line in commands(job) if re.search(r"docker push|--push", line)]

    assert len(pushes) == 1
    assert "--attest type=provenance,mode=max" in pushes[0]
    assert re.search(r"--attest \"type=sbom,generator=\$SBOM_SCANNER\"", pushes[0])
    assert set(job["strategy"]["matrix"]["image"]) == IMAGES
    assert all(re.search(r":v?\d+\.\d+\.\d+$", job["env"][name]) for name in ("BUILDKIT", "SBOM_SCANNER"))


def test_the_provenance_of_the_tag_that_git_names_is_signed() -> None:
    jobs = workflow(ROOT / ".github/workflows/publish.yaml")["jobs"]
    (step,) = [
        step for step in jobs["join"]["steps"] if step.get("uses", "").startswith("actions/attest-build-provenance@")
    ]

    assert set(jobs["join"]["strategy"]["matrix"]["image"]) == IMAGES
    assert step["with"]["subject-digest"] == "${{ steps.join.outputs.digest }}"
    assert jobs["join"]["permissions"] == {"packages": "write", "id-token": "write", "attestations": "write"}
    assert "join" in jobs["pin"]["needs"]


@pytest.mark.parametrize("path", SCANS, ids=lambda path: path.parts[-3])
def test_each_forge_scans_by_a_schedule(path: Path) -> None:
    found = workflow(path)

    # YAML 1.1 reads the key `on` as true.
    assert found[True]["schedule"]
    assert "make scan" in commands(found["jobs"]["scan"])
    assert {scan.parts[-3] for scan in SCANS} == {".github", ".gitea", ".forgejo"}


def test_a_scan_reads_every_lock() -> None:
    listed = subprocess.run(["make", "-n", "scan"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("requirements/*.txt")} <= set(re.split(r"[\s;]+", listed))
    assert "--strict" in listed, "a package that is not looked at would pass"


def test_each_hole_that_stays_has_a_reason() -> None:
    lines = (ROOT / "accepted-holes.txt").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[A-Z]\S+  # .{10,}", line)] == []

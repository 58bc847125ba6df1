"""The images are built by whichever engine is here, and brought to where the cluster finds them."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment, refused

NAMES = ["minio", "mlflow", "serving", "training"]
PINS = "clusters/homelab/images/kustomization.yaml"
# A program that writes its arguments down; it fails where a file beside it names its first argument, or all of it.
PROGRAM = """#!/bin/sh
program=$(basename "$0") here=$(dirname "$0")
[ "$1" = version ] || printf '%s %s\\n' "$program" "$*" >> "$here/calls"
[ ! -e "$here/fails-$1" ] && [ ! -e "$here/$program-fails-$1" ]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`homelab image` in a clone, with the given programs alone on PATH."""
    root = tmp_path / "clone"
    for folder in ("clusters", "docker"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "workflows").mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "--message", "one"], cwd=root, check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    for needed in ("git", "sh", "basename", "dirname"):
        (programs / needed).symlink_to(shutil.which(needed) or needed)

    def command(*arguments: str, here: tuple[str, ...] = ("docker",)) -> subprocess.CompletedProcess[str]:
        for name in here:
            (programs / name).write_text(PROGRAM)
            (programs / name).chmod(stat.S_IRWXU)
        env = {**clean_environment(), "PATH": str(programs)}
        return forks.run(["image", *arguments], env, root, PATIENCE)

    return command


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: (tmp_path / "bin/calls").read_text().splitlines()


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_all_four_are_built_and_pushed(engine: str, run: Run, calls: Callable[[], list[str]]) -> None:
    done = run("--to", "registry", here=(engine,))
    assert done.returncode == 0, done.stderr
    references = [f"ghcr.io/homelab-mlops/{name}:0.1.0" for name in NAMES]
    assert done.stdout.split() == references
    built, pushed = calls()[::2], calls()[1::2]
    assert pushed == [f"{engine} push {reference}" for reference in references]
    for name, reference, call in zip(NAMES, references, built, strict=True):
        assert call.startswith(f"{engine} build --build-arg COMMIT=")
        assert call.endswith(f" --file docker/{name}/Dockerfile --tag {reference} .")


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_without_a_registry_k3s_imports_them(engine: str, run: Run, calls: Callable[[], list[str]]) -> None:
    done = run("training", "--to", "k3s", here=(engine, "k3s"))
    assert done.returncode == 0, done.stderr
    _, saved, imported = calls()
    archive = imported.rpartition(" ")[2]
    assert imported == f"k3s ctr --namespace k8s.io images import {archive}"
    assert archive in saved
    assert "ghcr.io/homelab-mlops/training:0.1.0" in saved


def test_an_engine_whose_daemon_does_not_run_is_passed_over(
    run: Run, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/docker-fails-version").touch()
    done = run("training", here=("docker", "buildah"))
    assert done.returncode == 0, done.stderr
    assert "docker does not answer" in done.stderr
    assert [call.split()[:2] for call in calls()] == [["buildah", "build"]]
    refused(run("--engine", "docker"), "start docker's daemon")
    (tmp_path / "bin/buildah").unlink()
    refused(run(), "start docker's daemon")


def test_a_tag_is_pinned_once_for_all(run: Run, tmp_path: Path) -> None:
    done = run("--tag", "0.2.0")
    assert done.returncode == 0, done.stderr
    pinned = yaml.safe_load((tmp_path / "clone" / PINS).read_text())["images"]
    assert [item["newTag"] for item in pinned] == ["0.2.0"] * 4
    assert done.stdout.splitlines()[0] == "ghcr.io/homelab-mlops/minio:0.2.0"


def test_what_cannot_be_done_is_said(run: Run, tmp_path: Path) -> None:
    refused(run(here=()), "none of docker, podman and buildah is on PATH")
    refused(run("--engine", "podman"), "podman is not on PATH")
    refused(run("--to", "k3s"), "k3s is not on PATH")
    refused(run("trianing"), "images: minio, mlflow, serving, training")
    refused(run("--tag", "not a tag"), "not a tag")
    (tmp_path / "bin/fails-build").touch()
    refused(run("--tag", "0.2.0"), "docker build ended with 1")
    assert "0.2.0" not in (tmp_path / "clone" / PINS).read_text()
    (tmp_path / "bin/fails-build").unlink()
    (tmp_path / "bin/fails-push").touch()
    refused(run("--to", "registry"), "docker login ghcr.io")

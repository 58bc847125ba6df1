"""What plain kustomize and helm build of a repository, by the lines of a file that a person wrote."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from homelab_mlops.gitops.argo_cd.kustomizations import KUSTOMIZATIONS
from homelab_mlops.gitops.tools import find

FAILED = "it does not build"
# The kinds that a template asks the cluster for: what depends on them counts as present.
KINDS = ("--api-versions", "monitoring.coreos.com/v1")


def built(root: Path, lines: list[str]) -> list[list[str]]:
    """For each line the objects: ``files PATH``, ``folder PATH [recurse]`` or ``helm NAME CHART [OPTIONS]``."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "copy"  # helm writes into the folder of a chart
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".git", ".tools"))
        return [sorted(_line(copy, *line.split())) for line in lines]


def _line(root: Path, how: str, *words: str) -> list[str]:
    if how == "helm":
        name, chart, *options = words
        return _helm(root, chart, ["template", name, chart, "--include-crds", *KINDS, *options])
    folder = root / words[0]
    if how == "folder" and any((folder / name).is_file() for name in KUSTOMIZATIONS):
        return _objects(_output([str(find("kustomize")), "build", str(folder)], root))
    found = [folder] if folder.is_file() else folder.rglob("*.yaml") if "recurse" in words else folder.glob("*.yaml")
    return [text for file in sorted(found) for text in _objects(file.read_text())]


def _helm(root: Path, chart: str, command: list[str]) -> list[str]:
    filled = _output(["helm", "dependency", "build", "--skip-refresh", chart], root)
    return [FAILED] if filled == FAILED else _objects(_output(["helm", *command], root))


def _output(command: list[str], root: Path) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else FAILED


def _objects(text: str) -> list[str]:
    try:
        return [yaml.safe_dump(item, sort_keys=True) for item in yaml.safe_load_all(text) if item]
    except yaml.YAMLError:
        return [FAILED]

"""What plain kustomize and helm build of a repository, by the lines of a file that a person wrote."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.gitops.render import KUSTOMIZATIONS
from homelab_mlops.gitops.tools import find
from homelab_mlops.manifests.objects import get
from tests.conftest import PATIENCE

FAILED = "it does not build"
# The kinds that a template asks the cluster for: what depends on them counts as present.
KINDS = ("--api-versions", "monitoring.coreos.com/v1")
WORKLOADS = {("apps/v1", "Deployment"), ("apps/v1", "StatefulSet")}
BY_HAND = "-"
"""The Application of what a person applies."""


def built(root: Path, lines: list[str]) -> list[list[str]]:
    """For each line the objects, as the API server stores them.

    A line is the name of the Application, with ``@`` and the namespace of its destination, and one of ``files PATH``,
    ``folder PATH [recurse]``, ``helm NAME CHART [OPTIONS]`` and ``inflate PATH``; or, for what a person applies,
    ``declared NAME`` (with the ``@`` where the root renders itself); or, for what no program here renders, ``bytes
    PATH``; or, for what an ApplicationSet reads, ``parameters PATTERN KEY...`` and ``folders PATH``.
    """
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "copy"  # helm writes into the folder of a chart
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", ".tools"))
        return [sorted(_line(copy, *line.split())) for line in lines]


def _line(root: Path, application: str, how: str, *words: str) -> list[str]:
    folder = root / words[1 if how == "helm" else 0]
    name, _, namespace = application.partition("@")
    found = _rendered(root, how, *words)
    return [*(as_stored(found, namespace) if namespace else found), *_overrides(folder, name.rpartition("/")[2])]


def as_stored(texts: list[str], namespace: str) -> list[str]:
    """The objects where a field that is left out and its value by default are the same.

    It knows two of them: the namespace is the destination's, and a workload has one replica.
    """
    found = []
    for item in (yaml.safe_load(text) if text != FAILED else text for text in texts):
        if isinstance(item, dict):
            spec, metadata = item.get("spec"), item.get("metadata")
            is_workload = (item.get("apiVersion"), item.get("kind")) in WORKLOADS
            if is_workload and isinstance(spec, dict) and spec.get("replicas") is None:
                spec["replicas"] = 1
            if isinstance(metadata, dict) and metadata.get("namespace") in (None, namespace):
                metadata.pop("namespace", None)
        found.append(item if item == FAILED else yaml.safe_dump(item, sort_keys=True))
    return found


def _overrides(folder: Path, application: str) -> Iterator[str]:
    """What the files say by which Argo CD changes the source of an Application."""
    for name in (".argocd-source.yaml", f".argocd-source-{application}.yaml"):
        if application != BY_HAND and (folder / name).is_file():
            try:
                yield str(yaml.safe_load((folder / name).read_text()))
            except (yaml.YAMLError, UnicodeDecodeError):
                yield FAILED


def _rendered(root: Path, how: str, *words: str) -> list[str]:
    match how:
        case "parameters":
            files = sorted(root.glob(words[0]))
            return [f"{item.get(key)}" for file in files for item in _documents(file) for key in words[1:]]
        case "folders":
            inside = (item for item in (root / words[0]).glob("[!.]*") if item.is_dir() and not item.is_symlink())
            return [item.name for item in inside if any(not part.is_dir() for part in item.rglob("*"))]
        case "helm":
            name, chart, *options = words
            return _helm(root, chart, ["template", name, chart, "--include-crds", *KINDS, *options])
        case "inflate":
            return _objects(_output([str(find("kustomize")), "build", "--enable-helm", words[0]], root))
        case "declared":
            files = [item for item in root.rglob("*") if item.suffix in (".yaml", ".yml", ".json")]
            named = (item for file in files for item in _documents(file) if _is_named(item, words[0]))
            return sorted({yaml.safe_dump(item) for item in named})
        case "bytes":
            return list(_bytes(root, root / words[0]))
    folder = root / words[0]
    # A source with `directory.recurse` names its tool: Argo CD does not run kustomize there.
    if how == "folder" and "recurse" not in words and any((folder / name).is_file() for name in KUSTOMIZATIONS):
        return _objects(_output([str(find("kustomize")), "build", str(folder)], root))
    found = [folder] if folder.is_file() else folder.rglob("*") if "recurse" in words else folder.glob("*")
    return [text for file in sorted(found) if file.suffix in (".yaml", ".yml", ".json") for text in _file(file)]


def _file(file: Path) -> list[str]:
    """The objects of a file; Argo CD passes over a document that has no kind."""
    return [yaml.safe_dump(item, sort_keys=True) for item in _documents(file) if item.get("kind")]


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        found = list(yaml.safe_load_all(file.read_text())) if not file.is_dir() else []
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        return [{"kind": FAILED}]
    return [item for item in found if isinstance(item, dict)]


def _is_named(item: dict[str, Any], name: str) -> bool:
    return str(item.get("apiVersion")).startswith("argoproj.io/") and get(item, "metadata", "name") == name


def _bytes(root: Path, folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        if not file.is_dir():
            content = file.read_bytes() if file.exists() else b""
            yield f"{file.relative_to(root)} {hashlib.sha256(content).hexdigest()}"


def _helm(root: Path, chart: str, command: list[str]) -> list[str]:
    filled = _output(["helm", "dependency", "build", "--skip-refresh", chart], root)
    return [FAILED] if filled == FAILED else _objects(_output(["helm", *command], root))


def _output(command: list[str], root: Path) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.stdout if done.returncode == 0 else FAILED


def _objects(text: str) -> list[str]:
    if text == FAILED:
        return [FAILED]
    try:
        return [yaml.safe_dump(item, sort_keys=True) for item in yaml.safe_load_all(text) if item]
    except (yaml.YAMLError, RecursionError, ValueError):
        return [FAILED]

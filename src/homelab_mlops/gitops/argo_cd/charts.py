"""Helm charts that lie in the repository: what helm reads of them, and what it renders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops.argo_cd.applications import Source
from homelab_mlops.gitops.argo_cd.helm import program_or_reason
from homelab_mlops.gitops.argo_cd.kustomizations import REMOTE
from homelab_mlops.gitops.argo_cd.trees import Tree, normal
from homelab_mlops.gitops.render import parse
from homelab_mlops.gitops.yaml_loader import dump
from homelab_mlops.manifests.objects import entries, has_kind

SECONDS = 60.0
_FILES = ("Chart.yaml", "Chart.lock", "requirements.yaml", "requirements.lock", "values.yaml", "values.schema.json")
_FOLDERS = ("templates", "charts", "crds")
_ASKS_THE_CLUSTER = re.compile(r"\.Capabilities\b|\blookup\s+[\"$(.]")
_ASKED_KIND = re.compile(r"\.APIVersions\.Has\s+[\"`]([^\"`]+)[\"`]")
_NO_DEPENDENCY = re.compile(r"missing in charts/ directory")


@dataclass
class ChartReading:
    """What helm reads of a chart.

    Attributes:
        files: the files, and the folders that are read as a whole.
        uncertain: templates that ask the cluster, so that Argo CD may render something else than this machine.
        folders: the folder of the chart, and of each chart of this repository that it depends on.
    """

    files: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)


def read_by_helm(tree: Tree, path: str, helm: dict[str, Any]) -> ChartReading:
    """What helm reads of the chart in a folder: everything, where its templates read files."""
    found = ChartReading()
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        if folder in found.folders or folder.startswith(".."):
            continue
        found.folders[folder] = tree.id_of(folder)
        texts = {file: tree.read(file) or "" for file in tree.below(folder) if file.endswith((".yaml", ".yml", ".tpl"))}
        if any(".Files" in text for text in texts.values()):
            found.files.add(folder)
        parts = [*_FILES, ".helmignore", *(item for item in _FOLDERS if not (item == "crds" and helm.get("skipCrds")))]
        found.files |= {normal(folder, part) for part in parts}
        found.uncertain |= {file for file, text in texts.items() if _ASKS_THE_CLUSTER.search(text)}
        waiting += [target for _, target in _beside(tree, folder)]
    return found


def _dependencies(tree: Tree, folder: str) -> Iterator[dict[str, Any]]:
    for name in ("Chart.yaml", "requirements.yaml"):
        try:
            contents = parse(tree.read(normal(folder, name)) or "")
        except yaml.YAMLError:
            continue
        for content in contents:
            yield from entries(content.get("dependencies")) if isinstance(content, dict) else []


def _beside(tree: Tree, folder: str) -> Iterator[tuple[str, str]]:
    """The names and folders of the charts of this repository that a chart depends on."""
    for item in _dependencies(tree, folder):
        if str(item.get("repository", "")).startswith("file://"):
            yield str(item.get("name")), normal(folder, str(item["repository"]).removeprefix("file://"))


def value_files(source: Source, origin: dict[str, Any]) -> list[tuple[str, int, bool]]:
    """The values files that a source names: the path, the number of the source whose tree has it, whether helm sets it.

    Helm sets the whole content of a file parameter as one value.
    """
    helm = origin.get("helm") or {}
    references = {f"${item['ref']}": number for number, item in enumerate(source.origins) if item.get("ref")}
    own = next(number for number, item in enumerate(source.origins) if item is origin)
    named = [(file, False) for file in helm.get("valueFiles") or []]
    named += [(item.get("path"), True) for item in entries(helm.get("fileParameters"))]
    found = []
    for name, is_set in named:
        start, _, rest = str(name).partition("/")
        if start in references:
            found.append((normal("", rest), references[start], is_set))
        elif "chart" not in origin and not REMOTE.search(str(name)):
            file = substituted(source, origin, str(name))
            found.append((normal("" if start == "" else str(origin.get("path") or ""), file.lstrip("/")), own, is_set))
    return found


def substituted(source: Source, origin: dict[str, Any], text: str) -> str:
    """A text with the variables of Argo CD's build environment filled in, where they are known here."""
    known = {
        "ARGOCD_APP_NAME": source.name,
        "ARGOCD_APP_NAMESPACE": source.namespace,
        "ARGOCD_APP_PROJECT_NAME": str(source.spec.get("project") or "default"),
        "ARGOCD_APP_SOURCE_PATH": str(origin.get("path") or ""),
        "ARGOCD_APP_SOURCE_REPO_URL": str(origin.get("repoURL") or ""),
        "ARGOCD_APP_SOURCE_TARGET_REVISION": str(origin.get("targetRevision") or ""),
    }
    return re.sub(r"\$\{?(ARGOCD_\w+)\}?", lambda match: known.get(match[1], match[0]), text)


def render_chart(tree: Tree, source: Source, origin: dict[str, Any], path: str) -> str:
    """The objects of a chart as YAML; empty, with the reason noted, where they cannot be known here.

    Raises:
        RepositoryError: helm refuses the chart.
    """
    program, why = program_or_reason()
    if not program:
        source.unrendered = f"{path} is a Helm chart, and {why}"
        return ""
    helm = origin.get("helm") or {}
    if any(REMOTE.search(str(file)) for file in helm.get("valueFiles") or []):
        source.unrendered = f"{path} is a Helm chart whose values are not in the repository"
        return ""
    folder = _with_dependencies(program, tree, path, source)
    if folder is None:
        return ""
    command = [program, "template", str(helm.get("releaseName") or source.name), str(folder)]
    command += ["--namespace", str(helm.get("namespace") or source.namespace)]
    command += [] if helm.get("skipCrds") else ["--include-crds"]
    command += ["--skip-tests"] if helm.get("skipTests") else []
    command += ["--skip-schema-validation"] if helm.get("skipSchemaValidation") else []
    files = _files(source, origin)
    if files is None:
        return ""
    command += files
    for item in entries(helm.get("parameters")):
        value = substituted(source, origin, str(item.get("value", "")))
        command += ["--set-string" if item.get("forceString") else "--set", f"{item.get('name', '')}={value}"]
    for version in {*map(str, helm.get("apiVersions") or []), *_asked_kinds(folder)}:
        command += ["--api-versions", version]
    command += ["--kube-version", str(helm["kubeVersion"])] if helm.get("kubeVersion") else []
    # valuesObject goes before values, as in Argo CD.
    text = dump(helm["valuesObject"]) if helm.get("valuesObject") else str(helm.get("values") or "")
    command += ["--values", "-"] if text else []
    done = _helm(command, text)
    if done.returncode:
        reason = done.stderr.strip().removeprefix("Error: ").replace(f"{tree.folder}/", "")
        if _NO_DEPENDENCY.search(reason):
            source.unrendered = f"{path} is a Helm chart whose dependencies are not in the repository"
            return ""
        raise RepositoryError(reason)
    if not all(has_kind(item) for item in parse(done.stdout)):
        raise RepositoryError(f"{path} renders a document without kind, which Argo CD refuses")
    return re.sub(r"^# Source: .*\n", "", done.stdout, flags=re.MULTILINE)


def _files(source: Source, origin: dict[str, Any]) -> list[str] | None:
    """The options that name values files; None where one lies in another repository."""
    helm = origin.get("helm") or {}
    names = [str(item.get("name")) for item in entries(helm.get("fileParameters"))]
    options: list[str] = []
    for file, owner, is_set in value_files(source, origin):
        place = source.trees[owner]
        if place is None:
            source.unrendered = source.unrendered or f"its values file {file} is not of this repository"
            return None
        if (place.folder / file).is_file() and not place.is_outside(file):
            options += ["--set-file", f"{names.pop(0)}={place.folder / file}"] if is_set else []
            options += [] if is_set else ["--values", str(place.folder / file)]
        elif is_set or not helm.get("ignoreMissingValueFiles"):
            raise RepositoryError(f"the values file {file} is not there")
    return options


def _asked_kinds(folder: Path) -> set[str]:
    """The kinds that a template asks the cluster for. They count as present, so that what depends on them is
    reviewed."""
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in folder.rglob("*") if _is_template(file))
    return {name for text in texts if ".Capabilities" in text for name in _ASKED_KIND.findall(text)}


def _is_template(file: Path) -> bool:
    return file.suffix in (".yaml", ".yml", ".tpl") and file.is_file()


def _with_dependencies(program: str, tree: Tree, path: str, source: Source) -> Path | None:
    """The folder of a chart; where its ``charts`` lacks a chart of this repository, a copy that `helm dependency build`
    has filled, as Argo CD does it. None where another repository has one of the dependencies.

    Raises:
        RepositoryError: a dependency lies outside the repository, or helm refuses it, as by its version.
    """
    folder = tree.folder / path
    missing = [(name, place) for name, place in _beside(tree, path) if not _is_packed(tree, path, name)]
    if not missing:
        return folder
    if any(not str(item.get("repository") or "file://").startswith("file://") for item in _dependencies(tree, path)):
        source.unrendered = f"{path} is a Helm chart whose dependencies are not in the repository"
        return None
    for name, place in missing:
        if place not in tree.entries or tree.is_outside(place):
            raise RepositoryError(f"the chart {path} depends on {name}, which is not in {place}")
    name = re.sub(r"[^\w-]", "-", source.key)
    copy = folder.with_name(f".{folder.name}-{name}-chart")
    shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
    done = _helm([program, "dependency", "build", "--skip-refresh", str(copy)])
    if done.returncode:
        raise RepositoryError(done.stderr.strip().removeprefix("Error: ").replace(f"{tree.folder}/", ""))
    return copy


def _is_packed(tree: Tree, path: str, name: str) -> bool:
    """Whether the folder ``charts`` of a chart holds a dependency."""
    start = normal(path, "charts/")
    packed = re.compile(rf"{re.escape(start)}/{re.escape(name)}(/Chart\.yaml|-\d[^/]*\.tgz)")
    return any(packed.fullmatch(file) for file in tree.below(start))


def _helm(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603
            command,
            input=text,
            env={**os.environ, "HELM_REGISTRY_CONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"helm took more than {SECONDS:.0f} s") from None

"""What Argo CD would apply: each Application's source, rendered by kustomize."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops import tools
from homelab_mlops.gitops.argo_cd.forms import well_formed
from homelab_mlops.gitops.yaml_loader import Loader
from homelab_mlops.manifests.objects import Manifest, get

ARGO_CD = "argo-cd"
"""The Application of Argo CD itself, which upstream writes."""
ROOT_APPLICATION = Path("clusters/homelab/root.yaml")
SECONDS = 60.0
MOST_VALUES = 2_000_000
LONGEST_PATH = 256
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_ALIAS = re.compile(r"[\[\s,:]\*\w")
_NAMES = re.compile(r"([&*])([\w-]+)")
# Builds run at the same time, and end before a garbage collection pays, unless a tree is very large.
_ALONE = {"GOGC": "off", "GOMEMLIMIT": "512MiB", "GOMAXPROCS": "1"}


@dataclass(frozen=True)
class Rendered:
    """The objects of one Application; ``unreachable`` says why a remote base could not be fetched."""

    name: str
    path: str
    manifests: list[Manifest]
    text: str = ""
    unreachable: str = ""


def applications(root: Path) -> list[Manifest]:
    """The Applications that the repository declares: the root first, then those of ``apps/`` in the order of files.

    Raises:
        RepositoryError: there is none, or one has a field of another form than Argo CD's.
    """
    found = []
    for path in [root / ROOT_APPLICATION, *sorted((root / "apps").glob("*.yaml"))]:
        for manifest in read_yaml(path) if path.is_file() else []:
            if manifest.get("kind") == "Application":
                _, wrong = well_formed(manifest)
                if wrong or not get(manifest, "metadata", "name"):
                    raise RepositoryError(wrong or "an Application has no metadata.name", where=str(path))
                found.append(manifest)
    if not found:
        raise RepositoryError("no Application is declared", where=str(root / "apps"), fix="run inside the repository")
    return found


def read_yaml(path: Path) -> list[Manifest]:
    """The documents of a YAML file.

    Raises:
        RepositoryError: it is not YAML, or a document is no mapping.
    """
    try:
        documents = parse(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RepositoryError(f"not valid YAML: {error.problem}", where=f"{path}:{line}") from error
    except yaml.YAMLError as error:
        raise RepositoryError(f"not valid YAML: {error}", where=str(path)) from error
    return [document for document in documents if isinstance(document, dict)]


def render_all(root: Path) -> list[Rendered]:
    """Renders every Application, at the same time.

    Raises:
        RepositoryError: a kustomization does not build; the message names it and the reason.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        rendered = pool.map(lambda item: _render_origins(root, item), applications(root))
        return [item for items in rendered for item in items]


def origins(application: Manifest) -> list[dict[str, Any]]:
    """The sources of an Application: one, or several."""
    spec = application.get("spec") or {}
    return list(spec.get("sources") or [spec.get("source") or {}])


def _render_origins(root: Path, application: Manifest) -> list[Rendered]:
    """What an Application renders, source by source. A chart or a plugin is reported, and not rendered."""
    name = str(application["metadata"]["name"])
    found = []
    for origin in origins(application):
        path = str(origin.get("path") or "")
        if "chart" in origin:
            why = f"chart {origin['chart']} of {origin.get('repoURL')}"
            found.append(Rendered(name, "", [], unreachable=why))
        elif origin.get("plugin") is not None or (root / path / "Chart.yaml").is_file():
            why = f"{path}, which a plugin or helm renders"
            found.append(Rendered(name, path, [], unreachable=why))
        elif path:
            found.append(render_application(root, name, path))
    return found


def render_application(root: Path, name: str, path: str) -> Rendered:
    """Renders one source; a remote base that cannot be reached is reported, not raised."""
    _refuse_deep_aliases(root, path)
    try:
        text = build(root / path)
    except ToolError as error:
        remote = [item for item in _resources(root / path) if item.startswith(("https://", "ssh://", "git@"))]
        if remote and any(mark in error.what for mark in ("dial tcp", "git fetch", "no such host", "exit status 128")):
            return Rendered(name, path, [], unreachable=remote[0])
        raise RepositoryError(f"the Application {name} does not build: {error.what}", where=path) from error
    return Rendered(name, path, parse(text), text)


def _refuse_deep_aliases(root: Path, path: str) -> None:
    """Looks into every file that the kustomization of a folder names, and those of the folders that it names."""
    waiting, known = [root / path], set[Path]()
    while waiting:
        folder = waiting.pop().resolve()
        if folder in known:
            continue
        known.add(folder)
        for file in (folder / name for name in KUSTOMIZATIONS):
            if file.is_file():
                refuse_deep_aliases(file, os.path.relpath(file, root))
                named = [folder / text for text in _named_texts(file)]
                waiting += [item for item in named if item.is_dir()]
                for item in (item for item in named if item.is_file()):
                    refuse_deep_aliases(item, os.path.relpath(item, root))


def _named_texts(file: Path) -> list[str]:
    try:
        return [text for content in read_yaml(file) for text in _paths(content)]
    except RepositoryError:
        return []  # kustomize says what is wrong with it


def _paths(node: Any) -> Iterator[str]:
    """The texts that may be the path of a file."""
    if isinstance(node, str) and "\n" not in node and len(node) < LONGEST_PATH:
        yield node.partition("=")[2] or node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _paths(item)


def render(folder: Path) -> list[Manifest]:
    """The objects of a kustomization.

    Raises:
        ToolError: it does not build.
    """
    return parse(build(folder))


def parse(text: str) -> list[Manifest]:
    """The objects of YAML.

    Raises:
        yaml.YAMLError: the text is no YAML, or its aliases make it larger than any real manifest.
    """
    documents = list(yaml.load_all(text, Loader=Loader))
    if _ALIAS.search(text) and _size(documents, {}) > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
    return [document for document in documents if document]


def refuse_deep_aliases(path: Path, name: str) -> None:
    """Refuses a file for which kustomize would take minutes and all memory.

    Raises:
        RepositoryError: its aliases make it larger than any real manifest.
    """
    content = path.read_bytes()
    if b"&" in content and b"*" in content:
        text = content.decode(errors="replace")
        with contextlib.suppress(yaml.YAMLError):
            if _has_aliases(text) and _size(list(yaml.load_all(text, Loader=Loader)), {}) > MOST_VALUES:
                raise RepositoryError(f"the aliases of {name} stand for more than {MOST_VALUES:,} values", where=name)


def _has_aliases(text: str) -> bool:
    """Whether a name stands behind ``&`` and behind ``*``."""
    names: dict[str, set[str]] = {"&": set(), "*": set()}
    for sign, name in _NAMES.findall(text):
        names[sign].add(name)
    return not names["&"].isdisjoint(names["*"])


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values there are where each alias is written out."""
    if not isinstance(node, (dict, list)):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # a node within itself
        items = node.values() if isinstance(node, dict) else node
        known[id(node)] = 1 + sum(_size(item, known) for item in items)
    return known[id(node)]


def build(folder: Path) -> str:
    """What ``kustomize build`` prints.

    Raises:
        ToolError: it fails, or takes more than a minute.
    """
    return _kustomize(folder, "build", str(folder))


def edit(folder: Path, *arguments: str) -> None:
    """Changes the kustomization of a folder by ``kustomize edit``.

    Raises:
        ToolError: it fails, or takes more than a minute.
    """
    _kustomize(folder, "edit", *arguments)


def _kustomize(folder: Path, *arguments: str) -> str:
    try:
        finished = subprocess.run(  # noqa: S603
            [str(tools.find("kustomize").absolute()), *arguments],
            cwd=folder if arguments[0] == "edit" else None,
            env={**_ALONE, **os.environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"kustomize took more than {SECONDS:.0f} s", where=str(folder)) from None
    if finished.returncode:
        reason = finished.stderr.partition("\nUsage:\n")[0]
        said = [line for line in reason.splitlines() if not line.startswith("# Warning: ")]
        raise ToolError("\n".join(said).strip().removeprefix("Error: "), where=str(folder))
    return finished.stdout


def _resources(folder: Path) -> list[str]:
    file = folder / "kustomization.yaml"
    contents = read_yaml(file) if file.is_file() else []
    return [str(item) for content in contents for item in content.get("resources") or []]

"""The files that kustomize reads for a folder, by all the fields of its format that name files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from homelab_mlops.gitops.argo_cd.trees import SYMLINK, Tree, normal
from homelab_mlops.gitops.render import KUSTOMIZATIONS, parse

REMOTE = re.compile(r"^(https?://|file://|ssh://|git@|git::|oci://|github\.com/)|\?(ref|version)=|\.git(/|$|\?)")
# Each entry is a file, a folder, an address, or YAML written in place.
_RESOURCES = ("resources", "bases", "components", "generators", "transformers", "validators")
_FILES = ("crds", "configurations", "patchesStrategicMerge")
_WITH_A_PATH = ("patches", "patchesJson6902", "replacements", "openapi")
_GENERATED = ("configMapGenerator", "secretGenerator")
# kustomize takes a field in any case: `Resources` is `resources`.
_IN_ANY_CASE = {
    name.lower(): name
    for name in (
        *(*_RESOURCES, *_FILES, *_WITH_A_PATH, *_GENERATED, "path", "files", "env", "envs", "values", "valuesFile"),
        *(
            "helmCharts",
            "helmChartInflationGenerator",
            "additionalValuesFiles",
            "helmGlobals",
            "chartHome",
            "chartName",
        ),
    )
}
# The fields by which the configuration of a built-in generator or transformer names files.
_OF_PLUGINS = ("path", "paths", "files", "env", "envs", "valuesFile", "additionalValuesFiles", "chartHome")


@dataclass
class Reading:
    """What kustomize reads.

    Attributes:
        files: the files, and the folders that are read as a whole.
        folders: the folders that have a kustomization.
        identities: the ids of these files, and of the folders as a whole.
        remotes: the addresses that a kustomization names.
        is_known: whether the identities cover everything; False where a link or a broken file takes part.
    """

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    identities: dict[str, str] = field(default_factory=dict)
    remotes: list[str] = field(default_factory=list)
    is_known: bool = True


def read_by_kustomize(tree: Tree, path: str, options: dict[str, Any]) -> Reading:
    """What kustomize reads for a folder of a tree, and for the options that an Application gives."""
    asked = repr((path, options))
    if asked not in tree.kustomizations:
        tree.kustomizations[asked] = _read(tree, path, options)
    found: Reading = tree.kustomizations[asked]
    return found


def _read(tree: Tree, path: str, options: dict[str, Any]) -> Reading:
    found = Reading()
    waiting = [path, *_named(tree, found, path, {"components": options.get("components"), **_patches(options)})]
    while waiting:
        folder = waiting.pop()
        if folder in found.folders:
            continue
        if folder.startswith(("..", "/")):
            found.is_known = False
            continue
        found.folders.add(folder)
        found.identities[folder] = tree.id_of(folder)
        if tree.has_links(folder):
            found.is_known = False
        for name in KUSTOMIZATIONS:
            file = normal(folder, name)
            text = tree.read(file)
            if text is None:
                continue
            found.files.add(file)
            contents = _contents(text)
            if contents is None:
                found.is_known = False
                found.files.add(folder)
                continue
            for content in contents:
                waiting += _named(tree, found, folder, content)
    return found


def _patches(options: dict[str, Any]) -> dict[str, Any]:
    return {"patches": [item for item in options.get("patches") or [] if isinstance(item, dict) and item.get("path")]}


@cache
def _contents(text: str) -> list[dict[str, Any]] | None:
    """The mappings of a kustomization; None where it is not valid YAML. The caller must not change them."""
    try:
        return [_named_as_usual(item) for item in parse(text) if isinstance(item, dict)]
    except yaml.YAMLError:
        return None


def _named_as_usual(node: Any) -> Any:
    if isinstance(node, dict):
        return {_IN_ANY_CASE.get(str(key).lower(), key): _named_as_usual(value) for key, value in node.items()}
    return [_named_as_usual(item) for item in node] if isinstance(node, list) else node


def _named(tree: Tree, found: Reading, folder: str, content: dict[str, Any]) -> list[str]:
    """Notes the files that a kustomization names, and returns the folders."""
    folders = []
    for reference in _references(content):
        if REMOTE.search(reference):
            found.remotes.append(reference)
            continue
        target, links = resolved(tree, normal(folder, reference))
        found.files |= links
        found.is_known = found.is_known and not links
        entry = tree.entries.get(target)
        if target == "." or (entry is not None and entry.kind == "tree"):
            folders.append(target)
        elif entry is not None:
            found.files.add(target)
            found.identities[target] = tree.id_of(target)
    for reference in _whole_folders(content):
        target = normal(folder, reference)
        found.files.add(target)
        found.identities[target] = tree.id_of(target)
    for reference in _plugins(content):
        file = normal(folder, reference)
        for part in _contents(tree.read(file) or "") or []:
            folders += _named(tree, found, folder, {"resources": list(_of_plugin(part))})
    return folders


def _references(content: dict[str, Any]) -> Iterator[str]:
    for key in (*_RESOURCES, *_FILES):
        yield from _texts(content.get(key))
    for key in _WITH_A_PATH:
        for item in _mappings(content.get(key)):
            yield from _texts(item.get("path"))
    for key in _GENERATED:
        for item in _mappings(content.get(key)):
            yield from (text.partition("=")[2] or text for text in _texts(item.get("files")))
            yield from (*_texts(item.get("envs")), *_texts(item.get("env")))
    for key in ("helmCharts", "helmChartInflationGenerator"):
        for item in _mappings(content.get(key)):
            yield from (*_texts(item.get("valuesFile")), *_texts(item.get("additionalValuesFiles")))
            yield from _texts(item.get("values"))


def _whole_folders(content: dict[str, Any]) -> Iterator[str]:
    """The folders of charts: a template may read any file there."""
    home = next((str(item.get("chartHome") or "charts") for item in _mappings(content.get("helmGlobals"))), "charts")
    for item in _mappings(content.get("helmCharts")):
        yield posixpath.join(home, str(item.get("name") or ""))
    for item in _mappings(content.get("helmChartInflationGenerator")):
        yield posixpath.join(str(item.get("chartHome") or home), str(item.get("chartName") or ""))


def _plugins(content: dict[str, Any]) -> Iterator[str]:
    for key in ("generators", "transformers", "validators"):
        yield from (text for text in _texts(content.get(key)) if not REMOTE.search(text))


def _of_plugin(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else ():
        if key in _OF_PLUGINS:
            yield from (text.rpartition("=")[2] for text in _texts(value))
        for item in value if isinstance(value, list) else [value]:
            yield from _of_plugin(item)


def _mappings(node: Any) -> list[dict[str, Any]]:
    items = node if isinstance(node, list) else [node]
    return [item for item in items if isinstance(item, dict)]


def _texts(node: Any) -> list[str]:
    """The texts of a list, or one; YAML written in place has several lines."""
    items = node if isinstance(node, list) else [node]
    return [item.strip() for item in items if isinstance(item, str) and "\n" not in item.strip()]


def resolved(tree: Tree, path: str) -> tuple[str, set[str]]:
    """Where the links of a tree lead a path, and these links."""
    links: set[str] = set()
    for _ in range(len(path)):
        parts = path.split("/")
        prefixes = ("/".join(parts[:number]) for number in range(1, len(parts) + 1))
        link = next((item for item in prefixes if item in tree.entries and tree.entries[item].mode == SYMLINK), None)
        if link is None or link in links:
            break
        links.add(link)
        target = (tree.folder / link).readlink().as_posix()
        path = normal(posixpath.dirname(link), posixpath.join(target, path[len(link) :].lstrip("/")))
    return path, links

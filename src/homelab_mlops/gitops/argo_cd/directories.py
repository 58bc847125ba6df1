"""Folders without a kustomization or a chart, which Argo CD applies file by file."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from typing import Any

import yaml

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.argo_cd.applications import Source
from homelab_mlops.gitops.argo_cd.trees import Tree, normal
from homelab_mlops.gitops.render import parse
from homelab_mlops.gitops.yaml_loader import dump
from homelab_mlops.manifests.objects import has_kind

_APPLIED = (".yaml", ".yml", ".json", ".jsonnet")
_SKIPPED = "+argocd:skip-file-rendering"
_MANIFEST = ("apiVersion:", "kind:", "metadata:")


def read_of_directory(tree: Tree, path: str, options: dict[str, Any]) -> tuple[set[str], bool]:
    """The files that Argo CD applies. With Jsonnet: the whole folder and its libraries, and that Jsonnet takes part."""
    files = set(_applied(tree, path, options))
    if not any(file.endswith(".jsonnet") for file in files):
        return files, False
    libraries = (options.get("jsonnet") or {}).get("libs") or []
    return {path, *(normal("", str(item)) for item in libraries)}, True


def _applied(tree: Tree, path: str, options: dict[str, Any]) -> Iterator[str]:
    for file in sorted(tree.below(path)):
        inside = file.removeprefix(f"{path}/") if path != "." else file
        if (
            inside.endswith(_APPLIED)
            and ("/" not in inside or options.get("recurse"))
            and _is_included(inside, options)
        ):
            yield file


def documents_of_directory(tree: Tree, source: Source, origin: dict[str, Any], path: str) -> list[str]:
    """The objects of a folder.

    Raises:
        RepositoryError: the folder has none, or a file is not valid YAML or leads out of the repository.
    """
    found = []
    for file in _applied(tree, path, origin.get("directory") or {}):
        if file.endswith(".jsonnet"):
            source.unrendered = f"{file} is Jsonnet"
            continue
        if tree.is_outside(file):
            raise RepositoryError(f"{file} is a link out of the repository")
        documents = _objects(tree, file)
        found += [dump(item, sort_keys=True) for item in documents]
    if not found and not source.unrendered:
        raise RepositoryError(f"{path} renders nothing")
    return found


def _objects(tree: Tree, file: str) -> list[dict[str, Any]]:
    """The objects of a file. Argo CD passes over a file that says so, and over one that holds no manifest.

    Raises:
        RepositoryError: the file holds a manifest, and something else or what is no YAML.
    """
    text = tree.read(file) or ""
    if _SKIPPED in text:
        return []
    is_manifest = all(word in text for word in _MANIFEST)
    try:
        documents = parse(text)
    except yaml.YAMLError as error:
        if is_manifest:
            raise RepositoryError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
        return []
    objects = [item for item in documents if has_kind(item)]
    if len(objects) < len(documents) and (is_manifest or objects):
        raise RepositoryError(f"{file} has a document without kind, which Argo CD refuses")
    return objects


def _is_included(file: str, options: dict[str, Any]) -> bool:
    include, exclude = str(options.get("include") or ""), str(options.get("exclude") or "")
    return (not include or _matches(file, include)) and not (exclude and _matches(file, exclude))


def _matches(file: str, pattern: str) -> bool:
    """Whether a file matches a pattern, or one of ``{a,b}``."""
    braces = re.fullmatch(r"(.*)\{([^{}]*)\}(.*)", pattern)
    patterns = [f"{braces[1]}{part}{braces[3]}" for part in braces[2].split(",")] if braces else [pattern]
    return any(fnmatch.fnmatchcase(file, item) for item in patterns)

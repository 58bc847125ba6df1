"""Where in the repository an object of the cluster comes from: its file, and the commit that last changed it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.clients import git
from homelab_mlops.manifests import yaml_reader

_OBJECT = re.compile(r"\bresource (\w+)/([\w.-]+)")
_YAML_FILE = re.compile(r"[\w./-]+\.ya?ml")


def file_in_message(message: str, folder: str, root: Path | None) -> str:
    """The file that declares the object of an error, or the innermost file that an error of Kustomize names."""
    if named_object := _OBJECT.search(message):
        return file_of(root, folder, *named_object.groups())
    files: list[str] = _YAML_FILE.findall(message)
    named = [name for name in files if not name.endswith("kustomization.yaml")] or files
    if not named:
        return folder
    if root is None:
        return named[-1]
    known = [path for path in _declared_files(root) if str(path).endswith(f"/{Path(named[-1]).name}")]
    same_component = [path for path in known if Path(folder).name in path.parts]
    return str((same_component or known or [Path(named[-1])])[0])


def file_of(root: Path | None, folder: str, kind: str, name: str) -> str:
    """The file below the component's folders that declares an object."""
    for path, document in _documents(root, folder):
        if document.get("kind") == kind and document.get("metadata", {}).get("name") == name:
            return str(path)
    return folder


def file_with(root: Path | None, folder: str, text: str) -> str:
    if root is not None:
        for path in _component_files(root, folder):
            if text in (root / path).read_text(encoding="utf-8"):
                return str(path)
    return folder


def _documents(root: Path | None, folder: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    if root is None:
        return
    for path in _component_files(root, folder):
        try:
            for document in yaml_reader.load_all((root / path).read_text(encoding="utf-8")):
                if isinstance(document, dict):
                    yield path, document
        except yaml.YAMLError:
            continue


def _component_files(root: Path, folder: str) -> list[Path]:
    """The files of an application: its overlay first, then the base of the same name, then the workflows."""
    component = Path(folder).name
    places = (folder, f"base/{component}", *(("workflows",) if component == "training" else ()))
    return [path for place in places for path in _declared_files(root) if path.is_relative_to(place)]


def _declared_files(root: Path) -> list[Path]:
    places = ("clusters", "apps", "overlays", "base", "workflows")
    return [path.relative_to(root) for place in places for path in sorted((root / place).rglob("*.yaml"))]


def commit_of(root: Path | None, file: str) -> str:
    """The last commit that changed the file."""
    if root is None or not file:
        return ""
    return git.run(root, "log", "-1", "--format=%H", "--", file).stdout.strip()

"""What Argo CD would apply at one side: every Application that the root reaches, and what its source renders."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops import render
from homelab_mlops.gitops.render import parse, read_yaml
from homelab_mlops.manifests.objects import Manifest
from homelab_mlops.review import cache as store
from homelab_mlops.review.trees import SUBMODULE, SYMLINK, Tree, normal

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
REMOTE = re.compile(r"^(https?://|file://|ssh://|git@|git::|oci://|github\.com/)|\?(ref|version)=|\.git(/|$|\?)")
UNREACHABLE = re.compile(
    r"dial tcp|no such host|git fetch|exit status 128|timed? ?out|took more than|connection re|TLS|unable to access"
)
MISSING_REFERENCE = re.compile(r"couldn't find remote ref|pathspec .* did not match")
_DOCUMENT = re.compile(r"^---(?:[ \t].*)?$\n?", re.MULTILINE)


@dataclass
class Source:
    """One Application at one side. ``documents`` are its objects as YAML; ``unrendered`` says why there are none."""

    application: Manifest
    documents: list[str] = field(default_factory=list)
    unrendered: str = ""
    remotes: list[str] = field(default_factory=list)
    is_missing: bool = False
    inputs: str = ""
    trees: list[Tree | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.application["metadata"]["name"])

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.application.get("spec") or {}
        return found

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Its sources: one, or several."""
        return list(self.spec.get("sources") or [self.spec.get("source") or {}])

    @property
    def namespace(self) -> str:
        """Where its objects go that name no namespace."""
        return str((self.spec.get("destination") or {}).get("namespace") or "default")

    @property
    def prunes(self) -> bool:
        """Whether Argo CD deletes what is no longer in git."""
        automated = (self.spec.get("syncPolicy") or {}).get("automated") or {}
        options = (self.spec.get("syncPolicy") or {}).get("syncOptions") or []
        return bool(automated.get("prune")) and "Prune=false" not in options

    @property
    def cascades(self) -> bool:
        """Whether its objects are deleted with it."""
        finalizers = self.application["metadata"].get("finalizers") or []
        return any(str(item).startswith("resources-finalizer.argocd.argoproj.io") for item in finalizers)

    def manifests(self) -> list[Manifest]:
        """Its objects."""
        return [item for text in self.documents for item in load(text)]


@dataclass
class Side:
    """Everything that Argo CD would apply at one side, by the name of the Application."""

    tree: Tree
    sources: dict[str, Source] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)


@cache
def load(text: str) -> list[Manifest]:
    """The objects of a YAML text, which nobody may change; the items of a List stand for themselves."""
    found: list[Manifest] = []
    for item in parse(text):
        if (
            isinstance(item, dict)
            and str(item.get("kind", "")).endswith("List")
            and isinstance(item.get("items"), list)
        ):
            found += [part for part in item["items"] if part]
        elif isinstance(item, dict) and item.get("kind"):
            found.append(item)
    return found


def render_sides(base: Tree, head: Tree) -> tuple[Side, Side]:
    """Renders both sides at the same time, beginning with the root Application.

    The head is rendered as a whole, so that a kustomization that does not build is always found; of the base only what
    has other inputs than at the head, the rest being equal.

    Raises:
        RepositoryError: a side has no Application, or a kustomization does not build.
    """
    sides = Side(base), Side(head)
    _ = base.folder, head.folder  # written before threads ask for them
    workers = max(2, os.cpu_count() or 2)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = [(index, item) for index, side in enumerate(sides) for item in _start(side)]
        while waiting:
            for index, application in waiting:
                source = _declare(sides[index], application)
                sides[index].sources[source.name] = source
            todo = []
            for index, application in waiting:
                name = application["metadata"]["name"]
                source, twin = sides[index].sources[name], sides[1 - index].sources.get(name)
                same = twin is not None and source.inputs and source.inputs == twin.inputs
                if same and index == 0:
                    continue
                if same and (source.remotes or source.unrendered):
                    continue
                todo.append(source)
            list(pool.map(_render, todo))
            for index, application in waiting:
                name = application["metadata"]["name"]
                if index == 0 and (twin := sides[1].sources.get(name)) is not None:
                    source = sides[0].sources[name]
                    if source.inputs and source.inputs == twin.inputs and not source.documents:
                        source.documents, source.unrendered = twin.documents, twin.unrendered
            waiting = [
                (index, child)
                for index, application in waiting
                for child in _children(sides[index], application["metadata"]["name"])
            ]
    for name, source in sides[1].sources.items():
        twin = sides[0].sources.get(name)
        if twin is None or not (source.unrendered or twin.unrendered):
            continue
        # Beside a side that is not known, everything of the other one would look new or gone.
        for each in (source, twin):
            if source.remotes or twin.remotes:
                each.documents = _local_documents(each)
            elif not (source.unrendered and twin.unrendered):
                each.documents = []
    return sides


def _start(side: Side) -> list[Manifest]:
    """The Applications that a person applies: the root, or where there is none those of ``apps/``."""
    paths = [path for path in side.tree.entries if re.fullmatch(r"clusters/[^/]+/root\.ya?ml", path)]
    paths = paths or [
        path for path in side.tree.below("apps") if path.endswith((".yaml", ".yml")) and path.count("/") == 1
    ]
    found: dict[str, Manifest] = {}
    for path in sorted(paths):
        for manifest in read_yaml(side.tree.folder / path):
            if manifest.get("kind") == "Application" and (manifest.get("metadata") or {}).get("name"):
                found[manifest["metadata"]["name"]] = manifest
    if not found:
        raise RepositoryError(
            f"no Application is declared at {side.tree.label}",
            where="clusters/*/root.yaml, apps/*.yaml",
            fix="compare commits of a repository that Argo CD follows",
        )
    side.roots = list(found)
    return list(found.values())


def _children(side: Side, name: str) -> list[Manifest]:
    """The Applications that an Application renders and that were not met yet."""
    found: dict[str, Manifest] = {}
    for text in side.sources[name].documents:
        if "kind: Application\n" in text:
            for item in load(text):
                child = item["metadata"]["name"]
                if item["kind"] == "Application" and child not in side.sources and child not in found:
                    found[child] = item
    return list(found.values())


def _declare(side: Side, application: Manifest) -> Source:
    """An Application with the identity of all that its rendering reads; an empty one where that cannot be told."""
    source = Source(application)
    parts, known = [repr(source.origins)], True
    for origin in source.origins:
        tree = _tree(side, source, origin)
        source.trees.append(tree)
        if tree is None or "path" not in origin:
            continue
        path = normal("", str(origin["path"]))
        if path.startswith(".."):
            raise RepositoryError(f"the Application {source.name} has a path outside the repository", where=path)
        inputs = _inputs(tree, path, source.remotes)
        if inputs is None:
            known = False
        else:
            parts.append(inputs)
    source.inputs = "\n".join(parts) if known else ""
    return source


def _tree(side: Side, source: Source, origin: dict[str, Any]) -> Tree | None:
    """The tree that a source is read from, or None where it is not of this repository, with the reason noted."""
    root = side.sources.get(side.roots[0], source)
    home = root.origins[0]
    if "chart" in origin or origin.get("repoURL") != home.get("repoURL"):
        if not origin.get("ref") or origin.get("path"):
            what = f"chart {origin['chart']}" if "chart" in origin else str(origin.get("path") or "")
            source.unrendered = (
                f"{origin.get('repoURL')} {what} at {origin.get('targetRevision')} is not of this repository"
            )
        return None
    revision = str(origin.get("targetRevision") or "HEAD")
    if revision in {str(home.get("targetRevision") or "HEAD"), "HEAD"}:
        return side.tree
    git = side.tree.git
    commit = git.commit(revision) or git.commit(f"origin/{revision}")
    if commit is None:
        source.unrendered = f"its revision {revision} is not in this clone"
        return None
    return git.tree(f"revision {revision}", commit, commit)


def _inputs(tree: Tree, path: str, remotes: list[str]) -> str | None:
    """The ids of every folder that a kustomization reads.

    Kustomize reads files from below the folder of a kustomization only, and folders beside it only where one names
    them. A link may lead anywhere: then nothing is known.
    """
    seen: dict[str, str] = {}
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        if folder.startswith(("..", "/")):
            return None
        seen[folder] = tree.id_of(folder)
        if any(tree.entries[item].mode in (SYMLINK, SUBMODULE) for item in tree.below(folder)):
            return None
        names = [posixpath.join(folder, name) for name in KUSTOMIZATIONS]
        for file in names:
            text = tree.read(file)
            if text is None:
                continue
            content = parse(text)
            remotes += [item for item in _references(content) if REMOTE.search(item)]
            for reference in _strings(content):
                target = normal(folder, reference)
                entry = tree.entries.get(target)
                if target.startswith("..") and "/" in reference:
                    return None
                if entry is not None and entry.kind == "tree":
                    waiting.append(target)
                elif entry is not None and entry.mode in (SYMLINK, SUBMODULE):
                    return None
    return "\n".join(f"{folder} {seen[folder]}" for folder in sorted(seen))


def _references(documents: list[Manifest]) -> list[str]:
    keys = ("resources", "bases", "components")
    return [str(item) for document in documents for key in keys for item in document.get(key) or []]


def _strings(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [item for value in node.values() for item in _strings(value)]
    if isinstance(node, list):
        return [item for value in node for item in _strings(value)]
    return [node] if isinstance(node, str) and "\n" not in node else []


def _render(source: Source) -> None:
    for number, (origin, tree) in enumerate(zip(source.origins, source.trees, strict=True)):
        if tree is not None and "path" in origin:
            source.documents += _documents(tree, source, origin, normal("", str(origin["path"])), number)
    source.manifests()  # parsed while the others are still being built


def _documents(tree: Tree, source: Source, origin: dict[str, Any], path: str, number: int) -> list[str]:
    folder = tree.folder / path
    what = f"the Application {source.name} at {tree.label}"
    if not folder.is_dir():
        raise RepositoryError(f"{what} renders a folder that is not there", where=path)
    if (folder / "Chart.yaml").is_file():
        source.unrendered = f"{path} is a Helm chart, which is not rendered here"
        return []
    if not any((folder / name).is_file() for name in KUSTOMIZATIONS):
        return _plain(tree, origin, path, what)
    try:
        known = None if source.remotes or not source.inputs else store.key(source.inputs, str(number))
        text = store.read(known) if known else None
        if text is None:
            if origin.get("kustomize"):
                folder = _with_options(tree, origin["kustomize"], path, f"{source.name}-{number}")
            text = render.build(folder)
            if known:
                store.write(known, text)
    except ToolError as error:
        if source.remotes and UNREACHABLE.search(error.what):
            source.is_missing = MISSING_REFERENCE.search(error.what) is not None
            why = "is not there" if source.is_missing else "cannot be reached from here"
            source.unrendered = f"{source.remotes[0]} {why}"
            return []
        where = error.what.replace(f"{tree.folder}/", "").replace(str(tree.folder), ".")
        raise RepositoryError(
            f"{what} does not build: {where}", where=path, fix="run `kustomize build` there"
        ) from error
    return split(text)


def split(text: str) -> list[str]:
    """The documents of a rendered YAML text."""
    return [part for part in _DOCUMENT.split(text) if part.strip()]


def _plain(tree: Tree, origin: dict[str, Any], path: str, what: str) -> list[str]:
    """The objects of a folder without a kustomization, which Argo CD applies file by file."""
    options = origin.get("directory") or {}
    found = []
    for file in sorted(tree.below(path)):
        inside = file.removeprefix(f"{path}/")
        if inside.endswith((".yaml", ".yml", ".json")) and ("/" not in inside or options.get("recurse")):
            documents = [item for item in read_yaml(tree.folder / file) if item.get("kind")]
            found += [yaml.dump(item, Dumper=yaml.CSafeDumper, sort_keys=True) for item in documents]
    if not found:
        raise RepositoryError(f"{what} renders nothing", where=path, fix="add a kustomization.yaml")
    return found


def _with_options(tree: Tree, options: dict[str, Any], path: str, name: str) -> Any:
    """A copy of the kustomization beside it, with the options of the Application written in, as Argo CD does."""
    folder = tree.folder / path
    copy = folder.with_name(f".{folder.name}-{name}")
    shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
    (file,) = [copy / item for item in KUSTOMIZATIONS if (copy / item).is_file()][:1]
    (content,) = read_yaml(file)
    for key in ("namePrefix", "nameSuffix", "namespace"):
        if options.get(key):
            content[key] = options[key]
    for key in ("commonLabels", "commonAnnotations"):
        if options.get(key):
            content[key] = {**(content.get(key) or {}), **options[key]}
    for key in ("components", "patches", "replicas"):
        if options.get(key):
            content[key] = [*(content.get(key) or []), *options[key]]
    if options.get("images"):
        content["images"] = [*(content.get("images") or []), *map(_image, options["images"])]
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return copy


def _local_documents(source: Source) -> list[str]:
    """The objects of a source that are written out here, where its remote base is not known; patches left out."""
    found: list[str] = []
    for number, (origin, tree) in enumerate(zip(source.origins, source.trees, strict=True)):
        if tree is None or "path" not in origin:
            continue
        folder = tree.folder / normal("", str(origin["path"]))
        files = [folder / name for name in KUSTOMIZATIONS if (folder / name).is_file()]
        if not files:
            continue
        (content,) = read_yaml(files[0])
        for key in ("resources", "bases", "components"):
            if key in content:
                content[key] = [item for item in content[key] or [] if not REMOTE.search(str(item))]
        for key in ("patches", "patchesStrategicMerge", "patchesJson6902", "replacements"):
            content.pop(key, None)
        copy = folder.with_name(f".{folder.name}-{source.name}-{number}-local")
        shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
        (copy / files[0].name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        try:
            found += split(render.build(copy))
        except ToolError:
            continue
    return found


def _image(text: str) -> dict[str, str]:
    """``[old=]new[:tag][@digest]`` as an entry of a kustomization's ``images``."""
    name, _, new = text.rpartition("=")
    rest, _, digest = new.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = rest, ""
    entry = {"name": name or repository, "newName": repository}
    return {**entry, **({"digest": digest} if digest else {"newTag": tag} if tag else {})}

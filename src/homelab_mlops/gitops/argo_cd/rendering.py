"""What Argo CD renders from the sources of an Application: by kustomize, by helm, or file by file."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.errors import HomelabError, RepositoryError, ToolError
from homelab_mlops.gitops import render
from homelab_mlops.gitops.argo_cd import cache
from homelab_mlops.gitops.argo_cd.addresses import branch, same_address
from homelab_mlops.gitops.argo_cd.annotations import append_annotations
from homelab_mlops.gitops.argo_cd.applications import Side, Source
from homelab_mlops.gitops.argo_cd.charts import read_by_helm, render_chart, substituted, value_files
from homelab_mlops.gitops.argo_cd.directories import documents_of_directory, read_of_directory
from homelab_mlops.gitops.argo_cd.kustomizations import REMOTE, read_by_kustomize, resolved
from homelab_mlops.gitops.argo_cd.trees import Tree, normal
from homelab_mlops.gitops.render import KUSTOMIZATIONS, parse, read_yaml
from homelab_mlops.gitops.yaml_loader import dump
from homelab_mlops.manifests.objects import CLUSTER_SCOPED, Manifest, get, group

UNREACHABLE = re.compile(
    r"dial tcp|no such host|git fetch|exit status 128|timed? ?out|took more than|connection re|TLS|unable to access"
)
MISSING_REFERENCE = re.compile(r"couldn't find remote ref|pathspec .* did not match")
_DOCUMENT = re.compile(r"^---(?:[ \t].*)?$\n?", re.MULTILINE)


def declare(side: Side, source: Source) -> None:
    """Notes an identity of everything that rendering an Application reads; none where that is not known."""
    source.origins = [_overridden(side, source, origin) for origin in source.origins]
    source.trees = [_tree(side, source, origin) for origin in source.origins]
    for origin in source.origins:
        tools = [name for name in ("kustomize", "helm", "directory", "plugin") if origin.get(name) is not None]
        if len(tools) > 1:
            source.unrendered, source.is_broken = f"a source names {' and '.join(tools)}, which Argo CD refuses", True
    identities: dict[str, str] = {}
    is_known = True
    for origin, tree in zip(source.origins, source.trees, strict=True):
        for file, owner, _ in value_files(source, origin):
            place = source.trees[owner]
            if place is not None:
                source.reads |= {file} if place is side.tree else set()
                identities[f"values {file}"] = place.id_of(file)
        if tree is None or "path" not in origin:
            continue
        path, links = resolved(tree, normal("", str(origin["path"])))
        if links:
            origin["path"] = path
            source.reads |= links if tree is side.tree else set()
        if path.startswith(".."):
            source.unrendered, source.is_broken = f"the path {path} is outside the repository", True
            continue
        reading = _reading(tree, source, origin, path)
        _refuse_deep_aliases(tree, source, reading.files)
        identities |= reading.identities
        is_known = is_known and reading.is_known
        source.remotes += reading.remotes
        if tree is side.tree:
            source.reads |= reading.files
            source.beside |= reading.beside
        else:
            source.beside[path] = f"{source.key} reads it at the revision {branch(origin.get('targetRevision'))}"
    own = f"{source.name} {source.namespace} {source.spec.get('project')}"
    parts = [repr(_in_order(source.origins)), own, *(f"{name} {identities[name]}" for name in sorted(identities))]
    source.inputs = "\n".join(parts) if is_known else ""


def _in_order(node: Any) -> Any:
    """A value whose mappings are in one order: kustomize writes the fields of an Application in its own."""
    if isinstance(node, dict):
        return {key: _in_order(node[key]) for key in sorted(node, key=repr)}
    return [_in_order(item) for item in node] if isinstance(node, list) else node


def _refuse_deep_aliases(tree: Tree, source: Source, files: set[str]) -> None:
    try:
        for file in files:
            entry = tree.entries.get(file)
            if entry is not None and entry.kind == "blob" and entry.id not in _SMALL and file not in tree.links:
                render.refuse_deep_aliases(tree.folder / file, file)
                _SMALL.add(entry.id)
    except RepositoryError as error:
        source.unrendered, source.is_broken = f"it does not build: {error.what}", True


# The ids of the files that were looked into: most are the same at both sides.
_SMALL: set[str] = set()


@dataclass
class _Reading:
    """What rendering one source of an Application reads.

    Attributes:
        files: the files, and the folders that are read as a whole.
        identities: the ids of these files.
        beside: why another file of a folder is not read, or why the effect of a file is not known.
    """

    files: set[str]
    identities: dict[str, str]
    beside: dict[str, str]
    is_known: bool = True
    remotes: list[str] = field(default_factory=list)


def _reading(tree: Tree, source: Source, origin: dict[str, Any], path: str) -> _Reading:
    whole = {path: tree.id_of(path)}
    match renderer(tree, origin, path):
        case "kustomize":
            found = read_by_kustomize(tree, path, origin.get("kustomize") or {})
            beside = dict.fromkeys(found.folders, f"the kustomization of {source.key} does not name it")
            return _Reading(found.files, found.identities, beside, found.is_known, found.remotes)
        case "helm":
            chart = read_by_helm(tree, path, origin.get("helm") or {})
            files = {part for item in chart.files for part in tree.below_or_itself(item)} - chart.uncertain
            files |= _linked(tree, files)
            beside = dict.fromkeys(chart.folders, f"the chart of {source.key} does not read it")
            beside |= dict.fromkeys(chart.uncertain, f"what {source.key} renders of it depends on the cluster")
            return _Reading(files, chart.folders, beside, not tree.has_links(path))
        case "directory":
            files, is_whole = read_of_directory(tree, path, origin.get("directory") or {})
            beside = {path: f"{source.key} leaves it out"}
            libraries = {item: tree.id_of(item) for item in files} if is_whole else {}
            return _Reading(files | _linked(tree, files), {**whole, **libraries}, beside, not tree.has_links(path))
        case _:
            return _Reading({path}, whole, {}, not tree.has_links(path))


def _linked(tree: Tree, files: set[str]) -> set[str]:
    """What the links among files lead to."""
    return {resolved(tree, file)[0] for file in files & tree.links}


def renderer(tree: Tree, origin: dict[str, Any], path: str) -> str:
    """The tool that Argo CD renders a folder with: the one that the source names, or else by the files in the
    folder."""
    if origin.get("plugin") is not None:
        return "plugin"
    for name in ("helm", "kustomize", "directory"):
        if any(value not in (None, False, "", [], {}) for value in (origin.get(name) or {}).values()):
            return name
    if any(normal(path, name) in tree.entries for name in KUSTOMIZATIONS):
        return "kustomize"
    return "helm" if normal(path, "Chart.yaml") in tree.entries else "directory"


def is_plain_kustomization(side: Side, origin: dict[str, Any]) -> bool:
    """Whether a source is a folder of this tree that kustomize alone renders."""
    if not origin.get("path") or "chart" in origin or origin.get("ref"):
        return False
    if not side.is_here(origin.get("repoURL"), origin.get("targetRevision")):
        return False
    return renderer(side.tree, origin, normal("", str(origin["path"]))) == "kustomize"


def _overridden(side: Side, source: Source, origin: dict[str, Any]) -> dict[str, Any]:
    """A source, changed as the files ``.argocd-source.yaml`` and ``.argocd-source-NAME.yaml`` of its folder say."""
    if not origin.get("path") or same_address(origin.get("repoURL")) not in side.home:
        return origin
    for name in (".argocd-source.yaml", f".argocd-source-{source.name}.yaml"):
        file = normal(str(origin["path"]), name)
        text = side.tree.read(file)
        if text is not None:
            source.reads.add(file)
            try:
                (content,) = parse(text) or [{}]
            except (yaml.YAMLError, ValueError):
                source.unrendered, source.is_broken = f"{file} is not valid YAML", True
                continue
            origin = _merged(origin, content)
    return origin


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _merged(one[key], other[key]) if key in one and key in other else other.get(key, one.get(key))
                for key in [*one, *(key for key in other if key not in one)]}  # fmt: skip
    return other


def _tree(side: Side, source: Source, origin: dict[str, Any]) -> Tree | None:
    """The tree that a source is read from, or None where it is not of this repository, with the reason noted."""
    if "chart" in origin or same_address(origin.get("repoURL")) not in side.home:
        if not origin.get("ref") or origin.get("path"):
            what = f"chart {origin['chart']}" if "chart" in origin else str(origin.get("path") or "")
            source.unrendered = (
                f"{origin.get('repoURL')} {what} at {origin.get('targetRevision')} is not of this repository"
            )
        return None
    revision = branch(origin.get("targetRevision"))
    if revision in side.revisions:
        return side.tree
    git = side.tree.git
    commit = git.commit(revision) or git.commit(f"origin/{revision}")
    if commit is None:
        source.unrendered = f"its revision {revision} is not in this clone"
        return None
    return git.tree(f"revision {revision}", commit, commit)


def render_source(source: Source) -> None:
    """Renders an Application, and notes the parts that cannot be rendered, with the reason."""
    try:
        for number, (origin, tree) in enumerate(zip(source.origins, source.trees, strict=True)):
            if tree is not None and "path" in origin and not source.is_broken:
                source.documents += _documents(tree, source, origin, normal("", str(origin["path"])), number)
        _keep_the_last(source)  # parsed while the others are still being built
        if source.is_unreachable:
            source.local = local_documents(source)
    except (HomelabError, yaml.YAMLError, OSError) as error:
        what = error.what if isinstance(error, HomelabError) else " ".join(str(error).split())
        source.unrendered, source.is_broken, source.documents = f"it does not build: {what}", True, []


def _keep_the_last(source: Source) -> None:
    """Of several objects of one name Argo CD applies the last one."""
    found = [(_identity(item, source.namespace), item) for item in source.manifests()]
    counts = Counter(name for name, _ in found if name)
    source.repeated = sorted(name for name, count in counts.items() if count > 1)
    if source.repeated:
        last = {name or f"generated {number}": item for number, (name, item) in enumerate(found)}
        source.documents = [dump(item) for item in last.values()]


def _identity(item: Manifest, namespace: str) -> str:
    """The kind, namespace and name of an object; empty where the API server makes its name."""
    name = get(item, "metadata", "name")
    own = "" if item["kind"] in CLUSTER_SCOPED else get(item, "metadata", "namespace") or namespace
    return f"{item['kind']}{f'.{group(item)}' if group(item) else ''} {f'{own}/' if own else ''}{name}" if name else ""


def _documents(tree: Tree, source: Source, origin: dict[str, Any], path: str, number: int) -> list[str]:
    folder = tree.folder / path
    if not folder.is_dir():
        raise RepositoryError(f"the folder {path} is not there")
    if origin.get("plugin") is not None:
        name = (origin["plugin"] or {}).get("name") or "a plugin"
        source.unrendered = f"the config management plugin {name} renders {path}"
        return []
    match renderer(tree, origin, path):
        case "helm":
            return split(render_chart(tree, source, origin, path))
        case "directory":
            return documents_of_directory(tree, source, origin, path)
    try:
        known = None if source.remotes or not source.inputs else cache.key(source.inputs, str(number))
        text = cache.read(known) if known else None
        if text is None:
            if origin.get("kustomize"):
                name = f"{source.key}-{number}".replace("/", "-")
                folder = _with_options(tree, source, origin, path, name)
            text = render.build(folder)
            if known:
                cache.write(known, text)
    except ToolError as error:
        if source.remotes and UNREACHABLE.search(error.what):
            source.is_missing = MISSING_REFERENCE.search(error.what) is not None
            why = "is not there" if source.is_missing else "cannot be reached from here"
            source.unrendered = f"{source.remotes[0]} {why}"
            return []
        if "--enable-helm" in error.what:
            source.unrendered = f"the kustomization {path} renders Helm charts that are not in the repository"
            return []
        where = error.what.replace(f"{tree.folder}/", "").replace(str(tree.folder), ".")
        raise RepositoryError(where) from error
    return split(text)


def split(text: str) -> list[str]:
    """The documents of a rendered YAML text."""
    return [part for part in _DOCUMENT.split(text) if part.strip()]


def _with_options(tree: Tree, source: Source, origin: dict[str, Any], path: str, name: str) -> Path:
    """A copy beside the kustomization, with the options of the Application written in by the calls that Argo CD makes.

    Raises:
        RepositoryError: the folder has no kustomization that can be changed.
        ToolError: kustomize refuses an option, as it refuses it to Argo CD.
    """
    options = dict(origin["kustomize"])
    copy, file = _copied(tree, path, name)
    if options.get("ignoreMissingComponents"):
        options["components"] = [item for item in options.get("components") or [] if (copy / str(item)).is_dir()]
    for arguments in _edits(options, lambda text: substituted(source, origin, str(text))):
        if arguments[:2] != ["add", "annotation"] or not append_annotations(file, _after_dashes(arguments)):
            render.edit(copy, *arguments)
    if options.get("patches"):
        content = _content(file)
        content["patches"] = [*(content.get("patches") or []), *options["patches"]]
        file.write_text(dump(content), encoding="utf-8")
    return copy


def _after_dashes(arguments: list[str]) -> list[str]:
    return arguments[arguments.index("--") + 1 :]


def _edits(options: dict[str, Any], fill: Callable[[Any], str]) -> Iterator[list[str]]:
    """The arguments of ``kustomize edit`` for each option of an Application."""
    for key, name in (("namePrefix", "nameprefix"), ("nameSuffix", "namesuffix"), ("namespace", "namespace")):
        if options.get(key):
            yield ["set", name, "--", str(options[key])]
    if options.get("images"):
        yield ["set", "image", "--", *map(fill, options["images"])]
    if options.get("replicas"):
        yield ["set", "replicas", "--", *(f"{item.get('name')}={item.get('count')}" for item in options["replicas"])]
    if options.get("commonLabels"):
        flags = {"forceCommonLabels": "--force", "labelWithoutSelector": "--without-selector"}
        given = [flag for key, flag in flags.items() if options.get(key)]
        # Without --without-selector kustomize refuses this flag.
        given += ["--include-templates"] if options.get("labelIncludeTemplates") else []
        yield [
            "add",
            "label",
            *given,
            "--",
            *(f"{key}:{fill(value)}" for key, value in options["commonLabels"].items()),
        ]
    if options.get("commonAnnotations"):
        write = fill if options.get("commonAnnotationsEnvsubst") else str
        given = ["--force"] if options.get("forceCommonAnnotations") else []
        pairs = (f"{key}:{write(value)}" for key, value in options["commonAnnotations"].items())
        yield ["add", "annotation", *given, "--", *pairs]
    if options.get("components"):
        yield ["add", "component", "--", *map(str, options["components"])]


def _copied(tree: Tree, path: str, name: str) -> tuple[Path, Path]:
    """A copy beside a folder, and its kustomization, which may be changed.

    Raises:
        RepositoryError: there is none, or it is a link out of the repository.
    """
    folder = tree.folder / path
    copy = folder.with_name(f".{folder.name}-{name}")
    shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
    file = next((copy / item for item in KUSTOMIZATIONS if (copy / item).is_file()), None)
    if file is None:
        raise RepositoryError(f"{path} has no kustomization")
    if file.is_symlink():
        if tree.is_outside(normal(path, file.name)):
            raise RepositoryError(f"{path}/{file.name} is a link out of the repository")
        text = file.read_bytes()
        file.unlink()
        file.write_bytes(text)
    return copy, file


def _content(file: Path) -> dict[str, Any]:
    """What a kustomization says.

    Raises:
        RepositoryError: it is not one mapping.
    """
    contents = read_yaml(file)
    if len(contents) != 1:
        raise RepositoryError(f"{file.name} is not one mapping")
    return contents[0]


def local_documents(source: Source) -> list[str]:
    """The complete objects of a source whose remote base is not known, without patches."""
    found: list[str] = []
    for number, (origin, tree) in enumerate(zip(source.origins, source.trees, strict=True)):
        if tree is None or "path" not in origin:
            continue
        try:
            known = cache.key(source.inputs, str(number), "local") if source.inputs else None
            text = cache.read(known) if known else None
            if text is not None:
                found += split(text)
                continue
            name = f"{source.key}-{number}-local".replace("/", "-")
            copy, file = _copied(tree, normal("", str(origin["path"])), name)
            content = _content(file)
        except RepositoryError:
            continue
        for key in ("resources", "bases", "components"):
            if key in content:
                content[key] = [item for item in content[key] or [] if not REMOTE.search(str(item))]
        for key in ("patches", "patchesStrategicMerge", "patchesJson6902", "replacements"):
            content.pop(key, None)
        file.write_text(dump(content), encoding="utf-8")
        try:
            text = render.build(copy)
        except ToolError:
            continue
        if known:
            cache.write(known, text)
        found += split(text)
    return found

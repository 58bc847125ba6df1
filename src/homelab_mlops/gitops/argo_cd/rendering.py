"""What Argo CD renders from the sources of an Application: by kustomize, by helm, or file by file."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.errors import HomelabError, RepositoryError, ToolError
from homelab_mlops.gitops import render
from homelab_mlops.gitops.argo_cd import cache
from homelab_mlops.gitops.argo_cd.addresses import branch, same_address
from homelab_mlops.gitops.argo_cd.applications import Side, Source
from homelab_mlops.gitops.argo_cd.trees import SUBMODULE, SYMLINK, Tree, normal
from homelab_mlops.gitops.render import parse, read_yaml
from homelab_mlops.manifests.objects import Manifest

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
REMOTE = re.compile(r"^(https?://|file://|ssh://|git@|git::|oci://|github\.com/)|\?(ref|version)=|\.git(/|$|\?)")
UNREACHABLE = re.compile(
    r"dial tcp|no such host|git fetch|exit status 128|timed? ?out|took more than|connection re|TLS|unable to access"
)
MISSING_REFERENCE = re.compile(r"couldn't find remote ref|pathspec .* did not match")
_DOCUMENT = re.compile(r"^---(?:[ \t].*)?$\n?", re.MULTILINE)
HELM_SECONDS = 60.0


def declare(side: Side, source: Source) -> None:
    """Notes the identity of all that rendering an Application reads; none where that cannot be told."""
    source.origins = [_overridden(side, source, origin) for origin in source.origins]
    parts, known = [repr(source.origins)], True
    references = {f"${origin['ref']}": origin for origin in source.origins if origin.get("ref")}
    for origin in source.origins:
        tree = _tree(side, source, origin)
        source.trees.append(tree)
        for file, owner in _value_files(origin, references):
            if same_address(owner.get("repoURL")) in side.home and (tree or side.tree):
                source.reads.add(file)
                parts.append(f"{file} {side.tree.id_of(file)}")
        if tree is None or "path" not in origin:
            continue
        path = normal("", str(origin["path"]))
        if path.startswith(".."):
            source.unrendered, source.is_broken = f"the path {path} is outside the repository", True
            continue
        inputs = _inputs(tree, path, source)
        if inputs is None:
            known = False
        else:
            parts.append(inputs)
    source.inputs = "\n".join(parts) if known else ""


def _overridden(side: Side, source: Source, origin: dict[str, Any]) -> dict[str, Any]:
    """A source with what the files ``.argocd-source.yaml`` and ``.argocd-source-NAME.yaml`` of its folder change."""
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


def _value_files(origin: dict[str, Any], references: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The values files that a chart's source names, each with the source whose repository it lies in."""
    helm = origin.get("helm") or {}
    found = []
    for file in [*(helm.get("valueFiles") or []), *(item.get("path") for item in helm.get("fileParameters") or [])]:
        start, _, rest = str(file).partition("/")
        if start in references:
            found.append((normal("", rest), references[start]))
        elif "chart" not in origin and not REMOTE.search(str(file)):
            found.append((normal("" if start == "" else str(origin.get("path") or ""), str(file).lstrip("/")), origin))
    return found


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


def _inputs(tree: Tree, path: str, source: Source) -> str | None:
    """The ids of every folder that a kustomization reads.

    Kustomize reads files from below the folder of a kustomization only, and folders beside it only where one names
    them. A link may lead anywhere: then nothing is known.
    """
    seen: dict[str, str] = {}
    waiting = [path]
    is_known = True
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        if folder.startswith(("..", "/")):
            is_known = False
            continue
        seen[folder] = tree.id_of(folder)
        source.reads.add(folder)
        if any(tree.entries[item].mode in (SYMLINK, SUBMODULE) for item in tree.below(folder)):
            is_known = False
        for name in KUSTOMIZATIONS:
            text = tree.read(posixpath.join(folder, name))
            if text is None:
                continue
            try:
                content = parse(text)
            except yaml.YAMLError:
                is_known = False
                continue
            source.remotes += [item for item in _references(content) if REMOTE.search(item)]
            for reference in _strings(content):
                target = normal(folder, reference)
                entry = tree.entries.get(target)
                if target.startswith("..") and "/" in reference:
                    is_known = False
                elif entry is not None and entry.kind == "tree":
                    waiting.append(target)
                elif entry is not None and entry.mode in (SYMLINK, SUBMODULE):
                    is_known = False
    return "\n".join(f"{folder} {seen[folder]}" for folder in sorted(seen)) if is_known else None


def _references(documents: list[Manifest]) -> list[str]:
    keys = ("resources", "bases", "components")
    return [
        str(item)
        for document in documents
        if isinstance(document, dict)
        for key in keys
        if isinstance(document.get(key), list)
        for item in document[key]
    ]


def _strings(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [item for value in node.values() for item in _strings(value)]
    if isinstance(node, list):
        return [item for value in node for item in _strings(value)]
    return [node] if isinstance(node, str) and "\n" not in node else []


def render_source(source: Source) -> None:
    """Renders an Application; what cannot be rendered is noted, with the reason."""
    try:
        for number, (origin, tree) in enumerate(zip(source.origins, source.trees, strict=True)):
            if tree is not None and "path" in origin and not source.is_broken:
                source.documents += _documents(tree, source, origin, normal("", str(origin["path"])), number)
        source.manifests()  # parsed while the others are still being built
    except (HomelabError, yaml.YAMLError, OSError) as error:
        what = error.what if isinstance(error, HomelabError) else " ".join(str(error).split())
        source.unrendered, source.is_broken, source.documents = f"it does not build: {what}", True, []


def _documents(tree: Tree, source: Source, origin: dict[str, Any], path: str, number: int) -> list[str]:
    folder = tree.folder / path
    if not folder.is_dir():
        raise RepositoryError(f"the folder {path} is not there")
    if origin.get("plugin") is not None:
        name = (origin["plugin"] or {}).get("name") or "a plugin"
        source.unrendered = f"the config management plugin {name} renders {path}"
        return []
    if (folder / "Chart.yaml").is_file() and not origin.get("kustomize"):
        return _helm(tree, source, origin, path)
    if not any((folder / name).is_file() for name in KUSTOMIZATIONS):
        return _plain(tree, source, origin, path)
    try:
        known = None if source.remotes or not source.inputs else cache.key(source.inputs, str(number))
        text = cache.read(known) if known else None
        if text is None:
            if origin.get("kustomize"):
                name = f"{source.key}-{number}".replace("/", "-")
                folder = _with_options(tree, origin["kustomize"], path, name)
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


def _plain(tree: Tree, source: Source, origin: dict[str, Any], path: str) -> list[str]:
    """The objects of a folder without a kustomization, which Argo CD applies file by file."""
    options = origin.get("directory") or {}
    found = []
    for file in sorted(tree.below(path)):
        inside = file.removeprefix(f"{path}/") if path != "." else file
        if ("/" in inside and not options.get("recurse")) or not _is_included(inside, options):
            continue
        if inside.endswith(".jsonnet"):
            source.unrendered = f"{file} is Jsonnet"
        elif inside.endswith((".yaml", ".yml", ".json")):
            if tree.is_outside(file):
                raise RepositoryError(f"{file} is a link out of the repository")
            documents = [item for item in read_yaml(tree.folder / file) if item.get("kind")]
            found += [yaml.dump(item, Dumper=yaml.CSafeDumper, sort_keys=True) for item in documents]
    if not found and not source.unrendered:
        raise RepositoryError(f"{path} renders nothing")
    return found


def _is_included(file: str, options: dict[str, Any]) -> bool:
    include, exclude = str(options.get("include") or ""), str(options.get("exclude") or "")
    return (not include or _matches(file, include)) and not (exclude and _matches(file, exclude))


def _matches(file: str, pattern: str) -> bool:
    """Whether a file matches a pattern, or one of ``{a,b}``."""
    braces = re.fullmatch(r"(.*)\{([^{}]*)\}(.*)", pattern)
    patterns = [f"{braces[1]}{part}{braces[3]}" for part in braces[2].split(",")] if braces else [pattern]
    return any(fnmatch.fnmatchcase(file, item) for item in patterns)


def _helm(tree: Tree, source: Source, origin: dict[str, Any], path: str) -> list[str]:
    """The objects of a chart that lies in the repository."""
    program = shutil.which("helm")
    if program is None:
        source.unrendered = f"{path} is a Helm chart, and helm is not here"
        return []
    helm = origin.get("helm") or {}
    references = {f"${item['ref']}": item for item in source.origins if item.get("ref")}
    command = [program, "template", str(helm.get("releaseName") or source.name), str(tree.folder / path)]
    command += ["--namespace", str(helm.get("namespace") or source.namespace)]
    command += [] if helm.get("skipCrds") else ["--include-crds"]
    for file, _ in _value_files(origin, references):
        if (tree.folder / file).is_file() and not tree.is_outside(file):
            command += ["--values", str(tree.folder / file)]
        elif not helm.get("ignoreMissingValueFiles"):
            raise RepositoryError(f"the values file {file} is not there")
    given = [helm.get("values"), yaml.safe_dump(helm["valuesObject"]) if helm.get("valuesObject") else None]
    for item in helm.get("parameters") or []:
        command += ["--set-string" if item.get("forceString") else "--set", f"{item['name']}={item.get('value', '')}"]
    for version in helm.get("apiVersions") or []:
        command += ["--api-versions", str(version)]
    command += ["--kube-version", str(helm["kubeVersion"])] if helm.get("kubeVersion") else []
    # valuesObject goes before values, as in Argo CD.
    text = given[1] or given[0]
    command += ["--values", "-"] if text else []
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=text or "",
            env={**os.environ, "HELM_REGISTRY_CONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            check=False,
            timeout=HELM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"helm took more than {HELM_SECONDS:.0f} s") from None
    if done.returncode:
        reason = done.stderr.strip().removeprefix("Error: ").replace(f"{tree.folder}/", "")
        if "missing in charts/ directory" in reason:
            source.unrendered = f"{path} is a Helm chart whose dependencies are not in the repository"
            return []
        raise RepositoryError(reason)
    return split(re.sub(r"^# Source: .*\n", "", done.stdout, flags=re.MULTILINE))


def _with_options(tree: Tree, options: dict[str, Any], path: str, name: str) -> Path:
    """A copy of the kustomization beside it, with the options of the Application written in, as Argo CD does."""
    folder = tree.folder / path
    copy = folder.with_name(f".{folder.name}-{name}")
    shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
    (file,) = [copy / item for item in KUSTOMIZATIONS if (copy / item).is_file()][:1]
    (content,) = read_yaml(file)
    for key in ("namePrefix", "nameSuffix", "namespace"):
        if options.get(key):
            content[key] = options[key]
    if options.get("commonAnnotations"):
        content["commonAnnotations"] = {**(content.get("commonAnnotations") or {}), **options["commonAnnotations"]}
    if options.get("commonLabels"):
        _add_labels(content, options)
    for key in ("components", "patches", "replicas"):
        if options.get(key):
            content[key] = [*(content.get(key) or []), *options[key]]
    if options.get("images"):
        content["images"] = [*(content.get("images") or []), *map(_image, options["images"])]
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return copy


def _add_labels(content: dict[str, Any], options: dict[str, Any]) -> None:
    if options.get("labelWithoutSelector"):
        label = {"pairs": options["commonLabels"], "includeSelectors": False}
        if options.get("labelIncludeTemplates"):
            label["includeTemplates"] = True
        content["labels"] = [*(content.get("labels") or []), label]
    else:
        content["commonLabels"] = {**(content.get("commonLabels") or {}), **options["commonLabels"]}


def local_documents(source: Source) -> list[str]:
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

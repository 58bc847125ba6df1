"""The Applications that an ApplicationSet generates from lists and from the files of this repository."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from enum import IntEnum
from pathlib import PurePosixPath
from typing import Any

import yaml

from homelab_mlops.gitops.argo_cd.go_templates import filled_by_helm
from homelab_mlops.gitops.argo_cd.templates import Parameters, UnknownTemplateError, filled, missing
from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.gitops.render import parse
from homelab_mlops.manifests.objects import Manifest, entries, get

_OPTIONS = [f"missingkey={value}" for value in ("default", "invalid", "zero", "error")]
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class UnknownGeneratorError(Exception):
    """A generator that asks a server, that is not understood here, or that Argo CD refuses."""


class Go(IntEnum):
    """How an ApplicationSet is filled in: by names in braces, or as Go templates, which may refuse a missing key."""

    NO = 0
    YES = 1
    STRICT = 2


def generated(application_set: Manifest, tree: Tree, is_here: Any) -> list[Manifest]:
    """The Applications of an ApplicationSet, as Argo CD generates them.

    Args:
        is_here: whether an address and a revision are this repository's.

    Raises:
        UnknownGeneratorError: a generator asks a server, reads another repository, or is not understood here; or
            Argo CD refuses what it generates.
    """
    spec = application_set.get("spec") or {}
    go = _go(spec)
    found = []
    for generator in entries(spec.get("generators")):
        all_parameters = _parameters(generator, tree, is_here, go=go)
        template = _merged(spec.get("template") or {}, get(generator, *_kind(generator), "template") or {})
        applications = _filled(template, all_parameters, go=go)
        patch = spec.get("templatePatch")
        for number, text in enumerate(_filled(str(patch), all_parameters, go=go) if patch else []):
            applications[number] = _patched(applications[number], _loaded(text))
        found += [_as_application(application, application_set) for application in applications]
    _refuse(found)
    return found


def _go(spec: dict[str, Any]) -> Go:
    options = spec.get("goTemplateOptions") or []
    if spec.get("goTemplate") is not True:
        return Go.NO
    unknown = [str(option) for option in options if option not in _OPTIONS]
    if unknown:
        raise UnknownGeneratorError(f"{unknown[0]!r} is no option of goTemplateOptions, which Argo CD refuses")
    return Go.STRICT if "missingkey=error" in options else Go.YES


def _refuse(applications: list[Manifest]) -> None:
    """Refuses what Argo CD and the API server refuse.

    Raises:
        UnknownGeneratorError: an Application has no valid name, or that of another one.
    """
    names = Counter(str(get(item, "metadata", "name") or "") for item in applications)
    wrong = [f"{name!r} is no name of an Application" for name in names if not _NAME.fullmatch(name)]
    wrong += [f"it generates two Applications named {name!r}" for name, count in names.items() if count > 1]
    if wrong:
        raise UnknownGeneratorError(f"{wrong[0]}, which Argo CD refuses")


def _filled(node: Any, all_parameters: list[Parameters], *, go: Go) -> list[Any]:
    """A template with each of the parameters filled in.

    Raises:
        UnknownGeneratorError: it uses what is not understood here, or a parameter that is missing.
    """
    for parameters in all_parameters if go is Go.STRICT else []:
        name = missing(node, parameters)
        if name:
            raise UnknownGeneratorError(f"there is no parameter {name}, which Argo CD refuses (missingkey=error)")
    try:
        return [filled(node, parameters, go=bool(go)) for parameters in all_parameters]
    except UnknownTemplateError as error:
        found = filled_by_helm(node, all_parameters) if go else None
        if found is None:
            raise UnknownGeneratorError(f"{error} is not understood here") from error
        return found


def _loaded(text: str) -> Any:
    try:
        return (parse(text) or [{}])[0]
    except yaml.YAMLError as error:
        raise UnknownGeneratorError("its templatePatch is not valid YAML") from error


def _patched(node: Any, patch: Any) -> Any:
    """A mapping with the fields of a patch; null takes a field away, and a list comes whole."""
    if not isinstance(node, dict) or not isinstance(patch, dict):
        return patch
    merged = {key: _patched(node.get(key), value) for key, value in patch.items() if value is not None}
    return {**{key: value for key, value in node.items() if key not in patch}, **merged}


def files_read(generators: Any, tree: Tree) -> set[str]:
    """The files whose content the generators read."""
    found: set[str] = set()
    for generator in entries(generators):
        found |= set(_files(generator.get("git") or {}, tree))
        for kind in ("matrix", "merge"):
            found |= files_read(get(generator, kind, "generators"), tree)
    return found


def _as_application(template: dict[str, Any], application_set: Manifest) -> Manifest:
    metadata = dict(template.get("metadata") or {})
    metadata["namespace"] = get(application_set, "metadata", "namespace")  # whatever the template says
    policy = get(application_set, "spec", "syncPolicy") or {}
    if policy.get("applicationsSync", "sync") in ("create-only", "create-update"):
        metadata.pop("finalizers", None)  # such an Application is never deleted
    elif not policy.get("preserveResourcesOnDeletion"):
        metadata.setdefault("finalizers", ["resources-finalizer.argocd.argoproj.io"])
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": metadata,
        "spec": template.get("spec") or {},
    }


def _kind(generator: dict[str, Any]) -> list[str]:
    return [key for key in generator if key != "selector"][:1]


def _merged(template: Any, override: Any) -> Any:
    if isinstance(template, dict) and isinstance(override, dict):
        return {key: _merged(template.get(key), override.get(key)) for key in {**template, **override}}
    return deepcopy(template if override in (None, "", {}) else override)


def _parameters(generator: dict[str, Any], tree: Tree, is_here: Any, *, go: Go) -> list[Parameters]:
    kinds = _kind(generator)
    if not kinds:
        raise UnknownGeneratorError("an empty generator")
    given = generator[kinds[0]] or {}
    match kinds[0]:
        case "list":
            if given.get("elementsYaml"):
                raise UnknownGeneratorError("elementsYaml is not understood here")
            found = [dict(item) if go else _values_flat(item) for item in entries(given.get("elements"))]
        case "git":
            found = list(_of_git(given, tree, is_here, go=go))
        case "matrix":
            found = _matrix(entries(given.get("generators")), tree, is_here, go=go)
        case "merge":
            found = _merge(given, tree, is_here, go=go)
        case kind:
            raise UnknownGeneratorError(f"the generator {kind} asks a server")
    selector = generator.get("selector")
    return [item for item in found if not selector or _selected(item, selector)]


def _values_flat(item: dict[str, Any]) -> Parameters:
    values = item.get("values") if isinstance(item.get("values"), dict) else {}
    return {**item, **{f"values.{key}": value for key, value in (values or {}).items()}}


def _selected(parameters: Parameters, selector: dict[str, Any]) -> bool:
    if selector.get("matchExpressions"):
        raise UnknownGeneratorError("a selector with matchExpressions is not understood here")
    labels = selector.get("matchLabels") or {}
    return all(str(parameters.get(key)) == str(value) for key, value in labels.items())


def _of_git(given: dict[str, Any], tree: Tree, is_here: Any, *, go: Go) -> Iterator[Parameters]:
    if not is_here(given.get("repoURL"), given.get("revision")):
        raise UnknownGeneratorError(f"the generator git reads {given.get('repoURL')} at {given.get('revision')}")
    values = given.get("values") or {}
    for path in [*_folders(given, tree), *_files(given, tree)]:
        is_file = tree.entries[path].kind == "blob"
        for content in _contents(tree, path) if is_file else [{}]:
            parameters = {**content, **_path_parameters(path, is_file, go=go, prefix=given.get("pathParamPrefix"))}
            if values:
                (own,) = _filled(values, [parameters], go=go)
                parameters |= {"values": own} if go else {f"values.{key}": value for key, value in own.items()}
            yield parameters


def _folders(given: dict[str, Any], tree: Tree) -> list[str]:
    found = _matching(given.get("directories"), tree, "tree")
    return [path for path in found if not any(part.startswith(".") for part in path.split("/"))]


def _files(given: dict[str, Any], tree: Tree) -> list[str]:
    return _matching(given.get("files"), tree, "blob")


def _matching(patterns: Any, tree: Tree, kind: str) -> list[str]:
    """The paths of a kind that a pattern names and no pattern with ``exclude`` does, sorted.

    Argo CD asks Go for the folders and git for the files, whose ``*`` also stands for several folders.
    """
    wanted = [str(item.get("path")) for item in entries(patterns) if not item.get("exclude")]
    excluded = [str(item.get("path")) for item in entries(patterns) if item.get("exclude")]
    return sorted(
        path
        for path, entry in tree.entries.items()
        if entry.kind == kind
        and any(_globs(path, pattern, any_depth=kind == "blob") for pattern in wanted)
        and not any(_globs(path, pattern, any_depth=kind == "blob") for pattern in excluded)
    )


def _globs(path: str, pattern: str, *, any_depth: bool) -> bool:
    """Whether a path matches a pattern, whose ``*`` stays within one folder where ``any_depth`` is not set."""
    one = "." if any_depth else "[^/]"
    text = "".join(
        {"*": f"{one}*", "?": one}.get(part[0]) or (part if part[0] == "[" else re.escape(part))
        for part in re.findall(r"\*+|\?|\[\^?[^\]]+\]|[^*?\[]+|\[", pattern.strip("/"))
    )
    return re.fullmatch(text, path) is not None


def _contents(tree: Tree, path: str) -> list[Parameters]:
    try:
        documents = parse(tree.read(path) or "")
    except yaml.YAMLError as error:
        raise UnknownGeneratorError(f"{path} is not valid YAML") from error
    flat = [item for document in documents for item in (document if isinstance(document, list) else [document])]
    return [item for item in flat if isinstance(item, dict)]


def _path_parameters(path: str, is_file: bool, *, go: Go, prefix: object = None) -> Parameters:
    folder = PurePosixPath(path).parent.as_posix() if is_file else path
    name = PurePosixPath(folder).name
    known = {"path": folder, "basename": name, "basenameNormalized": re.sub(r"[^a-z0-9.-]", "-", name.lower())}
    if is_file:
        file = PurePosixPath(path).name
        known |= {"filename": file, "filenameNormalized": re.sub(r"[^a-z0-9.-]", "-", file.lower())}
    segments = folder.split("/")
    if go:
        inner = {"path": {**known, "segments": segments}}
        return {str(prefix): inner} if prefix else inner
    start = f"{prefix}." if prefix else ""
    flat: Parameters = {f"{start}path": folder}
    flat |= {f"{start}path.{key}": value for key, value in known.items() if key != "path"}
    return flat | {f"{start}path[{number}]": part for number, part in enumerate(segments)}


def _matrix(generators: list[dict[str, Any]], tree: Tree, is_here: Any, *, go: Go) -> list[Parameters]:
    if len(generators) != 2:
        raise UnknownGeneratorError("a matrix of other than two generators")
    found = []
    for one in _parameters(generators[0], tree, is_here, go=go):
        # The second generator may use what the first one gives.
        without = {key: value for key, value in generators[1].items() if key != "template"}
        (second,) = _filled(without, [one], go=go)
        found += [{**one, **other} for other in _parameters(second, tree, is_here, go=go)]
    return found


def _merge(given: dict[str, Any], tree: Tree, is_here: Any, *, go: Go) -> list[Parameters]:
    keys = [str(key) for key in given.get("mergeKeys") or []]
    first, *others = entries(given.get("generators"))
    found = {tuple(str(item.get(key)) for key in keys): item for item in _parameters(first, tree, is_here, go=go)}
    for generator in others:
        for item in _parameters(generator, tree, is_here, go=go):
            name = tuple(str(item.get(key)) for key in keys)
            if name in found:
                found[name] = {**found[name], **item}
    return list(found.values())

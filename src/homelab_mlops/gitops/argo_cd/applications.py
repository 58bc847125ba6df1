"""An Application at one side of a comparison, and the roots: the Applications that no other one renders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

import yaml

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.argo_cd.addresses import branch, same_address
from homelab_mlops.gitops.argo_cd.forms import well_formed
from homelab_mlops.gitops.argo_cd.kustomizations import read_by_kustomize
from homelab_mlops.gitops.argo_cd.trees import Tree, normal
from homelab_mlops.gitops.render import KUSTOMIZATIONS, parse
from homelab_mlops.location import CLUSTER
from homelab_mlops.manifests.objects import Manifest, get, group, has_kind

OWN_CLUSTER = "https://kubernetes.default.svc"
HERE = f"{OWN_CLUSTER}|"
"""The cluster of the objects that a person applies."""
NAMESPACE = "argocd"
"""The namespace of Argo CD's objects that a person applies and that name none."""
DECLARING = ("Application", "ApplicationSet", "AppProject")
_DECLARES = re.compile(r"(?:^|[{,])\s*[\"']?kind[\"']?: *[\"']?(Application|ApplicationSet|AppProject)\b", re.MULTILINE)
_MAY_DECLARE = re.compile(
    r"^(helmCharts|dependencies|applications|applicationsets):|^\s*[\"']?kind[\"']?: *[\"']?Application(Set)?\b",
    re.MULTILINE,
)
# Folders whose Applications are examples.
_EXAMPLES = re.compile(r"(^|/)(tests?|examples?|docs?|templates)/")
# An empty one of these fields is none, as where a template leaves it out.
_EMPTY = ("chart", "path", "ref")
# A version or a commit, which never moves.
_FIXED = re.compile(r"v?\d+(\.\d+)+([-+].*)?|[0-9a-f]{40}")
_ROOT = re.compile(r"clusters/([^/]+)/root\.ya?ml")


@dataclass
class Source:
    """One Application at one side.

    Attributes:
        key: its name, with its cluster where the repository describes several.
        documents: its objects as YAML.
        unrendered: why some of its objects are not known; empty where all are known.
        remotes: the remote bases that it names.
        is_missing: whether a remote base names a reference that does not exist.
        is_broken: whether it does not build.
        local: its objects without those of remote bases, where these cannot be reached.
        inputs: an identity of everything that its rendering reads; empty where that is not known.
        reads: the files of the side that it reads, and the folders that it reads as a whole.
        beside: why it does not read another file of its folder, or why the effect of a file is not known.
        generator: the ApplicationSet that it comes from.
        parent: the key of the Application that renders it, or its ApplicationSet; empty of what a person applies.
        repeated: the objects that it declares several times. Argo CD applies the last one.
    """

    application: Manifest
    key: str = ""
    documents: list[str] = field(default_factory=list)
    unrendered: str = ""
    remotes: list[str] = field(default_factory=list)
    is_missing: bool = False
    is_broken: bool = False
    local: list[str] | None = None
    inputs: str = ""
    reads: set[str] = field(default_factory=set)
    beside: dict[str, str] = field(default_factory=dict)
    trees: list[Tree | None] = field(default_factory=list)
    generator: str = ""
    parent: str = ""
    repeated: list[str] = field(default_factory=list)
    origins: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        origins = self.origins or list(self.spec.get("sources") or [self.spec.get("source") or {}])
        self.origins = [{key: value for key, value in item.items() if value or key not in _EMPTY} for item in origins]

    @property
    def is_unreachable(self) -> bool:
        """Whether it would build, but for a remote base."""
        return bool(self.remotes) and self.unrendered.startswith(f"{self.remotes[0]} ") and not self.is_broken

    @property
    def name(self) -> str:
        return str(self.application["metadata"]["name"])

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.application.get("spec") or {}
        return found

    @property
    def namespace(self) -> str:
        """The namespace of its objects that name none."""
        return str((self.spec.get("destination") or {}).get("namespace") or "default")

    @property
    def cluster(self) -> str:
        """The cluster that its objects go to."""
        destination = self.spec.get("destination") or {}
        name = str(destination.get("server") or destination.get("name") or "").rstrip("/")
        return f"{OWN_CLUSTER if name in ('', 'in-cluster') else name}|{self.key.rpartition('/')[0]}"

    def leaves_cluster(self, other: Source) -> bool:
        """Whether it surely goes to another cluster; a name and an address may be those of one cluster."""
        named = [bool(get(item.spec, "destination", "name")) for item in (self, other)]
        own = any(item.cluster.startswith(HERE) for item in (self, other))
        return self.cluster != other.cluster and (own or named[0] == named[1])

    def renders_as(self, other: Source) -> bool:
        """Whether it renders the same sources for the same destination."""
        same = self.spec.get("destination") == other.spec.get("destination") and self.origins == other.origins
        return same and any(origin.get("path") or origin.get("chart") for origin in self.origins)

    @property
    def prunes(self) -> bool:
        """Whether Argo CD deletes what is no longer in git."""
        policy = self.spec.get("syncPolicy") or {}
        automated = policy.get("automated") or {}
        is_on = automated.get("enabled") is not False
        return is_on and bool(automated.get("prune")) and "Prune=false" not in (policy.get("syncOptions") or [])

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
    """Everything that Argo CD would apply at one side, by the key of the Application.

    Attributes:
        roots: the objects that no Application renders: a person applies them.
        unexpanded: why an ApplicationSet's Applications are not known, by its name, with the folders that it names.
        followed: how many sources name each revision of this repository.
        root_files: the files of the roots, and those that generators read.
        clusters: the clusters that have a name of their own.
        declared: the Applications that the files of the repository declare, the roots first.
    """

    tree: Tree
    sources: dict[str, Source] = field(default_factory=dict)
    roots: list[Manifest] = field(default_factory=list)
    home: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    followed: Counter[str] = field(default_factory=Counter)
    unexpanded: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    root_files: set[str] = field(default_factory=set)
    clusters: set[str] = field(default_factory=set)
    declared: list[Manifest] = field(default_factory=list)

    def of(self, application: Manifest, parent: str) -> Source | None:
        """What an Application renders; None where this side does not have it.

        Args:
            parent: the key of the Application that renders it: other clusters may have one of the same name.
        """
        wanted = {key: get(application, "metadata", key) for key in ("name", "namespace")}
        found = [
            source
            for source in self.sources.values()
            if all(get(source.application, "metadata", key) in (value, None) for key, value in wanted.items())
        ]
        return next((source for source in found if source.parent == parent), found[0] if found else None)

    def generated_by(self, name: str, application: str) -> list[Source]:
        """What an ApplicationSet generates, which the Application of a key renders."""
        cluster = application.rpartition("/")[0]
        generator = f"{cluster}/{name}" if cluster in self.clusters else name
        return [item for item in self.sources.values() if item.generator == generator]

    def below(self, uppermost: Iterable[Source]) -> list[Source]:
        """All that Applications render, in turn."""
        found: dict[str, Source] = {}
        waiting = [source.key for source in uppermost]
        while waiting:
            key = waiting.pop()
            new = [item for item in self.sources.values() if item.parent == key and item.key not in found]
            found |= {item.key: item for item in new}
            waiting += [item.key for item in new]
        return list(found.values())

    def follow(self, base: Side) -> None:
        """Takes the revision of the base where a source still names it, or where none names any."""
        named = base.revisions - {"HEAD"} or base.revisions
        if named & self.followed.keys() or not self.followed:
            self.revisions = base.revisions

    def is_here(self, address: object, revision: object) -> bool:
        """Whether an address and a revision are those of the tree."""
        return same_address(address) in self.home and branch(revision) in self.revisions


@cache
def load(text: str) -> list[Manifest]:
    """The objects of a YAML text, a list as its items. The caller must not change them.

    Raises:
        RepositoryError: an item of a list is no object.
    """
    found: list[Manifest] = []
    for item in parse(text):
        if isinstance(item, dict) and isinstance(item.get("items"), list):
            if not all(map(has_kind, item["items"])):
                raise RepositoryError(f"an item of a {item.get('kind')} has no kind, which Argo CD refuses")
            found += map(_with_its_kind, item["items"])
        elif has_kind(item):
            found.append(_with_its_kind(item))
    return found


def _with_its_kind(item: Manifest) -> Manifest:
    return item if isinstance(item["kind"], str) else {**item, "kind": str(item["kind"])}


def declares(item: Manifest, *kinds: str) -> bool:
    """Whether an object is one of Argo CD's own of the given kinds, and has a name."""
    return item.get("kind") in kinds and group(item) == "argoproj.io" and bool(get(item, "metadata", "name"))


def find_roots(side: Side, named: tuple[str, ...]) -> list[tuple[str, Manifest]]:
    """The Applications, ApplicationSets and AppProjects that a person applies, each with its file.

    Args:
        named: their files; without any: ``clusters/*/root.yaml``, and the Applications that no other one renders.
    """
    tree = side.tree
    found = _declared(tree, named or _candidates(tree))
    known = [(file, well_formed(item)[0]) for file, item in found]
    _find_home(side, [item for _, item in known])
    uppermost = known if named else _uppermost(side, known)
    first = [*uppermost, *(clean for clean in known if clean not in uppermost)]
    _find_revisions(side, [item for _, item in first])
    if not named:
        side.declared = [item for _, item in first if item["kind"] == "Application"]
        found = [pair for pair, clean in zip(found, known, strict=True) if clean in uppermost]
    side.root_files = {file for file, _ in found}
    return found


def _candidates(tree: Tree) -> tuple[str, ...]:
    return tuple(path for path in tree.declaring("argoproj.io/") if not _EXAMPLES.search(path))


def _declared(tree: Tree, files: tuple[str, ...]) -> list[tuple[str, Manifest]]:
    found = []
    for path in sorted(files, key=lambda file: (not _ROOT.fullmatch(file), file)):
        text = tree.read(path) or ""
        if not _DECLARES.search(text):
            continue
        try:
            items = _parsed(text)
        except yaml.YAMLError:
            continue  # a template of a chart, which the chart's Application renders
        found += [(path, item) for item in items if isinstance(item, dict) and declares(item, *DECLARING)]
    return found


@cache
def _parsed(text: str) -> list[Manifest]:
    """What a file declares, the same at most times at both sides. The caller must not change it."""
    return parse(text)


def _find_home(side: Side, declared: list[Manifest]) -> None:
    """The addresses of this repository: the clone's own, and the one that most sources with a path that exists here
    name."""
    addresses: Counter[str] = Counter()
    for spec, origin in _origins(declared):
        path = normal("", str(origin.get("path") or "."))
        is_here = "path" in origin and ("{{" in path or path in side.tree.entries or path == ".")
        if is_here or _has_values(side.tree, spec, origin):
            addresses[same_address(origin.get("repoURL"))] += 1
    side.home = {name for name, _ in addresses.most_common(1)} | {same_address(side.tree.git.origin)} - {"/"}


def _find_revisions(side: Side, declared: list[Manifest]) -> None:
    """The revision of this tree: the one that most sources name, rather a branch than a tag or a commit.

    Of several that as many sources name it is the branch of the review.
    """
    named = [origin.get("targetRevision") for _, origin in _origins(declared) if _is_of(origin, side.home)]
    side.followed = Counter(map(branch, named))
    branches = [name for name, _ in side.followed.most_common() if not _FIXED.fullmatch(name)]
    first = [name for name in branches if side.followed[name] == side.followed[branches[0]]]
    if len(first) > 1:
        asked = side.tree.git.branches
        branches = sorted(first, key=lambda name: asked.index(name) if name in asked else len(asked))
    side.revisions = {*(branches or list(side.followed))[:1], "HEAD"}


def _is_of(origin: dict[str, Any], home: set[str]) -> bool:
    return "chart" not in origin and same_address(origin.get("repoURL")) in home


def _origins(declared: list[Manifest]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The sources of Applications and of the templates of ApplicationSets, each with the specification around it."""
    for item in declared:
        template = item if item["kind"] == "Application" else get(item, "spec", "template")
        spec = get(template, "spec") or {}
        for origin in spec.get("sources") or [spec.get("source") or {}] if item["kind"] != "AppProject" else []:
            yield spec, origin


def _has_values(tree: Tree, spec: dict[str, Any], origin: dict[str, Any]) -> bool:
    """Whether the values files of a chart elsewhere, which are read from this source, lie in the tree."""
    start = f"${origin['ref']}/" if origin.get("ref") else None
    files = [str(file) for item in spec.get("sources") or [] for file in get(item, "helm", "valueFiles") or []]
    return start is not None and any(file.removeprefix(start) in tree.entries for file in files)


def may_declare(tree: Tree) -> list[str]:
    """The files from which a chart may render Applications: what names a chart, its templates and its values."""
    found = (path for path in tree.entries if path.endswith((".yaml", ".yml")) and tree.is_needed(path))
    return [path for path in found if _MAY_DECLARE.search(tree.read(path) or "")]


def _uppermost(side: Side, found: list[tuple[str, Manifest]]) -> list[tuple[str, Manifest]]:
    """The Applications whose file no other one of them reads, by its folder or by a kustomization there."""
    folders = {
        (file, folder) for file, item in found if item["kind"] == "Application" for folder in source_folders(side, item)
    }
    roots = [
        (file, item)
        for file, item in found
        if not any(other != file and file.startswith(f"{folder}/") for other, folder in folders)
    ]
    files = {file for file, _ in roots}
    read = {
        file
        for other, folder in folders
        if any(normal(folder, name) in side.tree.entries for name in KUSTOMIZATIONS)
        for file in read_by_kustomize(side.tree, folder, {}).files & files
        if file != other
    }
    return [(file, item) for file, item in roots if file not in read] or roots or found


def source_folders(side: Side, application: Manifest) -> set[str]:
    """The folders of this repository that an Application names, those of its values files too; of a template the part
    before its first action."""
    spec = application.get("spec") or {}
    origins = [item for item in spec.get("sources") or [spec.get("source") or {}] if isinstance(item, dict)]
    here = [item for item in origins if same_address(item.get("repoURL")) in side.home]
    references = {f"${item['ref']}" for item in here if item.get("ref")}
    files = [str(file) for item in origins for file in get(item, "helm", "valueFiles") or []]
    found = {_folder(str(item["path"])) for item in here if item.get("path")}
    return found | {
        PurePosixPath(_folder(rest)).parent.as_posix() if "{{" not in rest else _folder(rest)
        for start, _, rest in (file.partition("/") for file in files)
        if start in references
    }


def _folder(path: str) -> str:
    start, action, _ = path.partition("{{")
    return PurePosixPath(f"{start}x").parent.as_posix() if action else normal("", path)


def clusters_of(roots: Iterable[tuple[int, str, Manifest]]) -> dict[str, str]:
    """The clusters of the files of roots, where the repository describes several; the first one has no name.

    A file ``clusters/NAME/root.yaml`` is of the cluster NAME. Without such files each of the files that declare another
    root of the same name is of its own cluster, which is named by its folder.

    Args:
        roots: the side, the file and the object of each.
    """
    roots = list(roots)
    found = {file: match[1] for _, file, _ in roots if (match := _ROOT.fullmatch(file))}
    if not found:
        named: dict[tuple[Any, ...], dict[str, str]] = {}
        for side, file, item in roots:
            if item["kind"] != "AppProject":
                key = (side, item["kind"], str(get(item, "metadata", "namespace")), str(item["metadata"]["name"]))
                named.setdefault(key, {}).setdefault(repr(item.get("spec")), file)
        for files in named.values():
            found |= _apart(sorted(files.values())) if len(files) > 1 else {}
    names = sorted(set(found.values()), key=lambda name: (name != CLUSTER, name))
    return {file: name for file, name in found.items() if name != names[0]}


def _apart(files: list[str]) -> dict[str, str]:
    """The part of their folders by which files differ; their own names where they lie in one folder."""
    folders = [PurePosixPath(file).parent.parts for file in files]
    start = _in_common(folders)
    end = _in_common([part[start:][::-1] for part in folders])
    parts = ["/".join(part[start : len(part) - end]) for part in folders]
    stems = [PurePosixPath(file).stem for file in files]
    return {
        file: part if part and parts.count(part) == 1 else f"{part}/{stem}".strip("/")
        for file, part, stem in zip(files, parts, stems, strict=True)
    }


def _in_common(paths: list[tuple[str, ...]]) -> int:
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))


def key_of(side: Side, application: Manifest, file: str, cluster: str) -> str:
    """The name of an Application for both sides, with its namespace, or its cluster where there are several."""
    name = str(application["metadata"]["name"])
    if cluster:
        name = f"{cluster}/{name}"
    if name in side.sources and side.sources[name].application != application:
        name = f"{get(application, 'metadata', 'namespace') or NAMESPACE}/{name}"
    if name in side.sources and side.sources[name].application != application:
        name = f"{PurePosixPath(file).parent}/{name}"
    return name

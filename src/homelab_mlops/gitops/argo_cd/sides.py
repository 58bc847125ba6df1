"""Renders both sides of a comparison at the same time, from their roots on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import tools
from homelab_mlops.gitops.argo_cd import cache
from homelab_mlops.gitops.argo_cd.applications import (
    DECLARING,
    NAMESPACE,
    Side,
    Source,
    clusters_of,
    declares,
    find_roots,
    key_of,
    load,
    may_declare,
    source_folders,
)
from homelab_mlops.gitops.argo_cd.applicationsets import UnknownGeneratorError, files_read, generated
from homelab_mlops.gitops.argo_cd.forms import well_formed
from homelab_mlops.gitops.argo_cd.rendering import declare, is_plain_kustomization, local_documents, render_source
from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.manifests.objects import Manifest, get


class _Met(NamedTuple):
    """An Application or ApplicationSet that was met at a side, below a root's file."""

    side: int
    manifest: Manifest
    file: str
    parent: str = ""
    generator: str = ""
    wrong: str = ""


def _met(side: int, manifest: Manifest, file: str, parent: str = "", generator: str = "") -> _Met:
    """What was met, without the fields that have another form than Argo CD's."""
    found, wrong = well_formed(manifest)
    return _Met(side, found, file, parent, generator, wrong)


def render_sides(
    base: Tree, head: Tree, roots: tuple[str, ...] = (), *, begun: Callable[[], None] = lambda: None
) -> tuple[Side, Side]:
    """Renders both sides, beginning with the root Applications.

    It renders the whole head, so that it always finds a kustomization that does not build. Of the base it renders only
    the Applications whose inputs differ from the head; the others are equal. A Source says what cannot be rendered.

    Args:
        roots: the files of the root Applications; without any, the function looks for them.
        begun: what to call once the first builds run.

    Raises:
        RepositoryError: no side has an Application.
        ToolError: kustomize is not here.
    """
    tools.find("kustomize")  # without kustomize every Application would look broken
    sides = Side(base), Side(head)
    # More than there are cores: Python reads what some have built while kustomize builds the next ones.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2) + 2) as pool, ThreadPoolExecutor() as remote:
        ahead = _Begun(pool, remote)
        waiting = []
        for index, side in enumerate(sides):  # the files of the base are there first
            waiting += [_met(index, item, file) for file, item in find_roots(side, roots)]
            if index:
                side.follow(sides[0])
            ahead.begin(side)
        ahead.begin_remote()
        begun()
        if all(met.manifest["kind"] == "AppProject" for met in waiting):
            raise _nothing_declared(base, head, roots)
        clusters = clusters_of((met.side, met.file, met.manifest) for met in waiting)
        for side in sides:
            side.clusters = set(clusters.values())
        is_root = True
        while waiting:
            new = _declare(sides, waiting, clusters, is_root=is_root)
            ahead.render(_to_render(sides, new))
            _share(sides, new)
            waiting = [child for index, source, file in new for child in _children(index, source, file)]
            for met in waiting:
                _is_rendered(sides[met.side], met.manifest)
            is_root = False
        _leave_out_what_one_side_lacks(sides, pool)
    cache.trim()
    return sides


class _Begun:
    """Renderings that begin before the Application that declares theirs is rendered.

    Most files that declare an Application are rendered as they are. So each of them is rendered ahead, and whoever asks
    for a rendering of the same inputs gets it.
    """

    def __init__(self, pool: Executor, waiting: Executor) -> None:
        self.pool = pool
        self.waiting = waiting  # for the network
        self.sources: dict[str, tuple[Source, Future[None]]] = {}
        self.remote: list[dict[str, Source]] = []

    def begin(self, side: Side) -> None:
        """Begins with the kustomizations of this repository that the files of a side declare."""
        self.remote.append({})
        for number, application in enumerate(side.declared):
            source = Source(application, f"ahead-{len(self.remote)}-{number}")
            if not all(is_plain_kustomization(side, origin) for origin in source.origins):
                continue
            declare(side, source)
            if not source.inputs or source.unrendered or source.inputs in self.sources:
                continue
            if source.remotes:
                self.remote[-1][source.inputs] = source
            else:
                self.sources[source.inputs] = source, self.pool.submit(render_source, source)

    def begin_remote(self) -> None:
        """Begins with those that differ and have a remote base; the others are equal, and are not rendered."""
        base, head = self.remote
        for inputs, source in head.items():
            if inputs not in base:
                self.sources[inputs] = source, self.waiting.submit(render_source, source)
        for inputs, source in base.items():
            if inputs not in head:
                twin = next((item for item in head.values() if _is_twin(item, source)), None)
                self.sources[inputs] = source, self.pool.submit(_render_if_reachable, source, twin)

    def render(self, sources: list[Source]) -> None:
        """Renders Applications, or takes what is ready. One that failed is tried again, to say why under its name."""
        rest = [source for source in sources if source.inputs not in self.sources]
        waiting = [self.pool.submit(render_source, source) for source in rest]
        for source in sources:
            if source.inputs in self.sources:
                ready, future = self.sources[source.inputs]
                future.result()
                if ready.unrendered and not ready.is_unreachable:
                    waiting.append(self.pool.submit(render_source, source))
                else:
                    source.documents, source.local = list(ready.documents), ready.local
                    source.repeated = ready.repeated
                    source.unrendered, source.is_missing = ready.unrendered, ready.is_missing
        for future in waiting:
            future.result()


def _is_twin(one: Source, other: Source) -> bool:
    """Whether two sources are of the same Application, and have the same remote bases."""
    same = all(get(one.application, "metadata", key) == get(other.application, "metadata", key) for key in _NAMED)
    return same and one.remotes == other.remotes


_NAMED = ("name", "namespace")


def _render_if_reachable(source: Source, twin: Source | None) -> None:
    """Renders a source of the base, unless it is known by now that its remote bases cannot be reached."""
    if twin is not None and twin.is_unreachable:
        source.unrendered, source.is_missing, source.local = twin.unrendered, twin.is_missing, local_documents(source)
    else:
        render_source(source)


def _nothing_declared(base: Tree, head: Tree, roots: tuple[str, ...]) -> RepositoryError:
    found = sorted({*may_declare(base), *may_declare(head)})
    files = [file if file.isprintable() else repr(file) for file in found]
    more = f" and {len(files) - 3} others" if len(files) > 3 else ""
    unknown = f", and what {', '.join(files[:3])}{more} render is not known here" if files else ""
    return RepositoryError(
        f"no Application is declared at {base.label} or {head.label}{unknown}",
        where=", ".join(roots) or "clusters/*/root.yaml, apps/*.yaml",
        fix="compare commits of a repository that Argo CD follows, or name the root: `homelab diff --root FILE`",
    )


_New = list[tuple[int, Source, str]]


def _declare(sides: tuple[Side, Side], waiting: Iterable[_Met], clusters: dict[str, str], *, is_root: bool) -> _New:
    """The sources that are new, those of ApplicationSets included."""
    found: _New = []
    for met in waiting:
        side, cluster = sides[met.side], clusters.get(met.file, "")
        if is_root:
            side.roots.append(met.manifest)
        if met.manifest["kind"] == "AppProject":
            continue
        if met.manifest["kind"] == "ApplicationSet":
            found += _declare(sides, _expanded(side, met, cluster), clusters, is_root=False)
            continue
        key = key_of(side, met.manifest, met.file, cluster)
        if key in side.sources:
            continue
        source = Source(met.manifest, key, generator=met.generator, parent=met.parent)
        declare(side, source)
        if met.wrong:
            source.unrendered, source.is_broken, source.inputs = met.wrong, True, ""
        side.sources[key] = source
        found.append((met.side, source, met.file))
    return found


def _expanded(side: Side, met: _Met, cluster: str) -> list[_Met]:
    name = f"{cluster}/{met.manifest['metadata']['name']}".removeprefix("/")
    try:
        if met.wrong:
            raise UnknownGeneratorError(met.wrong)
        applications = generated(_in_its_namespace(side, met), side.tree, side.is_here)
    except UnknownGeneratorError as error:
        template = get(met.manifest, "spec", "template") or {}
        side.unexpanded[name] = str(error), source_folders(side, template)
        return []
    side.root_files |= files_read(get(met.manifest, "spec", "generators"), side.tree)
    return [_met(met.side, item, met.file, met.parent, name) for item in applications]


def _in_its_namespace(side: Side, met: _Met) -> Manifest:
    """An ApplicationSet with its namespace, which the Application that renders it may give."""
    parent = side.sources.get(met.parent)
    metadata = met.manifest["metadata"]
    namespace = metadata.get("namespace") or (parent.namespace if parent else NAMESPACE)
    return {**met.manifest, "metadata": {**metadata, "namespace": namespace}}


def _to_render(sides: tuple[Side, Side], new: _New) -> list[Source]:
    todo = []
    for index, source, _ in new:
        twin = sides[1 - index].sources.get(source.key)
        same = twin is not None and source.inputs and source.inputs == twin.inputs
        if same and (index == 0 or source.remotes or source.unrendered):
            continue
        todo.append(source)
    return todo


def _share(sides: tuple[Side, Side], new: _New) -> None:
    """Gives the base the renderings of the head that have the same inputs."""
    for index, source, _ in new:
        twin = sides[1].sources.get(source.key)
        if index == 0 and twin is not None and source.inputs == twin.inputs and source.inputs and not source.documents:
            source.documents, source.unrendered = twin.documents, twin.unrendered
            source.is_broken, source.repeated = twin.is_broken, twin.repeated


def _children(index: int, source: Source, file: str) -> list[_Met]:
    """The Applications, ApplicationSets and AppProjects that an Application renders."""
    return [
        _met(index, item, file, source.key)
        for text in source.documents
        if "argoproj.io/" in text
        for item in load(text)
        if declares(item, *DECLARING)
    ]


def _is_rendered(side: Side, manifest: Manifest) -> None:
    """Takes an object that an Application renders from the roots."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    side.roots = [
        item
        for item in side.roots
        if item["kind"] != kind
        or item["metadata"]["name"] != metadata["name"]
        or len({get(one, "metadata", "namespace") for one in (item, manifest)} - {None}) > 1
    ]


def _leave_out_what_one_side_lacks(sides: tuple[Side, Side], pool: Executor) -> None:
    """Where one side is not known, leaves the other out too: all its objects would look new or gone."""
    for side, other in (sides, sides[::-1]):
        unknown = [item for item in other.sources.values() if item.generator in side.unexpanded]
        rendered = [item for item in other.sources.values() if _is_known_here_alone(item, side)]
        for source in (*unknown, *other.below([*unknown, *rendered])):
            if source.key not in side.sources:
                source.documents = []
    waiting = []
    for name, source in sides[1].sources.items():
        twin = sides[0].sources.get(name)
        if twin is None or not (source.unrendered or twin.unrendered):
            continue
        for each in (source, twin):
            if (source.remotes or twin.remotes) and not (source.is_broken or twin.is_broken):
                if each.local is None:
                    waiting.append((each, pool.submit(local_documents, each)))
                else:
                    each.documents = each.local
            elif not (source.unrendered and twin.unrendered) or source.is_broken or twin.is_broken:
                each.documents = []
    for each, future in waiting:
        each.documents = future.result()


def _is_known_here_alone(source: Source, other: Side) -> bool:
    twin = other.sources.get(source.key)
    return twin is not None and bool(twin.unrendered) and not source.unrendered

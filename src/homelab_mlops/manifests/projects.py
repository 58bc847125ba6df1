"""What each AppProject admits, and which Applications are in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from homelab_mlops.manifests.objects import CLUSTER_SCOPED, Manifest, entries, get, group, identity, strings

ROOT = "homelab"
"""The root Application, which alone declares Applications and AppProjects."""
PLATFORM = "homelab"
"""The only AppProject with rights in the whole cluster."""
EMPTIED = "default"
"""The AppProject that Argo CD makes by itself, and which admits everything until it is emptied."""
MEMBERS = frozenset({ROOT, "argo-cd", "argo-workflows", "sealed-secrets"})
"""The Applications that install kinds, or roles of the whole cluster."""
DECLARING = ("Application", "ApplicationSet", "AppProject")
NAMESPACE = ("", "Namespace")
RIGHTS = {
    NAMESPACE,
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
}
ADMITTING = ("sourceRepos", "destinations", "clusterResourceWhitelist", "sourceNamespaces", "roles")

Problems = Iterator[tuple[str, str]]


def project_problems(
    root: Manifest, rendered: Iterable[tuple[str, list[Manifest]]], repository: str, beside: dict[str, str]
) -> Problems:
    """What is wrong with the AppProjects: an object and a sentence.

    It looks at what the root Application renders, since a patch may change what its files say.

    Args:
        root: the root Application.
        rendered: what each Application renders, by its name.
        beside: further namespaces by Application.
    """
    parts = list(rendered)
    declared = [item for name, manifests in parts if name == ROOT for item in manifests]
    projects = {item["metadata"]["name"]: item for item in declared if item["kind"] == "AppProject"}
    applications = [*(item for item in declared if item["kind"] == "Application"), root]
    if EMPTIED not in projects:
        yield f"AppProject {EMPTIED}", "no file empties it, and the one that Argo CD makes admits everything"
    for name, project in projects.items():
        members = [item for item in applications if item["spec"].get("project") == name]
        yield from _admitted(name, project, members, repository, beside)
    for application in applications:
        yield from _membership(application, projects)
    of = {item["metadata"]["name"]: str(item["spec"].get("project")) for item in applications}
    for name, manifests in parts:
        for manifest in manifests:
            if manifest["kind"] in DECLARING and (name != ROOT or manifest["kind"] == "ApplicationSet"):
                yield identity(manifest), "only the files of apps/ declare Applications and AppProjects, one by one"
            if name != "argo-cd":
                known = {name, beside.get(name, name)}
                yield from _of_the_cluster(manifest, of.get(name, ""), projects, known)


def _admitted(
    name: str, project: Manifest, members: list[Manifest], repository: str, beside: dict[str, str]
) -> Problems:
    where, spec = f"AppProject {name}", project["spec"]
    if name == EMPTIED:
        for key in ADMITTING:
            if spec.get(key):
                yield where, f"it is to admit nothing, and has {key}"
        return
    if spec["sourceRepos"] != [repository]:
        yield where, "sourceRepos is not exactly the repository of clusters/homelab/settings.yaml"
    namespaces = {item["spec"]["destination"]["namespace"] for item in members}
    namespaces |= {beside[item["metadata"]["name"]] for item in members if item["metadata"]["name"] in beside}
    exact = [{"name": "in-cluster", "namespace": namespace} for namespace in sorted(namespaces)]
    if sorted(spec["destinations"], key=str) != sorted(exact, key=str):
        yield where, "its destinations are not exactly those of its Applications"
    most = RIGHTS if name == PLATFORM else {NAMESPACE}
    for item in entries(spec.get("clusterResourceWhitelist")):
        if _kind(item) not in most:
            yield where, f"it admits {_said(item)} of the whole cluster"
    if spec.get("sourceNamespaces"):
        yield where, "it admits Applications that lie in other namespaces than Argo CD's"


def _membership(application: Manifest, projects: dict[str, Manifest]) -> Problems:
    name, project = application["metadata"]["name"], application["spec"].get("project")
    where = f"Application {name}"
    if project not in projects or project == EMPTIED:
        yield where, f"its project is {project}, and none of apps/projects.yaml that admits anything"
    elif (project == PLATFORM) != (name in MEMBERS):
        yield where, f"its project is {project}; only {', '.join(sorted(MEMBERS))} belong to {PLATFORM}"


def _of_the_cluster(manifest: Manifest, project: str, projects: dict[str, Manifest], namespaces: set[str]) -> Problems:
    if manifest["kind"] not in CLUSTER_SCOPED and manifest["metadata"].get("namespace"):
        return
    admitted = entries(get(projects.get(project), "spec", "clusterResourceWhitelist"))
    if _kind({"group": group(manifest), "kind": manifest["kind"]}) not in map(_kind, admitted):
        yield identity(manifest), f"AppProject {project} admits no {manifest['kind']} of the whole cluster"
    elif manifest["kind"] == "Namespace" and manifest["metadata"]["name"] not in namespaces:
        yield identity(manifest), f"its Application may bring {' and '.join(sorted(namespaces))} only"


def _kind(item: dict[str, Any]) -> tuple[str, str]:
    return str(item.get("group", "")), str(item.get("kind"))


def _said(item: dict[str, Any]) -> str:
    return ".".join(part for part in reversed(strings(list(_kind(item)))) if part)

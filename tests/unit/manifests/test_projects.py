"""The AppProjects of the tree hold; each way out of them is a problem."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from homelab_mlops.gitops.policies import NAMESPACES_BESIDE
from homelab_mlops.gitops.render import ROOT_APPLICATION, read_yaml
from homelab_mlops.gitops.settings import load_settings
from homelab_mlops.manifests.objects import Manifest
from homelab_mlops.manifests.projects import ROOT as ROOT_NAME
from homelab_mlops.manifests.projects import project_problems
from tests.conftest import ROOT

Objects = dict[str, Manifest]
ADDRESS = load_settings(ROOT).repository
ROLE = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"}}


def problems(change: Callable[[Objects], object] = lambda _: None, **rendered: Manifest) -> list[str]:
    """What is wrong with the declared projects after ``change``, and with an object of an Application."""
    declared = [item for path in sorted((ROOT / "apps").glob("*.yaml")) for item in read_yaml(path)]
    objects = {f"{item['kind']} {item['metadata']['name']}": copy.deepcopy(item) for item in declared if "spec" in item}
    change(objects)
    parts = [(ROOT_NAME, list(objects.values()))]
    parts += [(name.replace("_", "-"), [manifest]) for name, manifest in rendered.items()]
    (root,) = read_yaml(ROOT / ROOT_APPLICATION)
    return [f"{where}: {what}" for where, what in project_problems(root, parts, ADDRESS, NAMESPACES_BESIDE)]


def test_the_projects_of_the_tree_hold() -> None:
    namespace = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "training"}}
    assert problems(sealed_secrets=ROLE, argo_workflows=namespace) == []


def of(name: str, key: str, value: object) -> Callable[[Objects], object]:
    def change(objects: Objects) -> None:
        objects[name]["spec"][key] = value

    return change


ANY_KIND = [{"group": "*", "kind": "*"}]
ROLES = [{"group": "rbac.authorization.k8s.io", "kind": "ClusterRole"}]
ELSEWHERE = [
    {"name": "in-cluster", "namespace": name} for name in ("minio", "mlflow", "serving", "training", "argo-cd")
]
SERVER = [{"server": "*", "namespace": name} for name in ("minio", "mlflow", "serving", "training")]
CHANGES = {
    "an Application of default": of("Application training", "project", "default"),
    "an Application of no project": of("Application training", "project", None),
    "an Application of an unknown project": of("Application training", "project", "mine"),
    "a workload among the platform's": of("Application serving", "project", "homelab"),
    "the platform among the workloads": of("Application argo-cd", "project", "workloads"),
    "default gets a source": of("AppProject default", "sourceRepos", ["*"]),
    "default gets a destination": of("AppProject default", "destinations", [{"server": "*", "namespace": "*"}]),
    "default gets kinds": of("AppProject default", "clusterResourceWhitelist", ANY_KIND),
    "default is left as Argo CD makes it": lambda objects: objects.pop("AppProject default"),
    "workloads get roles": of("AppProject workloads", "clusterResourceWhitelist", ROLES),
    "workloads get every kind": of("AppProject workloads", "clusterResourceWhitelist", ANY_KIND),
    "workloads reach Argo CD": of("AppProject workloads", "destinations", ELSEWHERE),
    "workloads reach every cluster": of("AppProject workloads", "destinations", SERVER),
    "workloads come from elsewhere": of("AppProject workloads", "sourceRepos", [ADDRESS, "https://git.example/x"]),
    "workloads lie elsewhere": of("AppProject workloads", "sourceNamespaces", ["serving"]),
    "the platform gets every kind": of("AppProject homelab", "clusterResourceWhitelist", ANY_KIND),
    "a set of Applications": lambda objects: objects.update(
        more={"kind": "ApplicationSet", "metadata": {"name": "more", "namespace": "argo-cd"}}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_project_that_admits_more_is_a_problem(change: Callable[[Objects], object]) -> None:
    assert problems(change)


RENDERED: dict[str, Manifest] = {
    "a role": ROLE,
    "a role that pretends": {**ROLE, "metadata": {"name": "all", "namespace": "serving"}},
    "a webhook": {**ROLE, "kind": "MutatingWebhookConfiguration"},
    "an unknown kind of the cluster": {"apiVersion": "x.example/v1", "kind": "Thing", "metadata": {"name": "x"}},
    "a foreign namespace": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}},
    "an Application": {"kind": "Application", "metadata": {"name": "more", "namespace": "argo-cd"}},
    "a project": {"kind": "AppProject", "metadata": {"name": "more", "namespace": "argo-cd"}},
}


@pytest.mark.parametrize("manifest", RENDERED.values(), ids=RENDERED)
def test_what_a_workload_may_not_bring_is_a_problem(manifest: Manifest) -> None:
    assert problems(serving=manifest)


def test_argo_cd_itself_declares_no_application() -> None:
    assert problems(argo_cd={"kind": "Application", "metadata": {"name": "more", "namespace": "argo-cd"}})

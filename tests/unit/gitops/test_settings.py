"""What a user changes is one command or one line, and arrives everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from homelab_mlops.doctor import network
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.check import check_repository
from homelab_mlops.gitops.files import write_all
from homelab_mlops.gitops.init import new_settings
from homelab_mlops.gitops.render import applications, render
from homelab_mlops.gitops.settings import (
    INGRESS_PRESETS,
    UPSTREAM,
    Settings,
    change_argo_cd_release,
    change_settings,
    load_settings,
)
from tests.conftest import ROOT

NEW = {
    "repository": "https://forge.home.arpa/me/homelab.git",
    "branch": "production",
    "domain": "homelab.example.org",
    "storage_class": "longhorn",
    "image_registry": "registry.home.arpa:5000/me",
    "ingress_class": "caddy",
    "ingress_namespace": "edge-system",
    "ingress_labels": "app.kubernetes.io/name=edge",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    return tmp_path


def rendered(tree: Path) -> str:
    """Everything that Argo CD would read, as text; of its own install the files that lie here."""
    texts = [yaml.safe_dump(applications(tree))]
    texts += [path.read_text() for path in sorted((tree / "clusters/homelab/argo-cd").glob("*.yaml"))]
    texts += [yaml.safe_dump(render(folder)) for folder in sorted((tree / "overlays/homelab").iterdir())]
    return "\n".join(texts)


def test_what_is_new_upstream_gets_the_names_of_the_fork(tree: Path) -> None:
    for registry in (NEW["image_registry"], f"{UPSTREAM['image_registry']}/me"):
        mine = new_settings(load_settings(tree), {**NEW, "image_registry": registry})
        write_all(change_settings(tree, mine))
        merged = tree / "overlays/homelab/training/addresses.yaml"
        merged.write_text((ROOT / merged.relative_to(tree)).read_text(encoding="utf-8"), encoding="utf-8")

        assert list(change_settings(tree, mine)) == [merged]
        write_all(change_settings(tree, mine))
        assert change_settings(tree, mine) == {}
        assert f"mlflow.{NEW['domain']}" in merged.read_text(encoding="utf-8")


def test_the_names_of_upstream_are_those_of_its_settings() -> None:
    here = load_settings(ROOT)
    if here.repository == UPSTREAM["repository"]:  # and no fork
        assert {name: getattr(here, name) for name in UPSTREAM} == UPSTREAM


def test_every_setting_arrives_everywhere_by_one_command(tree: Path) -> None:
    old = load_settings(tree)
    before = rendered(tree)
    write_all(change_settings(tree, new_settings(old, NEW)))
    after = rendered(tree)
    assert load_settings(tree) == Settings(**NEW, budgets=old.budgets)
    for name, value in NEW.items():
        former = getattr(old, name)
        if name == "ingress_labels":
            continue  # the next test holds what becomes of them
        if name == "branch":
            assert after.count(f"targetRevision: {value}") == before.count(f"targetRevision: {former}") > 5
            continue
        # The new domain begins with the old one.
        assert former not in after.replace(value, ""), name
        assert after.count(value) == before.count(former) > 0, name
    assert [str(finding) for finding in check_repository(tree).findings] == []
    assert change_settings(tree, load_settings(tree)) == {}


@pytest.mark.parametrize("preset", INGRESS_PRESETS)
def test_ingresses_policies_and_the_doctor_follow_the_controller(preset: str, tree: Path) -> None:
    settings = new_settings(load_settings(tree), INGRESS_PRESETS[preset])
    write_all(change_settings(tree, settings))
    objects = [item for folder in sorted((tree / "overlays/homelab").iterdir()) for item in render(folder)]
    classes = [item["spec"]["ingressClassName"] for item in objects if item["kind"] == "Ingress"]
    assert set(classes) == {settings.ingress_class}
    assert len(classes) > 3
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    names = {item["metadata"].get("namespace", "") for item in objects} - {""} | {"kube-system", "elsewhere"}
    namespaces = {
        name: {"kubernetes.io/metadata.name": name} for name in names | {settings.ingress_namespace, "traefik"}
    }
    labels = settings.ingress_selector or {"app.kubernetes.io/name": "traefik"}
    own = network.Pods("the controller", settings.ingress_namespace, tuple(sorted(settings.ingress_selector.items())))

    def blocked(namespace: str, labels: dict[str, str]) -> list[tuple[network.Connection, str]]:
        pod = {"metadata": {"namespace": namespace, "labels": labels}}
        return list(network.blocked(policies, namespaces, [pod], 443, own))

    assert blocked(settings.ingress_namespace, labels) == []
    ends = {"mlflow", "minio", "argo-server", "the models"}
    refused = blocked("elsewhere", {"app.kubernetes.io/name": "traefik"})
    assert {item.to.name for item, _ in refused if isinstance(item.to, network.Pods)} == ends
    if settings.ingress_selector:
        others = blocked(settings.ingress_namespace, {"app.kubernetes.io/name": "traefik", "release": "another"})
        assert bool(others) == (preset != "traefik")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repository", "github.com/me/homelab"),
        ("repository", "https://me:token@github.com/me/homelab.git"),
        ("domain", "localhost"),
        ("domain", "home_lab.example"),
        ("branch", "-main"),
        ("storage_class", "Local Path"),
        ("image_registry", "https://ghcr.io/me"),
        ("ingress_class", "Nginx"),
        ("ingress_labels", "app.kubernetes.io/name"),
        ("ingress_labels", ""),
    ],
)
def test_a_setting_that_cannot_work_is_refused(name: str, value: str) -> None:
    with pytest.raises(RepositoryError, match="cannot be used"):
        new_settings(load_settings(ROOT), {name: value})


@pytest.mark.parametrize(
    ("file", "line", "new", "overlay", "kind", "occurrences"),
    [
        (
            "clusters/homelab/images/kustomization.yaml",
            "newTag: 0.1.0",
            "newTag: 9.9.9",
            "training",
            "WorkflowTemplate",
            3,
        ),
        ("workflows/models/churn/cronworkflow.yaml", "30 2 * * *", "15 4 * * *", "training", "CronWorkflow", 1),
        ("overlays/homelab/minio/volume.yaml", "storage: 20Gi", "storage: 55Gi", "minio", "PersistentVolumeClaim", 1),
    ],
    ids=["image tag", "schedule", "volume"],
)
def test_one_line_changes_it(
    tree: Path, file: str, line: str, new: str, overlay: str, kind: str, occurrences: int
) -> None:
    path = tree / file
    path.write_text(path.read_text().replace(line, new))
    value = new.rpartition(": ")[2]
    changed = [item for item in render(tree / "overlays/homelab" / overlay) if value in str(item)]
    assert [item["kind"] for item in changed] == [kind] * occurrences


def test_argo_cd_moves_by_one_command(tree: Path) -> None:
    changed = change_argo_cd_release(tree, "v9.8.7")
    assert [path.name for path in changed] == ["kustomization.yaml"]
    assert "argo-cd//manifests/cluster-install?ref=v9.8.7" in "".join(changed.values())
    with pytest.raises(RepositoryError, match="not a release"):
        change_argo_cd_release(tree, "stable")

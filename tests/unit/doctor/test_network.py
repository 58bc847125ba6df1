"""The paths that NetworkPolicies let through: none of those that the platform needs is cut by its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from homelab_mlops.doctor import network as paths
from homelab_mlops.gitops.render import render
from tests.conftest import ROOT

Object = dict[str, Any]


@pytest.fixture(scope="module")
def platform() -> list[Object]:
    overlays = sorted(path.parent for path in (ROOT / "overlays" / "homelab").glob("*/kustomization.yaml"))
    return [item for folder in overlays for item in render(folder)]


@pytest.fixture
def policies(platform: list[Object]) -> list[Object]:
    return copy.deepcopy([item for item in platform if item["kind"] == "NetworkPolicy"])


@pytest.fixture(scope="module")
def namespaces(platform: list[Object]) -> dict[str, paths.Labels]:
    found = {item["metadata"].get("namespace", "") for item in platform} - {""} | {"kube-system", "ingress-nginx"}
    return {name: {"kubernetes.io/metadata.name": name} for name in found}


def pod(namespace: str, **labels: str) -> Object:
    return {
        "metadata": {
            "namespace": namespace,
            "labels": {f"app.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()},
        }
    }


def cut(policies: list[Object], namespaces: dict[str, paths.Labels], *pods: Object) -> set[str]:
    return {f"{path}, {side}" for path, side in paths.cut(policies, namespaces, [*pods], 443)}


def policy(policies: list[Object], name: str) -> Object:
    (found,) = [item for item in policies if item["metadata"]["name"] == name]
    return found


def test_the_platforms_own_policies_cut_nothing(policies: list[Object], namespaces: dict[str, paths.Labels]) -> None:
    assert cut(policies, namespaces, pod("kube-system", name="traefik")) == set()


def test_a_controller_that_no_policy_admits_is_cut(policies: list[Object], namespaces: dict[str, paths.Labels]) -> None:
    found = cut(policies, namespaces, pod("ingress-nginx", name="ingress-nginx"))
    assert "the ingress controller → mlflow:5000, ingress of mlflow" in found
    assert {text.partition(" →")[0] for text in found} == {"the ingress controller"}


def test_the_labels_of_a_live_pod_count(policies: list[Object], namespaces: dict[str, paths.Labels]) -> None:
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "homelab-mlops"}}}
    policy(policies, "postgresql")["spec"]["ingress"][0]["from"] = [peer]
    mlflow = pod("mlflow", name="mlflow")
    assert cut(policies, namespaces, mlflow) == {"mlflow → postgresql:5432, ingress of mlflow"}
    mlflow["metadata"]["labels"]["app.kubernetes.io/part-of"] = "homelab-mlops"
    assert cut(policies, namespaces, mlflow) == set()

"""The connections that NetworkPolicies let through: the platform's own block none that the platform needs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from homelab_mlops.doctor.network import Labels
from homelab_mlops.doctor.network import blocked as blocked_connections
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
def namespaces(platform: list[Object]) -> dict[str, Labels]:
    found = {item["metadata"].get("namespace", "") for item in platform} - {""} | {"kube-system", "ingress-nginx"}
    return {name: {"kubernetes.io/metadata.name": name} for name in found}


def pod(namespace: str, **labels: str) -> Object:
    return {
        "metadata": {
            "namespace": namespace,
            "labels": {f"app.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()},
        }
    }


def blocked(policies: list[Object], namespaces: dict[str, Labels], *pods: Object) -> set[str]:
    return {f"{connection}, {side}" for connection, side in blocked_connections(policies, namespaces, [*pods], 443)}


def policy(policies: list[Object], name: str) -> Object:
    (found,) = [item for item in policies if item["metadata"]["name"] == name]
    return found


def test_the_platforms_own_policies_block_nothing(policies: list[Object], namespaces: dict[str, Labels]) -> None:
    assert blocked(policies, namespaces, pod("kube-system", name="traefik")) == set()


def test_a_controller_that_no_policy_admits_is_blocked(policies: list[Object], namespaces: dict[str, Labels]) -> None:
    found = blocked(policies, namespaces, pod("ingress-nginx", name="ingress-nginx"))
    assert "the ingress controller → mlflow:5000, ingress of mlflow" in found
    assert {text.partition(" →")[0] for text in found} == {"the ingress controller"}


def test_the_labels_of_a_live_pod_count(policies: list[Object], namespaces: dict[str, Labels]) -> None:
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "homelab-mlops"}}}
    policy(policies, "postgresql")["spec"]["ingress"][0]["from"] = [peer]
    mlflow = pod("mlflow", name="mlflow")
    assert blocked(policies, namespaces, mlflow) == {"mlflow → postgresql:5432, ingress of mlflow"}
    mlflow["metadata"]["labels"]["app.kubernetes.io/part-of"] = "homelab-mlops"
    assert blocked(policies, namespaces, mlflow) == set()

"""Who reaches whom by the NetworkPolicies, as docs/security.md says it."""

from __future__ import annotations

import copy

import pytest

from homelab_mlops.manifests.objects import Manifest
from tests.conftest import ROOT
from tests.unit.security import network


@pytest.fixture(scope="module")
def platform() -> list[Manifest]:
    return network.platform()


def test_the_page_has_the_matrix(platform: list[Manifest]) -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert network.SECTION.read(page) == network.table(network.matrix(platform)), "`make docs` writes it"


def test_it_has_every_pod(platform: list[Manifest]) -> None:
    rendered = {f"{pod.namespace}/{pod.name}" for pod in network.pods(platform)}
    assert rendered < network.matrix(platform).keys()
    assert {name.partition("/")[0] for name in rendered} == {
        item["metadata"]["name"] for item in platform if item["kind"] == "Namespace"
    }


OPENED = {
    "everything out": ("Egress", {}, "serving/churn", "443"),
    "a port out": ("Egress", {"ports": [{"port": 22}]}, "training/train", "22"),
    "a block out": ("Egress", {"to": [{"ipBlock": {"cidr": "169.254.0.0/16"}}]}, "serving/churn", "metadata"),
    "everybody in": ("Ingress", {}, "any other pod", "postgresql"),
    "a namespace in": ("Ingress", {"from": [{"namespaceSelector": {}}]}, "any other pod", "minio"),
}


@pytest.mark.parametrize("what", OPENED)
def test_one_more_rule_changes_it(platform: list[Manifest], what: str) -> None:
    direction, rule, source, target = OPENED[what]
    opened = copy.deepcopy(platform)
    for item in opened:
        if item["kind"] == "NetworkPolicy" and direction in item["spec"]["policyTypes"]:
            item["spec"].setdefault(direction.lower(), []).append(rule)
    assert target not in network.matrix(platform)[source]
    assert target in network.matrix(opened)[source]


def test_a_namespace_without_its_default_is_open(platform: list[Manifest]) -> None:
    opened = [
        item for item in platform if item["kind"] != "NetworkPolicy" or item["metadata"]["namespace"] != "training"
    ]
    assert {"22", "metadata", "other pods"} <= network.matrix(opened)["training/train"]

"""What a NetworkPolicy restricts where it does not say so: as the API server fills it in."""

from __future__ import annotations

from typing import Any

import pytest

from homelab_mlops.manifests.network import directions
from homelab_mlops.review.normalise import normalise


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": []}, ["Ingress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
    ],
)
def test_the_doctor_and_the_review_see_the_same_directions(spec: dict[str, Any], expected: list[str]) -> None:
    assert directions(spec) == expected
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": spec}
    assert normalise(policy, "x", set())["spec"]["policyTypes"] == expected

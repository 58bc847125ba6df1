"""Which references of an image are exact."""

from __future__ import annotations

import pytest

from homelab_mlops.manifests.images import why_moving

EXACT = (
    "docker.io/library/postgres:17.12-trixie",
    "docker.io/bitnami/sealed-secrets-controller:0.40.0",
    "quay.io/argoproj/argocli:v4.1.4",
    "docker.io/library/redis:8.2.2-alpine",
    "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
    "ghcr.io/me/training:0.1.0-1a2b3c4d5e6f",
    "ghcr.io/me/training:sha-1a2b3c4",
    "registry.example:5000/me/web:main-1a2b3c4",
    "docker.io/library/busybox:1.37@sha256:" + "0" * 64,
    "debian:trixie-20260101-slim",
)
MOVING = (
    "docker.io/library/postgres:17-trixie",
    "docker.io/library/postgres:17",
    "docker.io/library/postgres:trixie",
    "docker.io/library/redis:8-alpine",
    "docker.io/library/busybox:1.37",
    "docker.io/library/python:3.13-slim-trixie",
    "ghcr.io/me/training:v1",
    "ghcr.io/me/training:latest",
    "ghcr.io/me/training:main",
    "ghcr.io/me/training:release-12",
    "registry.example:5000/me/training",
    "ghcr.io/me/training",
    "ghcr.io/me/training:1@sha256:0",
    "",
)


@pytest.mark.parametrize("image", EXACT)
def test_an_exact_image(image: str) -> None:
    assert why_moving(image) == ""


@pytest.mark.parametrize("image", MOVING)
def test_a_moving_image(image: str) -> None:
    assert why_moving(image)

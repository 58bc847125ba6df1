"""Argo CD's administrator has a password of this repository: sealed as text for a person, as its hash for Argo CD."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import yaml

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster import bootstrap
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.init import initialise
from homelab_mlops.gitops.secrets.seal import reveal, rotate, set_secret
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import Sealed, load_table, read_sealed
from tests.conftest import PATIENCE, ROOT
from tests.unit.clients import api_server
from tests.unit.gitops.controller import eventually, sealed_secrets_controller

FOLDER = Path("clusters/homelab/argo-cd")
# Argo CD's own manifest, as its release has it, and what its server writes at its first start.
UPSTREAM = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "argocd-secret",
        "namespace": "argo-cd",
        "labels": {"app.kubernetes.io/name": "argocd-secret", "app.kubernetes.io/part-of": "argocd"},
    },
    "type": "Opaque",
}
OWN = {"server.secretkey": "argo's own", "tls.key": "argo's too", "admin.password": "$2a$10$first"}


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / "fork" / folder)
    initialise(tmp_path / "fork", {}, key_file=tmp_path / "key.pem")
    return tmp_path / "fork"


def sealed(fork: Path) -> dict[str, Sealed]:
    return read_sealed(fork, load_table(fork), find_sealing_key(fork, fork.parent / "key.pem"))


def password(fork: Path) -> str:
    return reveal(fork, "argo-cd", key_file=fork.parent / "key.pem")["password"]


def fits(text: str, fork: Path) -> bool:
    return bcrypt.checkpw(text.encode(), sealed(fork)["argo-cd/argocd-secret"].data["admin.password"].encode())


def test_the_hash_is_that_of_the_password_and_stays(fork: Path) -> None:
    assert reveal(fork, "argo-cd", key_file=fork.parent / "key.pem").keys() == {"username", "password"}
    assert fits(password(fork), fork)
    assert initialise(fork, {}, key_file=fork.parent / "key.pem").changed == []


def test_a_rotation_and_a_password_of_ones_own_bring_their_hash(fork: Path) -> None:
    before = password(fork)
    assert rotate(fork, "argo-cd", key_file=fork.parent / "key.pem")
    assert password(fork) != before
    assert fits(password(fork), fork)
    set_secret(fork, "admin", {"password": "my own"}, key_file=fork.parent / "key.pem")
    assert password(fork) == "my own"
    assert fits("my own", fork)
    with pytest.raises(RepositoryError, match="73 bytes"):
        set_secret(fork, "admin", {"password": "x" * 73}, key_file=fork.parent / "key.pem")


def applied(fork: Path) -> dict[str, Any]:
    """The Secret as Argo CD and the bootstrap apply it."""
    patch = yaml.safe_load((fork / FOLDER / "secret.yaml").read_text(encoding="utf-8"))
    return {**UPSTREAM, "metadata": {**UPSTREAM["metadata"], "annotations": patch["metadata"]["annotations"]}}  # type: ignore[dict-item]


def values(cluster: Cluster) -> dict[str, str]:
    secret = cluster.get("v1", "Secret", "argocd-secret", "argo-cd")
    assert secret is not None
    return {name: base64.b64decode(text).decode() for name, text in secret.get("data", {}).items()}


def test_the_controller_patches_what_argo_cd_keeps(fork: Path, cluster: Cluster, tmp_path: Path) -> None:
    for name in ("argo-cd", "kube-system"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    key = find_sealing_key(fork, tmp_path / "key.pem")
    bootstrap._apply_sealing_key(cluster, key)
    cluster.apply(yaml.safe_load((fork / "base/sealed-secrets/crd.yaml").read_text(encoding="utf-8")))
    bootstrap._apply_repository_credentials(cluster, fork, key)
    cluster.apply(applied(fork))
    assert values(cluster) == {}
    write_as_argo_cd(cluster, OWN)

    with sealed_secrets_controller(cluster, tmp_path):
        apply_sealed(cluster, fork)
        eventually(lambda: values(cluster) == {**OWN, **sealed(fork)["argo-cd/argocd-secret"].data})
        secret = cluster.get("v1", "Secret", "argocd-secret", "argo-cd")
        assert secret is not None
        assert secret["metadata"]["labels"] == UPSTREAM["metadata"]["labels"]  # type: ignore[index]
        assert "ownerReferences" not in secret["metadata"]
        assert secret["type"] == "Opaque"

        # Argo CD syncs, and the bootstrap runs again: nothing is taken away.
        bootstrap._apply_repository_credentials(cluster, fork, key)
        cluster.apply(applied(fork))
        assert values(cluster) == {**OWN, **sealed(fork)["argo-cd/argocd-secret"].data}

        rotate(fork, "argo-cd", key_file=tmp_path / "key.pem")
        apply_sealed(cluster, fork)
        eventually(lambda: values(cluster) == {**OWN, **sealed(fork)["argo-cd/argocd-secret"].data})
    admin = cluster.get("v1", "Secret", "admin", "argo-cd")
    assert admin is not None
    assert base64.b64decode(admin["data"]["username"]) == b"admin"


def write_as_argo_cd(cluster: Cluster, content: dict[str, str]) -> None:
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in content.items()}
    response = httpx.patch(
        f"{cluster.server}/api/v1/namespaces/argo-cd/secrets/argocd-secret",
        params={"fieldManager": "argocd-server"},
        headers={"Authorization": f"Bearer {api_server.TOKEN}", "Content-Type": "application/merge-patch+json"},
        json={"data": encoded},
        verify=False,  # noqa: S501 - the server of this test, on loopback
        trust_env=False,
        timeout=PATIENCE,
    )
    response.raise_for_status()


def apply_sealed(cluster: Cluster, fork: Path) -> None:
    for name in ("admin", "argocd-secret"):
        cluster.apply(yaml.safe_load((fork / FOLDER / "sealed" / f"{name}.yaml").read_text(encoding="utf-8")))

"""New credentials by a commit, and everybody who uses one goes on."""

from __future__ import annotations

import base64
import time

import httpx

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, green_at, setting, took, until, versions

ARGO_CD = "argo-cd"
HASH = "admin.password"


def test_every_kind_of_credential_is_rotated(fork: Fork, trained: Cluster) -> None:
    cluster = trained
    assert "7043 rows" in fork.homelab("data", "push", "churn")
    before = len(versions(fork))
    old = fork.password("mlflow-admin")
    for credential in ("mlflow-admin", "mlflow-training", "postgresql", "s3-mlflow", "s3-argo-artifacts"):
        fork.homelab("seal", "--rotate", credential)
    commit = fork.push("New credentials")
    pushed = time.monotonic()

    def old_password_is_refused() -> bool:
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            return fork.page("mlflow", path, old).status_code == 401
        except httpx.HTTPError:
            return False  # it restarts

    until("the new passwords", old_password_is_refused)
    until("green with new credentials", lambda: green_at(cluster, commit))
    took("five credentials rotated, from the push to green", time.monotonic() - pushed)
    assert len(versions(fork)) == before
    # The steps pass files, log in, and MLflow writes to its store and its database.
    fork.homelab("run", "churn")
    assert len(versions(fork)) == before + 1


def secret(cluster: Cluster, name: str) -> dict[str, str]:
    """The keys of a Secret of Argo CD."""
    found = cluster.get("v1", "Secret", name, ARGO_CD)
    assert found is not None, name
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def argo_cds_own(cluster: Cluster) -> dict[str, str]:
    """The keys of Argo CD's Secret that are no password."""
    return {key: value for key, value in secret(cluster, "argocd-secret").items() if not key.startswith(HASH)}


def argo_cd_takes(fork: Fork, password: str) -> bool:
    """Whether Argo CD lets its administrator in; after five refused passwords it lets nobody in for five minutes."""
    login, host = {"username": "admin", "password": password}, {"Host": f"argocd.{fork.domain}"}
    address = f"http://{setting('INGRESS')}/api/v1/session"
    answer = httpx.post(address, headers=host, json=login, trust_env=False, timeout=60)
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


def test_argo_cds_password_is_rotated_and_its_own_keys_stay(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    own, old = argo_cds_own(cluster), fork.password("argo-cd")[1]
    assert "server.secretkey" in own
    assert argo_cd_takes(fork, old)
    assert not argo_cd_takes(fork, secret(cluster, "argocd-initial-admin-secret")["password"])

    before = secret(cluster, "argocd-secret")[HASH]
    fork.homelab("seal", "--rotate", "argo-cd")
    commit = fork.push("Another password of Argo CD")
    until("green with the new password", lambda: green_at(cluster, commit))
    until("its hash", lambda: secret(cluster, "argocd-secret")[HASH] != before)
    new = fork.password("argo-cd")[1]
    until("the new password", lambda: argo_cd_takes(fork, new), pause=5)
    assert not argo_cd_takes(fork, old)
    assert argo_cds_own(cluster) == own

    # A second bootstrap applies Argo CD's Secret anew, and a server that starts reads it.
    fork.homelab("bootstrap", "--yes", "--deadline", "900")
    for pod in cluster.find("v1", "Pod", ARGO_CD, "app.kubernetes.io/name=argocd-server"):
        cluster.delete("v1", "Pod", pod["metadata"]["name"], ARGO_CD)
    until("green after the restart", lambda: green_at(cluster, commit))
    until("the new password after the restart", lambda: answers(fork) and argo_cd_takes(fork, new), pause=5)
    assert argo_cds_own(cluster) == own


def answers(fork: Fork) -> bool:
    """Whether Argo CD's server answers."""
    return fork.page("argocd", "/healthz").status_code == 200

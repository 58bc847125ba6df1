"""New credentials by a commit, and everybody who uses one goes on."""

from __future__ import annotations

import time

import httpx

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, green_at, took, until, versions


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

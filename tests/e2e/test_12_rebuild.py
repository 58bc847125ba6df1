"""The cluster is gone; a new one comes up from the same commit and the same key."""

from __future__ import annotations

import time

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.gitops.secrets.table import load_table
from tests.e2e.conftest import Fork, command_of_the_owner, green_at, took


def test_a_new_cluster_is_the_old_one(fork: Fork) -> None:
    command_of_the_owner("NEW_CLUSTER")
    started = time.monotonic()
    fork.homelab("bootstrap", "--yes", "--deadline", "1500")
    took("an empty cluster to green again, from the same commit and key", time.monotonic() - started)
    cluster = Cluster()
    assert green_at(cluster, fork.git("rev-parse", "HEAD"))
    for spec in load_table(fork.root).secrets:
        secret = cluster.get("v1", "Secret", spec.name, spec.namespace)
        assert secret is not None, spec.id
        others = set(secret["data"]) - set(spec.keys)
        assert set(spec.keys) <= set(secret["data"]), spec.id
        assert spec.patches or not others, spec.id
    login = fork.password("mlflow-admin")
    assert fork.page("mlflow", "/api/2.0/mlflow/experiments/search?max_results=1", login).status_code == 200

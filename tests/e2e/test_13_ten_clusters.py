"""Ten empty clusters in a row become green, one of them though its API server is killed three times on the way."""

from __future__ import annotations

import subprocess
import time

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from tests.conftest import HOMELAB, clean_environment
from tests.e2e.conftest import Fork, command_of_the_owner, green_at, took

CLUSTERS = 10
KILLED_ON = 5
# What bootstrap says when the API server is killed, each time once.
MOMENTS = ("CRDs of Argo CD: ready", "Argo CD: ready", "sealed-secrets: Synced, Healthy")


@pytest.mark.parametrize("number", range(1, CLUSTERS + 1))
def test_an_empty_cluster_becomes_green(number: int, fork: Fork) -> None:
    command_of_the_owner("NEW_CLUSTER")
    kills = list(MOMENTS) if number == KILLED_ON else []
    started = time.monotonic()
    bootstrap(fork, kills)
    took(
        f"empty cluster {number} to green{', its API server killed' * (number == KILLED_ON)}",
        time.monotonic() - started,
    )
    assert kills == []
    with Cluster(patience=60) as cluster:
        assert green_at(cluster, fork.git("rev-parse", "HEAD"))


def bootstrap(fork: Fork, kills: list[str]) -> None:
    """Bootstraps; kills the API server at each of the moments, and takes those that came out of the list."""
    command = [str(HOMELAB), "bootstrap", "--yes", "--deadline", "1500"]
    env = {**clean_environment(), "HOME": str(fork.home), "XDG_CONFIG_HOME": ""}
    with subprocess.Popen(
        command, cwd=fork.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="")
            if kills and kills[0] in line:
                command_of_the_owner("KILL_API_SERVER")
                del kills[0]
    assert running.returncode == 0

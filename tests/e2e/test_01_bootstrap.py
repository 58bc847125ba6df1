"""From an empty cluster to all green, and it stays so."""

from __future__ import annotations

import re
import time

from homelab_mlops.gitops.cluster import Cluster
from tests.e2e.conftest import Fork, applications, green_at, took

RECONCILIATION = 12.0


def test_an_empty_cluster_becomes_green(fork: Fork) -> None:
    started = time.monotonic()
    printed = fork.homelab("bootstrap", "--yes", "--deadline", "1500")
    took("bootstrap to all Synced and Healthy, image pulls included", time.monotonic() - started)
    (argo_cd,) = re.findall(r"^Argo CD: ready \((\d+) s\)", printed, re.MULTILINE)
    took("of this, Argo CD itself", float(argo_cd))
    assert fork.homelab("status").count("Healthy") == 7


def test_it_stays_green_for_three_reconciliations(fork: Fork, cluster: Cluster) -> None:
    commit = fork.git("rev-parse", "HEAD")
    before = applications(cluster)
    until = time.monotonic() + 3 * RECONCILIATION
    while time.monotonic() < until:
        assert green_at(cluster, commit), applications(cluster)
        time.sleep(0.5)
    assert applications(cluster) == before


def test_running_it_again_changes_nothing(fork: Fork, cluster: Cluster) -> None:
    generations = {pod["metadata"]["uid"] for pod in cluster.find("v1", "Pod", "argo-cd")}
    started = time.monotonic()
    printed = fork.homelab("bootstrap", "--yes", "--deadline", "300")
    took("bootstrap of what is there already", time.monotonic() - started)
    assert "sealing key: in place" in printed
    assert {pod["metadata"]["uid"] for pod in cluster.find("v1", "Pod", "argo-cd")} == generations

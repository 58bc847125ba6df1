"""From an empty cluster to all green, and it stays so."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.pods import APPLICATION, ARGO_CD_NAMESPACE
from homelab_mlops.gitops.render import render_all
from tests import readme
from tests.e2e.conftest import Fork, applications, green_at, took

RECONCILIATION = 12.0
PULLED = re.compile(r"^Successfully pulled image .* in ([\dms.]+) ")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def pulling(cluster: Cluster) -> float:
    """The seconds that the kubelet says it pulled images for, one after the other or at once."""
    found = [PULLED.match(event.get("message") or "") for event in cluster.find("v1", "Event")]
    parts = [re.findall(r"([\d.]+)(ms|s|m)", match[1]) for match in found if match]
    return sum(float(number) * UNITS[unit] for part in parts for number, unit in part)


def last_syncs(cluster: Cluster) -> dict[str, str]:
    """When the last sync of each application began; what heals another program's writing begins again and again."""
    found = cluster.find(*APPLICATION, namespace=ARGO_CD_NAMESPACE)
    return {app["metadata"]["name"]: app["status"]["operationState"]["startedAt"] for app in found}


def test_an_empty_cluster_becomes_green(fork: Fork, cluster: Cluster) -> None:
    started = time.monotonic()
    (command,) = readme.commands("**3. Push, then bootstrap.**")
    printed = fork.homelab(*command, "--yes", "--deadline", "1500")
    took("bootstrap to all Synced and Healthy, image pulls included", time.monotonic() - started)
    (argo_cd,) = re.findall(r"^Argo CD: ready \((\d+) s\)", printed, re.MULTILINE)
    took("of this, Argo CD itself", float(argo_cd))
    took("of this at most, image pulls", pulling(cluster))
    assert fork.homelab("status").count("Healthy") == len(applications(cluster))


@pytest.mark.usefixtures("platform")
def test_the_api_server_accepts_every_object_without_a_warning(fork: Fork) -> None:
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-"]
    for item in render_all(fork.root):
        done = subprocess.run(apply, input=item.text, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (0, ""), item.name
        assert done.stdout.count("serverside-applied (server dry run)") == len(item.manifests) > 0


def test_it_stays_green_for_three_reconciliations(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    commit = fork.git("rev-parse", "HEAD")
    before, synced = applications(cluster), last_syncs(cluster)
    until = time.monotonic() + 3 * RECONCILIATION
    while time.monotonic() < until:
        assert green_at(cluster, commit), applications(cluster)
        time.sleep(0.5)
    assert applications(cluster) == before
    assert last_syncs(cluster) == synced


def test_running_it_again_changes_nothing(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    generations = {pod["metadata"]["uid"] for pod in cluster.find("v1", "Pod", "argo-cd")}
    started = time.monotonic()
    printed = fork.homelab("bootstrap", "--yes", "--deadline", "900")
    took("bootstrap of what is there already", time.monotonic() - started)
    assert "sealing key: in place" in printed
    assert {pod["metadata"]["uid"] for pod in cluster.find("v1", "Pod", "argo-cd")} == generations

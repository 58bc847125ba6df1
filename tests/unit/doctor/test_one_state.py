"""A visit of a real API server that holds the platform: it asks for each kind once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.doctor import cluster, sync, workloads  # noqa: F401 - registers their checks
from homelab_mlops.doctor.checks import CHECKS
from homelab_mlops.doctor.examine import examine
from homelab_mlops.doctor.visit import Visit
from tests.unit.clients.api_server import is_real
from tests.unit.doctor.platform import asked_for, fill, recording_api_server

# What a visit of 78e97c0 asked of the same API server.
REQUESTS_BEFORE = 63
# Claims name it; no controller of this cluster provisions a volume.
STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local-path"},
    "provisioner": "example.com/nobody",
}


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not is_real():
        pytest.skip("kube-apiserver and etcd are not on PATH")
    with recording_api_server(tmp_path_factory.mktemp("api-server")) as file:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KUBECONFIG", str(file))
            with Cluster(patience=60) as made:
                fill(made)
                made.apply(STORAGE_CLASS)
        yield file


def test_a_visit_lists_each_kind_once_and_counts_its_requests(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    earlier = len(asked_for(kubeconfig))
    # Nothing here is about time: each check may take as long as it does.
    report = examine(Visit(deadline=float("inf")), ("cluster",))
    sent = asked_for(kubeconfig)[earlier:]

    assert report.findings == []
    assert report.asked == {"cluster": sum(item.group == "cluster" for item in CHECKS.values())}
    assert {asked: times for asked, times in Counter(sent).items() if times > 1 and asked.startswith("list")} == {}
    assert report.requests == {"cluster": len(sent)}
    assert len(sent) <= REQUESTS_BEFORE // 2

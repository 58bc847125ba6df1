"""A push goes live, a change by hand is reverted, and a bad commit harms nothing."""

from __future__ import annotations

import json
import time

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, green_at, took, until


def memory_limit(cluster: Cluster) -> str:
    deployment = cluster.get("apps/v1", "Deployment", "argo-server", "argo-workflows")
    assert deployment is not None
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


def model_yaml(cluster: Cluster) -> str:
    return "".join(
        text
        for item in cluster.find("v1", "ConfigMap", "training")
        if item["metadata"]["name"] == "model-churn"
        for text in item.get("data", {}).values()
    )


def test_a_push_is_live(fork: Fork, platform: Cluster) -> None:
    fork.edit("base/argo-workflows/server.yaml", "memory: 256Mi", "memory: 264Mi")
    fork.edit("workflows/models/churn/model.yaml", "max_depth: ", "max_depth: 1")
    with fork.pushed("Deeper trees, more memory"):
        pushed = time.monotonic()
        until("the limit", lambda: memory_limit(platform) == "264Mi", pause=0.2)
        until("the ConfigMap", lambda: "max_depth: 1" in model_yaml(platform), pause=0.2)
        took("push to live, a ConfigMap and a Deployment", time.monotonic() - pushed)
    until("green after the revert", lambda: green_at(platform, fork.git("rev-parse", "HEAD")))
    assert memory_limit(platform) == "256Mi"


def test_a_running_controller_takes_a_pushed_configuration(fork: Fork, platform: Cluster) -> None:
    (pod,) = platform.find("v1", "Pod", "argo-workflows", "app.kubernetes.io/name=workflow-controller")

    def latest() -> str:
        """The last line, with its time, that says so: of a long log the first lines are not given."""
        log = platform.log(pod["metadata"]["name"], "argo-workflows", "workflow-controller", 10_000)
        return next((line for line in reversed(log.splitlines()) if "Configuration updated" in line), "")

    before = latest()
    fork.edit("base/argo-workflows/configuration.yaml", 'parallelism: "2"', 'parallelism: "3"')
    with fork.pushed("More at the same time"):
        until("the controller's word", lambda: latest() not in ("", before))
    until("green after the revert", lambda: green_at(platform, fork.git("rev-parse", "HEAD")))


def test_a_change_by_hand_is_reverted(platform: Cluster) -> None:
    cluster = platform
    service = cluster.get("v1", "Service", "mlflow", "mlflow")
    assert service is not None
    service["spec"]["ports"][0]["port"] = 5999
    for key in ("managedFields", "resourceVersion"):
        service["metadata"].pop(key, None)
    changed = time.monotonic()
    cluster.apply(service)

    def port() -> int:
        found = cluster.get("v1", "Service", "mlflow", "mlflow")
        return int(found["spec"]["ports"][0]["port"]) if found and len(found["spec"]["ports"]) == 1 else 0

    until("the port that git says", lambda: port() == 5000)
    took("a change by hand is reverted", time.monotonic() - changed)


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("overlays/homelab/mlflow/hosts.yaml", "metadata:", "metadata: [", "hosts.yaml"),
        ("base/minio/services.yaml", "targetPort: s3", "targetPrt: s3", "targetPrt"),
        (
            "base/sealed-secrets/deployment.yaml",
            "sealed-secrets-controller:0.",
            "sealed-secrets-controller:9.",
            "image",
        ),
    ],
    ids=["invalid YAML", "unknown field", "image that does not exist"],
)
def test_a_bad_commit_is_named_and_a_revert_heals(
    fork: Fork, platform: Cluster, file: str, old: str, new: str, reason: str
) -> None:
    fork.edit(file, old, new)

    def problem() -> dict[str, str] | None:
        status = json.loads(fork.homelab("status", "--json", expect=None).partition("\nerror")[0])
        for app in status["applications"]:
            found = app["problem"]
            if found and found["commit"] == commit and found["file"] == file and reason in found["reason"]:
                return dict(found)
        return None

    with fork.pushed("A mistake") as commit:
        pushed = time.monotonic()
        until("homelab status names commit, file and reason", problem, pause=2)
        took(f"a bad commit is named: {reason}", time.monotonic() - pushed)
        assert fork.page("mlflow", "/health").status_code == 200
    reverted = time.monotonic()
    until("green after the revert", lambda: green_at(platform, fork.git("rev-parse", "HEAD")))
    took(f"a revert heals: {reason}", time.monotonic() - reverted)

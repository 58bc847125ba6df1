"""The schedule retrains, tracks, gates and registers; and a workflow says where its time went."""

from __future__ import annotations

import re
import time
from typing import Any

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.run import seconds
from tests.e2e.conftest import Fork, green_at, took, until, workflow

WORKFLOW = "argoproj.io/v1alpha1", "Workflow"
OVERHEAD_SECONDS = 90.0
ENDED = ("Succeeded", "Failed", "Error")


def versions(fork: Fork) -> list[dict[str, Any]]:
    found = fork.mlflow("model-versions/search", filter="name = 'churn'").get("model_versions", [])
    return sorted(found, key=lambda version: int(version["version"]))


def ended(cluster: Cluster, name: str) -> dict[str, Any] | None:
    found = workflow(cluster, name)
    return found if found.get("status", {}).get("phase") in ENDED else None


def test_the_schedule_retrains(fork: Fork, cluster: Cluster) -> None:
    assert "7043 rows" in fork.homelab("data", "push", "churn")
    fork.edit("workflows/models/churn/cronworkflow.yaml", "30 2 * * *", "* * * * *")
    fork.push("Retrain churn every minute")
    (started,) = until("a scheduled workflow", lambda: cluster.find(*WORKFLOW, "training"), 180)
    commit = fork.revert()
    name = started["metadata"]["name"]
    finished = until("its end", lambda: ended(cluster, name), 600, 2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    steps = {
        node["displayName"]: seconds(node) or 0.0
        for node in finished["status"]["nodes"].values()
        if node["type"] == "Pod"
    }
    for step, taken in steps.items():
        took(f"step {step}, with its pod", taken)
    whole = seconds(finished["status"]) or 0.0
    took("the whole scheduled workflow", whole)
    # Forbid: what fell due meanwhile was skipped.
    assert len(cluster.find(*WORKFLOW, "training")) == 1
    until("green after the revert", lambda: green_at(cluster, commit), 300)

    alone = time.monotonic()
    fork.homelab("retrain", "churn", "--source", "demo", "--tracking", "files")
    alone = time.monotonic() - alone
    took("the same steps without a cluster", alone)
    assert whole <= OVERHEAD_SECONDS + alone


def test_the_run_is_in_mlflow(fork: Fork) -> None:
    (version,) = versions(fork)
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert re.fullmatch("[0-9a-f]{40}", tags["homelab.commit"]), tags
    assert re.fullmatch("[0-9a-f]{64}", tags["homelab.data_sha256"]), tags
    assert "/training:" in tags["homelab.image"], tags
    assert tags["homelab.workflow"].startswith("churn-"), tags
    # Who leads, git says; until it names a version, each begins as a challenger.
    challenger = fork.mlflow("registered-models/alias", name="churn", alias="challenger")["model_version"]
    assert challenger["version"] == version["version"]
    run = fork.mlflow("runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:")
    files = fork.mlflow("artifacts/list", run_id=version["run_id"], path="plots")["files"]
    assert any(file["path"].endswith(".png") for file in files), files


def test_no_pod_but_mlflows_holds_the_keys_of_its_artifacts(cluster: Cluster) -> None:
    owner = cluster.get("v1", "Secret", "mlflow-s3", "mlflow")
    assert owner is not None
    keys = set(owner["data"].values())
    # The store's own table of users has to know them too.
    holders = {
        (secret["metadata"]["namespace"], secret["metadata"]["name"])
        for secret in cluster.find("v1", "Secret")
        if keys & set((secret.get("data") or {}).values())
    }
    assert holders == {("mlflow", "mlflow-s3"), ("minio", "minio-users")}
    consumers = {
        (pod["metadata"]["namespace"], pod["metadata"]["labels"]["app.kubernetes.io/name"])
        for pod in cluster.find("v1", "Pod")
        for holder in holders
        if pod["metadata"]["namespace"] == holder[0] and holder[1] in str(pod["spec"])
    }
    assert consumers == {("mlflow", "mlflow"), ("minio", "provision")}


def test_a_second_run_is_a_second_version_with_its_own_verdict(fork: Fork) -> None:
    printed = fork.homelab("run", "churn")
    assert "churn version 2 is the" in printed
    assert f"http://mlflow.{fork.domain}/" in printed
    first, second = versions(fork)
    tags = {tag["key"]: tag["value"] for tag in second["tags"]}
    assert tags["homelab.gate"] in {"promote", "reject"}
    assert first["run_id"] != second["run_id"]

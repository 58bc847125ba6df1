"""The schedule retrains, tracks, gates and registers; and a workflow says where its time went."""

from __future__ import annotations

import re
import statistics
import time
from typing import Any

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.run import seconds
from tests import readme
from tests.e2e.conftest import ENDED, LIKE, Fork, ended, green_at, noted, started, took, until, versions

WORKFLOW = "argoproj.io/v1alpha1", "Workflow"
SCHEDULED = "workflows.argoproj.io/cron-workflow=churn"
EMPTY_STEPS = 3


def scheduled(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Every workflow of churn's schedule, by name."""
    return {found["metadata"]["name"]: found for found in cluster.find(*WORKFLOW, "training", SCHEDULED)}


def pods(finished: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a workflow that were pods."""
    return [node for node in finished["status"]["nodes"].values() if node["type"] == "Pod"]


def empty_step(cluster: Cluster) -> float:
    """The median seconds of a step that does nothing, in a workflow like a retraining's."""
    template = cluster.get("argoproj.io/v1alpha1", "WorkflowTemplate", "retrain", "training")
    assert template is not None
    like = {key: template["spec"][key] for key in LIKE}
    container = template["spec"]["templateDefaults"]["container"]
    nothing = {key: container[key] for key in ("image", "imagePullPolicy", "securityContext")}
    spec = {
        **like,
        "entrypoint": "main",
        "templates": [
            {
                "name": "main",
                "steps": [[{"name": f"step-{number}", "template": "nothing"}] for number in range(EMPTY_STEPS)],
            },
            {"name": "nothing", "container": {**nothing, "command": ["true"]}},
        ],
    }
    with started(cluster, "empty", spec) as name:
        finished = until("the empty steps", lambda: ended(cluster, name), pause=2)
        assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
        return statistics.median(seconds(node) or 0.0 for node in pods(finished))


@pytest.fixture(scope="module")
def empty(platform: Cluster) -> float:
    """The seconds of an empty step, before anything else happens here."""
    return empty_step(platform)


@pytest.fixture(scope="module")
def retrained(fork: Fork, platform: Cluster) -> dict[str, Any]:
    """A workflow that the schedule started, once it has ended."""
    assert "7043 rows" in fork.homelab("data", "push", "churn")
    before = scheduled(platform).keys()
    fork.edit("workflows/models/churn/cronworkflow.yaml", "30 2 * * *", "* * * * *")
    with fork.pushed("Retrain churn every minute"):
        name = until("a scheduled workflow", lambda: next(iter(scheduled(platform).keys() - before), None))
    finished = until("its end", lambda: ended(platform, name), pause=2)
    until("green after the revert", lambda: green_at(platform, fork.git("rev-parse", "HEAD")))
    # What the schedule started again before the revert was live.
    until(
        "the end of each",
        lambda: all(run.get("status", {}).get("phase") in ENDED for run in scheduled(platform).values()),
        pause=2,
    )
    return finished


def test_the_schedule_retrains(fork: Fork, platform: Cluster, empty: float, retrained: dict[str, Any]) -> None:
    status = retrained["status"]
    assert status["phase"] == "Succeeded", status.get("message")
    # Forbid: what fell due meanwhile was skipped.
    meanwhile = [
        name
        for name, run in scheduled(platform).items()
        if status["startedAt"] < run["metadata"]["creationTimestamp"] < status["finishedAt"]
    ]
    assert meanwhile == []
    for node in pods(retrained):
        took(f"step {node['displayName']}, with its pod", seconds(node) or 0.0)
    # No step was tried again.
    templates = [node["templateName"] for node in pods(retrained)]
    assert sorted(templates) == sorted(set(templates))
    whole = seconds(status) or 0.0
    took("the whole scheduled workflow", whole)

    alone = time.monotonic()
    fork.homelab("retrain", "churn", "--source", "demo", "--tracking", "files")
    alone = time.monotonic() - alone
    took("the same steps without a cluster", alone)
    # The machine may have had more to do before than after, or the other way round.
    empty = max(empty, empty_step(platform))
    took("an empty step of a workflow", empty)
    # A figure and no bound: Argo counts whole seconds, and an empty step takes two to eight of them.
    noted("overhead of a step, in empty steps", f"{(whole - alone) / len(templates) / empty:.1f}")


def test_the_run_is_in_mlflow(fork: Fork, retrained: dict[str, Any]) -> None:
    described = [(version, {tag["key"]: tag["value"] for tag in version["tags"]}) for version in versions(fork)]
    name = retrained["metadata"]["name"]
    ((version, tags),) = [item for item in described if item[1].get("homelab.workflow") == name]
    assert re.fullmatch("[0-9a-f]{40}", tags["homelab.commit"]), tags
    assert re.fullmatch("[0-9a-f]{64}", tags["homelab.data_sha256"]), tags
    assert "/training:" in tags["homelab.image"], tags
    assert name.startswith("churn-"), name
    # Who leads, git says: what the gate promotes begins as a challenger, and what it rejects has no alias.
    promoted = [other["version"] for other, said in described if said["homelab.gate"] == "promote"]
    assert tags["homelab.registered"] == ("challenger" if version["version"] in promoted else "none")
    challenger = fork.mlflow("registered-models/alias", name="churn", alias="challenger")["model_version"]
    assert challenger["version"] == promoted[-1]
    run = fork.mlflow("runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:")
    files = fork.mlflow("artifacts/list", run_id=version["run_id"], path="plots")["files"]
    assert any(file["path"].endswith(".png") for file in files), files


def test_no_pod_but_mlflows_holds_the_keys_of_its_artifacts(platform: Cluster) -> None:
    cluster = platform
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


@pytest.mark.usefixtures("trained")
def test_another_run_is_another_version_with_its_own_verdict(fork: Fork) -> None:
    *_, last = versions(fork)
    push, run, status = readme.commands("**4. Retrain.**")
    assert "7043 rows" in fork.homelab(*push)
    printed = fork.homelab(*run)
    assert "Succeeded" in fork.homelab(*status)
    stands = f"churn version {int(last['version']) + 1} is (the challenger|rejected by the gate)"
    assert re.search(stands, printed), printed
    assert f"http://mlflow.{fork.domain}/" in printed
    first, second = versions(fork)[-2:]
    tags = {tag["key"]: tag["value"] for tag in second["tags"]}
    assert tags["homelab.gate"] in {"promote", "reject"}
    assert ("is rejected" in printed) == (tags["homelab.gate"] == "reject")
    assert tags["homelab.why"]
    assert first["run_id"] != second["run_id"]

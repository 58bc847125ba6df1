"""What dies while a model is retrained comes back, and one run stays one version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes import client, config

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.run import seconds
from tests.e2e.conftest import SETTINGS, Fork, command_of_the_owner, green_at, took, until, workflow
from tests.e2e.test_03_retraining import ended, versions


def kill(cluster: Cluster, namespace: str, selector: str) -> None:
    """Ends pods within a second, without time to tidy up.

    Not with a grace period of zero: the API server then forgets a pod whose process still writes to its volume.
    """
    core = client.CoreV1Api(config.new_client_from_config())
    pods = cluster.find("v1", "Pod", namespace, selector)
    assert pods, selector
    for pod in pods:
        core.delete_namespaced_pod(pod["metadata"]["name"], namespace, grace_period_seconds=1)


def start(fork: Fork) -> str:
    (line,) = [line for line in fork.homelab("run", "churn", "--no-follow").splitlines() if "workflow " in line]
    return line.rpartition("/")[2]


def step_runs(cluster: Cluster, name: str, step: str) -> bool:
    nodes = workflow(cluster, name).get("status", {}).get("nodes", {}).values()
    return any(
        node["type"] == "Pod" and node.get("templateName") == step and node["phase"] == "Running" for node in nodes
    )


def succeeds(cluster: Cluster, name: str, what: str) -> None:
    finished = until(f"the end of {name}", lambda: ended(cluster, name), 900, 2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    nodes = [node for node in finished["status"]["nodes"].values() if node["type"] == "Pod"]
    took(f"a retraining during which {what}; {len(nodes)} pods", seconds(finished["status"]) or 0.0)


def test_mlflow_and_its_database_die_while_training(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), 180, 0.5)
    kill(cluster, "mlflow", "app.kubernetes.io/name=mlflow")
    kill(cluster, "mlflow", "app.kubernetes.io/name=postgresql")
    succeeds(cluster, name, "MLflow and PostgreSQL were killed")
    assert len(versions(fork)) == before + 1


def main_container(cluster: Cluster, name: str, step: str) -> dict[str, Any]:
    """The state of the container that does a step's work, as Kubernetes gives it."""
    for pod in cluster.find("v1", "Pod", "training", f"workflows.argoproj.io/workflow={name}"):
        if f".{step}(" in pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]:
            for container in pod["status"].get("containerStatuses", []):
                if container["name"] == "main":
                    return dict(container["state"])
    return {}


def test_the_store_dies_before_an_upload_and_a_second_trigger_waits(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    first = start(fork)
    until("the first step", lambda: step_runs(cluster, first, "ingest"), 180, 0.2)
    second = start(fork)
    # This step works without the store for some seconds, and then passes its files on.
    until("validation", lambda: "running" in main_container(cluster, first, "validate"), 180, 0.1)
    killed = datetime.now(UTC)
    kill(cluster, "minio", "app.kubernetes.io/name=minio")
    succeeds(cluster, first, "MinIO was killed before an upload")
    worked_until = main_container(cluster, first, "validate")["terminated"]["finishedAt"]
    assert datetime.fromisoformat(worked_until) > killed.replace(microsecond=0)
    finished = workflow(cluster, first)["status"]["finishedAt"]
    succeeds(cluster, second, "nothing died, since it waited for the one before")
    nodes = [node for node in workflow(cluster, second)["status"]["nodes"].values() if node["type"] == "Pod"]
    assert min(node["startedAt"] for node in nodes) >= finished
    assert len(versions(fork)) == before + 2


def test_the_controller_the_step_and_the_node_die(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), 180, 0.5)
    kill(cluster, "argo-workflows", "app.kubernetes.io/name=workflow-controller")
    running = f"workflows.argoproj.io/workflow={name},workflows.argoproj.io/completed=false"
    kill(cluster, "training", running)
    if "HOMELAB_E2E_RESTART_NODE" in SETTINGS:
        command_of_the_owner("RESTART_NODE")
    succeeds(cluster, name, "the controller, the step's pod, kubelet and containerd were killed")
    assert len(versions(fork)) == before + 1
    until("all green", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")), 300)

"""What dies while a model is retrained comes back, and one run stays one version."""

from __future__ import annotations

from kubernetes import client, config

from homelab_mlops.gitops.cluster import Cluster
from tests.e2e.conftest import Fork, took, until, workflow
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
    took(f"a retraining during which {what}; {len(nodes)} pods", 0.0)


def test_mlflow_and_its_database_die_while_training(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), 180, 0.5)
    kill(cluster, "mlflow", "app.kubernetes.io/name=mlflow")
    kill(cluster, "mlflow", "app.kubernetes.io/name=postgresql")
    succeeds(cluster, name, "MLflow and PostgreSQL were killed")
    assert len(versions(fork)) == before + 1


def test_the_store_the_controller_and_the_step_die(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), 180, 0.5)
    kill(cluster, "minio", "app.kubernetes.io/name=minio")
    kill(cluster, "argo-workflows", "app.kubernetes.io/name=workflow-controller")
    running = f"workflows.argoproj.io/workflow={name},workflows.argoproj.io/completed=false"
    kill(cluster, "training", running)
    succeeds(cluster, name, "MinIO, the controller and the step's pod were killed")
    assert len(versions(fork)) == before + 1

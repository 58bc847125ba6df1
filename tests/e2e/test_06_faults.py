"""What dies while a model is retrained comes back, and one run stays one version."""

from __future__ import annotations

from kubernetes import client, config

from homelab_mlops.gitops.cluster import Cluster
from homelab_mlops.gitops.run import seconds
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


def upload_under_way(cluster: Cluster, name: str) -> str | None:
    """The uid of a pod whose step has ended and whose files are on their way to the store."""
    for pod in cluster.find("v1", "Pod", "training", f"workflows.argoproj.io/workflow={name}"):
        states = {item["name"]: item["state"] for item in pod["status"].get("containerStatuses", [])}
        if "terminated" in states.get("main", {}) and "running" in states.get("wait", {}):
            return str(pod["metadata"]["uid"])
    return None


def test_the_store_dies_during_uploads_and_a_second_trigger_waits(fork: Fork, cluster: Cluster) -> None:
    before = len(versions(fork))
    first = start(fork)
    until("the first step", lambda: step_runs(cluster, first, "ingest"), 180, 0.2)
    second = start(fork)
    hit: set[str] = set()

    def over() -> bool:
        uid = upload_under_way(cluster, first)
        if uid is not None and uid not in hit:
            kill(cluster, "minio", "app.kubernetes.io/name=minio")
            hit.add(uid)
        return len(hit) == 2 or ended(cluster, first) is not None

    until("two uploads", over, 900, 0.1)
    assert hit, "no upload was seen"
    succeeds(cluster, first, f"MinIO was killed at {len(hit)} uploads")
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

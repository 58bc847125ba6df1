"""What dies while a model is retrained comes back, and one run stays one version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.run import seconds
from tests.e2e.conftest import (
    LIKE,
    SETTINGS,
    Fork,
    api_client,
    command_of_the_owner,
    ended,
    green_at,
    noted,
    started,
    took,
    until,
    versions,
    workflow,
)


def kill(cluster: Cluster, namespace: str, selector: str) -> None:
    """Ends pods within a second, without time to tidy up.

    Not with a grace period of zero: the API server then forgets a pod whose process still writes to its volume.
    """
    pods = cluster.find("v1", "Pod", namespace, selector)
    assert pods, selector
    with api_client() as api:
        for pod in pods:
            client.CoreV1Api(api).delete_namespaced_pod(pod["metadata"]["name"], namespace, grace_period_seconds=1)


def start(fork: Fork) -> str:
    (line,) = [line for line in fork.homelab("run", "churn", "--no-follow").splitlines() if "workflow " in line]
    return line.rpartition("/")[2]


def step_runs(cluster: Cluster, name: str, step: str) -> bool:
    nodes = workflow(cluster, name).get("status", {}).get("nodes", {}).values()
    return any(
        node["type"] == "Pod" and node.get("templateName") == step and node["phase"] == "Running" for node in nodes
    )


def succeeds(cluster: Cluster, name: str, what: str) -> None:
    finished = until(f"the end of {name}", lambda: ended(cluster, name), pause=2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    nodes = [node for node in finished["status"]["nodes"].values() if node["type"] == "Pod"]
    took(f"a retraining during which {what}; {len(nodes)} pods", seconds(finished["status"]) or 0.0)


def test_mlflow_and_its_database_die_while_training(fork: Fork, trained: Cluster) -> None:
    cluster = trained
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), pause=0.5)
    kill(cluster, "mlflow", "app.kubernetes.io/name=mlflow")
    kill(cluster, "mlflow", "app.kubernetes.io/name=postgresql")
    succeeds(cluster, name, "MLflow and PostgreSQL were killed")
    assert len(versions(fork)) == before + 1


def container_of(cluster: Cluster, name: str, step: str, role: str = "main") -> dict[str, Any]:
    """The state of a step's container: `main` does its work, `wait` passes its files on."""
    for pod in cluster.find("v1", "Pod", "training", f"workflows.argoproj.io/workflow={name}"):
        if f".{step}(" in pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]:
            for container in pod["status"].get("containerStatuses", []):
                if container["name"] == role:
                    return dict(container["state"])
    return {}


def ended_at(state: dict[str, Any]) -> datetime:
    """When a container ended, in whole seconds: Kubernetes drops the rest."""
    return datetime.fromisoformat(state["terminated"]["finishedAt"])


def test_the_store_dies_before_an_upload_and_a_second_trigger_waits(fork: Fork, trained: Cluster) -> None:
    cluster = trained
    before = len(versions(fork))
    first = start(fork)
    until("the first step", lambda: step_runs(cluster, first, "ingest"), pause=0.2)
    second = start(fork)
    # This step works without the store for some seconds, and then passes its files on.
    until("validation", lambda: "running" in container_of(cluster, first, "validate"), pause=0.1)
    kill(cluster, "minio", "app.kubernetes.io/name=minio")
    killed = datetime.now(UTC)
    still = container_of(cluster, first, "validate")
    assert "running" in still, still
    succeeds(cluster, first, "MinIO was killed before an upload")
    assert ended_at(container_of(cluster, first, "validate")) >= killed.replace(microsecond=0)
    finished = workflow(cluster, first)["status"]["finishedAt"]
    succeeds(cluster, second, "nothing died, since it waited for the one before")
    nodes = [node for node in workflow(cluster, second)["status"]["nodes"].values() if node["type"] == "Pod"]
    assert min(node["startedAt"] for node in nodes) >= finished
    assert len(versions(fork)) == before + 2


LARGE = 600 << 20
WRITES = f"""
import hashlib, os, pathlib
whole = hashlib.sha256()
with open("/work/large", "wb") as file:
    for _ in range({LARGE >> 20}):
        part = os.urandom(1 << 20)
        whole.update(part)
        file.write(part)
pathlib.Path("/work/sha256").write_text(whole.hexdigest())
"""
READS = """
import hashlib, sys
with open("/work/large", "rb") as file:
    assert hashlib.file_digest(file, "sha256").hexdigest() == sys.argv[1]
"""


def large_upload(cluster: Cluster) -> dict[str, Any]:
    """A workflow with the settings of a retraining: a step writes a large file, and another one reads it."""
    template = cluster.get("argoproj.io/v1alpha1", "WorkflowTemplate", "retrain", "training")
    assert template is not None
    kept = (*LIKE, "templateDefaults")
    (ingest,) = [item for item in template["spec"]["templates"] if item["name"] == "ingest"]
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in ("work", "tmp")]
    file = {"name": "large", "path": "/work/large"}
    digest = {"name": "sha256", "valueFrom": {"path": "/work/sha256"}}
    resources = {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    tasks = [
        {"name": "writes", "template": "writes"},
        {
            "name": "reads",
            "template": "reads",
            "depends": "writes",
            "arguments": {
                "artifacts": [{"name": "large", "from": "{{tasks.writes.outputs.artifacts.large}}"}],
                "parameters": [{"name": "sha256", "value": "{{tasks.writes.outputs.parameters.sha256}}"}],
            },
        },
    ]
    return {
        **{key: template["spec"][key] for key in kept},
        "entrypoint": "main",
        "volumes": volumes,
        "templates": [
            {"name": "main", "dag": {"tasks": tasks}},
            {
                "name": "writes",
                "retryStrategy": ingest["retryStrategy"],
                "outputs": {"artifacts": [{**file, "archive": {"none": {}}}], "parameters": [digest]},
                "container": {"command": ["python", "-c", WRITES], "resources": resources},
            },
            {
                "name": "reads",
                "retryStrategy": ingest["retryStrategy"],
                "inputs": {"artifacts": [file], "parameters": [{"name": "sha256"}]},
                "container": {
                    "command": ["python", "-c", READS, "{{inputs.parameters.sha256}}"],
                    "resources": resources,
                },
            },
        ],
    }


def test_the_store_dies_during_an_upload(trained: Cluster) -> None:
    with started(trained, "upload", large_upload(trained)) as name:
        until("the end of the work", lambda: "terminated" in container_of(trained, name, "writes"), pause=0.1)
        kill(trained, "minio", "app.kubernetes.io/name=minio")
        killed = datetime.now(UTC)
        still = container_of(trained, name, "writes", "wait")
        assert "running" in still, still
        succeeds(trained, name, "MinIO was killed during an upload of 600 MiB")
        assert ended_at(container_of(trained, name, "writes", "wait")) >= killed.replace(microsecond=0)


def test_the_controller_the_step_and_the_node_die(fork: Fork, trained: Cluster) -> None:
    cluster = trained
    before = len(versions(fork))
    name = start(fork)
    until("the training", lambda: step_runs(cluster, name, "train"), pause=0.5)
    kill(cluster, "argo-workflows", "app.kubernetes.io/name=workflow-controller")
    running = f"workflows.argoproj.io/workflow={name},workflows.argoproj.io/completed=false"
    kill(cluster, "training", running)
    killed = "the controller and the step's pod"
    if "HOMELAB_E2E_RESTART_NODE" in SETTINGS:
        command_of_the_owner("RESTART_NODE")
        killed += ", kubelet and containerd"
    else:
        noted("kubelet and containerd, since HOMELAB_E2E_RESTART_NODE is not set", "not killed")
    succeeds(cluster, name, f"{killed} were killed")
    assert len(versions(fork)) == before + 1
    until("all green", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))

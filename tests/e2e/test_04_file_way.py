"""The file way needs no MLflow: it runs while there is none."""

from __future__ import annotations

import json

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, ended, green_at, mlflow_is_gone, run_pod, until

READER = "import json, pathlib; print(json.dumps([str(p) for p in pathlib.Path('/rows').rglob('*')]))"


def files_of_volume(cluster: Cluster) -> list[str]:
    """What lies on the volume `rows`, as a pod of the training image sees it."""
    template = cluster.get("argoproj.io/v1alpha1", "WorkflowTemplate", "train-files", "training")
    assert template is not None
    image = template["spec"]["templateDefaults"]["container"]["image"]
    said = run_pod(cluster, "training", image, ["-c", READER], command=["python"], volumes={"/rows": "rows"})
    files: list[str] = json.loads(said)
    return files


def test_it_runs_without_mlflow(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    assert "7043 rows" in fork.homelab("data", "push", "churn")
    fork.edit("base/mlflow/mlflow.yaml", "replicas: 1", "replicas: 0")
    with fork.pushed("No MLflow") as commit:
        until("green without MLflow", lambda: green_at(cluster, commit))
        until("no MLflow", lambda: mlflow_is_gone(cluster))
        trains_to_files(cluster)
    until("green with MLflow", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))


def trains_to_files(cluster: Cluster) -> None:
    """Runs the file way's workflow, and holds that its files lie on the volume."""
    created = cluster.create(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": "train-files-", "namespace": "training"},
            "spec": {
                "workflowTemplateRef": {"name": "train-files"},
                "arguments": {"parameters": [{"name": "max-depth", "value": "3"}]},
            },
        }
    )
    name = created["metadata"]["name"]
    finished = until("its end", lambda: ended(cluster, name), pause=2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    files = [file for file in files_of_volume(cluster) if name in file]
    assert any(file.endswith("/xgboost-model") for file in files), files
    assert any(file.endswith("/metrics.json") for file in files), files

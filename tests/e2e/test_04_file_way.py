"""The file way needs no MLflow: it runs while there is none."""

from __future__ import annotations

import json

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, green_at, run_pod, until
from tests.e2e.test_03_retraining import ended

READER = "import json, pathlib; print(json.dumps([str(p) for p in pathlib.Path('/rows').rglob('*')]))"


def files_of_volume(cluster: Cluster) -> list[str]:
    """What lies on the volume `rows`, as a pod of the training image sees it."""
    template = cluster.get("argoproj.io/v1alpha1", "WorkflowTemplate", "train-files", "training")
    assert template is not None
    image = template["spec"]["templateDefaults"]["container"]["image"]
    said = run_pod(cluster, "training", image, ["-c", READER], command=["python"], volumes={"/rows": "rows"})
    files: list[str] = json.loads(said)
    return files


def test_it_runs_without_mlflow(fork: Fork, cluster: Cluster) -> None:
    fork.edit("base/mlflow/mlflow.yaml", "replicas: 1", "replicas: 0")
    commit = fork.push("No MLflow")
    until("green without MLflow", lambda: green_at(cluster, commit), 300)
    until("no MLflow", lambda: fork.page("mlflow", "/health").status_code >= 500, 60)
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
    finished = until("its end", lambda: ended(cluster, name), 600, 2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    files = [file for file in files_of_volume(cluster) if name in file]
    assert any(file.endswith("/xgboost-model") for file in files), files
    assert any(file.endswith("/metrics.json") for file in files), files
    commit = fork.revert()
    until("green with MLflow", lambda: green_at(cluster, commit), 300)

"""The file way needs no MLflow: it runs while there is none."""

from __future__ import annotations

import json
from typing import Any

from homelab_mlops.gitops.cluster import Cluster
from tests.e2e.conftest import Fork, green_at, until
from tests.e2e.test_03_retraining import ended

READER = "import json, pathlib; print(json.dumps([str(p) for p in pathlib.Path('/rows').rglob('*')]))"


def files_of_volume(cluster: Cluster) -> list[str]:
    """What lies on the volume `rows`, as a pod of the training image sees it."""
    template = cluster.get("argoproj.io/v1alpha1", "WorkflowTemplate", "train-files", "training")
    assert template is not None
    container: dict[str, Any] = template["spec"]["templateDefaults"]["container"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "reader-", "namespace": "training"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": template["spec"]["securityContext"],
            "volumes": [{"name": "rows", "persistentVolumeClaim": {"claimName": "rows"}}],
            "containers": [
                {
                    "name": "reader",
                    "image": container["image"],
                    "command": ["/opt/homelab/bin/python", "-c", READER],
                    "securityContext": container["securityContext"],
                    "volumeMounts": [{"name": "rows", "mountPath": "/rows"}],
                }
            ],
        },
    }
    name = cluster.create(pod)["metadata"]["name"]

    def done() -> bool:
        found = cluster.get("v1", "Pod", name, "training")
        return found is not None and found["status"]["phase"] == "Succeeded"

    until("the reader", done, 120)
    files: list[str] = json.loads(cluster.log(name, "training", "reader", 10))
    cluster.delete("v1", "Pod", name, "training")
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

"""What `homelab diff` says of a push is what Argo CD then changes, object by object: eleven changes, and back."""

from __future__ import annotations

import json
import time
from typing import Any

import yaml

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.gitops.render import render_all
from homelab_mlops.manifests.objects import Manifest, identity
from tests.e2e.conftest import Fork, green_at, took, until

# Changes of one push touch no object of each other, so that each object tells which change reached it.
CHANGES = {
    "hyperparameter": ("workflows/models/churn/model.yaml", "max_depth: 3", "max_depth: 4"),
    "schedule": ("workflows/models/flight-delay/cronworkflow.yaml", '"0 3 1 * *"', '"0 4 1 * *"'),
    "quota": ("base/training/quota.yaml", 'pods: "20"', 'pods: "21"'),
    "workflow template": ("workflows/templates/train-files.yaml", 'value: "500"', 'value: "501"'),
    "memory limit": ("base/argo-workflows/server.yaml", "memory: 256Mi", "memory: 272Mi"),
    "network policy": (
        "base/minio/networkpolicy.yaml",
        "        - port: s3\n---\n",
        "        - port: s3\n        - port: 5353\n          protocol: UDP\n---\n",
    ),
    "service": (
        "base/mlflow/services.yaml",
        "  name: mlflow\n",
        "  name: mlflow\n  annotations:\n    review: changed\n",
    ),
    "application": ("apps/mlflow.yaml", "      limit: -1", "      limit: 100"),
    "comment": ("base/minio/volume.yaml", "spec:\n", "# Nothing.\nspec:\n"),
    "equal quantity": ("overlays/homelab/minio/volume.yaml", "storage: 20Gi", "storage: 20480Mi"),
}
NEW = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: review
  labels:
    app.kubernetes.io/name: training
    app.kubernetes.io/part-of: homelab-mlops
data:
  new: "true"
"""
QUIET = {"comment", "equal quantity"}
# What Argo CD and the controllers write by themselves.
COMMIT = "homelab-mlops/commit"


def live(cluster: Cluster, objects: list[Manifest]) -> dict[str, str]:
    """What git decides of each of these objects in the cluster, by its name."""
    found: dict[str, str] = {}
    for manifest in objects:
        item = cluster.get(manifest["apiVersion"], manifest["kind"], *_place(manifest))
        if item is not None and manifest["kind"] != "Job":
            found[identity(manifest)] = json.dumps(_declared(item), sort_keys=True)
    return found


def _place(manifest: Manifest) -> tuple[str, str | None]:
    return manifest["metadata"]["name"], manifest["metadata"].get("namespace")


def _declared(item: dict[str, Any]) -> dict[str, Any]:
    metadata = item["metadata"]
    annotations = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if key != COMMIT and "argocd.argoproj.io/refresh" not in key and not key.startswith("deployment.kubernetes.io/")
    }
    content = {key: value for key, value in item.items() if key not in ("metadata", "status", "operation")}
    text = yaml.safe_dump({**content, "labels": metadata.get("labels"), "annotations": annotations})
    # The template of a workflow hands the commit on.
    lines = [line for line in text.splitlines() if COMMIT not in line or "workflow.annotations" in line]
    loaded: dict[str, Any] = yaml.safe_load("\n".join(lines))
    return loaded


def test_the_review_says_what_argo_cd_does(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    start = fork.git("rev-parse", "HEAD")
    until("green before the change", lambda: green_at(cluster, start))
    for name in sorted(CHANGES, key=lambda name: name not in QUIET):
        fork.edit(*CHANGES[name])
        review = json.loads(fork.homelab("diff", start, "--output", "json"))
        assert (review["applications"] == []) == (name in QUIET), name
    (fork.root / "base/training/review.yaml").write_text(NEW)
    fork.edit("base/training/kustomization.yaml", "  - quota.yaml\n", "  - quota.yaml\n  - review.yaml\n")
    review = json.loads(fork.homelab("diff", start, "--output", "json"))
    expected = {item["object"] for group in review["applications"] for item in group["items"]}
    objects = [manifest for application in render_all(fork.root) for manifest in application.manifests]
    before = live(cluster, objects)
    with fork.pushed("Ten changes") as commit:
        pushed = time.monotonic()
        until("green after the change", lambda: green_at(cluster, commit))
        took("ten changes are live", time.monotonic() - pushed)
        after = live(cluster, objects)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    reverted = fork.git("rev-parse", "HEAD")
    until("green after the revert", lambda: green_at(cluster, reverted))
    assert changed == expected
    back = json.loads(fork.homelab("diff", commit, reverted, "--output", "json"))
    returned = live(cluster, objects)
    changed = {name for name in after.keys() | returned.keys() if after.get(name) != returned.get(name)}
    assert changed == {item["object"] for group in back["applications"] for item in group["items"]}

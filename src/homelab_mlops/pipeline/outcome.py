"""What a workflow says at its end: which step failed, and what to do."""

from __future__ import annotations

import json
import os
from typing import Any

from homelab_mlops.console import say
from homelab_mlops.errors import DataError

ADVICE = (
    ("OOMKilled", "raise this step's memory limit in workflows/templates, or train on fewer rows"),
    ("exit code 137", "raise this step's memory limit in workflows/templates, or train on fewer rows"),
    ("deadline", "raise activeDeadlineSeconds, or lower num_round in model.yaml"),
    ("exceeded quota", "raise base/training/quota.yaml, or wait for the other workflow"),
    ("ImagePullBackOff", "check the image in clusters/homelab/images/kustomization.yaml"),
    ("ErrImagePull", "check the image in clusters/homelab/images/kustomization.yaml"),
    ("configmap", "give the model's folder a kustomization.yaml, and list it in workflows/kustomization.yaml"),
)
READ_THE_LOG = "read its log; the last lines say what is wrong, where, and what to do"


def explain(status: str, failures: str) -> None:
    """Prints the failed steps of a workflow with advice.

    Args:
        status: as Argo writes it: ``Succeeded``, ``Failed`` or ``Error``.
        failures: Argo's ``workflow.failures``, a JSON list of nodes.

    Raises:
        DataError: ``failures`` is not such a list.
    """
    name = os.environ.get("HOMELAB_WORKFLOW", "the workflow")
    if status == "Succeeded":
        say(f"{name} succeeded")
        return
    say(f"{name} ended as {status}; what ran before is not registered, and the next run starts afresh")
    for node in _nodes(failures):
        step, pod, message = (str(node.get(key, "")) for key in ("displayName", "podName", "message"))
        advice = next((text for mark, text in ADVICE if mark.lower() in message.lower()), READ_THE_LOG)
        say(f"  {step}: {message or 'no message'}")
        say(f"    log: kubectl -n training logs {pod} -c main")
        say(f"    fix: {advice}")


def _nodes(failures: str) -> list[dict[str, Any]]:
    try:
        nodes = json.loads(failures or "[]")
        # Argo quotes the list once more.
        nodes = json.loads(nodes) if isinstance(nodes, str) else nodes
    except json.JSONDecodeError as error:
        raise DataError("the failures are not JSON", where="WORKFLOW_FAILURES") from error
    if not isinstance(nodes, list):
        raise DataError("the failures are not a list", where="WORKFLOW_FAILURES")
    return [node for node in nodes if isinstance(node, dict) and node.get("templateName") != "main"]

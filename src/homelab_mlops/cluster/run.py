"""`homelab run MODEL`: starts a model's CronWorkflow now and follows it to the end."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.console import print_json, say, stdout
from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object

NAMESPACE = "training"
MLFLOW_NAMESPACE = "mlflow"
POLL = 2.0
_API_VERSION = "argoproj.io/v1alpha1"
_ENDED = {"Succeeded", "Failed", "Error"}


def run(model: str, context: str | None, *, deadline: float, follow: bool, as_json: bool) -> None:
    """Starts the workflow and, with ``follow``, prints each step until it has ended.

    The JSON names the workflow, and after ``follow`` the version that it registered, or null.

    Raises:
        ClusterError: the model has no CronWorkflow here, or its workflow did not succeed within ``deadline`` seconds.
    """
    cluster = Cluster(context, patience=deadline)
    workflow = start(cluster, model)
    name = workflow["metadata"]["name"]
    started = f"{NAMESPACE}/{name}"
    if not as_json:
        stdout().print(f"workflow {started}")
    outputs = follow_workflow(cluster, name, time.monotonic() + deadline) if follow else {}
    made = json.loads(outputs.get("registration", "null"))
    if made is not None:
        made |= {key: _from_outside(cluster, made[key]) for key in ("url", "run_url")}
    if as_json:
        print_json({"workflow": started, "registration": made})
    elif made is not None:
        stands = f"the {made['alias']}" if made["alias"] else "rejected by the gate, without an alias"
        stdout().print(f"{made['name']} version {made['version']} is {stands}: {made['url']}", markup=False)
        stdout().print(f"run: {made['run_url']}", markup=False)


def _from_outside(cluster: Cluster, url: str) -> str:
    """The address of a page of MLflow for a browser, under the host of its Ingress; pods call the Service."""
    for ingress in cluster.find("networking.k8s.io/v1", "Ingress", MLFLOW_NAMESPACE):
        for rule in ingress["spec"].get("rules", []):
            scheme = "https" if ingress["spec"].get("tls") else "http"
            return urlsplit(url)._replace(scheme=scheme, netloc=rule["host"]).geturl()
    return url


def start(cluster: Cluster, model: str) -> Object:
    """Creates a Workflow from the CronWorkflow of the model, as the schedule would."""
    cron = cluster.get(_API_VERSION, "CronWorkflow", model, NAMESPACE)
    if cron is None:
        known = [found["metadata"]["name"] for found in cluster.find(_API_VERSION, "CronWorkflow", NAMESPACE)]
        raise ClusterError(
            f"the cluster has no CronWorkflow {model!r}",
            where=f"context {cluster.context}, namespace {NAMESPACE}",
            fix=f"models here: {', '.join(known) or 'none; `homelab status` says why'}",
        )
    metadata = cron["spec"].get("workflowMetadata", {})
    return cluster.create(
        {
            "apiVersion": _API_VERSION,
            "kind": "Workflow",
            "metadata": {
                "generateName": f"{model}-",
                "namespace": NAMESPACE,
                "labels": {**metadata.get("labels", {}), "workflows.argoproj.io/cron-workflow": model},
                "annotations": metadata.get("annotations", {}),
            },
            "spec": cron["spec"]["workflowSpec"],
        }
    )


def follow_workflow(cluster: Cluster, name: str, until: float) -> dict[str, str]:
    """Prints each step of the workflow when it changes; returns the workflow's output parameters.

    Raises:
        ClusterError: it did not succeed, or had not ended at ``until`` (of the monotonic clock).
    """
    said: dict[str, str] = {}
    while True:
        workflow = cluster.get(_API_VERSION, "Workflow", name, NAMESPACE)
        if workflow is None:
            raise ClusterError("the workflow was deleted", where=f"{NAMESPACE}/{name}")
        status = workflow.get("status", {})
        for node in _steps(workflow):
            text = _line(node)
            if said.get(node["id"]) != text:
                say(text)
                said[node["id"]] = text
        phase = status.get("phase")
        if phase in _ENDED:
            break
        if time.monotonic() > until:
            raise ClusterError(
                f"the workflow is still {phase or 'Pending'}: {status.get('message', '')}".rstrip(": "),
                where=f"{NAMESPACE}/{name}",
                fix="it goes on; a larger --deadline waits longer",
            )
        time.sleep(POLL)
    if phase != "Succeeded":
        raise ClusterError(
            f"the workflow ended as {phase}: {status.get('message', '')}{_last_words(cluster, workflow)}",
            where=f"{NAMESPACE}/{name}",
        )
    # Argo gives the outputs of the entrypoint, a DAG, to its node, whose name is the workflow's.
    parameters = status.get("nodes", {}).get(name, {}).get("outputs", {}).get("parameters", [])
    return {parameter["name"]: parameter.get("value", "") for parameter in parameters}


def seconds(node: Object) -> float | None:
    """How long a step of a workflow took, or None where it has not ended."""
    if not node.get("startedAt") or not node.get("finishedAt"):
        return None
    started, finished = (datetime.datetime.fromisoformat(node[key]) for key in ("startedAt", "finishedAt"))
    return (finished - started).total_seconds()


def _steps(workflow: Object) -> list[Object]:
    nodes = workflow.get("status", {}).get("nodes", {}).values()
    return sorted((node for node in nodes if node["type"] == "Pod"), key=lambda node: node.get("startedAt") or "~")


def _line(node: Object) -> str:
    took = seconds(node)
    duration = f" in {took:.0f} s" if took is not None else ""
    message = f": {node['message']}" if node.get("message") else ""
    return f"  {node['displayName']}: {node['phase']}{duration}{message}"


def _last_words(cluster: Cluster, workflow: Object) -> str:
    failed = [node for node in _steps(workflow) if node["phase"] in {"Failed", "Error"}]
    if not failed:
        return ""
    step = failed[-1]
    selector = f"workflows.argoproj.io/workflow={workflow['metadata']['name']}"
    for pod in cluster.find("v1", "Pod", NAMESPACE, selector):
        if pod["metadata"].get("annotations", {}).get("workflows.argoproj.io/node-id") == step["id"]:
            lines = cluster.log(pod["metadata"]["name"], NAMESPACE, "main", 15)
            return f"\n{step['displayName']} said:\n{lines.rstrip()}"
    return ""

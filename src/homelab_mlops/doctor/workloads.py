"""The checks of what runs in the cluster: whether pods are admitted and run, and whether schedules fire."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from homelab_mlops.cluster.pods import WORKFLOW_LABEL, has_failed, last_cause, pod_problem
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.cluster import executors, kinds, network, sealed, volumes
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.live import ARGO, RECENT, find, is_recent, latest_workflows, name_of, warnings
from homelab_mlops.doctor.schedules import cron_findings
from homelab_mlops.doctor.visit import Visit

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object

_CRASH = ("CrashLoopBackOff", "Error", "RunContainerError", "StartError", "ContainerCannotRun")
# The exit codes of a container that was stopped from outside, or with its node.
_STOPPED = (137, 143, 255)
_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


@check("cluster", "CLUSTER_QUOTA", "CLUSTER_POD_REJECTED", after=[executors])
def admitted(visit: Visit) -> Iterator[Finding]:
    """Whether a quota, or an admission controller, refuses the pods of a workload."""
    events = warnings(visit)
    for kind, api_version in (("ReplicaSet", "apps/v1"), ("StatefulSet", "apps/v1"), ("Job", "batch/v1")):
        for item in find(visit, api_version, kind):
            if _wants_pods(item):
                conditions = item.get("status", {}).get("conditions", [])
                said = [str(one.get("message", "")) for one in conditions if one["type"] == "ReplicaFailure"]
                event = events.get((kind, item["metadata"]["namespace"], item["metadata"]["name"]), "")
                yield from _refusal(item, [*said, event])
    latest = latest_workflows(visit)
    for workflow in find(visit, ARGO, "Workflow"):
        if workflow["metadata"]["name"] in latest:
            status = workflow.get("status", {})
            said = [status.get("message"), *(node.get("message") for node in status.get("nodes", {}).values())]
            yield from _refusal(workflow, [str(text) for text in said if text])


def _wants_pods(item: Object) -> bool:
    status = item.get("status", {})
    if item["kind"] == "Job":
        return not status.get("active") and not status.get("succeeded")
    return int(item["spec"].get("replicas", 1)) > int(status.get("replicas", 0))


def _refusal(item: Object, texts: list[str]) -> Iterator[Finding]:
    """What the API server said when it refused a pod; the check ``accounts`` names a missing ServiceAccount."""
    text = next((text for text in texts if re.search(r"is forbidden|denied the request", text)), "")
    if quota := re.search(r"(?:exceeded|failed) quota", text):
        yield Finding("CLUSTER_QUOTA", name_of(item), f"{name_of(item)}: {_from(text, quota[0])}")
    elif text and "service account" not in text:
        yield Finding("CLUSTER_POD_REJECTED", name_of(item), f"{name_of(item)}: {_from(text, 'is forbidden')}")


def _from(text: str, mark: str) -> str:
    """The message from ``mark`` on, or the whole message where it has no ``mark``."""
    return text[max(text.find(mark), 0) :][:240]


@check("cluster", "CLUSTER_CRON_*", after=[kinds])
def schedules(visit: Visit) -> Iterator[Finding]:
    """Whether each CronWorkflow will fire."""
    for item in find(visit, ARGO, "CronWorkflow"):
        yield from cron_findings(item, name_of(item))


@check(
    "cluster",
    "CLUSTER_IMAGE_PULL",
    "CLUSTER_OOM_KILLED",
    "CLUSTER_CRASH",
    "CLUSTER_POD_CONFIG",
    "CLUSTER_NO_CPU",
    "CLUSTER_NO_MEMORY",
    "CLUSTER_UNSCHEDULABLE",
    after=[volumes, sealed, executors, network],
)
def pods(visit: Visit) -> Iterator[Finding]:
    """Whether each pod runs. Of each model's workflows only the last one counts."""
    latest = latest_workflows(visit)
    running = {name for name, ended in latest.items() if not ended}
    done = {item["metadata"]["name"] for item in find(visit, "batch/v1", "Job") if item["status"].get("succeeded")}
    events = warnings(visit)
    seen: set[tuple[str, str]] = set()
    for pod in find(visit, "v1", "Pod"):
        metadata = pod["metadata"]
        owners = {owner["kind"]: owner["name"] for owner in metadata.get("ownerReferences", [])}
        workflow = metadata.get("labels", {}).get(WORKFLOW_LABEL)
        # A failed pod does not count where another one replaced it: the next try of a step, a Job's, a Deployment's.
        replaced = workflow in running or owners.get("Job") in done or {"ReplicaSet", "StatefulSet"} & owners.keys()
        if (workflow and workflow not in latest) or (replaced and has_failed(pod)):
            continue
        found = _pod_finding(pod, events.get(("Pod", metadata["namespace"], metadata["name"]), ""))
        owner = workflow or next(iter(owners.values()), metadata["name"])
        if found and (found.code, owner) not in seen:
            seen.add((found.code, owner))
            yield found


def _pod_finding(pod: Object, warning: str) -> Finding | None:
    where = name_of({"kind": "Pod", **pod})
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended = state.get("terminated", {})
            if ended.get("reason") == "OOMKilled" and is_recent(ended.get("finishedAt", "")):
                return Finding(
                    "CLUSTER_OOM_KILLED", where, f"the container {container['name']} was killed for its memory"
                )
        if _ends_again_and_again(container):
            last = container["lastState"]["terminated"]
            what = f"the container {container['name']} ends with {last['exitCode']}"
            said = last_cause(last.get("message", ""))
            times = f"{what}, and did so {container['restartCount']} times"
            return Finding("CLUSTER_CRASH", where, f"{times}: {said}" if said else times)
    problem = pod_problem(pod)
    if problem is None or (status.get("phase") == "Failed" and problem.cause == "NotReady"):
        return None
    code = {
        **dict.fromkeys(_PULL, "CLUSTER_IMAGE_PULL"),
        **dict.fromkeys(("CreateContainerConfigError", "CreateContainerError"), "CLUSTER_POD_CONFIG"),
        **dict.fromkeys(_CRASH, "CLUSTER_CRASH"),
        "OOMKilled": "CLUSTER_OOM_KILLED",
    }.get(problem.cause)
    if problem.cause == "Unschedulable":
        code = _unscheduled(problem.reason)
    starting = any(state.get("state", {}).get("waiting") for state in containers)
    if code is None and starting and re.search(r"(?:secret|configmap) .*not found", warning):
        return Finding("CLUSTER_POD_CONFIG", where, f"{where}: {warning[:200]}")
    return Finding(code, where, f"{where}: {problem.reason[:240]}") if code else None


def _ends_again_and_again(container: Object) -> bool:
    """Whether a container crashes in a loop, also while it runs right now; one that was stopped does not crash."""
    last = container.get("lastState", {}).get("terminated", {})
    if container.get("restartCount", 0) < 2 or last.get("exitCode") in (None, 0, *_STOPPED):
        return False
    if not (is_recent(last.get("finishedAt", "")) and last.get("startedAt")):
        return False
    lasted = datetime.datetime.fromisoformat(last["finishedAt"]) - datetime.datetime.fromisoformat(last["startedAt"])
    return lasted < RECENT


def _unscheduled(reason: str) -> str | None:
    if re.search(r"persistentvolumeclaim \S+ not found", reason):
        return "CLUSTER_POD_CONFIG"
    if "persistentvolumeclaim" in reason.lower():
        return None  # the check `volumes` names it
    if "Insufficient memory" in reason:
        return "CLUSTER_NO_MEMORY"
    return "CLUSTER_NO_CPU" if "Insufficient cpu" in reason else "CLUSTER_UNSCHEDULABLE"

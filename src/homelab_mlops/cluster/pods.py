"""What is wrong with a pod: the reason that Kubernetes gives, and the last words of its containers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster, Object

APPLICATION = "argoproj.io/v1alpha1", "Application"
ARGO_CD_NAMESPACE = "argo-cd"
WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
# The container in which Argo Workflows keeps the outputs of a step, once the others have ended.
_ARGOS_OWN = "wait"


@dataclasses.dataclass(frozen=True)
class PodProblem:
    """A pod that does not run as it should; ``cause`` is Kubernetes' word for why, such as ``ImagePullBackOff``."""

    namespace: str
    name: str
    reason: str
    cause: str = ""
    app: str = ""


def has_failed(pod: Object) -> bool:
    """Whether a pod has failed: its phase says so, or will as soon as kubelet has written it.

    Kubelet first writes how the containers ended, and about a second later the phase.
    """
    status, spec = pod.get("status", {}), pod.get("spec", {})
    if status.get("phase") == "Failed":
        return True
    if spec.get("restartPolicy") != "Never":
        return False
    sidecars = {one["name"] for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"}
    if any(_exit_code(one) for one in status.get("initContainerStatuses", []) if one["name"] not in sidecars):
        return True
    of_argo = {_ARGOS_OWN} if WORKFLOW_LABEL in pod["metadata"].get("labels", {}) else set()
    codes = {one["name"]: _exit_code(one) for one in status.get("containerStatuses", [])}
    waited_for = {one["name"] for one in spec.get("containers", [])} - of_argo
    return any(codes.values()) and all(codes.get(name) is not None for name in waited_for)


def _exit_code(container: Object) -> int | None:
    """How a container ended; None for one that has not."""
    code: int | None = container.get("state", {}).get("terminated", {}).get("exitCode")
    return code


def last_words_of_jobs(pods: list[Object]) -> dict[str, str]:
    """What the failed pods of Jobs said at their end, by ``namespace/job``."""
    said = {}
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences", []):
            if owner["kind"] == "Job" and has_failed(pod):
                for container in pod["status"].get("containerStatuses", []):
                    message = container.get("state", {}).get("terminated", {}).get("message", "")
                    if message:
                        said[f"{pod['metadata']['namespace']}/{owner['name']}"] = last_cause(message)
    return said


def told_problem(pod: Object, cluster: Cluster) -> PodProblem | None:
    """What is wrong with a pod of the platform; `homelab status` reports a workflow's own pods with the workflow."""
    if WORKFLOW_LABEL in pod["metadata"].get("labels", {}):
        return None
    problem = pod_problem(pod)
    if problem is None:
        return None
    said = _pods_last_words(pod, cluster)
    app = pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", "")
    return dataclasses.replace(problem, reason=f"{problem.reason}: {said}" if said else problem.reason, app=app)


def _pods_last_words(pod: Object, cluster: Cluster) -> str:
    """The last message of a container that ended, or the last line in the log of one that runs and is not ready."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        if container.get("ready"):
            continue
        for state in (container.get("state", {}), container.get("lastState", {})):
            message = state.get("terminated", {}).get("message", "")
            if message:
                return last_cause(message)
        if "running" in container.get("state", {}):
            return last_cause(cluster.log(pod["metadata"]["name"], pod["metadata"]["namespace"], container["name"], 1))
    return ""


def pod_problem(pod: Object) -> PodProblem | None:
    """What is wrong with a pod, or None for one that runs, has succeeded, or belongs to a Job that tries again."""
    metadata, status = pod["metadata"], pod.get("status", {})
    phase = status.get("phase")

    def problem(reason: str, cause: str) -> PodProblem:
        return PodProblem(metadata["namespace"], metadata["name"], reason, cause)

    if phase == "Succeeded":
        return None
    if any(owner["kind"] == "Job" for owner in metadata.get("ownerReferences", [])) and has_failed(pod):
        return None  # a Job that tries again; the application says whether it gave up
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = container.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        last = container.get("lastState", {}).get("terminated", {})
        if waiting and waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            detail = waiting.get("message") or container.get("image", "")
            cause = "OOMKilled" if last.get("reason") == "OOMKilled" else waiting["reason"]
            return problem(f"{waiting['reason']}: {detail}", cause)
        if ended and ended.get("exitCode"):
            reason = f"container {container['name']} ended with {ended['exitCode']} ({ended.get('reason', '')})"
            return problem(reason, ended.get("reason") or "Error")
    scheduled = conditions.get("PodScheduled", {})
    unscheduled = scheduled.get("message", "") if scheduled.get("status") == "False" else ""
    return problem(unscheduled or f"not ready yet ({phase})", "Unschedulable" if unscheduled else "NotReady")


def last_cause(message: str) -> str:
    """The end of a chain of wrapped errors, where the cause is; the whole where it is short."""
    text = " ".join(message.split())
    return text if len(text) <= 400 else f"… {text[-400:]}"

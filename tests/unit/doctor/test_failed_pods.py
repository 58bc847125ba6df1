"""A failed pod that another one replaces is no finding, also while kubelet has not written the pod's phase yet."""

from __future__ import annotations

from typing import Any

import pytest

from homelab_mlops.doctor.live import Live
from homelab_mlops.doctor.visit import Visit
from homelab_mlops.doctor.workloads import pods

ERROR = {"terminated": {"exitCode": 1, "reason": "Error"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
RUNNING: dict[str, Any] = {"running": {}}
TO_COME = {"waiting": {"reason": "PodInitializing"}}
State = dict[str, Any]


class Listed:
    """A cluster of these objects."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self._objects = objects

    def find(self, _api_version: str, kind: str, selector: str = "") -> list[dict[str, Any]]:
        assert not selector
        return [item for item in self._objects if item["kind"] == kind]


def pod(phase: str, states: dict[str, State], restart: str = "Never", **metadata: Any) -> dict[str, Any]:
    """A pod in which ``init`` and ``sidecar`` are init containers."""
    inits = [{"name": name} for name in states if name == "init"]
    inits += [{"name": name, "restartPolicy": "Always"} for name in states if name == "sidecar"]
    found = [{"name": name, "state": state} for name, state in states.items()]
    names = [item["name"] for item in inits]
    return {
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "training", **metadata},
        "spec": {
            "restartPolicy": restart,
            "initContainers": inits,
            "containers": [{"name": name} for name in states if name not in names],
        },
        "status": {
            "phase": phase,
            "initContainerStatuses": [item for item in found if item["name"] in names],
            "containerStatuses": [item for item in found if item["name"] not in names],
        },
    }


def codes(*objects: dict[str, Any]) -> list[str]:
    live = Live(Listed(*objects))  # type: ignore[arg-type]
    live.own = {"training"}
    return [finding.code for finding in pods(Visit(shared={"live": live}))]


REPLICA_SET: dict[str, Any] = {"ownerReferences": [{"kind": "ReplicaSet", "name": "churn"}]}
OF_A_JOB: dict[str, Any] = {"ownerReferences": [{"kind": "Job", "name": "push"}]}
STEP: dict[str, Any] = {"labels": {"workflows.argoproj.io/workflow": "churn-1"}}
RUNNING_WORKFLOW = {
    "kind": "Workflow",
    "metadata": {"name": "churn-1", "namespace": "training", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {},
    "status": {"phase": "Running"},
}
JOB = {"kind": "Job", "metadata": {"name": "push", "namespace": "training"}, "status": {"succeeded": 1}}


@pytest.mark.parametrize("metadata", [REPLICA_SET, OF_A_JOB, STEP])
@pytest.mark.parametrize(
    ("phase", "states"),
    [
        ("Failed", {"main": ERROR}),
        ("Pending", {"main": ERROR}),
        ("Running", {"main": ERROR, "helper": DONE}),
        ("Running", {"main": ERROR, "sidecar": RUNNING}),
        ("Pending", {"init": ERROR, "main": TO_COME}),
    ],
)
def test_a_failed_pod_that_is_replaced_is_no_finding(
    phase: str, states: dict[str, State], metadata: dict[str, Any]
) -> None:
    assert codes(RUNNING_WORKFLOW, JOB, pod(phase, states, **metadata)) == []


@pytest.mark.parametrize("states", [{"main": ERROR, "wait": RUNNING}, {"main": DONE, "wait": ERROR}])
def test_a_failed_step_is_no_finding_while_its_workflow_runs(states: dict[str, State]) -> None:
    """Argo's own container keeps the outputs of the others once they have ended, and may itself fail to."""
    assert codes(RUNNING_WORKFLOW, pod("Running", states, **STEP)) == []


@pytest.mark.parametrize(
    "failed",
    [
        pod("Pending", {"main": ERROR}),  # nobody replaces it
        pod("Running", {"main": ERROR, "wait": RUNNING}, **REPLICA_SET),
        pod("Running", {"main": ERROR, "helper": RUNNING}, **STEP),
        pod("Running", {"main": ERROR}, "Always", **REPLICA_SET),
        pod("Pending", {"init": ERROR, "main": TO_COME}, "OnFailure", **STEP),
    ],
)
def test_a_crash_that_nothing_replaces_is_one(failed: dict[str, Any]) -> None:
    assert codes(RUNNING_WORKFLOW, failed) == ["CLUSTER_CRASH"]

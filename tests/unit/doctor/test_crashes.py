"""The doctor says why a container ends again and again, in the container's own last words."""

from __future__ import annotations

import datetime

from homelab_mlops.doctor.workloads import _pod_finding
from homelab_mlops.model.artifact import other_files

OTHERS = other_files("churn version 3", "a" * 64, "b" * 64, "the registry")
SAID = f"error: {OTHERS.what}\nwhere: {OTHERS.where}"


def test_other_bytes_than_git_names_are_named() -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now, "message": SAID}
    container = {"name": "serving", "restartCount": 3, "state": {"running": {}}, "lastState": {"terminated": ended}}
    pod = {"metadata": {"name": "churn-1", "namespace": "serving"}, "status": {"containerStatuses": [container]}}
    found = _pod_finding(pod, "")
    assert found is not None
    assert found.code == "CLUSTER_CRASH"
    assert f"have the SHA-256 {'a' * 64}, and git names {'b' * 64}" in found.what

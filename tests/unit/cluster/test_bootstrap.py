"""`homelab bootstrap` waits for the commit that is pushed, also where a push moves it meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.bootstrap import wait_until_green
from homelab_mlops.cluster.branch import PushedBranch
from homelab_mlops.errors import ClusterError
from tests.conftest import PATIENCE, ROOT
from tests.unit.clients import api_server

ARGO = "argoproj.io/v1alpha1"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that knows Argo's kinds."""
    with api_server.recorded() as upstream:
        monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig(tmp_path / "kubeconfig", upstream.url)))
        with Cluster(patience=60) as cluster:
            for kind in api_server.CUSTOM:
                cluster.apply(api_server.crd(kind))
            yield cluster


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with one Application, homelab, whose branch main is pushed to `remote.git` beside it."""
    root = tmp_path / "clone"
    (root / "clusters/homelab").mkdir(parents=True)
    shutil.copy(ROOT / "clusters/homelab/root.yaml", root / "clusters/homelab/root.yaml")
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "remote", "add", "origin", str(tmp_path / "remote.git"))
    push(root)
    return root


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@invalid"]
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def push(root: Path) -> str:
    git(root, "commit", "--quiet", "--allow-empty", "--message", "A change")
    git(root, "push", "--quiet", "origin", "main")
    return git(root, "rev-parse", "HEAD")


def argo_cd_has(cluster: Cluster, commit: str, **more: Any) -> None:
    """The state in which Argo CD has brought the root Application to a commit, with ``more`` of its status."""
    status = {"sync": {"status": "Synced", "revision": commit}, "health": {"status": "Healthy"}, **more}
    application = {
        "apiVersion": ARGO,
        "kind": "Application",
        "metadata": {"name": "homelab", "namespace": "argo-cd"},
        "spec": {"destination": {"namespace": "argo-cd"}, "source": {"path": "apps"}},
    }
    cluster.apply({**application, "status": status})


def test_a_push_meanwhile_is_waited_for_and_said(
    cluster: Cluster, clone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The controller that would compare anew and take the annotation away is not here.
    monkeypatch.setattr("homelab_mlops.cluster.bootstrap.refresh", lambda _: None)
    branch = PushedBranch(clone, str(tmp_path / "remote.git"), "main")
    before = branch.commit
    pushed = push(clone)
    argo_cd_has(cluster, pushed)

    wait_until_green(cluster, clone, branch, time.monotonic() + PATIENCE)

    assert branch.commit == pushed
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("branch ")]
    assert said == [f"branch main was pushed to: waits for commit {pushed[:8]}, no longer for {before[:8]}"]


def test_a_git_server_that_is_away_is_said_and_the_known_commit_waited_for(
    cluster: Cluster, clone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    branch = PushedBranch(clone, str(tmp_path / "remote.git"), "main")
    (tmp_path / "remote.git").rename(tmp_path / "away")
    argo_cd_has(cluster, "0" * 40)
    known = branch.commit[:8]

    with pytest.raises(ClusterError, match=f"homelab is at commit 00000000 and not at {known}"):
        wait_until_green(cluster, clone, branch, time.monotonic() + 1)

    said = capfd.readouterr().err
    assert said.count(f"does not say whether branch main moved, waits for {known}: ") == 1


def test_the_commit_at_the_start_is_enough_where_nothing_moves(cluster: Cluster, clone: Path, tmp_path: Path) -> None:
    branch = PushedBranch(clone, str(tmp_path / "remote.git"), "main")
    argo_cd_has(cluster, branch.commit)
    wait_until_green(cluster, clone, branch, time.monotonic() + PATIENCE)


def test_a_sync_that_tries_a_job_again_is_waited_for(cluster: Cluster, clone: Path, tmp_path: Path) -> None:
    branch = PushedBranch(clone, str(tmp_path / "remote.git"), "main")
    waits = "waiting for completion of hook batch/Job/provision"
    argo_cd_has(cluster, branch.commit, operationState={"phase": "Running", "retryCount": 2, "message": waits})
    with pytest.raises(ClusterError, match=f"homelab is Synced and Healthy, and syncs: {waits}"):
        wait_until_green(cluster, clone, branch, time.monotonic() + 1)

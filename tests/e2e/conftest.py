"""A fork of the working tree on the cluster of the current kubeconfig, and what its user types.

``HOMELAB_E2E_REPOSITORY`` is the address that Argo CD clones; ``HOMELAB_E2E_PUSH`` the address to push to, where that
is another one; ``HOMELAB_E2E_DOMAIN`` and ``HOMELAB_E2E_INGRESS`` the domain of the services and the address of the
ingress controller; ``HOMELAB_E2E_ARGO_CD`` the release of Argo CD to pin, where that is not the tree's. Three shell
commands say what only the owner of the machines can: ``HOMELAB_E2E_RESTART_NODE`` kills kubelet and containerd and
starts them again, ``HOMELAB_E2E_KILL_API_SERVER`` does so with the API server, and ``HOMELAB_E2E_NEW_CLUSTER`` replaces
the cluster by an empty one. Pictures are left in
``HOMELAB_E2E_PICTURES``. The fork lies in the folder ``HOMELAB_E2E_FORK``, otherwise in ``.e2e``: the next run goes on
with it, on the same cluster or on an empty one. The fork's sealing key lies there too: who deletes the folder also
replaces the cluster. The names of the tests that failed are written to the file ``HOMELAB_E2E_FAILED``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from kubernetes import client, config

from homelab_mlops.clients.kubernetes import Cluster
from tests.conftest import HOMELAB, ROOT, clean_environment

Result = TypeVar("Result")
# Read at once: the tests themselves see none of them.
SETTINGS = {name: value for name, value in os.environ.items() if name.startswith("HOMELAB_E2E_")}
FIGURES: list[tuple[str, str]] = []


def setting(name: str, default: str | None = None) -> str:
    value = SETTINGS.get(f"HOMELAB_E2E_{name}", default)
    if value is None:
        pytest.exit(f"HOMELAB_E2E_{name} is not set; tests/e2e/conftest.py says what it is", returncode=2)
    return value


def command_of_the_owner(name: str) -> None:
    """Runs one of the shell commands that the module's text names; skips the test where it is not given."""
    command = SETTINGS.get(f"HOMELAB_E2E_{name}")
    if command is None:
        pytest.skip(f"HOMELAB_E2E_{name} is not set: nobody said how")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def took(what: str, seconds: float) -> None:
    """Notes a time for the summary."""
    noted(what, f"{seconds:.1f} s")


def noted(what: str, figure: str) -> None:
    """Notes a figure for the summary."""
    FIGURES.append((what, figure))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and (file := SETTINGS.get("HOMELAB_E2E_FAILED")):
        with Path(file).open("a") as failed:
            failed.write(f"{report.nodeid}\n")


def pytest_configure(config: pytest.Config) -> None:
    # A client's connection that is closed late is told, and decides nothing here.
    config.addinivalue_line("filterwarnings", "default::pytest.PytestUnraisableExceptionWarning")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("measured on this cluster")
    for what, figure in FIGURES:
        terminalreporter.write_line(f"{figure:>12}  {what}")


def until(what: str, condition: Callable[[], Result | None], *, seconds: float = 900, pause: float = 1.0) -> Result:
    """The first true value of ``condition``; the deadline is for what never comes, not for what is slow."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := condition():
                return value
        except httpx.TransportError as error:
            print(f"{what}: {error!r}")
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(pause)


@contextmanager
def api_client(configuration: client.Configuration | None = None) -> Iterator[client.ApiClient]:
    """The API server, as the kubeconfig or ``configuration`` reaches it; its connections are closed at the end."""
    api = client.ApiClient(configuration) if configuration else config.new_client_from_config()
    try:
        yield api
    finally:
        api.rest_client.pool_manager.clear()
        api.close()


class Fork:
    """A user's clone."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "homelab"
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.domain = setting("DOMAIN", "homelab.test")
        self.repository = setting("REPOSITORY")
        self._push = setting("PUSH", self.repository)

    def make(self) -> None:
        """Clones the working tree's commit and makes it this user's."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)
        (self.root / ".tools").symlink_to(ROOT / ".tools")
        (self.root / ".git/info/exclude").write_text(".tools\n")
        self.git("config", "user.name", "e2e")
        self.git("config", "user.email", "e2e@invalid")
        release = SETTINGS.get("HOMELAB_E2E_ARGO_CD")
        pinned = ["--argo-cd-version", release] if release else []
        self.homelab("init", "--yes", "--repository", self.repository, "--domain", self.domain, *pinned)
        self.push("Make it mine")

    def go_on(self) -> None:
        """Takes what the working tree has committed since, and makes the remote repository equal to this clone.

        A test that was broken off may have left edits, and somebody may have pushed the working tree's own commit.
        """
        self.git("reset", "--quiet", "--hard")
        self.git("clean", "--quiet", "--force", "-d")
        self.git("pull", "--quiet", "--no-rebase", "--no-edit", str(ROOT), "HEAD")
        self.git("push", "--quiet", "--force", self._push, "HEAD:refs/heads/main")

    def homelab(self, *arguments: str, timeout: float = 1800, expect: int | None = 0) -> str:
        """Runs the command line; returns what it printed, to standard output and then to standard error."""
        env = {**clean_environment(), "HOME": str(self.home), "XDG_CONFIG_HOME": ""}
        done = subprocess.run(
            [HOMELAB, *arguments], cwd=self.root, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )
        text = done.stdout + done.stderr
        if "--show" not in arguments:  # a log is no place for a password
            print(f"$ homelab {' '.join(arguments)}\n{text}")
        assert expect is None or done.returncode == expect, text
        return text

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    def push(self, message: str) -> str:
        """Commits everything and pushes it; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "--force", self._push, "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")

    def revert(self, commit: str = "HEAD") -> str:
        """Undoes a commit by another one and pushes it; returns that one."""
        self.git("reset", "--quiet", "--hard")
        self.git("revert", "--no-edit", commit)
        self.git("push", "--quiet", self._push, "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")

    @contextmanager
    def pushed(self, message: str) -> Iterator[str]:
        """Commits every edit and pushes it; gives the commit, and reverts it at the end, whatever happened."""
        commit = self.push(message)
        try:
            yield commit
        finally:
            self.revert(commit)

    def password(self, credential: str) -> tuple[str, str]:
        shown = dict(line.split("=", 1) for line in self.homelab("seal", "--show", credential).split())
        return shown["username"], shown["password"]

    def page(self, service: str, path: str, auth: tuple[str, str] | None = None) -> httpx.Response:
        """A page of a service, through the ingress as a browser asks for it."""
        address = setting("INGRESS")
        host = {"Host": f"{service}.{self.domain}"}
        return httpx.get(f"http://{address}{path}", headers=host, auth=auth, trust_env=False, timeout=30)

    def mlflow(self, endpoint: str, **parameters: Any) -> Any:
        """An answer of MLflow's REST interface, through the ingress, with the sealed credentials."""
        query = str(httpx.QueryParams(parameters))
        answer = self.page("mlflow", f"/api/2.0/mlflow/{endpoint}?{query}", self.password("mlflow-admin"))
        assert answer.status_code == 200, answer.text
        return answer.json()


# A file may replace the cluster and what is pushed, so that each one looks anew at what is there.
@pytest.fixture(scope="module")
def fork() -> Fork:
    fork = Fork(Path(setting("FORK", str(ROOT / ".e2e"))).absolute())
    if fork.root.is_dir():
        fork.go_on()
        return fork
    try:
        fork.make()
    except BaseException:
        shutil.rmtree(fork.root, ignore_errors=True)
        raise
    return fork


@pytest.fixture(autouse=True)
def _no_edit_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a failed test has edited and not pushed is not pushed by the next one."""
    fork: Fork | None = request.getfixturevalue("fork") if "fork" in request.fixturenames else None
    yield
    if fork is not None:
        fork.git("reset", "--quiet", "--hard")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster, asked again where its API server is coming up or has too much to do."""
    with Cluster(patience=900) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def platform(fork: Fork, cluster: Cluster) -> Cluster:
    """A cluster with the platform on it; a file that runs first on an empty cluster brings it up."""
    if not applications(cluster):
        fork.homelab("bootstrap", "--yes", "--deadline", "1500")
    commit = fork.git("rev-parse", "HEAD")
    until("all green", lambda: green_at(cluster, commit))
    return cluster


@pytest.fixture(scope="module")
def trained(fork: Fork, platform: Cluster) -> Cluster:
    """A cluster whose registry holds a version of churn."""
    if not versions(fork):
        fork.homelab("data", "push", "churn")
        fork.homelab("run", "churn")
    return platform


def versions(fork: Fork) -> list[dict[str, Any]]:
    """The registered versions of churn, oldest first."""
    found = fork.mlflow("model-versions/search", filter="name = 'churn'").get("model_versions", [])
    return sorted(found, key=lambda version: int(version["version"]))


def applications(cluster: Cluster) -> dict[str, tuple[str, str, str]]:
    """Sync status, health and commit of each application."""
    return {
        app["metadata"]["name"]: (
            app.get("status", {}).get("sync", {}).get("status", ""),
            app.get("status", {}).get("health", {}).get("status", ""),
            app.get("status", {}).get("sync", {}).get("revision", ""),
        )
        for app in cluster.find("argoproj.io/v1alpha1", "Application", "argo-cd")
    }


def green_at(cluster: Cluster, commit: str) -> bool:
    found = applications(cluster).values()
    return bool(found) and all(state == ("Synced", "Healthy", commit) for state in found)


def mlflow_is_gone(cluster: Cluster) -> bool:
    """Whether MLflow has no pod: what answers for a Service without pods depends on the machine's network."""
    return not cluster.find("v1", "Pod", "mlflow", "app.kubernetes.io/name=mlflow")


ENDED = ("Succeeded", "Failed", "Error")


def ended(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """The workflow, once it has ended."""
    found = workflow(cluster, name)
    return found if found.get("status", {}).get("phase") in ENDED else None


def workflow(cluster: Cluster, name: str) -> dict[str, Any]:
    found = cluster.get("argoproj.io/v1alpha1", "Workflow", name, "training")
    assert found is not None, name
    return found


# What a workflow of a test has in common with a retraining.
LIKE = ("serviceAccountName", "automountServiceAccountToken", "executor", "securityContext")


@contextmanager
def begun(cluster: Cluster, run: dict[str, Any]) -> Iterator[str]:
    """The name of a workflow of a new WorkflowTemplate, of which the controller learns a moment later."""
    names: list[str] = []

    def begins() -> bool:
        if names:
            delete(names.pop())
        names.append(cluster.create(run)["metadata"]["name"])
        status = until("its phase", lambda: phased(names[0]), pause=0.1)
        return not status.get("message", "").endswith("not found")

    def phased(name: str) -> dict[str, Any]:
        status = workflow(cluster, name).get("status", {})
        return dict(status) if status.get("phase") else {}

    def delete(name: str) -> None:
        cluster.delete(run["apiVersion"], "Workflow", name, run["metadata"]["namespace"])
        until("its deletion", lambda: cluster.get(run["apiVersion"], "Workflow", name, "training") is None, pause=0.1)

    try:
        until("a workflow of the new template", begins)
        yield names[0]
    finally:
        for name in names:
            delete(name)


@contextmanager
def started(cluster: Cluster, name: str, spec: dict[str, Any]) -> Iterator[str]:
    """The name of a workflow of a WorkflowTemplate of its own: the controller starts no other. Both go in the end."""
    api_version, namespace = "argoproj.io/v1alpha1", "training"
    kind, named = "WorkflowTemplate", {"name": name, "namespace": namespace}
    cluster.apply({"apiVersion": api_version, "kind": kind, "metadata": named, "spec": spec})
    run = {
        "apiVersion": api_version,
        "kind": "Workflow",
        "metadata": {"generateName": f"{name}-", "namespace": namespace},
        "spec": {"workflowTemplateRef": {"name": name}},
    }
    try:
        with begun(cluster, run) as workflow_name:
            yield workflow_name
    finally:
        cluster.delete(api_version, kind, name, namespace)


def run_pod(
    cluster: Cluster,
    namespace: str,
    image: str,
    arguments: list[str],
    *,
    command: list[str] | None = None,
    volumes: dict[str, str] | None = None,
) -> str:
    """What a pod prints that holds to the restricted Pod Security; ``volumes`` are claims by their path in it."""
    claims = (volumes or {}).items()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "e2e-", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "args": arguments,
                    **({"command": command} if command else {}),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                        *({"name": claim, "mountPath": path} for path, claim in claims),
                    ],
                }
            ],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for _, claim in claims),
            ],
        },
    }
    name = cluster.create(pod)["metadata"]["name"]

    def phase() -> str:
        found = cluster.get("v1", "Pod", name, namespace)
        assert found is not None, name
        return str(found["status"]["phase"])

    until(f"the end of pod {namespace}/{name}", lambda: phase() in {"Succeeded", "Failed"})
    said, how = cluster.log(name, namespace, "main", 1000), phase()
    cluster.delete("v1", "Pod", name, namespace)
    assert how == "Succeeded", said
    return said

"""`homelab status`: shows whether the cluster is as the repository says, and if not, what is wrong."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.cluster.origin import commit_of, file_in_message, file_of, file_with
from homelab_mlops.cluster.pods import (
    APPLICATION,
    ARGO_CD_NAMESPACE,
    PodProblem,
    last_cause,
    last_words_of_jobs,
    told_problem,
)
from homelab_mlops.console import print_json, stdout
from homelab_mlops.errors import ClusterError, HomelabError, RepositoryError
from homelab_mlops.gitops.settings import find_root

if TYPE_CHECKING:
    from rich.table import Table

    from homelab_mlops.clients.kubernetes import Cluster, Object
    from homelab_mlops.cluster.certificates import PageCertificate
    from homelab_mlops.cluster.models import ModelStatus

REFRESH = "argocd.argoproj.io/refresh"
REFRESH_SECONDS = 15.0
REFRESH_POLL = 0.5
_ERRORS = ("ComparisonError", "SyncError", "InvalidSpecError", "OperationError", "UnknownError")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why an application differs from the repository: the commit, the file, and the reason."""

    commit: str
    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ApplicationStatus:
    """One Application of Argo CD.

    Attributes:
        syncing: whether a sync has not ended; its last steps, such as a Job, count neither for sync nor for health.
    """

    name: str
    sync: str
    health: str
    revision: str
    waiting_for: str
    problem: Problem | None
    syncing: bool = False

    @property
    def green(self) -> bool:
        return self.sync == "Synced" and self.health == "Healthy" and self.problem is None


@dataclasses.dataclass(frozen=True)
class WorkflowStatus:
    """The last workflow of a model."""

    model: str
    workflow: str
    phase: str
    finished: str
    message: str


@dataclasses.dataclass(frozen=True)
class PlatformStatus:
    """Everything that `homelab status` shows."""

    applications: list[ApplicationStatus]
    pods: list[PodProblem]
    workflows: list[WorkflowStatus]
    models: list[ModelStatus]
    certificates: list[PageCertificate] = dataclasses.field(default_factory=list)

    @property
    def green(self) -> bool:
        """Whether every application is Synced and Healthy, every pod is ready, and no certificate has ended."""
        ended = any(page.state == "ended" for page in self.certificates)
        return bool(self.applications) and all(app.green for app in self.applications) and not self.pods and not ended


def status_command(context: str | None, *, deadline: float, as_json: bool) -> bool:
    """The command `homelab status`; says whether all is green. Waits ``deadline`` seconds for an API server."""
    from homelab_mlops.clients.kubernetes import Cluster

    try:
        root: Path | None = find_root()
    except RepositoryError:
        root = None  # outside a clone files and commits cannot be named
    cluster = Cluster(context, patience=deadline)
    refresh(cluster)
    status = observe(cluster, root)
    show(status, as_json=as_json)
    return status.green


def refresh(cluster: Cluster) -> None:
    """Lets Argo CD compare every application with its repository anew, and waits until it has.

    By itself it compares on the server once a commit, and takes a commit that the server refused for synced ever after
    (argoproj/argo-cd, ``useDiffCache``). A person who may only read sees what Argo CD already knows.
    """
    until = time.monotonic() + REFRESH_SECONDS
    try:
        for app in cluster.find(*APPLICATION, namespace=ARGO_CD_NAMESPACE):
            cluster.annotate(*APPLICATION, app["metadata"]["name"], ARGO_CD_NAMESPACE, {REFRESH: "normal"})
    except ClusterError:
        return
    while time.monotonic() < until:
        found = cluster.find(*APPLICATION, namespace=ARGO_CD_NAMESPACE)
        if not any(REFRESH in app["metadata"].get("annotations", {}) for app in found):
            return
        time.sleep(REFRESH_POLL)


def observe(cluster: Cluster, root: Path | None) -> PlatformStatus:
    """The status of the platform; with ``root``, a clone of the repository, commits and files are named."""
    applications = cluster.find(*APPLICATION, namespace=ARGO_CD_NAMESPACE)
    namespaces = {app["spec"]["destination"].get("namespace", "") for app in applications}
    found = [pod for pod in cluster.find("v1", "Pod") if pod["metadata"]["namespace"] in namespaces]
    pods = [problem for pod in found if (problem := told_problem(pod, cluster))]
    last_words = last_words_of_jobs(found)
    return PlatformStatus(
        [
            _application(app, pods, last_words, root)
            for app in sorted(applications, key=lambda app: str(app["metadata"]["name"]))
        ],
        pods,
        _workflows(cluster),
        _models(cluster),
        _certificates(cluster, namespaces),
    )


def show(status: PlatformStatus, *, as_json: bool) -> None:
    """Prints the status: one table, then what is wrong."""
    if as_json:
        print_json({"green": status.green, **dataclasses.asdict(status)})
        return
    out = stdout()
    out.print(table_of(status))
    for app in status.applications:
        if app.problem is not None:
            out.print(f"{app.name}: {app.problem.reason}", markup=False, style="red")
            out.print(f"  commit: {app.problem.commit or 'unknown'}", markup=False)
            out.print(f"  file:   {app.problem.file or 'unknown'}", markup=False)
    for pod in status.pods:
        out.print(f"pod {pod.namespace}/{pod.name}: {pod.reason}", markup=False, style="yellow")
    for workflow in status.workflows:
        line = f"{workflow.model}: {workflow.workflow} {workflow.phase} {workflow.finished} {workflow.message}"
        out.print(line.rstrip(), markup=False)
    for model in status.models:
        named = f"version {model.git}, sha256 {model.sha256[:12]}" if model.git != "none" else "no version"
        out.print(f"{model.model}: git names {named}; {model.serves} serves", markup=False)
        for what in filter(None, (model.drift, model.bytes)):
            out.print(f"{model.model}: {what}", markup=False, style="yellow")
    for page in status.certificates:
        out.print(f"{page.what}: homelab certificate --renew", markup=False, style="yellow")
    if not status.applications:
        out.print("No application: run `homelab bootstrap`.")


def table_of(status: PlatformStatus) -> Table:
    """The applications as a table."""
    from rich.table import Table

    table = Table("application", "sync", "health", "commit", "waits for", box=None, pad_edge=False)
    for app in status.applications:
        table.add_row(
            app.name,
            f"[{'green' if app.sync == 'Synced' else 'yellow'}]{app.sync}",
            f"[{'green' if app.health == 'Healthy' else 'yellow'}]{app.health}",
            app.revision[:8],
            app.waiting_for.replace("[", r"\["),
        )
    return table


def _application(
    app: Object, pods: list[PodProblem], last_words: dict[str, str], root: Path | None
) -> ApplicationStatus:
    status = app.get("status", {})
    sync, health = status.get("sync", {}), status.get("health", {})
    namespace = app["spec"]["destination"].get("namespace", "")
    operation = status.get("operationState", {})
    waiting = ""
    if operation.get("phase") == "Running":
        waiting = str(operation.get("message", ""))
    elif health.get("status") not in {None, "Healthy"}:
        own = [f"{pod.name}: {pod.reason}" for pod in pods if pod.namespace == namespace]
        waiting = own[0] if own else str(health.get("message", ""))
    return ApplicationStatus(
        name=app["metadata"]["name"],
        sync=sync.get("status", "Unknown"),
        health=health.get("status", "Unknown"),
        revision=sync.get("revision", ""),
        waiting_for=waiting.splitlines()[0] if waiting else "",
        problem=_problem(app, pods, last_words, root),
        syncing=operation.get("phase") == "Running",
    )


def _problem(app: Object, pods: list[PodProblem], last_words: dict[str, str], root: Path | None) -> Problem | None:
    status = app.get("status", {})
    source = app["spec"].get("source", {})
    folder = source.get("path", "")
    for condition in status.get("conditions", []):
        if condition["type"] in _ERRORS:
            file = file_in_message(condition["message"], folder, root)
            commit = commit_of(root, file) or status.get("sync", {}).get("revision", "")
            return Problem(commit, file, last_cause(condition["message"]))
    namespace = app["spec"]["destination"].get("namespace", "")
    if status.get("health", {}).get("status") == "Degraded":
        for pod in pods:
            if pod.namespace == namespace and "image" not in pod.reason.lower():
                file = file_of(root, folder, "Deployment", pod.app)
                commit = commit_of(root, file) or status.get("sync", {}).get("revision", "")
                return Problem(commit, file, f"pod {pod.name}: {pod.reason}")
    operation = status.get("operationState", {})
    if operation.get("phase") in {"Failed", "Error"} or (
        operation.get("retryCount") and operation["phase"] == "Running"
    ):
        result = operation.get("syncResult", {})
        for resource in result.get("resources", []):
            if resource.get("status") == "SyncFailed" or resource.get("hookPhase") in {"Failed", "Error"}:
                file = file_of(root, folder, resource["kind"], resource["name"])
                commit = commit_of(root, file) or result.get("revision", "")
                said = last_words.get(f"{namespace}/{resource['name']}") or resource.get("message", "")
                return Problem(commit, file, f"{resource['kind']} {resource['name']}: {said}")
        if operation["phase"] != "Running":
            return Problem(result.get("revision", ""), "", last_cause(operation.get("message", "")))
    for pod in pods:
        if pod.namespace == namespace and "image" in pod.reason.lower():
            image = re.search(r'image "?([^"\s]+)', pod.reason)
            file = file_with(root, folder, image[1].rpartition(":")[2]) if image else ""
            return Problem(commit_of(root, file) or status.get("sync", {}).get("revision", ""), file, pod.reason)
    return None


def _models(cluster: Cluster) -> list[ModelStatus]:
    from homelab_mlops.clients.mlflow import registry_of
    from homelab_mlops.cluster.models import asked, compared, named_in_cluster, versions_serving

    named = named_in_cluster(cluster)
    registry = None
    if named:
        try:
            with registry_of(cluster) as client:
                registry = {model: asked(client, model, one.version) for model, one in named.items()}
        except HomelabError:
            registry = None  # MLflow is away: its own application says so
    return compared(named, registry, versions_serving(cluster))


def _certificates(cluster: Cluster, namespaces: set[str]) -> list[PageCertificate]:
    """The certificates of pages that a person has to look after; none where the person may not read Secrets."""
    from homelab_mlops.cluster.certificates import INGRESS, page_certificates

    own = [item for item in cluster.find(*INGRESS) if item["metadata"]["namespace"] in namespaces]
    try:
        found = page_certificates(own, lambda namespace, name: cluster.get("v1", "Secret", name, namespace))
        return [page for page in found if page.state != "good"]
    except ClusterError:
        return []  # the doctor says that it could not look at them


def _workflows(cluster: Cluster) -> list[WorkflowStatus]:
    last: dict[str, Object] = {}
    for workflow in cluster.find("argoproj.io/v1alpha1", "Workflow"):
        model = workflow["metadata"].get("labels", {}).get("workflows.argoproj.io/cron-workflow")
        if (
            model
            and workflow["metadata"]["creationTimestamp"] >= last.get(model, workflow)["metadata"]["creationTimestamp"]
        ):
            last[model] = workflow
    return [
        WorkflowStatus(
            model,
            workflow["metadata"]["name"],
            workflow.get("status", {}).get("phase") or "Pending",
            workflow.get("status", {}).get("finishedAt") or "",
            workflow.get("status", {}).get("message") or "",
        )
        for model, workflow in sorted(last.items())
    ]

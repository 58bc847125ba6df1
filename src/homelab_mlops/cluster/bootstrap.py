"""`homelab bootstrap`: turns an empty cluster into the one that the repository declares."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.clients import git
from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.branch import PushedBranch
from homelab_mlops.cluster.pods import ARGO_CD_NAMESPACE
from homelab_mlops.cluster.status import PlatformStatus, observe, refresh, table_of
from homelab_mlops.console import say, stderr, stdout
from homelab_mlops.errors import ClusterError, RepositoryError
from homelab_mlops.gitops.render import read_yaml, render
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, find_sealing_key, fingerprint
from homelab_mlops.gitops.secrets.table import as_bytes, everything_is_sealed, load_table, read_sealed
from homelab_mlops.gitops.settings import CLUSTER, Settings, find_root, load_settings
from homelab_mlops.manifests import yaml_reader

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object

POLL = 2.0
SEALED_SECRETS_NAMESPACE = "sealed-secrets"
SEALING_KEY = "sealing-key"
SEALING_KEY_LABEL = "sealedsecrets.bitnami.com/sealed-secrets-key"
ARGO_CD = Path("clusters") / CLUSTER / "argo-cd"
PROJECTS = Path("apps/projects.yaml")
ROOT_APPLICATION = Path("clusters") / CLUSTER / "root.yaml"
_WORKLOADS = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"))


def bootstrap(context: str | None, *, key_file: Path | None, deadline: float, yes: bool) -> None:
    """Brings the platform up, or repairs it, and waits until every application is green.

    Raises:
        RepositoryError: the repository is not initialised.
        ClusterError: the cluster cannot be reached, or is not green within ``deadline`` seconds.
    """
    root = find_root()
    settings = load_settings(root)
    key = find_sealing_key(root, key_file)
    if key.private is None:
        raise RepositoryError("the private sealing key is not on this machine", fix="name it with --key-file")
    if not everything_is_sealed(root, load_table(root)):
        raise RepositoryError("not every declared Secret is sealed", fix="homelab init, then commit and push")
    branch = _pushed_branch(root, settings)
    cluster = Cluster(context, patience=deadline)
    say(f"context {cluster.context}: {cluster.server}, Kubernetes {cluster.version}")
    say(f"repository {settings.repository}, branch {branch.name}, commit {branch.commit[:8]}")
    if not yes:
        _confirm(cluster)
    started = time.monotonic()
    until = started + deadline
    _apply_sealing_key(cluster, key)
    _apply_argo_cd(cluster, root, key, until)
    for path in (PROJECTS, ROOT_APPLICATION):
        for document in read_yaml(root / path):
            cluster.apply(document)
    say(f"root application: applied ({time.monotonic() - started:.0f} s)")
    wait_until_green(cluster, root, branch, until)
    stdout().print(f"All applications are Synced and Healthy, after {time.monotonic() - started:.0f} s.")


def _confirm(cluster: Cluster) -> None:
    import sys

    import typer

    if not sys.stdin.isatty():
        raise ClusterError("nobody to ask whether this is the right cluster", where=cluster.context, fix="add --yes")
    typer.confirm(f"Bootstrap the cluster of context {cluster.context}?", abort=True)


def _pushed_branch(root: Path, settings: Settings) -> PushedBranch:
    """The branch whose commit Argo CD will find."""
    branch = PushedBranch(root, settings.repository, settings.branch)
    head = git.run(root, "rev-parse", "HEAD")
    if not head.returncode and head.stdout.strip() != branch.commit:
        say(f"warning: your HEAD is {head.stdout[:8]}; the cluster follows what is pushed, {branch.commit[:8]}")
    return branch


def _apply_sealing_key(cluster: Cluster, key: SealingKey) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SEALED_SECRETS_NAMESPACE}})
    assert key.private is not None  # noqa: S101 - checked before anything was applied
    data = {"tls.crt": key.certificate.read_bytes(), "tls.key": key.private.read_bytes()}
    encoded = {name: base64.b64encode(content).decode() for name, content in data.items()}
    present = cluster.find("v1", "Secret", SEALED_SECRETS_NAMESPACE, SEALING_KEY_LABEL)
    if any(secret.get("data") == encoded for secret in present):
        say("sealing key: in place")
        return
    # An older key stays, so that older commits can be unsealed too.
    taken = cluster.get("v1", "Secret", SEALING_KEY, SEALED_SECRETS_NAMESPACE) is not None
    name = f"{SEALING_KEY}-{fingerprint(key.public())}" if taken else SEALING_KEY
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": SEALED_SECRETS_NAMESPACE,
                "labels": {SEALING_KEY_LABEL: "active"},
            },
            "type": "kubernetes.io/tls",
            "data": encoded,
        }
    )
    # A running controller reads its keys only when it starts.
    for pod in cluster.find("v1", "Pod", SEALED_SECRETS_NAMESPACE):
        cluster.delete("v1", "Pod", pod["metadata"]["name"], SEALED_SECRETS_NAMESPACE)
    say("sealing key: applied")


def _apply_argo_cd(cluster: Cluster, root: Path, key: SealingKey, until: float) -> None:
    documents = render(root / ARGO_CD)
    first = [document for document in documents if document["kind"] in {"Namespace", "CustomResourceDefinition"}]
    crds = [document["metadata"]["name"] for document in first if document["kind"] == "CustomResourceDefinition"]
    if not any(document["kind"] == "Namespace" for document in first):
        first.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ARGO_CD_NAMESPACE}})
    for document in first:
        cluster.apply(document)
    _wait(until, "CRDs of Argo CD", lambda: _not_established(cluster, crds))
    _apply_repository_credentials(cluster, root, key)
    for document in documents:
        # Their Secrets are already applied, and the kind SealedSecret does not exist yet.
        if document not in first and document["kind"] not in {"SealedSecret", "Application", "AppProject"}:
            if document["kind"] == "Middleware" and not cluster.knows(document["apiVersion"], "Middleware"):
                say("Traefik's kinds are not here yet: Argo CD applies its Middlewares once they are")
                continue
            cluster.apply(document)
    for document in documents:
        if document["kind"] in {"Application", "AppProject"}:
            cluster.apply(document)
    say(f"Argo CD: {len(documents)} objects applied")
    _wait(until, "Argo CD", lambda: _not_available(cluster, ARGO_CD_NAMESPACE))


def _apply_repository_credentials(cluster: Cluster, root: Path, key: SealingKey) -> None:
    """Unseals what Argo CD needs before the sealed-secrets controller runs, such as a repository's login."""
    table = load_table(root)
    # What patches a Secret of Argo CD is for the controller alone: whoever applies it would take the other keys away.
    specs = [spec for spec in table.secrets if spec.namespace == ARGO_CD_NAMESPACE and not spec.patches]
    if not specs:
        return
    sealed = read_sealed(root, table.model_copy(update={"secrets": specs}), key)
    for spec in specs:
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": spec.name,
                    "namespace": spec.namespace,
                    "labels": spec.labels,
                    # With this annotation the controller takes the Secret over; without it, it refuses.
                    "annotations": {"sealedsecrets.bitnami.com/managed": "true"},
                },
                "type": spec.type,
                "data": {
                    name: base64.b64encode(as_bytes(value)).decode() for name, value in sealed[spec.id].data.items()
                },
            }
        )
    say(f"credentials of Argo CD: {', '.join(spec.name for spec in specs)}")


def _not_established(cluster: Cluster, names: list[str]) -> list[str]:
    established = {
        crd["metadata"]["name"]
        for crd in cluster.find("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        for condition in crd.get("status", {}).get("conditions", [])
        if condition["type"] == "Established" and condition["status"] == "True"
    }
    return [name for name in names if name not in established]


def _not_available(cluster: Cluster, namespace: str) -> list[str]:
    return [
        f"{kind.lower()} {workload['metadata']['name']}"
        for api_version, kind in _WORKLOADS
        for workload in cluster.find(api_version, kind, namespace)
        if not _is_available(workload)
    ]


def _is_available(workload: Object) -> bool:
    wanted = workload["spec"].get("replicas", 1)
    status = workload.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
        and (status.get("updatedReplicas") or 0) >= wanted
        and (status.get("readyReplicas") or 0) >= wanted
    )


def _wait(until: float, what: str, waiting_for: Callable[[], list[str]]) -> None:
    """Waits until ``waiting_for`` returns nothing, and says what it waits for whenever that changes."""
    started, said = time.monotonic(), None
    while missing := waiting_for():
        if time.monotonic() > until:
            raise ClusterError(f"{what}: not ready within the deadline: {', '.join(missing)}", fix="homelab status")
        if missing != said:
            say(f"{what}: waits for {', '.join(missing)}")
            said = missing
        time.sleep(POLL)
    say(f"{what}: ready ({time.monotonic() - started:.0f} s)")


def wait_until_green(cluster: Cluster, root: Path, branch: PushedBranch, until: float) -> None:
    """Shows the applications until each that the clone ``root`` declares is green at the branch's commit.

    Raises:
        ClusterError: they are not, at the time ``until`` of the monotonic clock.
    """
    expected = _expected_applications(root)
    console = stderr()
    if console.is_terminal:
        from rich.live import Live

        with Live(console=console, refresh_per_second=2) as live:
            status = _follow(cluster, root, expected, branch, until, lambda status: live.update(table_of(status)))
    else:
        printer = _LinePrinter()
        status = _follow(cluster, root, expected, branch, until, printer)
    if not _is_done(status, expected, branch.commit):
        waiting = _unfinished(status, expected, branch.commit)
        raise ClusterError(
            f"not all green within the deadline: {'; '.join(waiting) or 'pods are not ready'}",
            where=cluster.context,
            fix="`homelab status` says why; the same command runs again and repairs",
        )


def _unfinished(status: PlatformStatus, expected: set[str], commit: str) -> list[str]:
    missing = sorted(expected - {app.name for app in status.applications})
    return [
        *(
            f"{app.name} is {app.sync} and {app.health}{f', and syncs: {app.waiting_for}' if app.syncing else ''}"
            for app in status.applications
            if not app.green or app.syncing
        ),
        *(
            f"{app.name} is at commit {app.revision[:8] or 'unknown'} and not at {commit[:8]}"
            for app in status.applications
            if app.green and app.name in expected and app.revision != commit
        ),
        *(f"{name} does not exist" for name in missing),
    ]


class _LinePrinter:
    """Prints a line whenever an application changes."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._started = time.monotonic()

    def __call__(self, status: PlatformStatus) -> None:
        for app in status.applications:
            reason = f": {app.waiting_for}" if app.waiting_for else ""
            text = f"{app.name}: {app.sync}, {app.health}{reason}"
            if self._said.get(app.name) != text:
                say(f"{time.monotonic() - self._started:5.0f} s  {text}")
                self._said[app.name] = text


def _follow(
    cluster: Cluster,
    root: Path,
    expected: set[str],
    branch: PushedBranch,
    until: float,
    report: Callable[[PlatformStatus], None],
) -> PlatformStatus:
    while True:
        status = observe(cluster, root)
        report(status)
        if _is_done(status, expected, branch.commit) or time.monotonic() > until:
            return status
        # Argo CD may have seen a push that was made meanwhile, and never goes back to the commit before it.
        elsewhere = any(app.revision not in ("", branch.commit) for app in status.applications)
        if elsewhere and branch.has_moved():
            refresh(cluster)
        time.sleep(POLL)


def _is_done(status: PlatformStatus, expected: set[str], commit: str) -> bool:
    """Whether every expected application is green, at the pushed commit, and no sync goes on."""
    current = {app.name for app in status.applications if app.revision == commit}
    return status.green and expected <= current and not any(app.syncing for app in status.applications)


def _expected_applications(root: Path) -> set[str]:
    files = [root / ROOT_APPLICATION, *(root / "apps").rglob("*.yaml")]
    documents = [document for path in files for document in yaml_reader.load_all(path.read_text(encoding="utf-8"))]
    return {
        document["metadata"]["name"] for document in documents if document and document.get("kind") == "Application"
    }

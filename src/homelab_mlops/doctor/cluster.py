"""The checks of the cluster: which parts of the platform exist, and what keeps them from running."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from homelab_mlops.cluster.certificates import INGRESS, page_certificates
from homelab_mlops.cluster.pods import APPLICATION, ARGO_CD_NAMESPACE
from homelab_mlops.doctor import network as connections
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.gitops import unsealable
from homelab_mlops.doctor.live import (
    ARGO,
    SEALED,
    Live,
    find,
    find_everywhere,
    latest_workflows,
    live_of,
    name_of,
    warnings,
)
from homelab_mlops.doctor.visit import NotLookedAtError, Visit
from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object

KINDS = (
    (ARGO, "Application"),
    (ARGO, "AppProject"),
    (ARGO, "ClusterWorkflowTemplate"),
    (ARGO, "CronWorkflow"),
    (ARGO, "Workflow"),
    (ARGO, "WorkflowArtifactGCTask"),
    (ARGO, "WorkflowEventBinding"),
    (ARGO, "WorkflowTaskResult"),
    (ARGO, "WorkflowTaskSet"),
    (ARGO, "WorkflowTemplate"),
    (SEALED, "SealedSecret"),
)
PLATFORM = {"app.kubernetes.io/part-of": "homelab-mlops"}
NAMESPACES = ("argo-cd", "argo-workflows", "minio", "mlflow", "sealed-secrets", "serving", "training")
ANSWER_SECONDS = 5.0
# A claim that waits longer than this for its provisioner counts as forgotten; its event is repeated every 15 s.
PROVISIONED_WITHIN = datetime.timedelta(seconds=45)


@check("cluster", "CLUSTER_KUBECONFIG", "CLUSTER_UNREACHABLE", "CLUSTER_DENIED")
def connected(visit: Visit) -> None:
    """Whether the API server of the context answers. It leaves the platform's namespaces to the other checks."""
    named = visit.variable("KUBECONFIG")
    files = [Path(file) for file in (named or str(Path.home() / ".kube" / "config")).split(os.pathsep) if file]
    if not any(file.is_file() for file in files):
        if named or visit.context:
            raise Finding(
                "CLUSTER_KUBECONFIG", f"KUBECONFIG={named}", "there is no kubeconfig where KUBECONFIG says so"
            )
        raise NotLookedAtError("there is no kubeconfig")
    from homelab_mlops.clients.kubernetes import Cluster

    try:
        counted = functools.partial(visit.count, "cluster")
        cluster = Cluster(visit.context, timeout=visit.seconds(ANSWER_SECONDS), on_request=counted)
        live = visit.shared["live"] = Live(visit.keep(cluster))
        for item in live.every("v1", "Namespace"):
            live.namespaces[item["metadata"]["name"]] = item["metadata"].get("labels", {})
        apps = live.every(*APPLICATION)
    except ClusterError as error:
        text = str(error)
        denied = re.search(r"Unauthorized|[Ff]orbidden|cannot list", text)
        code = "CLUSTER_KUBECONFIG" if "kubeconfig" in error.what else "CLUSTER_DENIED" if denied else ""
        raise Finding(code or "CLUSTER_UNREACHABLE", error.where, error.what) from error
    deployed = {
        app["spec"]["destination"].get("namespace", "")
        for app in apps
        if app["metadata"]["namespace"] == ARGO_CD_NAMESPACE
    }
    live.own = {
        name
        for name, labels in live.namespaces.items()
        if name in deployed or name in NAMESPACES or PLATFORM.items() <= labels.items()
    }
    if not live.own & {*NAMESPACES}:
        context = live.cluster.context
        raise NotLookedAtError(f"the platform is not on context {context}; `homelab bootstrap` brings it")


@check("cluster", "CLUSTER_CRD_MISSING", after=[connected])
def kinds(visit: Visit) -> Iterator[Finding]:
    """Whether the cluster knows every kind that the platform's controllers and manifests need."""
    cluster = live_of(visit).cluster
    for api_version, kind in KINDS:
        try:
            known = cluster.knows(api_version, kind)
        except ClusterError as error:
            raise NotLookedAtError(f"whether the cluster knows the kind {kind}: {error.what}", partly=True) from error
        if not known:
            yield Finding("CLUSTER_CRD_MISSING", f"{kind}.{api_version}", f"the cluster does not know the kind {kind}")


@check("cluster", "CLUSTER_SERVICEACCOUNT_MISSING", after=[kinds])
def accounts(visit: Visit) -> Iterator[Finding]:
    """Whether each ServiceAccount that is named exists."""
    known = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in find(visit, "v1", "ServiceAccount")}
    for kind, api_version in (("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("Job", "batch/v1")):
        for item in find(visit, api_version, kind):
            name = item["spec"]["template"]["spec"].get("serviceAccountName", "default")
            if (item["metadata"]["namespace"], name) not in known:
                yield _no_account(item["metadata"]["namespace"], name, name_of(item))
    for (namespace, name), user in sorted(_executors(visit).items()):
        if (namespace, name) not in known:
            yield _no_account(namespace, name, user)


def _executors(visit: Visit) -> dict[tuple[str, str], str]:
    """The ServiceAccounts that report the results of steps, by namespace and name, each with one that names it."""
    found: dict[tuple[str, str], str] = {}
    latest = latest_workflows(visit)
    for kind in ("WorkflowTemplate", "CronWorkflow", "Workflow"):
        for item in find(visit, ARGO, kind):
            spec = item["spec"].get("workflowSpec", {}) if kind == "CronWorkflow" else item["spec"]
            old = item.get("status", {}).get("finishedAt") and item["metadata"]["name"] not in latest
            if not old and ("workflowTemplateRef" not in spec or "serviceAccountName" in spec):
                own = spec.get("serviceAccountName", "default")
                name = spec.get("executor", {}).get("serviceAccountName", own)
                found.setdefault((item["metadata"]["namespace"], name), name_of(item))
    return found


@check("cluster", "CLUSTER_EXECUTOR_ROLE", after=[accounts])
def executors(visit: Visit) -> Iterator[Finding]:
    """Whether the ServiceAccounts of workflows may report results."""
    for (namespace, name), user in sorted(_executors(visit).items()):
        if lacking := [verb for verb in ("create", "patch") if not _may(visit, namespace, name, verb)]:
            account = f"ServiceAccount {namespace}/{name}"
            what = f"{account} of {user} may not {' and '.join(lacking)} workflowtaskresults"
            yield Finding("CLUSTER_EXECUTOR_ROLE", account, f"{what}: every step would end in Error after succeeding")


def _no_account(namespace: str, name: str, user: str) -> Finding:
    account = f"ServiceAccount {namespace}/{name}"
    return Finding("CLUSTER_SERVICEACCOUNT_MISSING", user, f"{account} is missing", about=account)


def _may(visit: Visit, namespace: str, account: str, verb: str) -> bool:
    """Whether the API server would allow this to the account. It only answers, and stores nothing."""
    cluster = live_of(visit).cluster
    question = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {
                "group": "argoproj.io",
                "resource": "workflowtaskresults",
                "namespace": namespace,
                "verb": verb,
            },
        },
    }
    try:
        return bool(cluster.create(question)["status"].get("allowed"))
    except ClusterError as error:
        raise NotLookedAtError(f"what an executor may do: {error.what}", partly=True) from error


@check("cluster", "CLUSTER_PVC_*", after=[connected])
def volumes(visit: Visit) -> Iterator[Finding]:
    """Whether each pending claim can be provisioned."""
    pending = [item for item in find(visit, "v1", "PersistentVolumeClaim") if item["status"].get("phase") == "Pending"]
    if not pending:
        return
    classes = {item["metadata"]["name"]: item for item in find_everywhere(visit, "storage.k8s.io/v1", "StorageClass")}
    default = [
        name
        for name, item in classes.items()
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    events = warnings(visit)
    forgotten = _forgotten(visit)
    for claim in pending:
        spec, where = claim["spec"], name_of(claim)
        name = next(iter(default), "") if spec.get("storageClassName") is None else spec["storageClassName"]
        if spec.get("volumeName"):
            continue  # the claim waits for that volume, whatever its class
        warning = events.get(("PersistentVolumeClaim", claim["metadata"]["namespace"], claim["metadata"]["name"]), "")
        if name not in classes:
            known = ", ".join(classes) or "none"
            what = f"{where} waits for the StorageClass {name!r}; the cluster has {known}"
            yield Finding("CLUSTER_PVC_NO_CLASS", where, what)
        elif _mode_refused(spec["accessModes"], str(classes[name].get("provisioner", "")), warning):
            modes = ", ".join(spec["accessModes"])
            yield Finding("CLUSTER_PVC_ACCESS_MODE", where, f"{where} asks for {modes}, which {name} does not have")
        elif warning and not re.search(r"storageclass\S* \S+ not found", warning):  # somebody has made this class since
            yield Finding("CLUSTER_PVC_PENDING", where, f"{where} is not provisioned: {warning[:200]}")
        elif claim["metadata"]["uid"] in forgotten:
            provisioner = classes[name].get("provisioner", "")
            what = f"{where} is not provisioned: {provisioner}, of the StorageClass {name}, does not answer"
            yield Finding("CLUSTER_PVC_PENDING", where, what)


def _forgotten(visit: Visit) -> set[str]:
    """The uids of the claims that have waited for their provisioner for too long."""
    found = set()
    for event in find(visit, "v1", "Event"):
        first, last = event.get("firstTimestamp"), event.get("lastTimestamp")
        if event.get("reason") == "ExternalProvisioning" and first and last:
            waited = datetime.datetime.fromisoformat(last) - datetime.datetime.fromisoformat(first)
            if waited >= PROVISIONED_WITHIN:
                found.add(str(event["involvedObject"].get("uid")))
    return found


def _mode_refused(modes: list[str], provisioner: str, warning: str) -> bool:
    shared = {"ReadWriteMany", "ReadOnlyMany"} & {*modes}
    return bool(shared) and ("local-path" in provisioner or "access mode" in warning.lower() or "AccessMode" in warning)


@check("cluster", "GITOPS_SEALED_*", after=[kinds])
def sealed(visit: Visit) -> Iterator[Finding]:
    """Whether each SealedSecret became a Secret. Where one did not, the cluster's own keys say why."""
    every = find(visit, SEALED, "SealedSecret")
    failed = [item for item in every if _unsynced(item)]
    if not failed:
        return
    label = "sealedsecrets.bitnami.com/sealed-secrets-key"
    keys = [
        base64.b64decode(secret["data"]["tls.key"]) for secret in find_everywhere(visit, "v1", "Secret", selector=label)
    ]
    others = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in every]
    for item in failed:
        findings = list(unsealable(item, keys, name_of(item), others))
        yield from findings
        if not findings:
            said = _unsynced(item)
            own = "delete the Secret of this name, which somebody made by hand: the controller makes it anew"
            fix = own if "not managed" in said else "read the reason"
            yield Finding("GITOPS_SEALED_DAMAGED", name_of(item), f"{name_of(item)}: {said}", fix)


def _unsynced(item: Object) -> str:
    conditions = item.get("status", {}).get("conditions", [])
    return next(
        (str(c.get("message", "no")) for c in conditions if c["type"] == "Synced" and c["status"] == "False"), ""
    )


@check("cluster", "CLUSTER_NETWORK_POLICY", after=[connected])
def network(visit: Visit) -> Iterator[Finding]:
    """Whether the policies let every connection through that the platform needs."""
    policies = find(visit, "networking.k8s.io/v1", "NetworkPolicy")
    labels = {
        name: {"kubernetes.io/metadata.name": name, **labels} for name, labels in live_of(visit).namespaces.items()
    }
    pods = find_everywhere(visit, "v1", "Pod")
    for connection, side in connections.blocked(policies, labels, pods, _git_port(visit), _own_ingress(visit)):
        yield Finding("CLUSTER_NETWORK_POLICY", side, f"NetworkPolicies block {connection}", about="network")


@check("cluster", "CLUSTER_CERTIFICATE_*", after=[connected])
def certificates(visit: Visit) -> Iterator[Finding]:
    """Whether each page that has TLS has a certificate for its host, for some weeks yet."""
    cluster = live_of(visit).cluster

    def secret(namespace: str, name: str) -> Object | None:
        try:
            return cluster.get("v1", "Secret", name, namespace)
        except ClusterError as error:
            raise NotLookedAtError(
                f"the certificate in Secret {namespace}/{name}: {error.what}", partly=True
            ) from error

    for page in page_certificates(find(visit, *INGRESS), secret):
        if page.state != "good":
            yield Finding(
                f"CLUSTER_CERTIFICATE_{page.state.upper()}", f"Secret {page.secret}", page.what, about=page.host
            )


def _own_ingress(visit: Visit) -> connections.Pods:
    """The ingress controller that the settings of this clone name, if there is a clone."""
    from homelab_mlops.errors import RepositoryError
    from homelab_mlops.gitops.settings import load_settings
    from homelab_mlops.location import SETTINGS

    if visit.root is None or not (visit.root / SETTINGS).is_file():
        return connections.INGRESS
    try:
        settings = load_settings(visit.root)
    except RepositoryError:
        return connections.INGRESS  # `homelab check` says what is wrong with it
    labels = tuple(sorted(settings.ingress_selector.items()))
    return dataclasses.replace(connections.INGRESS, namespace=settings.ingress_namespace, labels=labels)


def _git_port(visit: Visit) -> int | None:
    """The port of the git host, where Argo CD fetches the repository by http or https."""
    for app in find(visit, *APPLICATION):
        address = urlsplit(app["spec"].get("source", {}).get("repoURL", ""))
        if app["spec"]["destination"].get("namespace") == "training" and address.scheme in ("http", "https"):
            return address.port or (443 if address.scheme == "https" else 80)
    return None

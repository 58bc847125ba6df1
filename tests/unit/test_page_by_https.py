"""A real nginx with what `homelab init` seals: who has the authority gets the page, and nobody else does."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.certificates import new_authority, new_certificate
from homelab_mlops.clients.authority import authority_of
from homelab_mlops.clients.mlflow import TRUSTS, ModelRegistry
from homelab_mlops.gitops.init import initialise
from homelab_mlops.gitops.secrets.seal import set_secret
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import load_table, read_sealed
from homelab_mlops.gitops.tls.command import renew_certificate
from homelab_mlops.location import AUTHORITY
from tests.conftest import ROOT

DOMAIN = "home.example.org"
HOST = f"mlflow.{DOMAIN}"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
UNTRUSTED = 60  # curl's exit status for a certificate of nobody it trusts
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not here")
CONFIGURATION = """
daemon off; master_process on; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; server_name {host};
    ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;
    location / {{ default_type application/json; return 200 '{{"model_version": {{"version": "3"}}}}'; }}
  }}
}}
"""


class Ingress:
    """nginx, which answers for one host with the pair in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        text = CONFIGURATION.format(folder=folder, port=self.port, host=HOST)
        (folder / "nginx.conf").write_text(text)

    def _nginx(self, *arguments: str) -> list[str]:
        return [str(NGINX), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), *arguments]

    def answers_with(self, data: dict[str, str]) -> None:
        for name, text in data.items():
            (self.folder / name).write_text(text)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._nginx(), stderr=subprocess.DEVNULL)

    def reload(self) -> None:
        subprocess.run(self._nginx("-s", "reload"), check=True, stderr=subprocess.DEVNULL)

    def curl(self, *arguments: str, host: str = HOST) -> int:
        command = ["curl", "--silent", "--output", "/dev/null", "--retry", "20", "--retry-connrefused"]
        to = ["--resolve", f"{host}:{self.port}:127.0.0.1", f"https://{host}:{self.port}/"]
        return subprocess.run([*command, *arguments, *to], check=False, env={"PATH": "/usr/bin:/bin"}).returncode


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / "fork" / folder)
    return tmp_path / "fork"


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Ingress]]:
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "nginx").mkdir()

    def start(data: dict[str, str]) -> Ingress:
        made = Ingress(tmp_path / "nginx")
        made.answers_with(data)
        started.append(made.start())
        return made

    yield start
    for process in started:
        process.terminate()
        process.wait()


def sealed(fork: Path) -> dict[str, str]:
    """The Secret `tls` of MLflow's namespace, as the cluster would have it."""
    key = find_sealing_key(fork, fork.parent / "key.pem")
    return read_sealed(fork, load_table(fork), key)["mlflow/tls"].data


def make(fork: Path, tls: str) -> None:
    initialise(fork, {"domain": DOMAIN, "tls": tls}, key_file=fork.parent / "key.pem")


def test_curl_with_the_authority_gets_the_page_and_fails_without_it(
    fork: Path, ingress: Callable[[dict[str, str]], Ingress]
) -> None:
    make(fork, "own")
    served = ingress(sealed(fork))

    assert served.curl("--cacert", str(fork / AUTHORITY)) == 0
    assert served.curl() == UNTRUSTED
    assert served.curl("--cacert", str(fork / AUTHORITY), host="mlflow.elsewhere.org") == UNTRUSTED


def test_a_certificate_of_ones_own_answers_whoever_trusts_its_authority(
    fork: Path, ingress: Callable[[dict[str, str]], Ingress], tmp_path: Path
) -> None:
    make(fork, "secret")
    authority = new_authority(DOMAIN)
    pair = new_certificate(authority, [f"*.{DOMAIN}"])
    set_secret(fork, "tls", {"tls.crt": pair.certificate, "tls.key": pair.key}, key_file=fork.parent / "key.pem")
    served = ingress(sealed(fork))
    (tmp_path / "theirs.pem").write_text(authority.certificate)

    assert served.curl("--cacert", str(tmp_path / "theirs.pem")) == 0
    assert served.curl() == UNTRUSTED


def test_a_program_of_the_clone_trusts_its_authority_by_itself(
    fork: Path, ingress: Callable[[dict[str, str]], Ingress], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(fork, "own")
    served = ingress(sealed(fork))
    assert served.curl("--cacert", str(fork / AUTHORITY)) == 0  # it is up
    resolve = socket.getaddrinfo

    def here(host: Any, *arguments: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host in (HOST, HOST.encode()) else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    for name in TRUSTS:
        monkeypatch.delenv(name, raising=False)
    uri = f"https://{HOST}:{served.port}"

    monkeypatch.chdir(fork)
    assert authority_of(uri) == str(fork / AUTHORITY)
    with ModelRegistry(uri, "", "") as registry:
        assert registry.champion("churn") == "3"
    monkeypatch.chdir(fork.parent)
    with ModelRegistry(uri, "", "") as registry, pytest.raises(Exception, match=r"(?i)certificate"):
        registry.champion("churn")


def test_no_request_fails_while_the_certificate_is_renewed(
    fork: Path, ingress: Callable[[dict[str, str]], Ingress]
) -> None:
    make(fork, "own")
    served = ingress(sealed(fork))
    trusts = str(fork / AUTHORITY)
    assert served.curl("--cacert", trusts) == 0

    def renew() -> None:
        for _ in range(3):
            renew_certificate(fork, fork.parent / "key.pem")
            served.answers_with(sealed(fork))
            served.reload()

    renewing = threading.Thread(target=renew)
    renewing.start()
    seen = []
    while renewing.is_alive():
        seen.append(served.curl("--cacert", trusts, "--retry", "0"))
    seen.append(served.curl("--cacert", trusts, "--retry", "0"))

    assert set(seen) == {0}
    assert len(seen) > 3


def test_only_a_host_of_the_clone_is_trusted_so(fork: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(fork, "own")
    monkeypatch.chdir(fork)
    trusted = str(fork / AUTHORITY)
    wanted = {
        f"https://{HOST}": trusted,
        f"https://{HOST.upper()}/path": trusted,
        f"http://{HOST}": "",
        f"https://evil{DOMAIN}": "",
        f"https://{DOMAIN}.evil.com": "",
        "": "",
    }
    assert {url: authority_of(url) for url in wanted} == wanted
    make(fork, "off")
    assert authority_of(f"https://{HOST}") == ""

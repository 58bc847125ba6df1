"""The controller of Sealed Secrets itself, beside a real API server, where PATH has both."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster import bootstrap
from tests.conftest import PATIENCE, free_port, started
from tests.unit.clients import api_server

# The controller finds its API server as a pod does: by files at this place.
IN_A_POD = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
AS_IN_A_POD = (
    "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && "
    "cp {folder}/token {folder}/ca.crt /run/secrets/kubernetes.io/serviceaccount/ &&"
)


@contextmanager
def api_server_of_a_controller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """An API server in ``folder``; the test is skipped where the controller could not run beside it."""
    program = shutil.which("controller")
    if program is None or not api_server.is_real():
        pytest.skip("kube-apiserver, etcd and the controller of Sealed Secrets are not on PATH")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if "controller version: 0.40.0" not in version.stdout + version.stderr:
        pytest.skip("the controller on PATH is not that of Sealed Secrets 0.40.0")
    if subprocess.run([*IN_A_POD, "mount -t tmpfs none /run"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    with api_server.kube_apiserver(folder) as upstream:
        config = api_server.kubeconfig(folder / "config", upstream.url, upstream.authority)
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield Cluster(patience=PATIENCE)


@contextmanager
def sealed_secrets_controller(cluster: Cluster, folder: Path) -> Iterator[None]:
    """The controller, as a pod of the API server that lies in ``folder``, until the block ends."""
    port = free_port()
    options = f"--listen-addr=127.0.0.1:{port} --listen-metrics-addr=127.0.0.1:{free_port()} --key-renew-period=0"
    (folder / "token").write_text(api_server.TOKEN)
    (folder / "ca.crt").write_bytes((folder / "apiserver.crt").read_bytes())
    server = urlsplit(cluster.server)
    env = {
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
        "POD_NAMESPACE": bootstrap.SEALED_SECRETS_NAMESPACE,
    }
    command: list[str | Path] = [*IN_A_POD, f"{AS_IN_A_POD.format(folder=folder)} exec controller {options}"]
    with started(command, f"http://127.0.0.1:{port}/healthz", folder / "controller.log", env):
        yield


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.2)

"""A cluster that is coming up: whatever it refuses for a moment is waited for, said once, and never a wrong answer."""

from __future__ import annotations

import collections
import contextlib
import http.client
import http.server
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from homelab_mlops.clients import patience
from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster import status
from homelab_mlops.errors import ClusterError
from tests.conftest import ROOT, clean_environment
from tests.inside import inside_this_process
from tests.unit.clients import api_server
from tests.unit.clients.api_server import CUSTOM, TOKEN, Upstream, crd, kubeconfig

FAULTS = {
    "429": (429, "storage is (re)initializing"),
    "500": (500, "etcdserver: request timed out"),
    "503": (503, "the request has been made before all known HTTP paths have been installed, please try again"),
    "leader": (500, "etcdserver: leader changed"),
    "not served": (404, "404 page not found\n"),
    "reset": (0, "before the server sees the request"),
    "lost": (0, "the answer"),
    "cut": (0, "half of the answer"),
}
ARGO = "argoproj.io/v1alpha1"


class Proxy:
    """Stands before an API server, and lets each call fail ``times`` times by ``fault`` before it lets it through."""

    def __init__(self) -> None:
        self.url = ""
        self.fault: str | None = None
        self.times = 1
        self.failed: collections.Counter[tuple[str, str]] = collections.Counter()

    def begin(self, fault: str | None, times: int = 1) -> None:
        self.fault, self.times = fault, times
        self.failed.clear()

    def fails(self, method: str, path: str) -> str | None:
        """The fault that this call gets. What does not exist is told by its own 404, so that one is for writes."""
        if self.fault is None or (self.fault == "not served" and method not in {"PATCH", "POST"}):
            return None
        # A created object has another name each time.
        key = (method, path)
        if self.failed[key] >= self.times:
            return None
        self.failed[key] += 1
        return self.fault


@contextlib.contextmanager
def before(upstream: Upstream) -> Iterator[Proxy]:
    proxy = Proxy()
    host = urlsplit(upstream.url).netloc

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.fails(self.command, urlsplit(self.path).path)
            if fault is not None and FAULTS[fault][0]:
                status, message = FAULTS[fault]
                failure = {"kind": "Status", "status": "Failure", "message": message, "code": status}
                content = message.encode() if status == 404 else json.dumps(failure).encode()
                return self.answer(status, content, {"Retry-After": "0"} if status == 429 else {})
            if fault == "reset":
                return self.reset()
            status, content = self.forwarded(body)
            if fault == "lost":
                return self.reset()
            if fault == "cut":
                self.answer(status, content, {}, sends=len(content) // 2)
                return self.reset()
            return self.answer(status, content, {})

        do_GET = do_PATCH = do_POST = do_DELETE = handle_one  # noqa: N815 - the base class looks for these names

        def forwarded(self, body: bytes) -> tuple[int, bytes]:
            if upstream.trusts is None:
                connection: http.client.HTTPConnection = http.client.HTTPConnection(host)
            else:
                connection = http.client.HTTPSConnection(host, context=upstream.trusts)
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": self.headers["Accept"]}
            if kind := self.headers.get("Content-Type"):
                headers["Content-Type"] = kind
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()

        def answer(self, status: int, content: bytes, headers: dict[str, str], sends: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sends])

        def reset(self) -> None:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()
            self.close_connection = True
            self.wfile = open(os.devnull, "wb")  # noqa: SIM115, PTH123 - what the base class flushes at the end

        def log_message(self, *_: Any) -> None: ...

    with api_server.serving(Handler) as proxy.url:
        yield proxy


@pytest.fixture(scope="module", params=["recorded", "kube-apiserver"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy before an API server that knows Argo's kinds."""
    if request.param == "kube-apiserver" and not api_server.is_real():
        pytest.skip("kube-apiserver and etcd are not on PATH")
    folder = tmp_path_factory.mktemp("api")
    server = api_server.recorded() if request.param == "recorded" else api_server.kube_apiserver(folder)
    with server as upstream, before(upstream) as made:
        yield made


@pytest.fixture(autouse=True)
def config(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    proxy.begin(None)
    # Each of a hundred calls fails: with the pauses of the command line, that is a minute of sleep.
    monkeypatch.setattr(patience, "LONGEST_PAUSE", patience.FIRST_PAUSE / 4)
    monkeypatch.setattr(patience, "FIRST_PAUSE", patience.FIRST_PAUSE / 4)
    path = kubeconfig(tmp_path / "kubeconfig", proxy.url)
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_outlasts_it(fault: str, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    proxy.begin(fault)
    cluster = Cluster(patience=60)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "training"}}
    cluster.apply(namespace)
    for kind in CUSTOM:
        cluster.apply(crd(kind))
    # Discovery lags behind a CRD: the first use of its kind waits for it.
    made = cluster.create(
        {"apiVersion": ARGO, "kind": "Workflow", "metadata": {"generateName": "churn-", "namespace": "training"}}
    )
    name = made["metadata"]["name"]
    assert name.startswith("churn-")
    assert len(name) > len("churn-")
    assert [item["metadata"]["name"] for item in cluster.find(ARGO, "Workflow", "training")] == [name]
    cluster.annotate(ARGO, "Workflow", name, "training", {"seen": "yes"})
    cluster.delete(ARGO, "Workflow", name, "training")
    assert cluster.get(ARGO, "Workflow", name, "training") is None
    assert sum(proxy.failed.values()) >= 3
    said = capfd.readouterr().err.splitlines()
    waits = [line for line in said if line.startswith("waits for up to")]
    assert 1 <= len(waits) == len([line for line in said if line.startswith("went on after")])


def test_an_outage_of_many_refusals_is_said_once(proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(patience=60)
    proxy.begin("503", times=3)
    cluster.find("v1", "Namespace")
    said = capfd.readouterr().err
    assert said.count("waits for up to") == 1
    assert FAULTS["503"][1] in said


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "not served"])
def test_without_patience_it_is_an_error_and_never_an_empty_answer(fault: str, proxy: Proxy) -> None:
    cluster = Cluster()
    proxy.begin(fault, times=99)
    with pytest.raises(ClusterError) as refused:
        cluster.find("v1", "Pod")
    assert refused.value.transient
    with pytest.raises(ClusterError):
        Cluster()


def test_what_will_not_change_is_not_waited_for() -> None:
    cluster = Cluster(patience=3600)
    assert cluster.find("nobody.example/v1", "Nothing") == []
    assert not cluster.knows("nobody.example/v1", "Nothing")
    assert cluster.get("v1", "ConfigMap", "none", "training") is None


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_status_outlasts_it(fault: str, proxy: Proxy, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(patience=60)
    for kind in CUSTOM:
        cluster.apply(crd(kind))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argo-cd"}})
    destination = {"destination": {"namespace": "minio"}, "source": {"path": "overlays/homelab/minio"}}
    metadata = {"name": "minio", "namespace": "argo-cd"}
    cluster.apply({"apiVersion": ARGO, "kind": "Application", "metadata": metadata, "spec": destination})
    proxy.begin(fault)
    # No Argo CD is here that would compare the application anew.
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.0)
    done = inside_this_process(["status", "--json"], clean_environment({"KUBECONFIG": str(config)}), ROOT, monkeypatch)
    assert done.returncode == 1, done.stderr
    assert [app["name"] for app in json.loads(done.stdout)["applications"]] == ["minio"]
    assert "waits for up to" in done.stderr

"""An API server for the tests: kube-apiserver with etcd where PATH has them, and a recorded one on loopback."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import free_port, started

TOKEN = "a-token-of-the-tests"
# kind, name in the address, API, whether it lies in a namespace
KINDS = (
    ("Namespace", "namespaces", "v1", False),
    ("Pod", "pods", "v1", True),
    ("ConfigMap", "configmaps", "v1", True),
    ("Secret", "secrets", "v1", True),
    ("ServiceAccount", "serviceaccounts", "v1", True),
    ("Deployment", "deployments", "apps/v1", True),
    ("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io/v1", False),
)
CUSTOM = ("Application", "Workflow", "CronWorkflow")


class Upstream(NamedTuple):
    """Where the API server answers."""

    url: str
    authority: Path | None

    @property
    def trusts(self) -> ssl.SSLContext | None:
        return None if self.authority is None else ssl.create_default_context(cafile=str(self.authority))


def crd(kind: str) -> dict[str, Any]:
    """A CRD of Argo's group that lets every field in."""
    plural = f"{kind.lower()}s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.argoproj.io"},
        "spec": {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


@contextlib.contextmanager
def kube_apiserver(folder: Path, *options: str) -> Iterator[Upstream]:
    """A real API server, without controllers; its certificate, and that of its authority, lie in ``apiserver.crt``."""
    etcd, peer, port = free_port(), free_port(), free_port()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding = serialization.Encoding.PEM
    pem = key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "accounts.key").write_bytes(pem)
    (folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    urls = {name: f"http://127.0.0.1:{number}" for name, number in (("client", etcd), ("peer", peer))}
    store: list[str | Path] = ["etcd", "--data-dir", folder / "etcd"]
    store += [f"--listen-client-urls={urls['client']}", f"--advertise-client-urls={urls['client']}"]
    store += [f"--listen-peer-urls={urls['peer']}", "--initial-advertise-peer-urls", urls["peer"]]
    store += [f"--initial-cluster=default={urls['peer']}"]
    server: list[str | Path] = ["kube-apiserver", f"--etcd-servers={urls['client']}", f"--secure-port={port}"]
    server += ["--bind-address=127.0.0.1", f"--cert-dir={folder}", f"--token-auth-file={folder / 'tokens.csv'}"]
    server += [f"--service-account-{part}-file={folder / 'accounts.key'}" for part in ("key", "signing-key")]
    server += ["--service-account-issuer=https://tests.invalid", "--service-cluster-ip-range=10.0.0.0/24"]
    server += ["--authorization-mode=RBAC", *options]
    with (
        started(store, f"{urls['client']}/health", folder / "etcd.log"),
        started(server, f"https://127.0.0.1:{port}/readyz", folder / "server.log", insecure=True),
    ):
        yield Upstream(f"https://127.0.0.1:{port}", folder / "apiserver.crt")


@contextlib.contextmanager
def recorded() -> Iterator[Upstream]:
    """What kube-apiserver answers to the calls of the tests, as recorded of version 1.35.4; objects lie in memory."""
    objects: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            with lock:
                found = _discovery(path, objects) or objects.get(path) or _listed(path, objects)
            self.say(200, found) if found else self.refuse(404, "NotFound", f"{path} not found")

        def do_PATCH(self) -> None:
            path, body = urlsplit(self.path).path, self.body()
            with lock:
                if path not in objects and "apply" not in self.headers["Content-Type"]:
                    self.refuse(404, "NotFound", f"{path} not found")
                    return
                old = objects.get(path, {})
                objects[path] = {**old, **body, "metadata": {**old.get("metadata", {}), **body["metadata"]}}
                self.say(200, objects[path])

        def do_POST(self) -> None:
            body = self.body()
            path = urlsplit(self.path).path
            account, _, verb = path.rpartition("/")
            if verb == "token":
                status = {"token": "a.recorded.token", "expirationTimestamp": "2026-12-01T00:00:00Z"}
                known = account in objects
                self.say(201, {**body, "status": status}) if known else self.refuse(404, "NotFound", "not found")
                return
            path = f"{path}/{body['metadata']['name']}"
            with lock:
                if path in objects:
                    self.refuse(409, "AlreadyExists", f"{path} already exists")
                    return
                objects[path] = body
                self.say(201, body)

        def do_DELETE(self) -> None:
            path = urlsplit(self.path).path
            with lock:
                if objects.pop(path, None) is None:
                    self.refuse(404, "NotFound", f"{path} not found")
                    return
                self.say(200, {"kind": "Status", "status": "Success"})

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def refuse(self, status: int, reason: str, message: str) -> None:
            self.say(status, {"kind": "Status", "status": "Failure", "reason": reason, "message": message})

        def say(self, status: int, document: Any) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with serving(Handler) as url:
        yield Upstream(url, None)


@contextlib.contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig(path: Path, url: str, authority: Path | None = None) -> Path:
    """A kubeconfig whose only context leads to ``url``."""
    trusts = {"certificate-authority": str(authority)} if authority else {}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {"server": url, **trusts}}],
        "users": [{"name": "tests", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def is_real() -> bool:
    return all(shutil.which(name) for name in ("etcd", "kube-apiserver"))


def _kinds(objects: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, bool]]:
    names = [item["spec"]["names"] for item in objects.values() if item.get("kind") == "CustomResourceDefinition"]
    return [*KINDS, *((name["kind"], name["plural"], "argoproj.io/v1alpha1", True) for name in names)]


def _discovery(path: str, objects: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    kinds = _kinds(objects)
    if path.rstrip("/") == "/version":
        built = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), "")
        return {"major": "1", "minor": "35", "gitVersion": "v1.35.4", **built}
    if path in ("/api", "/apis"):
        return _aggregated([kind for kind in kinds if ("/" in kind[2]) == (path == "/apis")])
    resources = [
        {"name": name, "kind": kind, "namespaced": namespaced, "singularName": kind.lower(), "verbs": ["get", "list"]}
        for kind, name, api, namespaced in kinds
        if path == (f"/apis/{api}" if "/" in api else f"/api/{api}")
    ]
    return {"kind": "APIResourceList", "resources": resources} if resources else None


def _aggregated(kinds: list[tuple[str, str, str, bool]]) -> dict[str, Any]:
    """The kinds of all APIs in one answer."""
    versions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for kind, plural, api, namespaced in kinds:
        group, _, version = api.rpartition("/")
        resource = {
            "resource": plural,
            "responseKind": {"group": group, "version": version, "kind": kind},
            "scope": "Namespaced" if namespaced else "Cluster",
            "verbs": ["get", "list"],
        }
        versions.setdefault((group, version), []).append(resource)
    items = [
        {"metadata": {"name": group} if group else {}, "versions": [{"version": version, "resources": resources}]}
        for (group, version), resources in versions.items()
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}


def _listed(path: str, objects: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    *_, name = path.split("/")
    kind = next((kind for kind, plural, _, _ in _kinds(objects) if plural == name), None)
    items = [item for key, item in objects.items() if kind is not None and item.get("kind") == kind]
    return {"kind": f"{kind}List", "items": items} if kind else None

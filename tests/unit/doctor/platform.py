"""The platform's manifests in a real API server, on which no controller acts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.gitops.render import render
from tests.conftest import ROOT
from tests.unit.clients.api_server import crd, kube_apiserver, kubeconfig

# Argo CD's own manifests come from upstream, so the platform's need these kinds.
ARGO_CD_KINDS = ("Application", "AppProject")
# The API server's own record of who asked for what.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": ["admin"]}, {"level": "None"}],
}
Object = dict[str, Any]


@contextlib.contextmanager
def recording_api_server(folder: Path) -> Iterator[Path]:
    """The kubeconfig of an empty cluster, which records every request of its only user."""
    (folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
    options = f"--audit-policy-file={folder / 'audit.yaml'}", f"--audit-log-path={folder / 'audit.log'}"
    with kube_apiserver(folder, *options) as server:
        yield kubeconfig(folder / "kubeconfig", server.url, folder / "apiserver.crt")


def asked_for(kubeconfig: Path) -> list[str]:
    """Verb and path of every request that was sent to the API server, by its own record."""
    events = [json.loads(line) for line in (kubeconfig.parent / "audit.log").read_text().splitlines()]
    return [f"{event['verb']} {event['requestURI'].partition('?')[0]}" for event in events]


def platform() -> list[Object]:
    """The manifests of every component except Argo CD's own, and the Applications; each with its namespace."""
    folders = sorted(path.parent for path in (ROOT / "overlays" / "homelab").glob("*/kustomization.yaml"))
    components = [folder for folder in folders if folder.name != "argo-cd"]
    manifests = [
        {**item, "metadata": {"namespace": folder.name, **item["metadata"]}}
        for folder in components
        for item in render(folder)
    ]
    files = [yaml.safe_load_all(path.read_text()) for path in sorted((ROOT / "apps").glob("*.yaml"))]
    return [*manifests, *(item for file in files for item in file if item["kind"] in ARGO_CD_KINDS)]


def fill(cluster: Cluster) -> None:
    """Applies the platform to an empty cluster, which needs patience, until each kind is served."""
    manifests = platform()
    kinds = [*(crd(kind) for kind in ARGO_CD_KINDS), *_of("CustomResourceDefinition", manifests)]
    for item in (*_of("Namespace", manifests), _namespace("argo-cd"), *kinds):
        cluster.apply(item)
    for item in manifests:
        if item["kind"] not in ("Namespace", "CustomResourceDefinition"):
            cluster.apply(item)
    for spec in (kind["spec"] for kind in kinds):
        cluster.find(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"])


def _of(kind: str, manifests: list[Object]) -> list[Object]:
    return [item for item in manifests if item["kind"] == kind]


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}

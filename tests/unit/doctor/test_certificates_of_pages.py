"""A certificate of a page that ends soon is a warning of doctor and status; one that no client accepts is more."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.certificates import Pair, new_authority, new_certificate
from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster.certificates import page_certificates
from homelab_mlops.cluster.status import ApplicationStatus, PlatformStatus, show
from homelab_mlops.doctor import cluster  # noqa: F401 - registers its checks
from homelab_mlops.doctor.examine import examine
from homelab_mlops.doctor.visit import Visit
from tests.unit.clients.api_server import is_real
from tests.unit.doctor.platform import recording_api_server

HOST = "mlflow.home.example.org"
NOW = datetime.datetime.now(datetime.UTC)
CODES = ["ENDS", "ENDED", "MISSING", "OTHER"]


def certificate(days: int, host: str = HOST) -> Pair:
    """A certificate that ends in so many days, and some hours."""
    made = NOW - datetime.timedelta(days=397 - days, hours=-12)
    return new_certificate(new_authority("home.example.org", made), [host], made)


def secret(pair: Pair) -> dict[str, Any]:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "tls", "namespace": "mlflow"},
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }


INGRESS: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "mlflow", "namespace": "mlflow"},
    "spec": {
        "tls": [{"hosts": [HOST], "secretName": "tls"}],
        "rules": [
            {
                "host": HOST,
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "mlflow", "port": {"name": "http"}}},
                        }
                    ]
                },
            }
        ],
    },
}
CASES = {
    "ten days left": (certificate(10), "ENDS"),
    "a year left": (certificate(365), ""),
    "ended yesterday": (certificate(-1), "ENDED"),
    "of another host": (certificate(365, "argo.home.example.org"), "OTHER"),
    "none yet": (Pair("", ""), "MISSING"),
}


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not is_real():
        pytest.skip("kube-apiserver and etcd are not on PATH")
    with (
        recording_api_server(tmp_path_factory.mktemp("api-server")) as file,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("KUBECONFIG", str(file))
        with Cluster(patience=60) as made:
            made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mlflow"}})
            made.apply(INGRESS)
        yield file


@pytest.mark.parametrize("name", CASES)
def test_the_doctor_sees_what_the_cluster_has(name: str, api_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server))
    pair, code = CASES[name]
    with Cluster(patience=60) as made:
        made.apply(secret(pair))
    report = examine(Visit(deadline=float("inf")), ("cluster",), [f"CLUSTER_CERTIFICATE_{one}" for one in CODES])

    assert [finding.code for finding in report.findings] == ([f"CLUSTER_CERTIFICATE_{code}"] if code else [])
    assert report.status == ("warning" if code == "ENDS" else "broken" if code else "fine")


@pytest.mark.parametrize("name", CASES)
def test_the_status_says_it_and_is_not_green_once_it_has_ended(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pair, code = CASES[name]
    found = [page for page in page_certificates([INGRESS], lambda *_: secret(pair)) if page.state != "good"]
    green = ApplicationStatus("mlflow", "Synced", "Healthy", "", "", None)
    status = PlatformStatus([green], [], [], [], found)
    show(status, as_json=False)

    said = " ".join(capsys.readouterr().out.split())
    assert status.green == (code != "ENDED")
    assert ("homelab certificate --renew" in said) == bool(code)
    if code == "ENDS":
        assert f"the certificate of {HOST} ends in 10 days" in said
    assert [page.state.upper() for page in found] == ([code] if code else [])

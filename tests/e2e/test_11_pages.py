"""What a person sees: the dashboard's applications, and a run with its plots in a browser."""

from __future__ import annotations

import base64
import http.server
import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.pipeline.plots import BLUE
from tests.e2e.conftest import SETTINGS, Fork, applications, setting, versions

Mask = np.ndarray[Any, np.dtype[np.bool_]]
TOLERANCE = 8
# The least important features have bars that a smaller picture loses.
COMPARED = 6
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(SETTINGS.get("HOMELAB_E2E_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def signed_in(fork: Fork, service: str, auth: tuple[str, str]) -> Iterator[str]:
    """An address of this machine that leads to a service's ingress, logged in: a process list shows no password."""
    token = base64.b64encode(":".join(auth).encode()).decode()
    added = {"Host": f"{service}.{fork.domain}", "Authorization": f"Basic {token}"}
    dropped = {"host", "origin", "referer", "accept-encoding", "connection"}

    class Forward(http.server.BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            url = f"http://{setting('INGRESS')}{self.path}"
            with httpx.Client(trust_env=False, timeout=60) as client:
                answer = client.request(self.command, url, content=body, headers={**headers, **added})
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def photograph(address: str, picture: Path, profile: Path) -> Image.Image:
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", *QUIET, f"--user-data-dir={profile}", "--hide-scrollbars"]
    shot = [f"--screenshot={picture}", "--window-size=1400,1000", "--virtual-time-budget=40000"]
    subprocess.run([BROWSER, *options, *shot, address], capture_output=True, timeout=240, check=True)
    return Image.open(picture).convert("RGB")


def test_the_dashboard_lists_every_application_as_green(fork: Fork, platform: Cluster) -> None:
    cluster = platform
    login = dict(zip(("username", "password"), fork.password("argo-cd"), strict=True))
    address, host = f"http://{setting('INGRESS')}/api/v1", {"Host": f"argocd.{fork.domain}"}
    with httpx.Client(headers=host, trust_env=False, timeout=60) as client:
        token = client.post(f"{address}/session", json=login).raise_for_status().json()["token"]
        answer = client.get(f"{address}/applications", headers={"Authorization": f"Bearer {token}"}).raise_for_status()
    listed = {item["metadata"]["name"]: item["status"] for item in answer.json()["items"]}
    for name, status in listed.items():
        print(
            f"{name:16} {status['sync']['status']:8} {status['health']['status']:10} {status['sync']['revision'][:8]}"
        )
    assert set(listed) == set(applications(cluster))
    assert {status["sync"]["status"] for status in listed.values()} == {"Synced"}
    assert {status["health"]["status"] for status in listed.values()} == {"Healthy"}


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
@pytest.mark.usefixtures("trained")
def test_a_browser_shows_a_plot_of_the_run(fork: Fork, pictures: Path, tmp_path: Path) -> None:
    run = versions(fork)[-1]["run_id"]
    experiment = fork.mlflow("runs/get", run_id=run)["run"]["info"]["experiment_id"]
    with signed_in(fork, "mlflow", fork.password("mlflow-admin")) as address:
        query = {"path": "plots/importance.png", "run_uuid": run}
        logged = httpx.get(f"{address}/get-artifact", params=query, trust_env=False, timeout=60).raise_for_status()
        page = f"{address}/#/experiments/{experiment}/runs/{run}"
        overview = photograph(page, pictures / "mlflow-run.png", tmp_path)
        shown = photograph(f"{page}/artifacts/plots/importance.png", pictures / "mlflow-plot.png", tmp_path)
    plot = bars(Image.open(io.BytesIO(logged.content)).convert("RGB"))
    assert not bars(overview).any()
    logged_lengths, shown_lengths = lengths(plot), lengths(bars(shown))
    assert len(logged_lengths) >= COMPARED
    assert shown_lengths[:COMPARED] == pytest.approx(logged_lengths[:COMPARED], abs=0.02)


def bars(picture: Image.Image) -> Mask:
    """Where a picture has the colour of the bars that plots.py draws."""
    colour = np.array([int(BLUE[at : at + 2], 16) for at in (1, 3, 5)])
    near: Mask = np.abs(np.asarray(picture, dtype=int) - colour).max(axis=2) < TOLERANCE
    return near


def lengths(mask: Mask) -> list[float]:
    """The length of each bar from the top, as a share of the longest."""
    rows = mask.sum(axis=1)
    parts = np.split(rows, np.flatnonzero(np.diff(rows > 0)) + 1)
    found = [int(part.max()) for part in parts if part.any()]
    return [length / max(found) for length in found]

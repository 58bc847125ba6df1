"""The demo: the whole pipeline twice, with an MLflow server on loopback that starts and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homelab_mlops.console import progress, say, stdout
from homelab_mlops.errors import TrackingError

START_SECONDS = 180.0
HOST = "127.0.0.1"
DEFAULT_PORT = 5000
# The file with the port of the demo's server: `homelab ui` uses it, so the printed addresses work.
PORT = "port"


def demo(folder: Path, model: str) -> None:
    """Retrains ``model`` twice with different seeds, the second time against a champion, and shows both versions.

    Raises:
        HomelabError: a step fails.
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.retrain import retrain

    spec = load_spec(model)
    wanted = [port for port in (_port(folder), DEFAULT_PORT) if port is not None and _is_free(port)]
    port = wanted[0] if wanted else _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PORT).write_text(f"{port}\n", encoding="ascii")
    with mlflow_server(folder, port):
        decisions = []
        for _ in range(2):
            seed = _versions(spec.name)
            say(f"\n== {spec.name}, seed {seed}")
            decisions.append(retrain(spec, folder / "work", "mlflow", {"seed": str(seed)}, source="demo"))
    _show(folder, decisions)


def ui(folder: Path, port: int | None) -> None:
    """Serves the demo's runs and models until it is stopped, at the demo's own addresses unless ``port`` is given.

    Raises:
        TrackingError: the demo has not run, or the server does not start.
    """
    if not (folder / "mlflow.db").exists():
        raise TrackingError("the demo has not run yet", where=str(folder), fix="run `make demo` first")
    port = port or _port(folder) or DEFAULT_PORT
    with mlflow_server(folder, port) as server:
        _show_pages()
        server.wait()


def _show_pages() -> None:
    from homelab_mlops.pipeline import tracking

    client = tracking.client()
    with tracking.explained("listing the models"):
        for model in client.search_registered_models():
            say(f"{model.name}, its versions:  {tracking.page(f'models/{model.name}')}")
            if experiment := client.get_experiment_by_name(model.name):
                say(f"{model.name}, its runs:  {tracking.page(f'experiments/{experiment.experiment_id}/runs')}")
    say("Ctrl-C ends it")


def _port(folder: Path) -> int | None:
    """The port at which the demo's addresses lead to its server."""
    try:
        return int((folder / PORT).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server with SQLite and a local artifact folder; `MLFLOW_TRACKING_URI` names it inside the block.

    Raises:
        TrackingError: it does not answer within three minutes, or something else listens on ``port``.
    """
    if port is not None and not _is_free(port):
        raise TrackingError(
            f"something else listens on port {port}", where=f"{HOST}:{port}", fix="stop it, or give another `--port`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    log = folder / "mlflow.log"
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{(folder / 'mlflow.db').resolve()}"]
    command += ["--artifacts-destination", str((folder / "artifacts").resolve())]
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **settings}, start_new_session=True
        )
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME")}
    try:
        _wait(server, port, log)
        os.environ["MLFLOW_TRACKING_URI"] = f"http://{HOST}:{port}"
        os.environ.pop("MLFLOW_TRACKING_USERNAME", None)
        yield server
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _stop(server)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import httpx

    say(f"starting an MLflow server on {HOST}:{port}")
    deadline = time.monotonic() + START_SECONDS
    with progress("MLflow starts"):
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if httpx.get(f"http://{HOST}:{port}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise TrackingError("the MLflow server did not start", where=str(log), fix="read the end of that log")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _versions(name: str) -> int:
    from homelab_mlops.pipeline import tracking

    client = tracking.client()
    with tracking.explained("counting the versions"):
        return len(client.search_model_versions(f"name = '{name}'"))


def _show(folder: Path, decisions: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from homelab_mlops.pipeline import verdict

    table = Table(title="What the demo made")
    for column in ("version", "alias", f"holdout {decisions[0]['metric']}", "gate", "why"):
        table.add_column(column)
    for decision in decisions:
        registration, metric = decision["registration"], decision["metrics"]["challenger"][decision["metric"]]
        table.add_row(
            f"{registration['name']} {registration['version']}",
            registration["alias"] or "none",
            f"{metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]",
            verdict.verdict(decision),
            verdict.in_short(decision),
        )
    stdout().print(table)
    print(f"report:  {folder / 'work' / 'evaluate' / 'report.html'}")  # noqa: T201
    print("MLflow:  make ui   (runs, curves, models; it opens the addresses above)")  # noqa: T201

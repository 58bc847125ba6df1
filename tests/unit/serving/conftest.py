"""Models of each task in a real registry, and the service on each."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.train import train
from tests.conftest import FIXTURES, HOMELAB, ROOT, clean_environment, free_port

MODELS = {
    "churn": ROOT / "workflows/models/churn",
    "penguins": FIXTURES / "models/valid/penguins",
    "diamonds": FIXTURES / "models/valid/diamonds",
}
LOGIN = ("models", "a password of the tests")


@dataclass(frozen=True)
class Registered:
    """A model in the registry, under a name that no other test uses."""

    spec: ModelSpec
    version: str
    work: Path

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    metrics: str
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, **arguments: Any) -> httpx.Response:
        method = arguments.pop("method", "POST")
        arguments.setdefault("auth", LOGIN)
        return httpx.request(method, f"{self.url}{path}", trust_env=False, timeout=60, **arguments)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def serving(name: str, version: str, folder: Path, env: Mapping[str, str], *, ready: bool = True) -> Iterator[Served]:
    """The service, until the block ends; with ``ready``, once it says so."""
    port, metrics_port = free_port(), free_port()
    log = folder / f"serving-{name}-{version}-{port}.log"
    command: list[str | Path] = [
        HOMELAB,
        "serve",
        name,
        version,
        "--port",
        str(port),
        "--metrics-port",
        str(metrics_port),
    ]
    login = {"SERVING_USERNAME": LOGIN[0], "SERVING_PASSWORD": LOGIN[1]}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"], stdout=output, stderr=output, env=clean_environment({**login, **env})
        )
    served = Served(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics", process, log)
    try:
        deadline = time.monotonic() + 60
        while ready:
            try:
                if served.ask("/ping", method="GET").status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield served
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def registered(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Registered]:
    """One version of each model, as a retraining leaves it."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_uri
    try:
        return {name: _registered(name, tmp_path_factory.mktemp(name)) for name in MODELS}
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _registered(name: str, work: Path) -> Registered:
    found = load_spec(str(MODELS[name]))
    gate = found.gate.model_copy(update={"resamples": 200, "baseline": "trivial"})
    spec = found.model_copy(update={"name": f"served-{name}", "gate": gate})
    ingest(spec, work, "demo" if spec.data.demo else None)
    train(spec, work, "mlflow", {"num_round": "60"})
    evaluate(spec, work)
    return Registered(spec, register(spec, work)["version"], work)


@pytest.fixture(scope="session")
def services(
    registered: dict[str, Registered], mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Served]]:
    """The service on each model."""
    folder = tmp_path_factory.mktemp("services")
    env = {"MLFLOW_TRACKING_URI": mlflow_uri}
    found: dict[str, Served] = {}
    with _all(registered, folder, env, found):
        yield found


@contextmanager
def _all(
    models: dict[str, Registered], folder: Path, env: Mapping[str, str], found: dict[str, Served]
) -> Iterator[None]:
    if len(found) == len(models):
        yield
        return
    name = list(models)[len(found)]
    with serving(models[name].name, models[name].version, folder, env) as served:
        found[name] = served
        with _all(models, folder, env, found):
            yield

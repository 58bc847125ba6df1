"""Models of each task in a real registry, and the service on each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train
from tests import forks
from tests.conftest import FIXTURES, PATIENCE, ROOT, clean_environment, free_port

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
    process: forks.Program
    log: Path

    def ask(self, path: str, **arguments: Any) -> httpx.Response:
        method = arguments.pop("method", "POST")
        arguments.setdefault("auth", LOGIN)
        return httpx.request(method, f"{self.url}{path}", trust_env=False, timeout=PATIENCE, **arguments)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def serving(name: str, version: str, folder: Path, env: Mapping[str, str], *, ready: bool = True) -> Iterator[Served]:
    """The service, until the block ends; with ``ready``, once it says so."""
    port, metrics_port = free_port(), free_port()
    log = folder / f"serving-{name}-{version}-{port}.log"
    ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
    arguments = ["serve", name, version, "--host", "127.0.0.1", *ports]
    login = {"SERVING_USERNAME": LOGIN[0], "SERVING_PASSWORD": LOGIN[1]}
    process = forks.homelab(arguments, clean_environment({**login, **env}), ROOT, log)
    served = Served(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics", process, log)
    try:
        deadline = time.monotonic() + PATIENCE
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


class Models(dict[str, Registered]):
    """One version of each model, as a retraining leaves it, made when a test asks for it."""

    def __init__(self, uri: str, folder: Path) -> None:
        super().__init__()
        self.uri, self.folder = uri, folder

    def __missing__(self, name: str) -> Registered:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            self[name] = _registered(name, self.folder / name)
        return self[name]


@pytest.fixture(scope="session")
def registered(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory, once: Callable[[str], None]) -> Models:
    once("registered")
    return Models(mlflow_uri, tmp_path_factory.mktemp("registered"))


def _registered(name: str, work: Path) -> Registered:
    found = load_spec(str(MODELS[name]))
    gate = found.gate.model_copy(update={"resamples": 200, "baseline": "trivial"})
    spec = found.model_copy(update={"name": f"served-{name}", "gate": gate})
    ingest(spec, work, "demo" if spec.data.demo else None)
    train(spec, work, "mlflow", {"num_round": "40"})
    evaluate(spec, work)
    return Registered(spec, register(spec, work)["version"], work)


class Services(dict[str, Served]):
    """The service on each model, started when a test asks for it."""

    def __init__(self, models: Models, stack: ExitStack) -> None:
        super().__init__()
        self.models, self.stack = models, stack

    def __missing__(self, name: str) -> Served:
        model, env = self.models[name], {"MLFLOW_TRACKING_URI": self.models.uri}
        self[name] = self.stack.enter_context(serving(model.name, model.version, self.models.folder, env))
        return self[name]


@pytest.fixture(scope="session")
def services(registered: Models) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(registered, stack)

"""Real parts for the tests: the command line, an MLflow server, an MLflow server with passwords, a MinIO server."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import httpx
import pytest

from homelab_mlops.gitops import tools
from tests import forks

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
HOMELAB = Path(sys.executable).with_name("homelab")

# XGBoost's threads sleep while they wait for each other. Otherwise they keep the cores busy that other tests need.
os.environ["OMP_WAIT_POLICY"] = "passive"

# A deadline in seconds for what never ends; nothing fails because the machine is slow.
PATIENCE = 300.0

Homelab = Callable[..., subprocess.CompletedProcess[str]]
# What a developer's shell may hold and no test may see.
STEERING = ("SM_", "MLFLOW_", "AWS_", "HOMELAB_")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write what golden tests expect anew")


# What takes longest, first: it starts first, so that no process is left with a long file at the end. A folder here runs
# in one process, whose servers and models its files share; of the rest each file does.
FIRST = (
    "tests/unit/doctor/",
    "tests/unit/serving/",
    "tests/unit/pipeline/test_tracking.py",
    "tests/unit/pipeline/test_faults.py",
    "tests/unit/tables/test_forty_ways.py",
    "tests/unit/review/test_mutations.py",
    "tests/unit/test_demo.py",
    "tests/unit/test_readme.py",
    "tests/unit/test_fork.py",
    "tests/manifests/test_graders.py",
)


def _place(nodeid: str) -> int:
    return next((place for place, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


def _scope(nodeid: str) -> str:
    """What of the tests runs in one process."""
    return next((start for start in FIRST if nodeid.startswith(start)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = _scope
    return scheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.nodeid))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Holds that one process alone of those that run the tests starts what is named."""

    def hold(name: str) -> None:
        if "PYTEST_XDIST_WORKER" in os.environ:
            (tmp_path_factory.getbasetemp().parent / name).touch(exist_ok=False)

    return hold


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(STEERING) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a user's shell, with ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    return {**kept, **(extra or {})}


@pytest.fixture
def homelab() -> Homelab:
    """Runs the command line as a user does, in the repository's root."""

    def run(
        *arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        return forks.run(arguments, clean_environment(env), ROOT, timeout)

    return run


@pytest.fixture(scope="session")
def homelab_on_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A `PATH` with `homelab`, for what a shell runs."""
    with forks.on_path(tmp_path_factory.mktemp("bin")) as folder:
        yield f"{folder}{os.pathsep}{HOMELAB.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server that serves its artifacts."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def refused(finished: subprocess.CompletedProcess[str], expected: str) -> None:
    """Holds that a command ended in one clear error."""
    assert finished.returncode in (1, os.EX_TEMPFAIL), finished.stderr
    assert expected in finished.stderr, finished.stderr
    assert finished.stderr.count("error: ") == 1, finished.stderr
    assert "Traceback" not in finished.stderr + finished.stdout


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Server(Protocol):
    """A process, as `subprocess.Popen` or `forks.Program`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


@contextmanager
def answering(server: Server, ready: str, log: Path, *, insecure: bool = False) -> Iterator[None]:
    """Keeps a server, the first of its process group, until the block ends, once ``ready``, an address, answers."""
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                httpx.get(ready, trust_env=False, timeout=2, verify=not insecure).raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def started(
    command: list[str | Path], ready: str, log: Path, env: Mapping[str, str] | None = None, *, insecure: bool = False
) -> Iterator[None]:
    """Runs a server until the block ends, once ``ready``, an address, answers."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=clean_environment(env), start_new_session=True
        )
    with answering(server, ready, log, insecure=insecure):
        yield


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class MLflowServer:
    """An MLflow server that runs."""

    uri: str
    program: forks.Program


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MLflowServer]:
    """An MLflow server with the demo's settings."""
    port = free_port()
    env = {"MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port},localhost:{port}"}
    with _mlflow(port, folder, ("--artifacts-destination", str(folder / "artifacts")), env) as server:
        yield server


@contextmanager
def mlflow_with(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """An MLflow server with other settings than the demo's."""
    with _mlflow(free_port(), folder, options, env or {}) as server:
        yield server.uri


@contextmanager
def _mlflow(port: int, folder: Path, options: tuple[str, ...], env: Mapping[str, str]) -> Iterator[MLflowServer]:
    folder.mkdir(parents=True, exist_ok=True)
    database, log, uri = folder / "mlflow.db", folder / "server.log", f"http://127.0.0.1:{port}"
    if not database.exists():
        shutil.copyfile(_new_database(), database)
    command = ["server", "--port", str(port), "--workers", "1", *options]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **env}
    program = forks.mlflow(command, clean_environment(settings), folder, log)
    with answering(program, f"{uri}/health", log):
        yield MLflowServer(uri, program)


@functools.cache
def _new_database() -> Path:
    """MLflow's tables without a row; a server that makes them itself takes ten times as long to start."""
    database = Path(tempfile.mkdtemp(), "mlflow.db")
    forks.migrated(database)
    return database


@dataclass(frozen=True)
class Store:
    """An S3 store with the buckets `datasets` and `requests`."""

    endpoint: str
    access_key: str = "tests-access-key"
    secret_key: str = "tests-secret-key"

    @property
    def env(self) -> dict[str, str]:
        """What a client of the store has in its environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with minio_server(tmp_path_factory.mktemp("minio")) as store:
        yield store


@contextmanager
def minio_server(folder: Path) -> Iterator[Store]:
    """A real MinIO; `make test` builds the program from its Go module."""
    store = Store(f"http://127.0.0.1:{free_port()}")
    command: list[str | Path] = [
        tools.find("minio", ROOT),
        "server",
        "--quiet",
        "--address",
        store.endpoint.removeprefix("http://"),
        folder / "data",
    ]
    settings = {"MINIO_ROOT_USER": store.access_key, "MINIO_ROOT_PASSWORD": store.secret_key, "MINIO_BROWSER": "off"}
    with started(command, f"{store.endpoint}/minio/health/ready", folder / "minio.log", settings):
        for bucket in ("datasets", "requests"):
            store.client().create_bucket(Bucket=bucket)
        yield store

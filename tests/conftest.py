"""Real parts for the tests: the command line, an MLflow server, an MLflow server with passwords, a MinIO server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from homelab_mlops.demo import mlflow_server

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
HOMELAB = Path(sys.executable).with_name("homelab")

Homelab = Callable[..., subprocess.CompletedProcess[str]]
# What a developer's shell may hold and no test may see.
STEERING = ("SM_", "MLFLOW_", "AWS_", "HOMELAB_")


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
        *arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HOMELAB, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=clean_environment(env),
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server that serves its artifacts."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")):
        yield os.environ["MLFLOW_TRACKING_URI"]


def refused(finished: subprocess.CompletedProcess[str], expected: str) -> None:
    """Holds that a command ended in one clear error."""
    assert finished.returncode == 1, finished.stderr
    assert expected in finished.stderr, finished.stderr
    assert finished.stderr.count("error: ") == 1, finished.stderr
    assert "Traceback" not in finished.stderr + finished.stdout


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""The lab: real servers, started once, in which the faults are made."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from werkzeug.security import generate_password_hash

from homelab_mlops.doctor import visit
from homelab_mlops.gitops import tools
from tests.conftest import PATIENCE, ROOT, Store, clean_environment, free_port, mlflow_with
from tests.inside import inside_this_process
from tests.unit.doctor.lab import BEHIND, EVERYTHING, MLFLOW_USER, PARTS, PASSWORD, Lab


@pytest.fixture(scope="session")
def lab(minio: Store, tmp_path_factory: pytest.TempPathFactory, once: Callable[[str], None]) -> Iterator[Lab]:
    once("lab")
    with made_lab(tmp_path_factory.mktemp("lab"), minio) as made:
        yield made


Inside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Runs the command line in this process, outside of any clone and with no cluster, unless told otherwise.

    Nothing of it is about time: to start a process anew takes longer than most of what the doctor does, and the doctor
    has as long as it needs.
    """
    monkeypatch.setattr(visit, "BUDGET_SECONDS", math.inf)

    def run(
        *arguments: str | Path, env: Mapping[str, str], folder: Path = tmp_path
    ) -> subprocess.CompletedProcess[str]:
        environment = clean_environment({"KUBECONFIG": "", "HOME": str(tmp_path), **env})
        return inside_this_process(arguments, environment, folder, monkeypatch)

    return run


@contextlib.contextmanager
def made_lab(folder: Path, minio: Store) -> Iterator[Lab]:
    """The lab, with servers of its own beside the store that is given."""
    minio.client().create_bucket(Bucket="mlflow")
    plain, guarded = folder / "plain", folder / "guarded"
    for place in (plain, guarded):
        place.mkdir()
    configuration = guarded / "auth.ini"
    configuration.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{guarded / 'auth.db'}\n"
        "admin_username = admin\n"
        f"admin_password = {PASSWORD}\n"
    )
    env = {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "tests",
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_S3_ENDPOINT_URL": minio.endpoint,
        "AWS_ACCESS_KEY_ID": MLFLOW_USER,
        "AWS_SECRET_ACCESS_KEY": f"secret-of-{MLFLOW_USER}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    options = ("--app-name", "basic-auth", "--artifacts-destination", BEHIND)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        # At the same time: each takes its seconds to start.
        first = mlflow_with(plain, "--artifacts-destination", str(plain / "artifacts"))
        second = mlflow_with(guarded, *options, env=env)
        starting = [pool.submit(stack.enter_context, server) for server in (first, second)]
        disk, on_disk = stack.enter_context(_disk(folder / "disk"))
        on_files, behind_login = (server.result() for server in starting)
        _check_passwords_fast(guarded / "auth.db")
        made = Lab(folder, minio, on_files, plain / "mlflow.db", behind_login, disk, on_disk)
        made.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
        yield made


def _check_passwords_fast(database: Path) -> None:
    """Hashes the password anew with one round: the server checks it in each request, which took 0.1 s of CPU."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        (count,) = connection.execute("SELECT count(*) FROM users").fetchone()
        assert count == 1
        hashed = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
        connection.execute("UPDATE users SET password_hash = ?", (hashed,))


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[tuple[Store | None, Callable[[str], None]]]:
    """A MinIO on a small file system of its own, in a user namespace, and how to run a command there; or None."""
    folder.mkdir()
    store = Store(f"http://127.0.0.1:{free_port()}")
    minio = tools.find("minio", ROOT)
    inside = f"mount -t tmpfs -o size=64m tmpfs {folder} && exec {minio} server --quiet --address "
    inside += f"{store.endpoint.removeprefix('http://')} {folder}/data"
    env = clean_environment({"MINIO_ROOT_USER": store.access_key, "MINIO_ROOT_PASSWORD": store.secret_key})
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        yield None, lambda _command: None
        return
    server = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", inside],
        env={**env, "MINIO_BROWSER": "off", "MINIO_SITE_REGION": "eu-central-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def on_disk(command: str) -> None:
        enter = ["nsenter", "--target", str(server.pid), "--user", "--mount", "--preserve-credentials"]
        done = subprocess.run([*enter, "sh", "-c", f"cd {folder} && {command}"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    try:
        deadline = time.monotonic() + PATIENCE
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{store.endpoint}/minio/health/ready", trust_env=False, timeout=2).is_success:
                    break
            time.sleep(0.1)
        if server.poll() is not None:
            yield None, lambda _command: None
            return
        store.client().create_bucket(Bucket="mlflow")
        yield store, on_disk
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()

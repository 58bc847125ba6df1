"""An MLflow server with the platform's logins and their rights, as its image runs it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import PATIENCE, ROOT, clean_environment, mlflow_with

PLUGIN = ROOT / "docker/mlflow/plugin"
USERS = {"MLFLOW_AUTH_ADMIN": "admin", "TRAINING": "training", "READER": "serving", "PROMOTER": "promoter"}
PERSON = "person"
# Prints a method and a rule or path a line, for each route of Flask and of FastAPI.
_LIST = """
import os
from mlflow.server import auth
app = auth.create_app()
for rule in auth.app.url_map.iter_rules():
    for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
        print("ROUTE", method, rule.rule)
for router in auth._native_fastapi_routes(app):
    for context in router.effective_route_contexts():
        assert context.path_format.startswith("/"), context
        for method in sorted(context.methods):
            print("ROUTE", method, context.path_format)
"""


class Server(NamedTuple):
    """A server, and the logins that it knows."""

    uri: str
    client: httpx.Client

    def ask(self, user: str, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer to a request of a user; of nobody without a name."""
        auth = (user, password(user)) if user else None
        return self.client.request(method, path, auth=auth, **options)


def password(user: str) -> str:
    """The password of a user of these tests."""
    return f"the password of {user}"


def plugin(name: str) -> ModuleType:
    """A module of the app that runs in the server."""
    return _module(PLUGIN / "homelab_accounts" / f"{name}.py")


@contextmanager
def accounts_server(folder: Path) -> Iterator[Server]:
    """A server whose users the preparation of the image has made, and one person whom an administrator has added."""
    prepare = _module(ROOT / "docker/mlflow/prepare_mlflow.py")
    auth, configuration = f"sqlite:///{folder}/auth.db", folder / "basic_auth.ini"
    configuration.write_text(prepare.configuration(auth, "admin"))
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(configuration)}
    with pytest.MonkeyPatch.context() as patch:
        for name, user in USERS.items():
            patch.setenv(f"{name}_USERNAME", user)
            patch.setenv(f"{name}_PASSWORD", password(user))
        for name, value in env.items():
            patch.setenv(name, value)
        prepare.set_users(auth)
        prepare.set_users(auth)
    # No password of a user: the server has none in the cluster either.
    env |= {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
        "PYTHONPATH": str(PLUGIN),
    }
    options = ("--app-name", "homelab-accounts", "--artifacts-destination", str(folder / "artifacts"))
    with (
        mlflow_with(folder, *options, env=env) as uri,
        httpx.Client(base_url=uri, trust_env=False, timeout=PATIENCE) as client,
    ):
        server = Server(uri, client)
        made = {"username": PERSON, "password": password(PERSON)}
        server.ask("admin", "POST", "/api/2.0/mlflow/users/create", json=made).raise_for_status()
        yield server


def served_routes(folder: Path) -> list[tuple[str, str]]:
    """Method and rule of every route that the installed MLflow serves with basic auth, by Flask and by FastAPI."""
    configuration = folder / "basic_auth.ini"
    configuration.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = admin\nadmin_password = {password('admin')}\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _LIST], env=clean_environment(env), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [line.split(" ")[1:] for line in done.stdout.splitlines() if line.startswith("ROUTE ")]
    return sorted({(method, rule) for method, rule in found})


def concrete(rule: str) -> str:
    """A path that the rule of a route serves."""
    return re.sub(r"[<{][^>}]*[>}]", "1", rule)


def _module(path: Path) -> ModuleType:
    source = importlib.util.spec_from_file_location(path.stem, path)
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module

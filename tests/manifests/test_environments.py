"""Each container holds the Secrets that docs/security.md names, and the server of MLflow no password of a user."""

from __future__ import annotations

from homelab_mlops.gitops.secrets.table import load_table
from tests.accounts import USERS
from tests.conftest import ROOT
from tests.unit.security import document, environments


def test_the_page_has_what_each_container_holds() -> None:
    assert environments.table(environments.platform()) == environments.SECTION.read(document.DOCUMENT.read_text())


def test_the_server_of_mlflow_holds_no_password_of_a_user() -> None:
    table = load_table(ROOT)
    users = {
        name
        for name, credential in table.credentials.items()
        if name.startswith("mlflow-") and credential.username in USERS.values()
    }
    assert len(users) == len(USERS)
    passwords = {(name, "password") for name in users}
    holds = {spec.name: passwords & spec.references() for spec in table.secrets if spec.namespace == "mlflow"}
    assert holds == {"mlflow-server": passwords, "mlflow-databases": set(), "mlflow-s3": set(), "postgresql": set()}

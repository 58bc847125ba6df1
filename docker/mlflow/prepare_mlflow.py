#!/opt/mlflow/bin/python
"""Prepares MLflow's databases and users before the server starts; running it again changes nothing that is right.

Upgrades both schemas, writes the configuration of basic auth, and gives the users the passwords of the environment, so
that a rotated Secret acts at the next start. What each user may do, the app `homelab-accounts` of the server says.
"""

import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

CONFIGURATION = Path("/run/mlflow/basic_auth.ini")
DATABASE_SECONDS = 180


def main() -> None:
    backend, auth = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_AUTH_DATABASE_URI"]
    create_database(backend, urlsplit(auth).path.lstrip("/"))
    CONFIGURATION.touch(mode=0o600)
    CONFIGURATION.write_text(configuration(auth, os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]))
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(CONFIGURATION)

    import mlflow.db

    # Not its command line, where the password would stand in the process list.
    mlflow.db.upgrade.callback(backend)
    set_users(auth)


def configuration(auth: str, admin: str) -> str:
    """Basic auth's settings. A password takes the server 0.1 s of CPU to check, and it is asked for in each request."""
    settings = [
        "default_permission = READ",
        f"database_uri = {auth.replace('%', '%%')}",
        f"admin_username = {admin}",
        "auth_cache_ttl_seconds = 300",
    ]
    return "\n".join(["[mlflow]", *settings, ""])


def create_database(backend: str, name: str) -> None:
    """Waits for the server, and makes the second database where it is missing."""
    import psycopg
    from psycopg import sql

    deadline = time.monotonic() + DATABASE_SECONDS
    while True:
        try:
            with psycopg.connect(backend, autocommit=True, connect_timeout=5) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
                if known is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                sys.exit(f"PostgreSQL does not answer: {error}")
            print(f"waiting for PostgreSQL: {str(error).splitlines()[0]}", flush=True)
            time.sleep(2)


def set_users(auth: str) -> None:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(auth)
    users = {
        os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]: (os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], True),
        os.environ["TRAINING_USERNAME"]: (os.environ["TRAINING_PASSWORD"], False),
        os.environ["READER_USERNAME"]: (os.environ["READER_PASSWORD"], False),
        os.environ["PROMOTER_USERNAME"]: (os.environ["PROMOTER_PASSWORD"], False),
    }
    for name, (password, is_admin) in users.items():
        if not store.has_user(name):
            store.create_user(name, password, is_admin=is_admin)
            print(f"made the user {name}")
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password, is_admin=is_admin)
            print(f"renewed the password of {name}")
        elif store.get_user(name).is_admin != is_admin:
            store.update_user(name, is_admin=is_admin)
            print(f"renewed the rights of {name}")
    # The job that moves the alias of a model that the training user owns.
    store.grant_user_permission(os.environ["PROMOTER_USERNAME"], "registered_model", "*", "EDIT")


if __name__ == "__main__":
    main()

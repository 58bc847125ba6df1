"""The faults, each really made: a scene with the fault, then the same scene without it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from homelab_mlops.doctor.visit import Model
from tests.conftest import PATIENCE, Store
from tests.unit.doctor import network
from tests.unit.doctor.network import Answer, Request, xml

PASSWORD = "correct-horse-battery"
EVERYTHING = ("s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject")
# The user and the place of the MLflow server that has its artifacts in the store.
MLFLOW_USER, BEHIND = "mlflow-behind", "s3://mlflow/behind"
PARTS = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


@dataclass(frozen=True)
class Scene:
    """An environment in which the doctor is called, and the models that it is called to."""

    env: Mapping[str, str] = field(default_factory=dict)
    models: tuple[Model, ...] = ()
    model_given: bool = False


@dataclass
class Lab:
    """The servers that the faults are made with."""

    folder: Path
    minio: Store
    # An MLflow server with its artifacts in a folder beside its database.
    mlflow: str
    database: Path
    # One with logins, and its artifacts in the store.
    guarded: str
    disk: Store | None = None
    on_disk: Callable[[str], None] = lambda _command: None
    number: int = 0

    def admin(self) -> MinioAdmin:
        provider = StaticProvider(self.minio.access_key, self.minio.secret_key)
        return MinioAdmin(endpoint=self.minio.endpoint.removeprefix("http://"), credentials=provider, secure=False)

    def user(self, *actions: str, key: str = "", bucket: str = "mlflow") -> dict[str, str]:
        """A new user of the store that may do these things in the bucket."""
        self.number += 1
        key = key or f"doctor-user-{self.number}"
        self.allow(key, *actions, bucket=bucket)
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": f"secret-of-{key}"}

    def allow(self, key: str, *actions: str, bucket: str = "mlflow") -> None:
        admin = self.admin()
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
        admin.policy_add(f"{key}-policy", policy={"Version": "2012-10-17", "Statement": [statement]})
        admin.user_add(key, f"secret-of-{key}")
        admin.policy_set(f"{key}-policy", user=key)

    def s3(self, endpoint: str = "", bucket: str = "mlflow", **change: str) -> dict[str, str]:
        """The environment of an MLflow server whose bucket is the store's."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": endpoint or self.minio.endpoint,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket}/artifacts",
            "AWS_ACCESS_KEY_ID": self.minio.access_key,
            "AWS_SECRET_ACCESS_KEY": self.minio.secret_key,
            **change,
        }

    @property
    def healthy(self) -> dict[str, str]:
        """Everything at once: a login, artifacts behind MLflow, and MLflow's own environment."""
        login = tracking(self.guarded, "admin", PASSWORD).env
        own = {"AWS_ACCESS_KEY_ID": MLFLOW_USER, "AWS_SECRET_ACCESS_KEY": f"secret-of-{MLFLOW_USER}"}
        return {**login, **self.s3(**own), "MLFLOW_ARTIFACTS_DESTINATION": BEHIND}


def set_environment(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
    """Gives this process ``env`` alone of what MLflow and boto3 read."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "AWS_")):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


Scenes = Generator[Scene, None, None]
Fault = Callable[[Lab], Scenes]
TRACKING: dict[str, tuple[str, Fault]] = {}
STORE: dict[str, tuple[str, Fault]] = {}


def fault(code: str, table: dict[str, tuple[str, Fault]] | None = None) -> Callable[[Fault], Fault]:
    """Registers a fault with the code that the doctor gives it."""
    chosen = table if table is not None else TRACKING if code.startswith("TRACKING") else STORE

    def register(function: Fault) -> Fault:
        chosen[function.__name__.replace("_", " ")] = (code, function)
        return function

    return register


@contextlib.contextmanager
def made(fault: Fault, lab: Lab) -> Iterator[tuple[Scene, Callable[[], Scene]]]:
    """A fault's scene, and what mends it and gives the scene without it; it is mended at the end in any case."""
    scenes = fault(lab)
    try:
        yield next(scenes), lambda: next(scenes)
    finally:
        for _ in scenes:
            pass


def tracking(uri: str, user: str = "", password: str = "", **more: str) -> Scene:
    env = {"MLFLOW_TRACKING_URI": uri, **more}
    if user:
        env |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return Scene(env)


# The tracking server.


@fault("TRACKING_URI")
def an_address_that_is_none(lab: Lab) -> Scenes:
    yield tracking("sqlite:///mlflow.db")
    yield tracking(lab.mlflow)


@fault("TRACKING_DNS")
def a_name_that_does_not_resolve(lab: Lab) -> Scenes:
    yield tracking("http://nowhere.invalid:5000")
    yield tracking(lab.mlflow)


@fault("TRACKING_REFUSED")
def a_port_that_nothing_listens_on(lab: Lab) -> Scenes:
    yield tracking("http://127.0.0.1:9")
    yield tracking(lab.mlflow)


@fault("TRACKING_TIMEOUT")
def an_address_that_swallows_packets(lab: Lab) -> Scenes:
    with network.black_hole() as address:
        yield tracking(f"http://{address}")
    yield tracking(lab.mlflow)


@fault("TRACKING_NO_ANSWER")
def a_server_that_never_answers(lab: Lab) -> Scenes:
    with network.talking(network.silence) as address:
        yield tracking(f"http://{address}")
    yield tracking(lab.mlflow)


@fault("TRACKING_BREAKS_OFF")
def a_server_that_hangs_up(lab: Lab) -> Scenes:
    with network.talking(network.hang_up) as address:
        yield tracking(f"http://{address}")
    yield tracking(lab.mlflow)


@fault("TRACKING_TLS_UNTRUSTED")
def a_certificate_of_an_unknown_authority(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=own.context) as url:
        yield tracking(url)
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(own.file))


@fault("TRACKING_TLS_UNTRUSTED")
def an_authority_file_that_is_not_there(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=own.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(lab.folder / "nothing.pem"))
        yield tracking(url, MLFLOW_TRACKING_INSECURE_TLS="true")


@fault("TRACKING_TLS_EXPIRED")
def a_certificate_that_has_expired(lab: Lab) -> Scenes:
    old, new = network.certificate(lab.folder, expired=True), network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=old.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(old.file))
    with network.proxy(lab.mlflow, network.through, tls=new.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(new.file))


@fault("TRACKING_TLS_WRONG_HOST")
def a_certificate_for_another_name(lab: Lab) -> Scenes:
    other, right = network.certificate(lab.folder, "mlflow.example"), network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=other.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(other.file))
    with network.proxy(lab.mlflow, network.through, tls=right.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(right.file))


@fault("TRACKING_TLS_FAILS")
def a_server_that_speaks_an_outdated_tls(lab: Lab) -> Scenes:
    old, new = network.certificate(lab.folder, outdated=True), network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=old.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(old.file))
    with network.proxy(lab.mlflow, network.through, tls=new.context) as url:
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(new.file))


@fault("TRACKING_TLS_TO_HTTP")
def https_to_a_server_without_it(lab: Lab) -> Scenes:
    yield tracking(lab.mlflow.replace("http:", "https:"))
    yield tracking(lab.mlflow)


@fault("TRACKING_HTTP_TO_TLS")
def http_to_a_tls_port(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.mlflow, network.through, tls=own.context) as url:
        yield tracking(url.replace("https:", "http:"))
        yield tracking(url, MLFLOW_TRACKING_SERVER_CERT_PATH=str(own.file))


def to_https(_request: Request) -> Answer:
    return 308, "text/plain", b"https://mlflow.example/"


@fault("TRACKING_HTTP_TO_TLS")
def an_ingress_that_leads_to_https(lab: Lab) -> Scenes:
    with network.proxy(lab.mlflow, to_https) as url:
        yield tracking(url)
    yield tracking(lab.mlflow)


@fault("TRACKING_NOT_MLFLOW")
def a_server_that_answers_any_json(lab: Lab) -> Scenes:
    with network.proxy(lab.mlflow, lambda _request: (200, "application/json", b'{"status": "ok"}')) as url:
        yield tracking(url)
    yield tracking(lab.mlflow)


@fault("TRACKING_NOT_MLFLOW")
def a_server_that_is_something_else(lab: Lab) -> Scenes:
    with network.web_page() as url:
        yield tracking(url)
    yield tracking(lab.mlflow)


@fault("TRACKING_HOST_HEADER")
def a_name_that_the_server_does_not_allow(lab: Lab) -> Scenes:
    yield tracking(lab.mlflow.replace("127.0.0.1", "127.1"))
    yield tracking(lab.mlflow)


@fault("TRACKING_LOGIN_MISSING")
def no_login(lab: Lab) -> Scenes:
    yield tracking(lab.guarded)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_LOGIN_WRONG")
def an_old_password(lab: Lab) -> Scenes:
    yield tracking(lab.guarded, "admin", "old")
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_LOGIN_WRONG")
def a_user_with_a_line_end(lab: Lab) -> Scenes:
    """As `echo admin | base64` leaves one in a Secret; MLflow's client sends it too."""
    yield tracking(lab.guarded, "admin\n", PASSWORD)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_LOGIN_WRONG")
def a_token_with_a_line_end(lab: Lab) -> Scenes:
    yield tracking(lab.guarded, MLFLOW_TRACKING_TOKEN="token\n")
    yield tracking(lab.guarded.replace("://", f"://admin:{PASSWORD}@"))


@fault("TRACKING_FORBIDDEN")
def an_experiment_of_somebody_else(lab: Lab) -> Scenes:
    """Whoever may only read cannot train into it."""
    for path, body in (
        ("users/create", {"username": "reader", "password": PASSWORD}),
        ("experiments/create", {"name": "theirs"}),
    ):
        url = f"{lab.guarded}/api/2.0/mlflow/{path}"
        httpx.post(url, json=body, auth=("admin", PASSWORD), trust_env=False).raise_for_status()
    models = (Model("theirs", ""),)
    yield Scene(tracking(lab.guarded, "reader", PASSWORD).env, models)
    yield Scene(tracking(lab.guarded, "admin", PASSWORD).env, models)


@fault("TRACKING_SERVER_FAILS")
def a_database_that_is_damaged(lab: Lab) -> Scenes:
    whole = lab.database.read_bytes()
    lab.database.write_bytes(b"\0" * len(whole))
    yield tracking(lab.mlflow)
    lab.database.write_bytes(whole)
    yield tracking(lab.mlflow)


@contextlib.contextmanager
def changed(database: Path, there: str, back: str) -> Iterator[None]:
    for statement in (there, back):
        connection = sqlite3.connect(database)
        with connection:
            connection.execute(statement)
        connection.close()
        if statement == there:
            yield


@fault("TRACKING_SCHEMA_BEHIND")
def a_database_that_lacks_a_column(lab: Lab) -> Scenes:
    """As after the restore of a backup of an older release."""
    old, new = "experiments RENAME COLUMN last_update_time", "experiments RENAME COLUMN later"
    with changed(lab.database, f"ALTER TABLE {old} TO later", f"ALTER TABLE {new} TO last_update_time"):
        yield tracking(lab.mlflow)
    yield tracking(lab.mlflow)


@fault("TRACKING_SCHEMA_BEHIND")
def a_database_of_an_older_release(lab: Lab) -> Scenes:
    """Seen in the server's own environment; the server itself does not start with it."""
    env = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{lab.database}"}
    connection = sqlite3.connect(lab.database)
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    update = "UPDATE alembic_version SET version_num = '{}'"
    with changed(lab.database, update.format("90e64c465722"), update.format(revision)):
        yield Scene(env)
    yield Scene(env)


def _of_version(version: str) -> Callable[[Request], Answer | None]:
    return lambda request: (200, "text/plain", version.encode()) if request.path == "/version" else None


@fault("TRACKING_SERVER_NEWER")
def a_newer_server(lab: Lab) -> Scenes:
    with network.proxy(lab.mlflow, _of_version("3.99.0")) as url:
        yield tracking(url)
    yield tracking(lab.mlflow)


@fault("TRACKING_CLIENT_NEWER")
def a_newer_client(lab: Lab) -> Scenes:
    with network.proxy(lab.mlflow, _of_version("2.22.1")) as url:
        yield tracking(url)
    yield tracking(lab.mlflow)


@fault("TRACKING_EXPERIMENT_DELETED")
def an_experiment_that_is_deleted(lab: Lab) -> Scenes:
    api = f"{lab.mlflow}/api/2.0/mlflow/experiments"
    made = httpx.post(f"{api}/create", json={"name": "deleted"}, trust_env=False).json()
    httpx.post(f"{api}/delete", json=made, trust_env=False).raise_for_status()
    scene = Scene(tracking(lab.mlflow).env, (Model("deleted", ""),))
    yield scene
    httpx.post(f"{api}/restore", json=made, trust_env=False).raise_for_status()
    yield scene


@fault("TRACKING_NOT_PROXIED")
def an_experiment_whose_artifacts_are_not_served(lab: Lab) -> Scenes:
    body = {"name": "direct", "artifact_location": "s3://mlflow/direct"}
    httpx.post(f"{lab.mlflow}/api/2.0/mlflow/experiments/create", json=body, trust_env=False).raise_for_status()
    yield Scene(tracking(lab.mlflow).env, (Model("direct", ""),))
    yield tracking(lab.mlflow)


def _no_larger_than(limit: int) -> Callable[[Request], Answer | None]:
    too_large = 413, "text/html", b"<html>413 Request Entity Too Large</html>"
    return lambda request: too_large if request.length > limit else None


@fault("TRACKING_UPLOAD_TOO_LARGE")
def a_proxy_before_mlflow_that_limits_the_body(lab: Lab) -> Scenes:
    """To what nginx allows where nobody says otherwise."""
    with network.proxy(lab.mlflow, _no_larger_than(1024 * 1024)) as url:
        yield tracking(url)
    with network.proxy(lab.mlflow, _no_larger_than(64 * 1024 * 1024)) as url:
        yield tracking(url)


@fault("TRACKING_PROXY_CANNOT_WRITE")
def an_artifact_folder_that_cannot_be_written(lab: Lab) -> Scenes:
    """A file lies where its folder should be."""
    folder, aside = lab.database.parent / "artifacts", lab.database.parent / "aside"
    folder.mkdir(exist_ok=True)
    folder.rename(aside)
    folder.write_text("in the way")
    yield tracking(lab.mlflow)
    folder.unlink()
    aside.rename(folder)
    yield tracking(lab.mlflow)


# The store behind MLflow, seen by a client that has no keys of it.


@fault("STORE_WRONG_KEY", TRACKING)
def mlflow_with_a_key_that_does_not_exist(lab: Lab) -> Scenes:
    lab.admin().user_remove(MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("STORE_WRONG_SECRET", TRACKING)
def mlflow_with_an_old_secret(lab: Lab) -> Scenes:
    lab.admin().user_add(MLFLOW_USER, "another-secret")
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("STORE_DENIED_LIST", TRACKING)
def mlflow_that_may_do_nothing_in_its_bucket(lab: Lab) -> Scenes:
    lab.user(*EVERYTHING, key=MLFLOW_USER, bucket="elsewhere")
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_PROXY_CANNOT_WRITE")
def mlflow_that_may_not_put(lab: Lab) -> Scenes:
    lab.user("s3:ListBucket", "s3:GetObject", "s3:DeleteObject", key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_PROXY_CANNOT_WRITE_LARGE")
def mlflow_with_a_quota_that_small_files_fit_in(lab: Lab) -> Scenes:
    lab.admin().bucket_quota_set("mlflow", 4 * 1024 * 1024)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.admin().bucket_quota_clear("mlflow")
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("STORE_WRONG_KEY", TRACKING)
def the_same_for_a_user_who_may_edit_but_not_delete(lab: Lab) -> Scenes:
    lab.number += 1
    name = f"editor-{lab.number}"

    def admin(path: str, **body: str) -> Any:
        url = f"{lab.guarded}/api/{path}"
        return httpx.post(url, json=body, auth=("admin", PASSWORD), trust_env=False).raise_for_status().json()

    admin("2.0/mlflow/users/create", username=name, password=PASSWORD)
    made = admin("2.0/mlflow/experiments/create", name=name)["experiment_id"]
    grant = {"username": name, "resource_type": "experiment", "resource_id": made, "permission": "EDIT"}
    admin("3.0/mlflow/users/permissions/grant", **grant)
    scene = Scene(tracking(lab.guarded, name, PASSWORD).env, (Model(name, ""),))
    lab.admin().user_remove(MLFLOW_USER)
    yield scene
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield scene


@fault("STORE_DENIED_LIST", TRACKING)
def mlflow_that_may_not_list(lab: Lab) -> Scenes:
    lab.user("s3:PutObject", "s3:GetObject", "s3:DeleteObject", key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("STORE_DENIED_DELETE", TRACKING)
def mlflow_that_may_not_delete(lab: Lab) -> Scenes:
    lab.user("s3:ListBucket", "s3:PutObject", "s3:GetObject", *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


@fault("TRACKING_PROXY_CANNOT_READ")
def mlflow_that_may_not_get(lab: Lab) -> Scenes:
    lab.user("s3:ListBucket", "s3:PutObject", "s3:DeleteObject", key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)
    lab.user(*EVERYTHING, *PARTS, key=MLFLOW_USER)
    yield tracking(lab.guarded, "admin", PASSWORD)


# The store, with MLflow's own environment.


@fault("STORE_ENDPOINT")
def an_endpoint_without_a_scheme(lab: Lab) -> Scenes:
    yield Scene(lab.s3(lab.minio.endpoint.removeprefix("http://")))
    yield Scene(lab.s3())


@fault("STORE_ENDPOINT")
def an_endpoint_with_a_line_end(lab: Lab) -> Scenes:
    yield Scene(lab.s3(f"{lab.minio.endpoint}\n"))
    yield Scene(lab.s3(f"{lab.minio.endpoint}/"))


@fault("STORE_ENDPOINT")
def an_endpoint_with_the_bucket(lab: Lab) -> Scenes:
    yield Scene(lab.s3(f"{lab.minio.endpoint}/mlflow"))
    yield Scene(lab.s3())


@fault("STORE_DNS")
def an_endpoint_that_does_not_resolve(lab: Lab) -> Scenes:
    yield Scene(lab.s3("http://minio.invalid:9000"))
    yield Scene(lab.s3())


@fault("STORE_REFUSED")
def an_endpoint_that_nothing_listens_on(lab: Lab) -> Scenes:
    yield Scene(lab.s3("http://127.0.0.1:9"))
    yield Scene(lab.s3())


@fault("STORE_TIMEOUT")
def an_endpoint_that_swallows_packets(lab: Lab) -> Scenes:
    with network.black_hole() as address:
        yield Scene(lab.s3(f"http://{address}"))
    yield Scene(lab.s3())


@fault("STORE_NO_ANSWER")
def a_store_that_never_answers(lab: Lab) -> Scenes:
    with network.talking(network.silence) as address:
        yield Scene(lab.s3(f"http://{address}"))
    yield Scene(lab.s3())


@fault("STORE_BREAKS_OFF")
def a_store_that_hangs_up(lab: Lab) -> Scenes:
    with network.talking(network.hang_up) as address:
        yield Scene(lab.s3(f"http://{address}"))
    yield Scene(lab.s3())


@fault("STORE_TLS_UNTRUSTED")
def a_store_with_a_certificate_of_an_unknown_authority(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=own.context) as url:
        yield Scene(lab.s3(url))
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(own.file)))


@fault("STORE_TLS_UNTRUSTED")
def a_store_whose_certificate_is_its_own(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=own.context) as url:
        yield Scene(lab.s3(url))
        yield Scene(lab.s3(url, MLFLOW_S3_IGNORE_TLS="true"))


@fault("STORE_TLS_EXPIRED")
def a_store_with_a_certificate_that_has_expired(lab: Lab) -> Scenes:
    old, new = network.certificate(lab.folder, expired=True), network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=old.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(old.file)))
    with network.proxy(lab.minio.endpoint, network.through, tls=new.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(new.file)))


@fault("STORE_TLS_WRONG_HOST")
def a_store_with_a_certificate_for_another_name(lab: Lab) -> Scenes:
    other, right = network.certificate(lab.folder, "s3.example"), network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=other.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(other.file)))
    with network.proxy(lab.minio.endpoint, network.through, tls=right.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(right.file)))


@fault("STORE_TLS_FAILS")
def a_store_that_speaks_an_outdated_tls(lab: Lab) -> Scenes:
    old, new = network.certificate(lab.folder, outdated=True), network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=old.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(old.file)))
    with network.proxy(lab.minio.endpoint, network.through, tls=new.context) as url:
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(new.file)))


@fault("STORE_TLS_TO_HTTP")
def https_to_a_store_without_it(lab: Lab) -> Scenes:
    yield Scene(lab.s3(lab.minio.endpoint.replace("http:", "https:")))
    yield Scene(lab.s3())


@fault("STORE_HTTP_TO_TLS")
def http_to_the_tls_port_of_a_store(lab: Lab) -> Scenes:
    own = network.certificate(lab.folder)
    with network.proxy(lab.minio.endpoint, network.through, tls=own.context) as url:
        yield Scene(lab.s3(url.replace("https:", "http:")))
        yield Scene(lab.s3(url, AWS_CA_BUNDLE=str(own.file)))


@fault("STORE_HTTP_TO_TLS")
def an_ingress_before_the_store_that_leads_to_https(lab: Lab) -> Scenes:
    with network.proxy(lab.minio.endpoint, to_https) as url:
        yield Scene(lab.s3(url))
    yield Scene(lab.s3())


@fault("STORE_NOT_S3")
def the_port_of_the_console(lab: Lab) -> Scenes:
    with network.web_page() as url:
        yield Scene(lab.s3(url))
    yield Scene(lab.s3())


@fault("STORE_NO_CREDENTIALS")
def no_keys(lab: Lab) -> Scenes:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    yield Scene(lab.s3(**nothing))
    yield Scene(lab.s3())


@fault("STORE_WRONG_KEY")
def a_key_that_does_not_exist(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_ACCESS_KEY_ID="somebody"))
    yield Scene(lab.s3())


@fault("STORE_WRONG_KEY")
def a_key_with_a_line_end(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_ACCESS_KEY_ID=f"{lab.minio.access_key}\n"))
    yield Scene(lab.s3())


@fault("STORE_WRONG_TOKEN")
def a_token_of_a_session_with_a_line_end(lab: Lab) -> Scenes:
    session = _session(lab)
    yield Scene(lab.s3(**{**session, "AWS_SESSION_TOKEN": f"{session['AWS_SESSION_TOKEN']}\n"}))
    yield Scene(lab.s3(**session))


@fault("STORE_NO_CREDENTIALS")
def a_profile_that_does_not_exist(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_PROFILE="homelab"))
    yield Scene(lab.s3())


@fault("STORE_WRONG_REGION")
def a_region_with_a_space(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_DEFAULT_REGION="eu west"))
    yield Scene(lab.s3())


@fault("STORE_ADDRESSING")
def a_style_of_addresses_that_there_is_not(lab: Lab) -> Scenes:
    yield Scene(lab.s3(MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE="paths"))
    yield Scene(lab.s3(MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE="path"))


@fault("STORE_NO_BUCKET")
def a_bucket_that_no_bucket_is_called(lab: Lab) -> Scenes:
    yield Scene(lab.s3(bucket="my bucket[1]"))
    yield Scene(lab.s3())


@fault("STORE_WRONG_SECRET")
def a_secret_that_is_wrong(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_SECRET_ACCESS_KEY="wrong-secret"))
    yield Scene(lab.s3())


def _session(lab: Lab) -> dict[str, str]:
    sts = boto3.client(
        "sts",
        endpoint_url=lab.minio.endpoint,
        aws_access_key_id=lab.minio.access_key,
        aws_secret_access_key=lab.minio.secret_key,
        region_name="us-east-1",
    )
    given = sts.assume_role(RoleArn="arn:aws:iam::1:role/of-the-tests", RoleSessionName="tests")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


@fault("STORE_EXPIRED")
def credentials_that_have_expired(lab: Lab) -> Scenes:
    """MinIO signs its tokens with the secret of its root; this one is as it would be a minute after its end."""
    session = _session(lab)
    head, body, _ = session["AWS_SESSION_TOKEN"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claims["exp"] = int(time.time()) - 60
    signed = f"{head}.{_base64(json.dumps(claims).encode())}"
    signature = hmac.new(lab.minio.secret_key.encode(), signed.encode(), hashlib.sha512).digest()
    yield Scene(lab.s3(**session | {"AWS_SESSION_TOKEN": f"{signed}.{_base64(signature)}"}))
    yield Scene(lab.s3(**session))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@fault("STORE_WRONG_TOKEN")
def a_session_without_its_token(lab: Lab) -> Scenes:
    session = _session(lab)
    yield Scene(lab.s3(**session | {"AWS_SESSION_TOKEN": ""}))
    yield Scene(lab.s3(**session))


@fault("STORE_WRONG_TOKEN")
def lasting_keys_with_an_old_token(lab: Lab) -> Scenes:
    yield Scene(lab.s3(AWS_SESSION_TOKEN="left-over"))
    yield Scene(lab.s3())


_LATE = """
import datetime
from botocore import auth

now = auth.get_current_datetime
auth.get_current_datetime = lambda *args, **more: now(*args, **more) - datetime.timedelta(hours=2)
"""


@fault("STORE_CLOCK")
def a_clock_that_is_two_hours_late(lab: Lab) -> Scenes:
    """The requests are signed two hours ago, here and in processes; MinIO compares with its own clock."""
    from botocore import auth

    folder = lab.folder / "late"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_LATE)
    now = auth.get_current_datetime  # type: ignore[attr-defined]
    exec(_LATE, {})  # noqa: S102 - the same in this process
    try:
        yield Scene(lab.s3(PYTHONPATH=str(folder)))
    finally:
        auth.get_current_datetime = now  # type: ignore[attr-defined]
    yield Scene(lab.s3())


@fault("STORE_WRONG_REGION")
def a_region_that_is_another(lab: Lab) -> Scenes:
    """The MinIO on the small disk has a region of its own."""
    env = _on_disk(lab)
    yield Scene({**env, "AWS_DEFAULT_REGION": "eu-west-1"})
    yield Scene(env)


@fault("STORE_ADDRESSING")
def virtual_hosts_of_a_store_that_has_none(lab: Lab) -> Scenes:
    by_name = lab.minio.endpoint.replace("127.0.0.1", "localhost")
    yield Scene(lab.s3(by_name, MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE="virtual"))
    yield Scene(lab.s3(by_name, MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE="path"))


@fault("STORE_NO_BUCKET")
def a_bucket_that_does_not_exist(lab: Lab) -> Scenes:
    yield Scene(lab.s3(bucket="no-such-bucket"))
    yield Scene(lab.s3())


@fault("STORE_DENIED_LIST")
def keys_that_may_not_list(lab: Lab) -> Scenes:
    yield Scene(lab.s3(**lab.user("s3:PutObject", "s3:GetObject", "s3:DeleteObject", *PARTS)))
    yield Scene(lab.s3(**lab.user(*EVERYTHING, *PARTS)))


@fault("STORE_DENIED_PUT")
def keys_that_may_not_put(lab: Lab) -> Scenes:
    yield Scene(lab.s3(**lab.user("s3:ListBucket", "s3:GetObject", "s3:DeleteObject", *PARTS)))
    yield Scene(lab.s3(**lab.user(*EVERYTHING, *PARTS)))


@fault("STORE_DENIED_GET")
def keys_that_may_not_get(lab: Lab) -> Scenes:
    yield Scene(lab.s3(**lab.user("s3:ListBucket", "s3:PutObject", "s3:DeleteObject", *PARTS)))
    yield Scene(lab.s3(**lab.user(*EVERYTHING, *PARTS)))


@fault("STORE_DENIED_DELETE")
def keys_that_may_not_delete(lab: Lab) -> Scenes:
    yield Scene(lab.s3(**lab.user("s3:ListBucket", "s3:PutObject", "s3:GetObject", *PARTS)))
    yield Scene(lab.s3(**lab.user(*EVERYTHING, *PARTS)))


@fault("STORE_DENIED_MULTIPART")
def keys_that_may_not_end_an_upload(lab: Lab) -> Scenes:
    yield Scene(lab.s3(**lab.user(*EVERYTHING)))
    yield Scene(lab.s3(**lab.user(*EVERYTHING, *PARTS)))


@fault("STORE_DENIED_MULTIPART")
def a_store_without_multipart(lab: Lab) -> Scenes:
    def no_parts(request: Request) -> Answer | None:
        return xml(501, "NotImplemented") if request.method == "POST" and "?uploads" in request.path else None

    with network.proxy(lab.minio.endpoint, no_parts) as url:
        yield Scene(lab.s3(url))
    yield Scene(lab.s3())


@fault("STORE_UPLOAD_TOO_LARGE")
def a_proxy_before_the_store_that_limits_the_body(lab: Lab) -> Scenes:
    with network.proxy(lab.minio.endpoint, _no_larger_than(1024 * 1024)) as url:
        yield Scene(lab.s3(url))
    with network.proxy(lab.minio.endpoint, _no_larger_than(64 * 1024 * 1024)) as url:
        yield Scene(lab.s3(url))


@fault("STORE_CHECKSUM")
def a_store_that_rejects_checksums(lab: Lab) -> Scenes:
    def no_checksums(request: Request) -> Answer | None:
        names = {name.lower() for name in request.headers}
        sent = any(name.startswith("x-amz-checksum") or name == "x-amz-sdk-checksum-algorithm" for name in names)
        return xml(400, "InvalidRequest", "x-amz-checksum is not supported") if sent else None

    without = {
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    with network.proxy(lab.minio.endpoint, no_checksums) as url:
        yield Scene(lab.s3(url))
        yield Scene(lab.s3(url, **without))


@fault("STORE_READ_ONLY")
def a_gateway_that_takes_no_writes(lab: Lab) -> Scenes:
    def no_writes(request: Request) -> Answer | None:
        return xml(405, "MethodNotAllowed") if request.method in ("PUT", "POST", "DELETE") else None

    with network.proxy(lab.minio.endpoint, no_writes) as url:
        yield Scene(lab.s3(url))
    yield Scene(lab.s3())


@fault("STORE_FULL")
def a_quota_that_is_used_up(lab: Lab) -> Scenes:
    lab.number += 1
    bucket = f"small-{lab.number}"
    lab.minio.client().create_bucket(Bucket=bucket)
    lab.admin().bucket_quota_set(bucket, 1)
    yield Scene(lab.s3(bucket=bucket))
    lab.admin().bucket_quota_clear(bucket)
    yield Scene(lab.s3(bucket=bucket))


@fault("STORE_FAILS")
def a_store_that_fails(lab: Lab) -> Scenes:
    def unavailable(request: Request) -> Answer | None:
        return xml(503, "SlowDown") if request.path.startswith("/mlflow") else None

    with network.proxy(lab.minio.endpoint, unavailable) as url:
        yield Scene(lab.s3(url))
    yield Scene(lab.s3())


# The store of the tables, with the keys of a retraining.


def _reader(lab: Lab, key: str, **change: str) -> Scene:
    actions = ("s3:ListBucket", "s3:GetObject")
    env = {"AWS_ENDPOINT_URL_S3": lab.minio.endpoint, **lab.user(*actions, bucket="datasets"), **change}
    return Scene(env, (Model("churn", f"s3://datasets/{key}"),), model_given=True)


@fault("STORE_NO_TABLE")
def a_table_that_nobody_has_brought(lab: Lab) -> Scenes:
    lab.minio.client().put_object(Bucket="datasets", Key="doctor/there.csv", Body=b"a\n1\n")
    yield _reader(lab, "doctor/nothing.csv")
    yield _reader(lab, "doctor/there.csv")


@fault("STORE_NO_TABLE")
def a_folder_of_tables_that_is_empty(lab: Lab) -> Scenes:
    lab.minio.client().put_object(Bucket="datasets", Key="doctor/there.csv", Body=b"a\n1\n")
    yield _reader(lab, "nothing/")
    yield _reader(lab, "doctor/")


@fault("STORE_DENIED_GET")
def keys_of_another_bucket(lab: Lab) -> Scenes:
    lab.minio.client().put_object(Bucket="datasets", Key="doctor/there.csv", Body=b"a\n1\n")
    scene = _reader(lab, "doctor/there.csv")
    yield Scene({**scene.env, **lab.user(*EVERYTHING)}, scene.models, model_given=True)
    yield scene


# A disk that is read-only or full, where the machine lets a user mount one.


@fault("STORE_READ_ONLY")
def a_disk_that_is_read_only(lab: Lab) -> Scenes:
    env = _on_disk(lab)
    lab.on_disk("mount -o remount,ro .")
    try:
        yield Scene(env)
    finally:
        lab.on_disk("mount -o remount,rw .")
    yield Scene(env)


@fault("STORE_FULL")
def a_disk_that_is_full(lab: Lab) -> Scenes:
    env = _on_disk(lab)
    lab.on_disk("cat /dev/zero > filler || true")
    try:
        yield Scene(env)
    finally:
        lab.on_disk("rm filler")
    _until_written(lab)
    yield Scene(env)


def _until_written(lab: Lab) -> None:
    """Waits until the store has noticed that there is space again: it looks once in a while."""
    assert lab.disk is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            lab.disk.client().put_object(Bucket="mlflow", Key="space", Body=b"")
            return
        except ClientError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


class NoDiskError(Exception):
    """This machine lets nobody mount a file system of their own."""


def _on_disk(lab: Lab) -> dict[str, str]:
    if lab.disk is None:
        raise NoDiskError
    own = {"AWS_ACCESS_KEY_ID": lab.disk.access_key, "AWS_SECRET_ACCESS_KEY": lab.disk.secret_key}
    return lab.s3(lab.disk.endpoint, **own, AWS_DEFAULT_REGION="eu-central-1")

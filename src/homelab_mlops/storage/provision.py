"""Brings a MinIO server to the declared state; a second run changes nothing.

A user is an access key. The declaration names it after its consumer, whose keys come from the environment as
``NAME_ACCESS_KEY`` and ``NAME_SECRET_KEY``. The keys before the last rotation, ``NAME_PREVIOUS_...``, stay valid until
the next one. Users that nobody declares are removed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from homelab_mlops.clients.s3 import client, explained
from homelab_mlops.console import say
from homelab_mlops.errors import StorageError
from homelab_mlops.storage.declaration import Bucket, Declaration

if TYPE_CHECKING:
    from minio import MinioAdmin
    from mypy_boto3_s3 import S3Client

READY_SECONDS = 120.0


def apply(declaration: Declaration, environ: Mapping[str, str]) -> list[str]:
    """Makes buckets, rules, policies and users those of ``declaration``, and returns what it changed.

    Raises:
        StorageError: a key is missing in the environment, or the server refuses.
    """
    endpoint = _needed(environ, "MINIO_ENDPOINT")
    root = (_needed(environ, "MINIO_ROOT_USER"), _needed(environ, "MINIO_ROOT_PASSWORD"))
    users = {name: _keys(environ, name) for name in declaration.users}
    os.environ["AWS_ENDPOINT_URL_S3"] = endpoint
    _wait(endpoint)
    changes: list[str] = []
    with explained("the declared storage"):
        s3 = client(style="path", endpoint=endpoint, keys=root)
        for name, bucket in declaration.buckets.items():
            changes += _apply_bucket(s3, name, bucket)
    changes += _apply_users(_admin(endpoint, *root), declaration, users)
    for change in changes:
        say(f"storage: {change}")
    say(f"storage: {len(declaration.buckets)} buckets and {len(declaration.users)} users are as declared")
    return changes


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise StorageError(f"{name} is not set", where="environment", fix="run `homelab init`, which seals it")
    return value


def _keys(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """The secret key of each access key of a consumer."""
    prefix = name.upper().replace("-", "_")
    keys = {_needed(environ, f"{prefix}_ACCESS_KEY"): _needed(environ, f"{prefix}_SECRET_KEY")}
    if previous := environ.get(f"{prefix}_PREVIOUS_ACCESS_KEY"):
        keys[previous] = _needed(environ, f"{prefix}_PREVIOUS_SECRET_KEY")
    return keys


def _wait(endpoint: str) -> None:
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError, ValueError) as error:
            if time.monotonic() > deadline or isinstance(error, ValueError):
                raise StorageError(
                    f"the store is not ready: {error}", where=endpoint, fix="look at its log", transient=True
                ) from error
            time.sleep(1)


def _admin(endpoint: str, access_key: str, secret_key: str) -> MinioAdmin:
    from minio import MinioAdmin
    from minio.credentials.providers import StaticProvider

    address = urlsplit(endpoint)
    provider = StaticProvider(access_key, secret_key)
    return MinioAdmin(endpoint=address.netloc, credentials=provider, secure=address.scheme == "https")


def _apply_bucket(client: S3Client, name: str, bucket: Bucket) -> list[str]:
    changes = []
    if name not in {item.get("Name") for item in client.list_buckets().get("Buckets", [])}:
        client.create_bucket(Bucket=name)
        changes.append(f"made the bucket {name}")
    wanted = "Enabled" if bucket.versioning else "Suspended"
    now = client.get_bucket_versioning(Bucket=name).get("Status", "Suspended")
    if now != wanted:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": wanted})  # type: ignore[typeddict-item]
        changes.append(f"versioning of {name} is {wanted.lower()}")
    rules = _rules(bucket)
    if _current_rules(client, name) != rules:
        if rules:
            client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})  # type: ignore[typeddict-item]
        else:
            client.delete_bucket_lifecycle(Bucket=name)
        changes.append(f"set what expires in {name}")
    return changes


def _rules(bucket: Bucket) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    if bucket.expire_days is not None:
        rules.append({"ID": "expire", "Expiration": {"Days": bucket.expire_days}})
    if bucket.expire_noncurrent_days is not None:
        expiration = {"NoncurrentDays": bucket.expire_noncurrent_days}
        rules.append({"ID": "expire-noncurrent", "NoncurrentVersionExpiration": expiration})
    return [{**rule, "Status": "Enabled", "Filter": {"Prefix": ""}} for rule in rules]


def _current_rules(client: S3Client, name: str) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError

    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
            return []
        raise
    declared = ("ID", "Expiration", "NoncurrentVersionExpiration", "Status")
    rules: list[dict[str, Any]] = [{key: rule[key] for key in declared if key in rule} for rule in found]  # type: ignore[literal-required]
    return sorted(({**rule, "Filter": {"Prefix": ""}} for rule in rules), key=lambda rule: str(rule["ID"]))


def _apply_users(admin: MinioAdmin, declaration: Declaration, users: Mapping[str, Mapping[str, str]]) -> list[str]:
    from minio.error import MinioAdminException

    changes = []
    try:
        present: dict[str, Any] = json.loads(admin.user_list())
        for name, keys in users.items():
            admin.policy_add(name, policy=declaration.policy(name))
            for access_key, secret_key in keys.items():
                known = present.get(access_key, {})
                admin.user_add(access_key, secret_key)
                if known.get("policyName") != name:
                    admin.policy_set(name, user=access_key)
                    changes.append(f"gave {name} its policy")
        for access_key in sorted(present.keys() - {key for keys in users.values() for key in keys}):
            admin.user_remove(access_key)
            changes.append("removed a user that is not declared")
    except MinioAdminException as error:
        raise StorageError(
            f"the store's administration refuses: {str(error)[:200]}", where="users and policies", transient=True
        ) from error
    return changes

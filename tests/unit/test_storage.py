"""A real MinIO becomes what is declared, and each user can do what it may and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.conftest import ROOT, Homelab, Store, refused

DECLARED = ROOT / "base/minio/storage.yaml"
USERS = ("argo-artifacts", "backups", "datasets-reader", "datasets-writer", "mlflow", "request-log")


def environment(minio: Store, generation: str, previous: str = "") -> dict[str, str]:
    """What the provisioning job has in its environment; each generation has other keys."""
    env = {
        "MINIO_ENDPOINT": minio.endpoint,
        "MINIO_ROOT_USER": minio.access_key,
        "MINIO_ROOT_PASSWORD": minio.secret_key,
    }
    for user in USERS:
        prefix = user.upper().replace("-", "_")
        for kind, name in (("", generation), ("PREVIOUS_", previous)):
            env[f"{prefix}_{kind}ACCESS_KEY"] = f"{user[:12]}-{name}" if name else ""
            env[f"{prefix}_{kind}SECRET_KEY"] = f"secret-of-{user}-{name}" if name else ""
    return env


def client(minio: Store, user: str, generation: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=minio.endpoint,
        aws_access_key_id=f"{user[:12]}-{generation}",
        aws_secret_access_key=f"secret-of-{user}-{generation}",
        region_name="us-east-1",
    )


def denied(action: Any, **arguments: Any) -> bool:
    try:
        action(**arguments)
    except ClientError as error:
        # The answer to a HEAD request has no body that could say more than its status.
        return bool(error.response["Error"]["Code"] in {"AccessDenied", "InvalidAccessKeyId", "403"})
    return False


def test_the_declared_storage_comes_into_being_and_stays(homelab: Homelab, minio: Store) -> None:
    first = homelab("storage", "apply", DECLARED, env=environment(minio, "one"))
    assert first.returncode == 0, first.stderr
    assert "5 buckets and 6 users are as declared" in first.stderr
    again = homelab("storage", "apply", DECLARED, env=environment(minio, "one"))
    assert [line for line in again.stderr.splitlines() if line.startswith("storage: ")] == [
        "storage: 5 buckets and 6 users are as declared"
    ], again.stderr

    root = minio.client()
    for name, bucket in yaml.safe_load(DECLARED.read_text())["buckets"].items():
        versioning = root.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"
        assert versioning == bucket.get("versioning", False), name
        (rule,) = root.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        days = rule.get("Expiration", {}).get("Days") or rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        assert days == bucket.get("expire_days", bucket.get("expire_noncurrent_days")), name


def test_each_user_has_its_own_and_nothing_else(homelab: Homelab, minio: Store) -> None:
    assert homelab("storage", "apply", DECLARED, env=environment(minio, "one")).returncode == 0
    client(minio, "mlflow", "one").put_object(Bucket="mlflow", Key="a", Body=b"a")
    client(minio, "datasets-writer", "one").put_object(Bucket="datasets", Key="a", Body=b"a")
    client(minio, "datasets-reader", "one").get_object(Bucket="datasets", Key="a")
    client(minio, "backups", "one").get_object(Bucket="mlflow", Key="a")
    client(minio, "backups", "one").put_object(Bucket="backups", Key="a", Body=b"a")
    assert denied(client(minio, "mlflow", "one").list_objects_v2, Bucket="backups")
    assert denied(client(minio, "mlflow", "one").get_object, Bucket="datasets", Key="a")
    assert denied(client(minio, "datasets-reader", "one").put_object, Bucket="datasets", Key="b", Body=b"b")
    assert denied(client(minio, "request-log", "one").list_objects_v2, Bucket="mlflow")
    assert denied(client(minio, "backups", "one").put_object, Bucket="mlflow", Key="b", Body=b"b")
    assert denied(client(minio, "argo-artifacts", "one").list_objects_v2, Bucket="mlflow")
    assert denied(client(minio, "mlflow", "one").create_bucket, Bucket="mine")


def test_the_request_log_may_add_to_its_own_bucket_and_nothing_else(homelab: Homelab, minio: Store) -> None:
    assert homelab("storage", "apply", DECLARED, env=environment(minio, "one")).returncode == 0
    minio.client().put_object(Bucket="datasets", Key="churn/churn.parquet", Body=b"a table")
    log, reader = client(minio, "request-log", "one"), client(minio, "datasets-reader", "one")
    written = {"Bucket": "requests", "Key": "churn/a.jsonl.gz"}
    log.put_object(**written, Body=b"a")
    assert reader.get_object(**written)["Body"].read() == b"a"
    for bucket in ("datasets", "mlflow", "argo-artifacts", "backups"):
        assert denied(log.put_object, Bucket=bucket, Key="churn/churn.parquet", Body=b"b"), bucket
    table = {"Bucket": "datasets", "Key": "churn/churn.parquet"}
    for action, arguments in (
        (log.get_object, table),
        (log.delete_object, table),
        (log.list_objects_v2, {"Bucket": "datasets"}),
        (log.create_multipart_upload, table),
        (log.copy_object, {**written, "CopySource": table}),
        (log.get_object, written),
        (log.head_object, written),
        (log.delete_object, written),
        (log.list_objects_v2, {"Bucket": "requests"}),
        (log.delete_bucket_lifecycle, {"Bucket": "requests"}),
        (log.put_bucket_policy, {"Bucket": "requests", "Policy": "{}"}),
        (reader.put_object, {**written, "Body": b"b"}),
        (reader.delete_object, written),
    ):
        assert denied(action, **arguments), (action, arguments)


def test_a_rotation_keeps_the_last_keys_and_removes_those_before(homelab: Homelab, minio: Store) -> None:
    for generation, previous in (("one", ""), ("two", "one"), ("three", "two")):
        done = homelab("storage", "apply", DECLARED, env=environment(minio, generation, previous))
        assert done.returncode == 0, done.stderr
    for generation in ("two", "three"):
        client(minio, "mlflow", generation).list_objects_v2(Bucket="mlflow")
    assert denied(client(minio, "mlflow", "one").list_objects_v2, Bucket="mlflow")


@pytest.mark.parametrize("missing", ["MINIO_ENDPOINT", "MINIO_ROOT_PASSWORD", "MLFLOW_SECRET_KEY"])
def test_a_missing_key_is_named(homelab: Homelab, minio: Store, missing: str) -> None:
    env = environment(minio, "one")
    del env[missing]
    refused(homelab("storage", "apply", DECLARED, env=env), f"{missing} is not set")


def test_wrong_credentials_and_wrong_declarations_are_refused(homelab: Homelab, minio: Store, tmp_path: Path) -> None:
    refused(
        homelab("storage", "apply", DECLARED, env=environment(minio, "one") | {"MINIO_ROOT_PASSWORD": "wrong-one"}),
        "the secret key is wrong",
    )
    declared = tmp_path / "storage.yaml"
    declared.write_text(DECLARED.read_text().replace("mlflow: read-write", "mlflow: read-wrote"))
    refused(homelab("storage", "apply", declared, env=environment(minio, "one")), str(declared))

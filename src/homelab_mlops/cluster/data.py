"""`homelab data push MODEL`: brings a model's table to the bucket `datasets` of the cluster."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from homelab_mlops.clients.kubernetes import PATIENCE, Cluster
from homelab_mlops.console import say, stdout
from homelab_mlops.errors import ClusterError, DataError
from homelab_mlops.model.spec import ModelSpec, load_spec

if TYPE_CHECKING:
    import pandas as pd

WRITER = "training", "datasets-writer"
MINIO = "minio", "app.kubernetes.io/name=minio", 9000
TIMEOUT = 60


def push(model: str, file: Path | None, context: str | None) -> None:
    """Uploads ``file``, or the built-in table of the model, to where the model's ``data.source`` reads it.

    The connection goes through the API server to MinIO's pod, so that a kubeconfig is all that is needed.

    Raises:
        DataError: the model has no built-in table or does not read from S3, or the file is not a table.
        ClusterError: MinIO, or the credentials of its writer, are not there.
    """
    spec = load_spec(model)
    target = urlsplit(spec.data.source)
    if target.scheme != "s3":
        raise DataError("this model does not read from a bucket", where=f"data.source: {spec.data.source}")
    table = _table(spec, file)
    cluster = Cluster(context, patience=PATIENCE)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    say(f"{len(table)} rows, {buffer.tell() / 1e6:.1f} MB of Parquet")
    _upload(cluster, buffer.getvalue(), bucket=target.netloc, key=target.path.lstrip("/"))
    stdout().print(f"{spec.data.source}: {len(table)} rows")


def _table(spec: ModelSpec, file: Path | None) -> pd.DataFrame:
    import pandas as pd

    from homelab_mlops.model.demo_tables import built_in

    if file is None:
        if spec.data.demo is None:
            raise DataError(
                "this model has no built-in table", fix=f"homelab data push {spec.name} --file TABLE.parquet"
            )
        return built_in(spec.data.demo)
    try:
        return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise DataError(f"not a table: {error}", where=str(file), fix="a Parquet or CSV file") from error


def _upload(cluster: Cluster, content: bytes, *, bucket: str, key: str) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    writer = _credentials(cluster)
    namespace, selector, port = MINIO
    pods = [pod["metadata"]["name"] for pod in cluster.find("v1", "Pod", namespace, selector)]
    if not pods:
        raise ClusterError("MinIO does not run", where=f"namespace {namespace}", fix="homelab status")
    with cluster.port_forward(pods[0], namespace, port) as local:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{local}",
            aws_access_key_id=writer["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=writer["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(read_timeout=TIMEOUT, connect_timeout=TIMEOUT, s3={"addressing_style": "path"}),
        )
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise ClusterError(f"MinIO did not take the table: {error}", where=f"s3://{bucket}/{key}") from error


def _credentials(cluster: Cluster) -> dict[str, str]:
    namespace, name = WRITER
    secret = cluster.get("v1", "Secret", name, namespace)
    if secret is None:
        raise ClusterError(f"there is no Secret {namespace}/{name}", fix="homelab status")
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}

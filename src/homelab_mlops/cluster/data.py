"""`homelab data push MODEL`: brings a model's table to the bucket `datasets` of the cluster."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import urlsplit

from homelab_mlops.clients import s3
from homelab_mlops.clients.kubernetes import PATIENCE, Cluster
from homelab_mlops.console import say, stdout
from homelab_mlops.errors import ClusterError, DataError
from homelab_mlops.model.spec import ModelSpec, load_spec

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
    content, rows = _built_in(spec) if file is None else _checked(spec, file)
    cluster = Cluster(context, patience=PATIENCE)
    say(f"{rows} rows, {len(content) / 1e6:.1f} MB")
    _upload(cluster, content, bucket=target.netloc, key=target.path.lstrip("/"))
    stdout().print(f"{spec.data.source}: {rows} rows")


def _built_in(spec: ModelSpec) -> tuple[bytes, int]:
    from homelab_mlops.model.demo_tables import built_in

    if spec.data.demo is None:
        raise DataError("this model has no built-in table", fix=f"homelab data push {spec.name} --file TABLE.parquet")
    table = built_in(spec.data.demo)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue(), len(table)


def _checked(spec: ModelSpec, file: Path) -> tuple[bytes, int]:
    """The file as it is, once it reads as the model's table."""
    from homelab_mlops.tables.columns import declared
    from homelab_mlops.tables.read import read

    if file.is_dir():
        raise DataError(
            "a folder is not pushed", where=str(file), fix="push one file; a store's own client copies more"
        )
    in_order = [spec.target.column, *spec.raw]
    reading = read(str(file), file.parent, declared(spec), spec.data.csv, in_order)
    for line in reading.said:
        say(line)
    return file.read_bytes(), reading.table.num_rows


def _upload(cluster: Cluster, content: bytes, *, bucket: str, key: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    writer = _credentials(cluster)
    namespace, selector, port = MINIO
    pods = [pod["metadata"]["name"] for pod in cluster.find("v1", "Pod", namespace, selector)]
    if not pods:
        raise ClusterError("MinIO does not run", where=f"namespace {namespace}", fix="homelab status")
    with cluster.port_forward(pods[0], namespace, port) as local:
        client = s3.client(
            {"read_timeout": TIMEOUT, "connect_timeout": TIMEOUT},
            style="path",
            endpoint=f"http://127.0.0.1:{local}",
            keys=(writer["AWS_ACCESS_KEY_ID"], writer["AWS_SECRET_ACCESS_KEY"]),
        )
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise ClusterError(f"MinIO did not take the table: {error}", where=f"s3://{bucket}/{key}") from error


def _credentials(cluster: Cluster) -> dict[str, str]:
    namespace, name = WRITER
    secret = cluster.get("v1", "Secret", name, namespace)
    if secret is None:
        raise ClusterError(f"there is no Secret {namespace}/{name}", fix="homelab status")
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}

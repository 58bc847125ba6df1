"""The client of an object store. It imports nothing of a training, which the doctor has no time to load."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 5


def region() -> str:
    """The region that requests are signed for: that of the environment or of ~/.aws/config."""
    import boto3.session

    return _region(boto3.session.Session())


def _region(session: Session) -> str:
    named = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
    return named or session.region_name or "us-east-1"


def client(
    options: dict[str, Any] | None = None, *, style: str = "", endpoint: str = "", verify: bool = True
) -> S3Client:
    """A client that fails within seconds; ``options`` are botocore's, instead of those here.

    ``style`` of the addresses, unless given, is that of MLflow's variable, so that one setting serves both: `path`
    wherever an endpoint is set, or `virtual`. Without ``verify`` any certificate is taken.
    """
    import boto3.session
    from botocore.config import Config

    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": 60,
        "retries": {"max_attempts": 2, "mode": "standard"},
        "s3": {"addressing_style": style or os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")},
    }
    config = Config(**{**defaults, **(options or {})})
    # A session of its own: the default one keeps the credentials that it saw first.
    session = boto3.session.Session()
    return session.client(
        "s3",
        config=config,
        region_name=_region(session),
        endpoint_url=endpoint or None,
        # None leaves the authorities to AWS_CA_BUNDLE.
        verify=None if verify else False,
    )

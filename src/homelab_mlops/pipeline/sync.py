"""Brings the result of a training to MLflow, once, where it had no server or its server died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homelab_mlops.console import say
from homelab_mlops.doctor.preflight import check_tracking
from homelab_mlops.errors import StorageError
from homelab_mlops.pipeline import result
from homelab_mlops.pipeline.workdir import read_json


def sync(folder: Path) -> dict[str, Any]:
    """Uploads the parts of the result in ``folder`` that MLflow lacks, and returns the run.

    Raises:
        StorageError: the folder holds no result.
        TrackingError: the tracking server does not work.
    """
    if not (folder / result.MODEL).exists():
        raise StorageError(
            "the folder holds no result of a training", where=str(folder), fix="give the folder with xgboost-model"
        )
    record = read_json(folder / result.RECORD, "homelab train")
    check_tracking(record["model"])
    from homelab_mlops.pipeline import tracking

    link = tracking.upload(folder)
    say(f"sync: {link['url']}")
    return link

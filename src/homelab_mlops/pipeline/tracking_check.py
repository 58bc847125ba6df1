"""Whether tracking will work, told within seconds and before any training: by the doctor, with the doctor's codes."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from homelab_mlops.console import say
from homelab_mlops.errors import TrackingError


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, without a slash at its end.

    Raises:
        TrackingError: it is not set, or is no http address.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip().rstrip("/")
    if not uri:
        raise TrackingError(
            "there is no tracking server: MLFLOW_TRACKING_URI is not set",
            where="environment",
            fix="export MLFLOW_TRACKING_URI=http://..., or train with `--tracking files`",
        )
    address = urlsplit(uri)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise TrackingError(
            "the tracking server is not an http:// or https:// address",
            where=f"MLFLOW_TRACKING_URI={uri}",
            fix="run an MLflow server and name its address, or train with `--tracking files`",
            code="TRACKING_URI",
        )
    return uri


def check_tracking(experiment: str, way: str = "mlflow") -> None:
    """Asks the doctor's checks of the tracking server, and of the store where the environment names one.

    Asks nothing where ``way`` is ``files``. The experiment is made where there is none, as the training would.

    Raises:
        TrackingError, StorageError: the first thing that is broken, with its code and what to do.
    """
    if way == "files":
        return
    from homelab_mlops.doctor import store, tracking  # noqa: F401 - registers their checks
    from homelab_mlops.doctor.checks import Model, Visit, examine
    from homelab_mlops.doctor.run import is_pod

    tracking_uri()
    visit = Visit(models=(Model(experiment, ""),), model_given=True, may_create=True, in_cluster=is_pod())
    for finding in examine(visit, ("tracking", "store")).findings:
        if finding.severity == "broken":
            raise finding.as_error()
        say(f"warning: [{finding.code}] {finding.what}\n  fix: {finding.fix}")

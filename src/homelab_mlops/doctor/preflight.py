"""What a training asks the doctor before it begins: whether tracking will work, answered within seconds."""

from __future__ import annotations

from homelab_mlops.console import say


def check_tracking(experiment: str, way: str = "mlflow") -> None:
    """Asks the doctor's checks of the tracking server, and of the store where the environment names one.

    Asks nothing where ``way`` is ``files``. The experiment is made where there is none, as the training would.

    Raises:
        TrackingError, StorageError: the first thing that is broken, with its code and what to do.
    """
    if way == "files":
        return
    from homelab_mlops.clients.mlflow import tracking_uri
    from homelab_mlops.doctor import store, tracking  # noqa: F401 - registers their checks
    from homelab_mlops.doctor.examine import examine
    from homelab_mlops.doctor.run import is_pod
    from homelab_mlops.doctor.visit import Model, Visit

    tracking_uri()
    visit = Visit(models=(Model(experiment, ""),), model_given=True, may_create=True, in_cluster=is_pod())
    report = examine(visit, ("tracking", "store"))
    for finding in report.findings:
        if finding.severity == "broken":
            raise finding.as_error()
        say(f"warning: [{finding.code}] {finding.what}\n  fix: {finding.fix}")
    if report.out_of_time:
        say(f"warning: there was no time to look at all of it: {', '.join(report.out_of_time)}")

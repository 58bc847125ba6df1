"""Whether a CronWorkflow, in git or in the cluster, will ever run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homelab_mlops.doctor.finding import Finding
from homelab_mlops.manifests.schedules import fires, is_time_zone


def cron_findings(document: dict[str, Any], where: str) -> Iterator[Finding]:
    """At most one finding: suspended, a dead time zone, or a schedule that never fires."""
    metadata, spec = document["metadata"], document.get("spec", {})
    about = f"CronWorkflow {metadata.get('namespace', 'training')}/{metadata['name']}"
    if spec.get("suspend"):
        yield Finding("CLUSTER_CRON_SUSPENDED", where, f"{about} is suspended", about=about)
        return
    zone = spec.get("timezone")
    if zone and not is_time_zone(str(zone)):
        yield Finding("CLUSTER_CRON_TIMEZONE", where, f"{about}: there is no time zone {zone!r}", about=about)
        return
    for schedule in spec.get("schedules") or [""]:
        if not fires(str(schedule)):
            yield Finding("CLUSTER_CRON_NEVER", where, f"{about}: {schedule!r} never fires", about=about)
            return

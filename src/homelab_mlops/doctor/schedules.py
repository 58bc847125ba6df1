"""Whether a CronWorkflow, in git or in the cluster, will ever run."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from typing import Any

from homelab_mlops.doctor.finding import Finding
from homelab_mlops.gitops.policies import fires


def cron_findings(document: dict[str, Any], where: str) -> Iterator[Finding]:
    """At most one finding: suspended, a dead time zone, or a schedule that never fires."""
    metadata, spec = document["metadata"], document.get("spec", {})
    about = f"CronWorkflow {metadata.get('namespace', 'training')}/{metadata['name']}"
    if spec.get("suspend"):
        yield Finding("CLUSTER_CRON_SUSPENDED", where, f"{about} is suspended", about=about)
        return
    zone = spec.get("timezone")
    if zone and not _exists(str(zone)):
        yield Finding("CLUSTER_CRON_TIMEZONE", where, f"{about}: there is no time zone {zone!r}", about=about)
        return
    for schedule in spec.get("schedules") or [""]:
        if not fires(str(schedule)):
            yield Finding("CLUSTER_CRON_NEVER", where, f"{about}: {schedule!r} never fires", about=about)
            return


def _exists(zone: str) -> bool:
    """Whether Go knows the zone, which has one more than the database, and not its two variants of each."""
    if zone == "Local":
        return True
    if zone.startswith(("posix/", "right/")):
        return False
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True

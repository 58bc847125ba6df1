"""When workflows and Jobs run."""

from __future__ import annotations

from collections.abc import Iterator

from homelab_mlops.manifests.objects import Manifest, get, strings
from homelab_mlops.manifests.schedules import fires, runs_per_year
from homelab_mlops.review.compare import Change
from homelab_mlops.review.rules.rule import Review, Said, rule, say


@rule(
    "schedule-never",
    "danger",
    looks_for="a schedule that never fires or that cannot be read",
    reason="The workflow never runs, and nothing reports that.",
    action="Write five fields in their ranges: minute, hour, day, month, weekday (0-6).",
)
def schedule_never(review: Review) -> Said:
    for change in _cron(review):
        found, _ = _schedules(change.new)
        for schedule in found:
            if schedule not in _schedules(change.old)[0] and not fires(schedule):
                yield str(change.id), f"the schedule {schedule!r} never fires"
        if not found:
            yield str(change.id), "it has no schedule"


@rule(
    "schedule-more-often",
    "warning",
    looks_for="a schedule that fires twice as often or more",
    reason="Retraining takes CPU from the models that serve.",
    action="Check that it is meant, and that one run ends before the next one starts.",
)
def schedule_more_often(review: Review) -> Said:
    for change in _cron(review):
        (old, slept), (new, sleeps) = _schedules(change.old), _schedules(change.new)
        before, after = (sum(runs_per_year(item) for item in items) for items in (old, new))
        if change.action == "changed" and before and not slept and not sleeps and after >= 2 * before:
            yield str(change.id), f"{', '.join(old)} → {', '.join(new)}: {after / before:.3g} times as often"


@rule(
    "schedule-changed",
    "note",
    looks_for="another schedule or time zone, or a schedule that is suspended or resumed",
    reason="The workflow runs at another time.",
    action="Check that it is meant.",
)
def schedule_changed(review: Review) -> Said:
    for change in _cron(review):
        (old, slept), (new, sleeps) = _schedules(change.old), _schedules(change.new)
        if change.action != "changed":
            continue
        if sleeps != slept:
            yield str(change.id), "it is suspended" if sleeps else "it runs again"
        zones = [get(side, "spec", "timezone") or get(side, "spec", "timeZone") for side in (change.old, change.new)]
        if zones[0] != zones[1]:
            yield str(change.id), f"its time zone: {say(zones[0])} → {say(zones[1])}"
        before, after = (sum(runs_per_year(item) for item in items) for items in (old, new))
        if old != new and after and (not before or after < 2 * before):
            yield str(change.id), f"{', '.join(old)} → {', '.join(new)}"


def _schedules(manifest: Manifest) -> tuple[list[str], bool]:
    spec = manifest.get("spec") or {}
    found = strings(spec.get("schedules") or [spec[key] for key in ("schedule",) if spec.get(key)])
    return found, spec.get("suspend") is True


def _cron(review: Review) -> Iterator[Change]:
    return (change for change in review.of("CronWorkflow", "CronJob") if change.new)

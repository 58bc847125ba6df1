"""How often a schedule fires, in the syntax that Kubernetes and Argo Workflows read."""

from __future__ import annotations

import datetime
import re
from functools import cache

from cronsim import CronSim, CronSimError

_NAMED = {
    "@yearly": 1.0,
    "@annually": 1.0,
    "@monthly": 12.0,
    "@weekly": 52.18,
    "@daily": 365.25,
    "@midnight": 365.25,
    "@hourly": 8766.0,
}
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
YEAR_SECONDS = 31557600.0
_LEAP_CYCLE = 1461


@cache
def runs_per_year(schedule: str) -> float:
    """The mean number of runs in a year; 0 for a schedule that never fires or that Kubernetes refuses."""
    text = re.sub(r"^(CRON_)?TZ=\S+\s+", "", schedule.strip())
    if text.startswith("@every "):
        parts = re.findall(r"(\d+(?:\.\d+)?)(h|m|s)", text)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return YEAR_SECONDS / seconds if seconds else 0.0
    if text.startswith("@"):
        return _NAMED.get(text, 0.0)
    fields = text.split()
    if len(fields) != 5 or re.search(r"[LW#]", re.sub(r"[A-Z]{3}", "", text.upper())) or _has_seven(fields[4]):
        return 0.0
    text = " ".join(fields).replace("?", "*")
    try:
        simulated = CronSim(text, datetime.datetime(2024, 1, 1))  # noqa: DTZ001
    except CronSimError:
        return 0.0
    day = datetime.date(2024, 1, 1)
    days = 0
    for _ in range(_LEAP_CYCLE):
        days += day.month in simulated.months and _matches(simulated, text.split(), day)
        day += datetime.timedelta(days=1)
    return days * len(simulated.hours) * len(simulated.minutes) * 365.25 / _LEAP_CYCLE


def _has_seven(weekdays: str) -> bool:
    return any(re.fullmatch(r"(\d-)?7", part.partition("/")[0]) for part in weekdays.split(","))


def _matches(simulated: CronSim, fields: list[str], day: datetime.date) -> bool:
    """Both day fields have to match, or one where both are restricted, as cron has it."""
    dated = day.day in simulated.days
    weekly = day.isoweekday() % 7 in {int(item) % 7 for item in simulated.weekdays if isinstance(item, int)}
    free = fields[2].startswith("*") or fields[4].startswith("*")
    return (dated and weekly) if free else (dated or weekly)

"""How often a schedule fires. Reads it as robfig/cron v3 does, which Kubernetes and Argo Workflows both use."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import cache

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|[+-]?0", re.ASCII)
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
YEAR_SECONDS = 31557600.0
_LEAP_CYCLE = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(1461)]


@dataclass(frozen=True)
class _Bounds:
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (_Bounds(0, 59), _Bounds(0, 23), _Bounds(1, 31), _Bounds(1, 12, _MONTHS), _Bounds(0, 6, _WEEKDAYS))


def fires(schedule: str) -> bool:
    """Whether there is a time at which the schedule fires."""
    return runs_per_year(schedule) > 0


@cache
def runs_per_year(schedule: str) -> float:
    """The mean number of runs in a year; 0 for a schedule that never fires or that the controllers refuse."""
    try:
        return _runs_per_year(schedule)
    except ValueError:
        return 0.0


def is_time_zone(name: str) -> bool:
    """Whether Go knows the zone: it knows ``Local`` besides the database, and not the database's two variants."""
    if name == "Local":
        return True
    if name.startswith(("posix/", "right/")):
        return False
    import zoneinfo  # takes longer than most reviews need for all their schedules

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _runs_per_year(schedule: str) -> float:
    zoned = re.match(r"(?:CRON_)?TZ=(\S*) +", schedule)
    if zoned is not None:
        if not is_time_zone(zoned[1] or "UTC"):
            raise ValueError(f"there is no time zone {zoned[1]!r}")
        schedule = schedule[zoned.end() :].strip()
    if schedule.startswith("@every "):
        return YEAR_SECONDS / _every(schedule.removeprefix("@every "))
    fields = _DESCRIPTORS.get(schedule, schedule).split()
    if len(fields) != len(_FIELDS):
        raise ValueError("a schedule has five fields")
    parsed = [_field(field, bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    (minutes, _), (hours, _), days, (months, _), weekdays = parsed
    firing = sum(day.month in months and _day_fires(day, days, weekdays) for day in _LEAP_CYCLE)
    return firing * len(hours) * len(minutes) * 365.25 / len(_LEAP_CYCLE)


def _every(text: str) -> float:
    """The seconds of a Go duration, at least one and whole, as the controllers round it."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    return 1.0 if text.startswith("-") else max(1.0, float(int(seconds)))


def _day_fires(day: datetime.date, days: tuple[set[int], bool], weekdays: tuple[set[int], bool]) -> bool:
    """A date has to match both day fields, or one of them where neither is a star."""
    dated, weekly = day.day in days[0], day.isoweekday() % 7 in weekdays[0]
    return (dated and weekly) if days[1] or weekdays[1] else (dated or weekly)


def _field(text: str, bounds: _Bounds) -> tuple[set[int], bool]:
    """The numbers that a field means, and whether it is a star; ``*/2`` is no star, since it restricts."""
    numbers: set[int] = set()
    is_star = False
    for part in filter(None, text.split(",")):
        found, star = _range(part, bounds)
        numbers |= found
        is_star |= star
    return numbers, is_star


def _range(part: str, bounds: _Bounds) -> tuple[set[int], bool]:
    limits, *steps = part.split("/")
    first, *last = limits.split("-")
    star = first in ("*", "?")
    if len(steps) > 1 or (len(last) > 1 and not star):
        raise ValueError(f"{part!r} is no range")
    start = bounds.low if star else _number(first, bounds.names, bounds.low)
    end = bounds.high if star or (steps and not last) else start
    if last and not star:
        end = _number(last[0], bounds.names, bounds.low)
    step = _number(steps[0], (), 0) if steps else 1
    if not bounds.low <= start <= end <= bounds.high or step == 0:
        raise ValueError(f"{part!r} is outside {bounds.low} to {bounds.high}")
    return set(range(start, end + 1, step)), star and step == 1


def _number(text: str, names: tuple[str, ...], low: int) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    if not re.fullmatch(r"\+?\d+", text, re.ASCII):
        raise ValueError(f"{text!r} is no number")
    return int(text)

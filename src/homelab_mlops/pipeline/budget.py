"""The budget of error that the comparisons of challengers with one champion share.

Whoever asks the gate each night on the same holdout gets a promotion by luck in the end. So all comparisons with a
champion within a year have one error together, ``1 - gate.confidence``, and each spends a share of it: alpha spending
(Lan and DeMets 1983, Biometrika 70) by the union bound, which holds however the challengers depend on each other.

The share of comparison *k* of at most *n* a year is ``FRONT / (k^2 h) + (1 - FRONT) / n`` with
``h = 1/1^2 + ... + 1/n^2``: the shares of *n* comparisons sum to 1. The first comparisons cost little power, and the
last one of a year still has a share. What is older than a year counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

YEAR = timedelta(days=365)
# What of the budget goes to the first comparisons; tests/benchmarks/gate.py has the power that it leaves to each.
FRONT = 0.1
# Shares are sums of many fractions.
NOTHING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """A comparison with one champion: of what, when, the how many-th of a year, its share, and what it left.

    ``of`` names the challenger, the metric and the rows. ``number`` is 0 while nobody has seen its outcome.
    """

    of: str
    at: datetime
    number: int
    share: float
    left: float

    def to_json(self) -> dict[str, Any]:
        plain = {"of": self.of, "at": self.at.isoformat(timespec="seconds"), "number": self.number}
        return {**plain, "share": self.share, "left": self.left}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Comparison:
        """Raises ValueError, KeyError or TypeError where ``content`` is not what `to_json` gives."""
        at = datetime.fromisoformat(content["at"])
        if at.tzinfo is None:
            raise ValueError(f"{content['at']} has no zone")
        number, share, left = int(content["number"]), float(content["share"]), float(content["left"])
        return cls(str(content["of"]), at, number, share, left)


@dataclass(frozen=True)
class Allowance:
    """What a comparison may spend: a share of the year's error, 0 where nothing is left.

    ``again`` is when the budget has something again, where nothing is left.
    """

    number: int
    most: int
    share: float
    left: float
    again: datetime | None = None

    def __str__(self) -> str:
        """For people: ``comparison 3 of at most 366 a year with it; 81 % of the error budget is left``."""
        return (
            f"comparison {self.number} of at most {self.most} a year with it; "
            f"{100 * self.left:.0f} % of their error budget is left"
        )


def share_of(number: int, most: int) -> float:
    """The share of the budget that comparison ``number`` of at most ``most`` may spend."""
    inverse_squares = sum(1 / each**2 for each in range(1, most + 1))
    return FRONT / (number**2 * inverse_squares) + (1 - FRONT) / most


def allow(others: Iterable[Comparison], most: int, now: datetime) -> Allowance:
    """What a comparison may spend now, after the ``others`` with the same champion."""
    recent = sorted((other for other in others if other.at > now - YEAR), key=lambda other: other.at)
    left = 1 - sum(other.share for other in recent)
    number = len(recent) + 1
    if number > most or left <= NOTHING:
        return Allowance(number, most, 0.0, max(left, 0.0), _again(recent, most, left))
    share = min(share_of(number, most), left)
    return Allowance(number, most, share, max(left - share, 0.0))


def _again(recent: Sequence[Comparison], most: int, left: float) -> datetime:
    """When enough of the ``recent`` comparisons, the oldest first, are older than a year."""
    for number, other in enumerate(recent, start=1):
        left += other.share
        if len(recent) - number < most and left > NOTHING:
            return other.at + YEAR
    raise AssertionError("without a comparison the whole budget is left")


def spent(comparison: Comparison, most: int) -> Allowance:
    """What a comparison spent when it was made."""
    return Allowance(comparison.number, most, comparison.share, comparison.left)


def now() -> datetime:
    """The time, as a comparison keeps it."""
    return datetime.now(UTC).replace(microsecond=0)

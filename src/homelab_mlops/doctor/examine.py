"""Asks the checks within one deadline. Checks that do not depend on each other run at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from homelab_mlops.doctor.checks import CHECKS, Answer, Check
from homelab_mlops.doctor.faults import FAULTS
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.visit import TIDY_SECONDS, NotLookedAtError, OutOfTimeError, Visit

# How often the doctor looks whether its time is over.
POLL_SECONDS = 0.1


@dataclass
class Report:
    """What the doctor has found, and how far it came.

    Attributes:
        findings: the faults, each once.
        asked: how many checks ended, by group.
        not_looked_at: the reasons why something was not looked at, by group.
        out_of_time: the wanted checks that the doctor had no time for.
        requests: how many requests the checks sent, by group.
        in_doubt: whether a server did not confirm in time what a check did; ``not_looked_at`` says what.
        seconds: how long it took.
        seen: whether any wanted check ended.
    """

    findings: list[Finding] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    not_looked_at: dict[str, list[str]] = field(default_factory=dict)
    out_of_time: list[str] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    in_doubt: bool = False
    seconds: float = 0.0
    seen: bool = False

    @property
    def status(self) -> str:
        """``broken`` or ``warning``, by the worst finding; with none ``incomplete`` or ``fine``."""
        severities = {finding.severity for finding in self.findings}
        if severities:
            return "broken" if "broken" in severities else "warning"
        return "incomplete" if self.out_of_time or self.in_doubt else "fine"


def examine(visit: Visit, groups: Collection[str], only: Collection[str] = ()) -> Report:
    """Asks every check of the groups, or of those that can find one of the codes ``only``.

    Where a check finds something broken, or has nothing to look at, the checks after it are not asked: they would only
    find consequences.
    """
    started = time.monotonic()
    asked = _Round(visit, groups, only)
    for item in asked.chosen.values():
        threading.Thread(target=asked.ask, args=(item,), name=item.name, daemon=True).start()
    try:
        asked.wait(lambda: visit.deadline)
    finally:
        visit.stopped.set()
        over = time.monotonic() + TIDY_SECONDS
        asked.wait(lambda: over)
        visit.end()
    report = asked.report()
    report.seconds = time.monotonic() - started
    return report


class _Round:
    """The checks that one visit asks, each in its thread, and their states so far."""

    def __init__(self, visit: Visit, groups: Collection[str], only: Collection[str]) -> None:
        self._visit, self._only = visit, only
        self._wanted = _wanted(groups, only)
        self.chosen = _with_needed(self._wanted, groups)
        # What has become of each check that has ended: fine, broken, absent (nothing to look at), partly (some of it
        # could not be looked at), late (the time did not suffice), or blocked by what another one found.
        self._state: dict[str, str] = {}
        self._late: dict[str, str] = {}
        self._found: list[tuple[Check, Finding]] = []
        self._report = Report()
        self._bugs: list[Exception] = []
        self._changed = threading.Condition()
        self._over = False

    def ask(self, item: Check) -> None:
        """Asks one check, once those before it have ended."""
        with self._changed:
            before = [name for name in (*item.after, *item.behind) if name in self.chosen]
            self._changed.wait_for(lambda: self._over or all(name in self._state for name in before))
            outcome = _blocked(item, self._state) or ("late" if self._visit.stopped.is_set() else "")
        found: list[Finding] = []
        late: list[str] = []
        reason = ""
        if not outcome:
            try:
                for answer in _answers(item, self._visit):
                    if isinstance(answer, OutOfTimeError):
                        late.append(str(answer))
                    else:
                        found.append(answer)
                outcome = "late" if late else "fine"
            except NotLookedAtError as error:
                outcome, reason = "partly" if error.partly else "absent", str(error)
            except Exception as error:
                outcome, reason = "broken", f"{item.name} failed by a bug: {error!r}"
                self._bugs.append(error)
            if any(finding.severity == "broken" for finding in found):
                outcome = "broken"
        with self._changed:
            if not self._over:
                self._end(item, outcome, found, "; ".join(late), reason)
            self._changed.notify_all()

    def wait(self, until: Callable[[], float]) -> None:
        """Waits until every check has ended, or until a time of the monotonic clock."""
        with self._changed:
            while len(self._state) < len(self.chosen) and (left := until() - time.monotonic()) > 0:
                self._changed.wait(min(left, POLL_SECONDS))

    def _end(self, item: Check, outcome: str, found: list[Finding], late: str, reason: str) -> None:
        self._state[item.name] = outcome
        self._found += [(item, finding) for finding in found]
        if late or outcome == "late":
            self._late[item.name] = late
        if outcome in ("fine", "broken"):
            self._report.asked[item.group] = self._report.asked.get(item.group, 0) + 1
        if reason:
            reasons = self._report.not_looked_at.setdefault(item.group, [])
            if reason not in reasons:
                reasons.append(reason)

    def report(self) -> Report:
        """What the checks have found until now. A check that ends later does not count.

        Raises:
            Exception: a check failed by a bug of its own, and no check found anything.
        """
        with self._changed:
            self._over = True
            self._changed.notify_all()
            report = self._report
            self._late |= {name: "" for name in self.chosen if name not in self._state}
            if self._bugs and not any(item.name in self._wanted for item, _ in self._found):
                raise self._bugs[0]
            report.seen = bool({"fine", "broken", "partly"} & {self._state.get(name, "") for name in self._wanted})
            report.findings = _sorted([finding for item, finding in self._found if self._tells(item, finding)])
            report.out_of_time = [name for name in self.chosen if name in self._late and name in self._wanted]
            for group in dict.fromkeys(CHECKS[name].group for name in report.out_of_time):
                reason = "out of time: " + ", ".join(
                    _late_in_words(name, self._late[name]) for name in report.out_of_time if CHECKS[name].group == group
                )
                report.not_looked_at.setdefault(group, []).append(reason)
            for about, doubts in self._visit.doubts.items():
                report.not_looked_at.setdefault(about, []).extend(doubts)
            report.in_doubt = bool(self._visit.doubts)
            report.requests = dict(self._visit.requests)
        return report

    def _tells(self, item: Check, finding: Finding) -> bool:
        """Whether a finding is an answer to what was asked, or the reason why there is none."""
        if not self._only:
            return True
        if item.name in self._wanted and finding.code in self._only:
            return True
        return not self._report.seen and item.name not in self._wanted and finding.severity == "broken"


def _late_in_words(name: str, why: str) -> str:
    short = name.partition(".")[2]
    return f"{short} ({why})" if why else short


def _blocked(item: Check, state: dict[str, str]) -> str:
    """Why a check is not asked, or nothing. A check with nothing to look at keeps back only its own group."""
    before = {state[name] for name in item.after if name in state}
    if before & {"broken", "blocked"}:
        return "blocked"
    if "late" in before:
        return "late"
    absent = [name for name in item.after if state.get(name) == "absent" and CHECKS[name].group == item.group]
    return "absent" if absent else ""


def _answers(item: Check, visit: Visit) -> Iterator[Answer]:
    try:
        yield from item.ask(visit) or ()
    except (Finding, OutOfTimeError) as answer:
        yield answer


def _wanted(groups: Collection[str], only: Collection[str]) -> set[str]:
    """The checks of the groups, or those that can find one of the codes ``only``."""
    return {item.name for item in CHECKS.values() if item.group in groups and (not only or {*only} & {*item.codes})}


def _with_needed(wanted: set[str], groups: Collection[str]) -> dict[str, Check]:
    """The checks, and the checks of the groups that must be fine before them."""
    names = {*wanted}
    while more := {name for known in names for name in CHECKS[known].after if CHECKS[name].group in groups} - names:
        names |= more
    return {name: item for name, item in CHECKS.items() if name in names}


def _sorted(findings: list[Finding]) -> list[Finding]:
    order = list(FAULTS)
    once = {(finding.code, finding.about): finding for finding in reversed(findings)}
    return sorted(once.values(), key=lambda finding: (order.index(finding.code), finding.about))

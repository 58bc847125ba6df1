"""The checks and their order: those that don't depend on each other run together, within one deadline."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from homelab_mlops.doctor.faults import FAULTS
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.errors import DoctorError

# What the checks may take together; with the start of Python it stays under ten.
BUDGET_SECONDS = 7.0
# What a check has, once the time is over or the command is stopped, to end; then its probe is deleted for it.
TIDY_SECONDS = 1.0
# How long a request that deletes a probe may take.
DELETE_SECONDS = 1.0
# What a server has at least to answer, before its silence says something of it and not of the time that was left.
PATIENCE_SECONDS = 2.5


class NotLookedAtError(Exception):
    """A check has nothing to look at here; its text says why. After one that has it ``partly``, others can be asked."""

    def __init__(self, why: str, *, partly: bool = False) -> None:
        super().__init__(why)
        self.partly = partly


@dataclass(frozen=True)
class Model:
    """What the doctor needs of a model: the experiment that has its name, and where its table lies."""

    name: str
    source: str


@dataclass
class Visit:
    """What the doctor is called to, and until when (of the monotonic clock).

    ``model_given`` says that the models are what a person named, whose tables therefore have to be there;
    ``may_create`` that the experiment may be made, as the training that follows would. ``probe`` is the name of the one
    object that the checks write, and delete again.
    """

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path | None = None
    models: tuple[Model, ...] = ()
    model_given: bool = False
    may_create: bool = False
    in_cluster: bool = False
    store: str = ""
    context: str | None = None
    key_file: Path | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + BUDGET_SECONDS)
    stopped: threading.Event = field(default_factory=threading.Event)
    shared: dict[str, Any] = field(default_factory=dict)
    probe: str = field(default_factory=lambda: f"homelab-doctor/{uuid.uuid4().hex}")
    _leftovers: list[Callable[[], object]] = field(default_factory=list)

    @contextlib.contextmanager
    def removing(self, remove: Callable[[], object]) -> Iterator[None]:
        """Calls ``remove`` at the end of the block, or when the visit ends while the block still waits for an answer.

        It may be called twice.
        """
        self._leftovers.append(remove)
        try:
            yield
        finally:
            remove()
            self._leftovers.remove(remove)

    def remove_leftovers(self) -> None:
        """Deletes what checks that have not ended would have deleted."""
        for remove in [*self._leftovers]:
            remove()

    def seconds(self, most: float) -> float:
        """How long a request may take: ``most``, or what is left; once it is over, what deleting a probe may take."""
        if self.stopped.is_set():
            return min(most, DELETE_SECONDS)
        return max(0.2, min(most, self.deadline - time.monotonic()))

    def close(self) -> None:
        """Closes the clients that the checks shared."""
        for client in (self.shared.get("client"), *self.shared.get("s3", {}).values()):
            if client is not None:
                client.close()

    def variable(self, *names: str) -> str:
        """The first of the environment's variables that is set."""
        return next((value for name in names if (value := self.env.get(name, "").strip())), "")


Ask = Callable[[Visit], Iterable[Finding] | None]
"""The function of a check: yields or raises what it finds."""


@dataclass(frozen=True)
class Check:
    """A question, the codes of its answers, and the checks that have to be fine before it can be asked."""

    name: str
    group: str
    ask: Ask
    codes: tuple[str, ...]
    after: tuple[str, ...]
    # The checks that have to end first, whatever they find.
    behind: tuple[str, ...]


CHECKS: dict[str, Check] = {}
Checking = Callable[..., Any]
_NAMES: dict[Checking, str] = {}


def check(
    group: str, *codes: str, after: Collection[Checking] = (), before: Collection[Checking] = ()
) -> Callable[..., Any]:
    """Registers a function as a check of ``group``; a code's ``*`` stands for every code that begins so.

    The checks ``after`` which it is asked have to be fine; those ``before`` which it ends go on whatever it finds.
    """

    def register(function: Ask) -> Ask:
        known = tuple(
            code
            for pattern in codes
            for code in FAULTS
            if code == pattern or (pattern.endswith("*") and code.startswith(pattern[:-1]))
        )
        name = _NAMES[function] = f"{group}.{function.__name__}"
        CHECKS[name] = Check(name, group, function, known, tuple(_NAMES[earlier] for earlier in after), ())
        for later in (_NAMES[function] for function in before):
            CHECKS[later] = replace(CHECKS[later], behind=(*CHECKS[later].behind, name))
        return function

    return register


@dataclass
class Report:
    """What the doctor has found."""

    findings: list[Finding] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    not_looked_at: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """``broken``, ``warning``, or ``fine``."""
        severities = {finding.severity for finding in self.findings}
        return "broken" if "broken" in severities else "warning" if severities else "fine"


def examine(visit: Visit, groups: Collection[str], only: Collection[str] = ()) -> Report:
    """Asks every check of the groups, or of those that can find one of the codes ``only``.

    A check whose predecessor found something broken, or had nothing to look at, is not asked: what it would find is a
    consequence.
    """
    started = time.monotonic()
    wanted = _wanted(groups, only)
    chosen = _with_needed(wanted, groups)
    state: dict[str, str] = {}
    report = Report()
    changed = threading.Condition()
    threads: list[threading.Thread] = []
    bugs: list[Exception] = []
    kept_from: list[Finding] = []

    def run(item: Check) -> None:
        with changed:
            changed.wait_for(lambda: all(name in state for name in (*item.after, *item.behind) if name in chosen))
            outcome = _blocked(item, state)
        found: list[Finding] = []
        reason = ""
        if not outcome and not visit.stopped.is_set():
            try:
                for finding in _answers(item, visit):
                    found.append(finding)  # noqa: PERF402 - what was found before something fails is told
                outcome = "fine"
            except NotLookedAtError as error:
                outcome, reason = "unseen" if error.partly else "absent", str(error)
            except Exception as error:
                outcome, reason = "broken", f"{item.name} failed itself: {error!r}"
                bugs.append(error)
            if any(finding.severity == "broken" for finding in found):
                outcome = "broken"
        with changed:
            state[item.name] = outcome
            (report.findings if not only or item.name in wanted else kept_from).extend(found)
            if outcome in ("fine", "broken"):
                report.asked[item.group] = report.asked.get(item.group, 0) + 1
            if reason:
                reasons = report.not_looked_at.setdefault(item.group, [])
                if reason not in reasons:
                    reasons.append(reason)
            changed.notify_all()

    for item in chosen.values():
        thread = threading.Thread(target=run, args=(item,), name=item.name, daemon=True)
        threads.append(thread)
        thread.start()
    try:
        _join(threads, visit.deadline)
    finally:
        visit.stopped.set()
        _join(threads, time.monotonic() + TIDY_SECONDS)
        visit.remove_leftovers()
        visit.close()
    if bugs and not report.findings:
        raise bugs[0]
    with changed:
        findings = [one for one in report.findings if not only or one.code in (*only, "DOCTOR_OUT_OF_TIME")]
        if not {"fine", "broken", "unseen"} & {state.get(name) for name in wanted}:
            # What keeps the doctor from looking at all is the answer.
            findings += [finding for finding in kept_from if finding.severity == "broken"]
        if late := sorted(wanted - state.keys()):
            findings.append(out_of_time(", ".join(late)))
        if any(finding.severity == "broken" for finding in findings):
            findings = [finding for finding in findings if finding.code != "DOCTOR_OUT_OF_TIME"]
        report.findings = _sorted(findings)
        report.seconds = time.monotonic() - started
    return report


def out_of_time(where: str, what: str = "") -> Finding:
    """What was slow, of which nothing else can be said; told once."""
    return Finding("DOCTOR_OUT_OF_TIME", where, what, about="time")


def _blocked(item: Check, state: Mapping[str, str]) -> str:
    """Why a check is not asked, or nothing: what of another group is not configured is no reason."""
    if {"broken", "blocked"} & {state.get(name) for name in item.after}:
        return "blocked"
    absent = [name for name in item.after if state.get(name) == "absent" and CHECKS[name].group == item.group]
    return "absent" if absent else ""


def _answers(item: Check, visit: Visit) -> Iterator[Finding]:
    try:
        yield from item.ask(visit) or ()
    except Finding as finding:
        yield finding


def _wanted(groups: Collection[str], only: Collection[str]) -> set[str]:
    """The checks of the groups, or those that can find one of the codes ``only``."""
    return {item.name for item in CHECKS.values() if item.group in groups and (not only or {*only} & {*item.codes})}


def _with_needed(wanted: set[str], groups: Collection[str]) -> dict[str, Check]:
    """The checks, and those of the groups that have to be fine before."""
    names = {*wanted}
    while more := {name for known in names for name in CHECKS[known].after if CHECKS[name].group in groups} - names:
        names |= more
    return {name: item for name, item in CHECKS.items() if name in names}


def _sorted(findings: list[Finding]) -> list[Finding]:
    order = list(FAULTS)
    once = {(finding.code, finding.about): finding for finding in reversed(findings)}
    return sorted(once.values(), key=lambda finding: (order.index(finding.code), finding.about))


def _join(threads: list[threading.Thread], until: float) -> None:
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def known_codes(codes: Collection[str]) -> None:
    """Holds that there are such codes.

    Raises:
        DoctorError: there is none of that name; names one that is near.
    """
    import difflib

    for code in codes:
        if code not in FAULTS:
            near = difflib.get_close_matches(code.upper(), FAULTS, n=1)
            raise DoctorError(
                f"there is no code {code!r}",
                where="--only",
                fix=f"did you mean {near[0]}?" if near else "docs/troubleshooting.md lists every code",
            )

"""The checks, by name: each says its group, the codes it can find, and which checks come before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from homelab_mlops.doctor.faults import FAULTS
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.visit import OutOfTimeError, Visit
from homelab_mlops.errors import DoctorError

Group = Literal["tracking", "store", "cluster", "gitops"]
Answer = Finding | OutOfTimeError
Ask = Callable[[Visit], Iterable[Answer] | None]
"""The function of a check: yields or raises what it finds."""


@dataclass(frozen=True)
class Check:
    """A question that the doctor asks, and the codes of its answers.

    Attributes:
        name: group and function, such as ``store.usable``.
        group: what it looks at: ``tracking``, ``store``, ``cluster`` or ``gitops``.
        ask: the function.
        codes: the codes that it can find.
        after: the checks that must be fine before the doctor asks this one.
        behind: the checks that must end before the doctor asks this one, whatever they find.
    """

    name: str
    group: Group
    ask: Ask
    codes: tuple[str, ...]
    after: tuple[str, ...]
    behind: tuple[str, ...]


CHECKS: dict[str, Check] = {}
Checking = Callable[..., Any]
_NAMES: dict[Checking, str] = {}


def check(
    group: Group, *codes: str, after: Collection[Checking] = (), before: Collection[Checking] = ()
) -> Callable[..., Any]:
    """Registers a function as a check of ``group``; a code's ``*`` stands for every code that begins so.

    The doctor asks this check once the checks of ``after`` are fine. The checks of ``before`` wait until this one has
    ended, whatever it finds.
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


def known_codes(codes: Collection[str]) -> None:
    """Refuses a code that does not exist.

    Raises:
        DoctorError: a code does not exist; the message names a similar one.
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

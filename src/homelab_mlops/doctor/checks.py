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
    """A question, and the codes of its answers.

    Attributes:
        name: group and function, such as ``store.usable``.
        group: what it looks at: ``tracking``, ``store``, ``cluster`` or ``gitops``.
        ask: the function.
        codes: the codes that it can find.
        after: the checks that have to be fine before it can be asked.
        behind: the checks that have to end before it is asked, whatever they find.
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

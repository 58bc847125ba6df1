"""The matrix of login, route and method in docs/security.md, made of the rights and of the routes that MLflow has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.accounts import plugin, served_routes
from tests.conftest import ROOT
from tests.sections import Section
from tests.unit.security import environments, network

DOCUMENT = ROOT / "docs" / "security.md"
SECTION = Section("MLflow's routes")
LOGINS = ("training", "promoter", "serving", "person")
OWN = frozenset(
    {("training", name) for name in plugin("rights").TRAIN} | {("promoter", name) for name in plugin("rights").PROMOTE}
)


def of_rights(names: Iterable[str]) -> str:
    """The matrix of the routes of these names; what no login but the administrator may use is a list."""
    rights = plugin("rights")
    ordered = sorted(set(names), key=lambda name: (name.split(" ")[1], name))
    opened = [name for name in ordered if any(rights.may(login, name) for login in LOGINS)]
    rows = [" | ".join([f"| `{name}`", *(_cell(login, name) for login in LOGINS)]) + " |" for name in opened]
    closed = [f"`{name}`" for name in ordered if name not in opened]
    heading = " | ".join(["| route", *LOGINS]) + " |"
    return "\n".join(
        [
            heading,
            "|---|" + "---|" * len(LOGINS),
            *rows,
            "",
            f"The administrator alone may use the other {len(closed)}:",
            "",
        ]
        + [f"- {name}" for name in closed]
    )


def _cell(login: str, name: str) -> str:
    rights = plugin("rights")
    if not rights.may(login, name):
        return "no"
    if name in rights.PUBLIC:
        return "no login needed"
    return "own" if (login, name) in OWN else "yes"


def in_page() -> str:
    """The matrix as the page has it."""
    return SECTION.read(DOCUMENT.read_text(encoding="utf-8"))


def with_tables(text: str) -> str:
    """The document with its matrix made anew."""
    rights = plugin("rights")
    with tempfile.TemporaryDirectory() as folder:
        names = {rights.route(method, rule) for method, rule in served_routes(Path(folder))}
    return network.with_table(environments.with_table(SECTION.written(text, of_rights(names))))

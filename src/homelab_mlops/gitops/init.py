"""`homelab init`: makes a fork the person's own: settings, sealing key, credentials."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import typer
from pydantic import ValidationError

from homelab_mlops.console import stdout
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.private import addresses, declare
from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE, SealingKey, make_sealing_key, write_file
from homelab_mlops.gitops.secrets.table import (
    Values,
    complete_values,
    everything_is_sealed,
    load_table,
    read_sealed,
    recover_values,
    seal_values,
)
from homelab_mlops.gitops.settings import Settings, change_argo_cd_release, change_settings, find_root, load_settings


class Login(NamedTuple):
    """What a person types into a page."""

    where: str
    username: str
    password: str


class Initialised(NamedTuple):
    """What a run of ``initialise`` did."""

    changed: list[Path]
    key: SealingKey
    key_is_new: bool
    generated: list[str]
    logins: list[Login]


def initialise(
    root: Path,
    answers: dict[str, str],
    *,
    argo_cd_release: str | None = None,
    key_file: Path | None = None,
    private: frozenset[str] = frozenset(),
    brought: Values | None = None,
) -> Initialised:
    """Writes settings, sealing key and sealed credentials into the repository in ``root``, and leaves what is right.

    Args:
        answers: the settings that change, by field name of ``Settings``.
        private: which of ``repository`` and ``registry`` ask for a login.
        brought: values that a person gave, by credential and field.

    Raises:
        RepositoryError: an answer is not valid, or the private key that an earlier run made is not here.
    """
    settings = new_settings(load_settings(root), answers)
    # Every refusal comes before the first file is written.
    change_settings(root, settings)
    moved = change_argo_cd_release(root, argo_cd_release) if argo_cd_release else {}
    table, declared = declare(root, settings, private)
    had_certificate = (root / CERTIFICATE).is_file()
    key, key_is_new = make_sealing_key(root, key_file)
    if key.private is None and not declared and everything_is_sealed(root, table):
        return Initialised(write_all({**change_settings(root, settings), **moved}), key, False, [], [])
    # A new key opens nothing, so every credential is generated.
    sealed = {} if key_is_new else read_sealed(root, table, key)
    values, generated = complete_values(table, recover_values(table, sealed))
    values.update({field: value for field, value in addresses(settings).items() if field[0] in table.credentials})
    values.update(brought or {})
    changed = write_all(moved)
    # Several writers change the same file, so each one reads what the one before has written.
    changed += write_all(declare(root, settings, private)[1])
    changed += write_all({**seal_values(root, table, values, sealed, key), **change_settings(root, settings)})
    changed = list(dict.fromkeys(changed))
    if not had_certificate:
        changed.insert(0, root / CERTIFICATE)
    logins = [
        Login(credential.login, credential.username or name, values[name, "password"])
        for name, credential in table.credentials.items()
        if credential.login is not None and name in generated
    ]
    return Initialised(changed, key, key_is_new, generated, logins)


def new_settings(settings: Settings, answers: dict[str, str]) -> Settings:
    """``settings`` with ``answers`` instead of the old values.

    Raises:
        RepositoryError: an answer is not valid.
    """
    try:
        return Settings.model_validate({**settings.model_dump(), **answers})
    except ValidationError as error:
        detail = error.errors()[0]
        option = str(detail["loc"][0]).replace("_", "-")
        raise RepositoryError(
            f"{detail['input']!r} cannot be used: {detail['msg']}", where=f"--{option}", fix="homelab init --help"
        ) from error


def write_all(files: dict[Path, str]) -> list[Path]:
    """Writes each file whole or not at all, in order; returns their paths."""
    for path, text in files.items():
        write_file(path, text.encode())
    return list(files)


def ask_and_initialise(
    answers: dict[str, str | None],
    *,
    private: dict[str, bool | None],
    argo_cd_release: str | None,
    key_file: Path | None,
    ask: bool,
) -> None:
    """The command `homelab init`: asks for each missing setting, then prints what it did and what the person must keep.

    ``private`` says of ``repository`` and ``registry`` whether they ask for a login; None where no option says so.
    """
    root = find_root()
    current = load_settings(root)
    given = {name: answer for name, answer in answers.items() if answer is not None}
    brought: Values = {}
    asks = ask and sys.stdin.isatty()
    if asks:
        for name, field in Settings.model_fields.items():
            if name not in given and isinstance(former := getattr(current, name), str):
                given[name] = typer.prompt(f"{field.description}", default=former)
                new_settings(current, given)
    declared = set(load_table(root).credentials)
    for what, is_private in private.items():
        if asks and what not in declared and is_private is None:
            private[what] = typer.confirm(f"does the {what} ask for a login to read it?", default=False)
        if asks and what not in declared and private[what]:
            brought[what, "username"] = typer.prompt(f"user name at the {what}")
            brought[what, "password"] = typer.prompt(f"password or token at the {what}", hide_input=True)
    chosen = frozenset(what for what, is_private in private.items() if is_private)
    done = initialise(root, given, argo_cd_release=argo_cd_release, key_file=key_file, private=chosen, brought=brought)
    _report(done)
    for what in sorted(chosen - declared - {what for what, _ in brought}):
        stdout().print(f"The {what} still needs its login: homelab seal {what} username password", markup=False)


def _report(done: Initialised) -> None:
    out = stdout()
    if not done.changed:
        out.print("Nothing to do: settings, sealing key and credentials are as they have to be.")
        return
    plural = "" if len(done.changed) == 1 else "s"
    out.print(f"Changed {len(done.changed)} file{plural}; see them with `git diff`, then commit and push.")
    if done.generated:
        out.print(f"Generated {len(done.generated)} credentials: {', '.join(done.generated)}.")
    if done.key.private is not None:
        made = "Made the" if done.key_is_new else "Used the"
        out.print(f"{made} private sealing key {done.key.private}")
        if done.key_is_new:
            out.print("  Keep a copy of it in your password manager: with it and this repository a cluster is rebuilt.")
            out.print("  Without it every credential is lost with the cluster. Never commit it.")
    # Standard output may be a log where it is no terminal.
    for login in done.logins:
        password = login.password if out.is_terminal else "(homelab seal --show prints it on a terminal)"
        out.print(f"Log in to {login.where} as {login.username}: {password}", markup=False)

"""`homelab init`: makes a fork the person's own: settings, sealing key, credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import typer
from pydantic import ValidationError

from homelab_mlops.console import say, stdout
from homelab_mlops.errors import RepositoryError, without_login
from homelab_mlops.gitops.argo_cd.addresses import same_address
from homelab_mlops.gitops.files import write_all
from homelab_mlops.gitops.names import TLS_OWN
from homelab_mlops.gitops.origin import origin, readable
from homelab_mlops.gitops.private import addresses, declare
from homelab_mlops.gitops.secrets.reseal import Foreign, foreign, lost_values, replaced_key
from homelab_mlops.gitops.secrets.sealing_key import (
    CERTIFICATE,
    SealingKey,
    find_sealing_key,
    new_sealing_key,
    refuse_inside,
)
from homelab_mlops.gitops.secrets.table import (
    Sealed,
    SecretTable,
    Values,
    complete_values,
    everything_is_sealed,
    load_table,
    open_sealed,
    recover_values,
    seal_values,
)
from homelab_mlops.gitops.settings import Settings, change_argo_cd_release, change_settings, find_root, load_settings
from homelab_mlops.gitops.tls.own import Made, certificate_of_pages, declare_tls
from homelab_mlops.gitops.tls.pages import SECRET, change_pages
from homelab_mlops.location import AUTHORITY


class Login(NamedTuple):
    """What a person types into a page."""

    where: str
    username: str
    password: str


class Initialised(NamedTuple):
    """What a run of ``initialise`` did.

    Attributes:
        sealed_anew: whether the values of an older key were sealed for this one.
        empty: keys of Secrets of one's own, as ``NAMESPACE/NAME KEY``, that nobody has brought a value for.
        made: the certificate of the pages.
    """

    changed: list[Path]
    key: SealingKey
    key_is_new: bool
    generated: list[str]
    logins: list[Login]
    sealed_anew: bool = False
    empty: tuple[str, ...] = ()
    made: Made = Made({}, {})


class Lost(NamedTuple):
    """A sealed value that no private key of this machine opens."""

    secret: str
    becomes: str


Accept = Callable[[list[Lost]], bool]


def initialise(
    root: Path,
    answers: dict[str, str],
    *,
    argo_cd_release: str | None = None,
    key_file: Path | None = None,
    private: frozenset[str] = frozenset(),
    brought: Values | None = None,
    new_key: bool = False,
    old_keys: tuple[Path, ...] = (),
    accept: Accept = lambda _: False,
) -> Initialised:
    """Writes settings, sealing key and sealed credentials into the repository in ``root``, and leaves what is right.

    Args:
        answers: the settings that change, by field name of ``Settings``.
        private: which of ``repository`` and ``registry`` ask for a login.
        brought: values that a person gave, by credential and field.
        new_key: seals everything for another key.
        old_keys: files of private keys, beside those in the folder, that may open what is sealed.
        accept: whether to go on without values that nobody can open; it is asked before anything is written.

    Raises:
        RepositoryError: an answer is not valid, the private key is not here, or values would be lost.
    """
    old = load_settings(root)
    settings = new_settings(old, answers)
    drafts = change_argo_cd_release(root, argo_cd_release) if argo_cd_release else {}
    table, declared = declare(root, settings, private, drafts)
    drafts.update(declared)
    table, of_tls = declare_tls(root, settings, table, drafts)
    drafts.update({path: text for path, text in of_tls.items() if text is not None})
    key = _sealing_key(root, table, key_file, new_key=new_key, old_keys=old_keys)
    if key.private is None and not declared and not of_tls and everything_is_sealed(root, table):
        drafts.update(change_settings(root, settings, drafts))
        drafts.update(change_pages(root, old, settings, drafts))
        return Initialised(write_all(drafts), key, False, [], [])
    sealed = open_sealed(root, table, key)
    recovered = recover_values(table, sealed)
    others = foreign(root, table, key, drafts) if any(sealed.values()) or key.new else Foreign({}, [])
    made_anew = {SECRET} if settings.tls_mode == TLS_OWN else set()
    _refuse_loss(table, sealed, recovered, others.closed if key.new else [], accept, made_anew)
    values, generated = complete_values(table, recovered)
    values.update({field: value for field, value in addresses(settings).items() if field[0] in table.credentials})
    values.update(brought or {})
    made = certificate_of_pages(root, settings, values, key, {**drafts, **others.changed})
    values.update(made.values)
    drafts.update(others.changed)
    drafts.update(seal_values(root, table, values, sealed, key))
    drafts.update(change_settings(root, settings, drafts))
    drafts.update(change_pages(root, old, settings, drafts))
    if key.new is not None:
        drafts[key.certificate] = key.new.certificate.decode()
    files = {**drafts, **{path: text for path, text in of_tls.items() if text is None}, **made.files}
    # The private key first: without it, what is written next is lost.
    key_is_new = key.keep()
    changed = write_all(files)
    logins = [
        Login(credential.login, credential.username or name, values[name, "password"])
        for name, credential in table.credentials.items()
        if credential.login is not None and name in generated
    ]
    sealed_anew = any(set(one.data) - set(one.encrypted) for one in sealed.values())
    return Initialised(changed, key, key_is_new, generated, logins, sealed_anew, _empty(table, recovered, values), made)


def _sealing_key(
    root: Path, table: SecretTable, key_file: Path | None, *, new_key: bool, old_keys: tuple[Path, ...]
) -> SealingKey:
    if key_file is not None:
        refuse_inside(root, key_file.expanduser().absolute())
    if new_key:
        return new_sealing_key(root, key_file, old_keys)
    if not (root / CERTIFICATE).is_file():
        return replaced_key(root, table, key_file, old_keys)
    return find_sealing_key(root, key_file, old_keys)


def _refuse_loss(
    table: SecretTable, sealed: dict[str, Sealed], values: Values, closed: list[str], accept: Accept, made: set[str]
) -> None:
    lost = [
        Lost(f"{secret} {name}", _becomes(given=given and secret.rpartition("/")[2] not in made))
        for secret, name, given in lost_values(table, sealed, values)
    ]
    lost += [Lost(name, "left as it is, for a key that is not here") for name in closed]
    if lost and not accept(lost):
        secrets = dict.fromkeys(value.secret.partition(" ")[0] for value in lost)
        raise RepositoryError(
            f"no private key of this machine opens {len(lost)} sealed values, so nothing was written",
            where=", ".join(secrets),
            fix="name the key that opens them by --old-key FILE, or go on without them by --lose-values",
        )


def _becomes(*, given: bool) -> str:
    return "empty, until you bring it again" if given else "generated anew"


def _empty(table: SecretTable, recovered: Values, values: Values) -> tuple[str, ...]:
    return tuple(
        f"{spec.id} {key}"
        for spec in table.secrets
        if spec.own and spec.own != SECRET and table.credentials[spec.own].kind == "given"
        for key in spec.keys
        if (spec.own, key) not in recovered and not values[spec.own, key]
    )


def new_settings(settings: Settings, answers: dict[str, str]) -> Settings:
    """``settings`` with ``answers`` instead of the old values.

    Raises:
        RepositoryError: an answer is not valid.
    """
    try:
        return Settings.model_validate({**settings.model_dump(), **answers})
    except ValidationError as error:
        detail = error.errors()[0]
        name = next(name for name, field in Settings.model_fields.items() if detail["loc"][0] in (name, field.alias))
        option = f"--{name.replace('_', '-')}"
        reason = str(detail["msg"]).removeprefix("Value error, ")
        (example,) = Settings.model_fields[name].examples or [""]
        raise RepositoryError(
            f"{detail['input']!r} cannot be used: {reason}", where=option, fix=f"such as {option} {example}"
        ) from error


def ask_and_initialise(
    answers: dict[str, str | None],
    *,
    private: dict[str, bool | None],
    argo_cd_release: str | None,
    key_file: Path | None,
    ask: bool,
    new_key: bool = False,
    old_keys: tuple[Path, ...] = (),
    lose_values: bool = False,
) -> None:
    """The command `homelab init`: asks for each missing setting, then prints what it did and what the person must keep.

    ``private`` says of ``repository`` and ``registry`` whether they ask for a login; None where no option says so.
    """
    root = find_root()
    current = load_settings(root)
    given = {name: answer for name, answer in answers.items() if answer is not None}
    brought: Values = {}
    asks = ask and sys.stdin.isatty()
    new_settings(current, given)
    offered = _offered_repository(root, current)
    if asks:
        for name, field in Settings.model_fields.items():
            if name not in given and isinstance(former := getattr(current, name), str):
                default = offered if name == "repository" else former
                given[name] = typer.prompt(f"{field.description}", default=default)
                new_settings(current, given)
    elif "repository" not in given:
        _say_repository(root, current, offered)
        given["repository"] = offered
    declared = set(load_table(root).credentials)
    for what, is_private in private.items():
        if asks and what not in declared and is_private is None:
            private[what] = typer.confirm(f"does the {what} ask for a login to read it?", default=False)
        if asks and what not in declared and private[what]:
            brought[what, "username"] = typer.prompt(f"user name at the {what}")
            brought[what, "password"] = typer.prompt(f"password or token at the {what}", hide_input=True)
    chosen = frozenset(what for what, is_private in private.items() if is_private)

    def accept(lost: list[Lost]) -> bool:
        for value in lost:
            say(f"no key here opens {value.secret}: it would be {value.becomes}")
        if lose_values or not asks:
            return lose_values
        return typer.confirm(f"Go on without these {len(lost)} values?", default=False)

    done = initialise(
        root,
        given,
        argo_cd_release=argo_cd_release,
        key_file=key_file,
        private=chosen,
        brought=brought,
        new_key=new_key,
        old_keys=old_keys,
        accept=accept,
    )
    _report(done)
    for what in sorted(chosen - declared - {what for what, _ in brought}):
        stdout().print(f"The {what} still needs its login: homelab seal {what} username password", markup=False)


def _offered_repository(root: Path, current: Settings) -> str:
    """The address of ``origin`` for a fork that is not initialised yet; else the one of the settings."""
    return (not (root / CERTIFICATE).is_file() and readable(origin(root))) or current.repository


def _say_repository(root: Path, current: Settings, offered: str) -> None:
    """Says which repository Argo CD will read where nobody has named one, and why."""
    remote = without_login(origin(root))
    if offered != current.repository:
        stdout().print(f"The repository is {offered}, by the remote origin of this clone.", markup=False)
    elif remote and same_address(remote) != same_address(offered):
        stdout().print(
            f"The repository stays {offered}, though the remote origin is {remote}: --repository names another.",
            markup=False,
        )


def _report(done: Initialised) -> None:
    out = stdout()
    if not done.changed:
        out.print("Nothing to do: settings, sealing key and credentials are as they have to be.")
        return
    plural = "" if len(done.changed) == 1 else "s"
    out.print(f"Changed {len(done.changed)} file{plural}; see them with `git diff`, then commit and push.")
    if done.generated:
        out.print(f"Generated {len(done.generated)} credentials: {', '.join(done.generated)}.")
    if done.sealed_anew:
        out.print(
            "Sealed the values of the old key anew. `homelab bootstrap`, after the push, brings the new key to the"
        )
        out.print("cluster; keep the old one too, for older commits.")
    for name in done.empty:
        out.print(f"{name} has no value: homelab seal {name}", markup=False)
    if done.made.is_missing:
        out.print("The pages have no certificate yet:")
        out.print("  homelab seal tls --from-file tls.crt=FULLCHAIN.pem --from-file tls.key=KEY.pem")
    if done.made.authority_is_new:
        out.print(f"Made an authority for the certificate of the pages. Every device needs its file: {AUTHORITY}")
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

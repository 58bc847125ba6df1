"""`homelab seal`: brings, replaces, rotates or shows a credential that is sealed in the repository."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Any

import typer
import yaml

from homelab_mlops.console import print_json, stdout
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.init import write_all
from homelab_mlops.gitops.private import edited
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, find_sealing_key
from homelab_mlops.gitops.secrets.table import (
    REFERENCE,
    TABLE,
    SecretSpec,
    SecretTable,
    Values,
    complete_values,
    load_table,
    read_sealed,
    recover_values,
    seal_values,
)
from homelab_mlops.gitops.settings import find_root

_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def seal_command(
    name: str,
    keys: list[str],
    *,
    namespace: str | None,
    rotate_it: bool,
    show: bool,
    as_json: bool,
    key_file: Path | None,
) -> None:
    """The command `homelab seal`: takes the values from standard input or hidden prompts, prints what changed."""
    root = find_root()
    if show:
        fields = reveal(root, name, key_file=key_file)
        if as_json:
            print_json(fields)
            return
        for field, value in fields.items():
            stdout().print(f"{field}={value}", markup=False)
        return
    if as_json:
        raise RepositoryError("--json belongs to --show", where=f"homelab seal {name}")
    if rotate_it:
        changed = rotate(root, name, key_file=key_file)
    else:
        changed = set_secret(root, name, _ask(name, keys), namespace=namespace, key_file=key_file)
    for path in changed:
        stdout().print(str(path.relative_to(root)), markup=False)
    stdout().print("Commit and push these files." if changed else "Nothing to do: the values are sealed already.")


def _ask(name: str, keys: list[str]) -> dict[str, str]:
    if wrong := [key for key in keys if not _KEY.fullmatch(key)]:
        # A value on the command line would already be in the process list and in the shell's history.
        raise RepositoryError(
            f"{wrong[0].partition('=')[0]!r} is not a key",
            fix="name the keys only; values are asked for, or come from standard input",
        )
    if sys.stdin.isatty():
        if not keys:
            raise RepositoryError(f"which keys of {name}?", fix=f"homelab seal {name} KEY …")
        return {key: typer.prompt(key, hide_input=True, confirmation_prompt=True) for key in keys}
    assignments = parse_assignments(sys.stdin.read().splitlines())
    if not assignments or (keys and set(assignments) != set(keys)):
        raise RepositoryError(
            f"expected lines KEY=value for {', '.join(keys) or 'at least one key'}", where="standard input"
        )
    return assignments


def parse_assignments(lines: list[str]) -> dict[str, str]:
    """``KEY=value`` lines as a mapping.

    Raises:
        RepositoryError: a line has no ``=``, or its key cannot be a key of a Secret.
    """
    assignments = {}
    for number, line in enumerate(lines, start=1):
        key, equals, value = line.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise RepositoryError("not a line KEY=value", where=f"standard input:{number}")
        assignments[key] = value
    return assignments


def set_secret(
    root: Path, name: str, assignments: dict[str, str], *, namespace: str | None = None, key_file: Path | None = None
) -> list[Path]:
    """Gives keys of the Secret ``name`` new values, also in every other Secret that shares them.

    A Secret that is not declared yet is added to the table when ``namespace`` says where it belongs.

    Returns:
        the files that changed.

    Raises:
        RepositoryError: the Secret or a key is not declared, or the private key is not here.
    """
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    declared: dict[Path, str] = {}
    known = table.credentials.get(name)
    if known is not None and known.kind == "given" and set(assignments) <= set(known.fields):
        return _bring(root, table, name, assignments, key)
    spec = _find_spec(table, name, namespace)
    if spec is None:
        if namespace is None:
            raise _unknown(name, [known.name for known in table.secrets], "a new one needs --namespace")
        table, declared = _declare(root, name, namespace, list(assignments))
        spec = table.secrets[-1]
    sealed = read_sealed(root, table, key)
    values, _ = complete_values(table, recover_values(table, sealed))
    for assigned, value in assignments.items():
        values[_field_of(spec, assigned)] = value
    return write_all({**declared, **seal_values(root, table, values, sealed, key)})


def _bring(root: Path, table: SecretTable, name: str, fields: dict[str, str], key: SealingKey) -> list[Path]:
    """Gives new values, which a person brings, to a credential in every Secret that shares it."""
    sealed = read_sealed(root, table, key)
    values, _ = complete_values(table, recover_values(table, sealed))
    values.update({(name, field): value for field, value in fields.items()})
    return write_all(seal_values(root, table, values, sealed, key))


def rotate(root: Path, credential: str, *, key_file: Path | None = None) -> list[Path]:
    """Generates the credential anew, in every Secret that shares it. An S3 user's old key stays valid until the next
    time.

    Returns:
        the files that changed.
    """
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    if credential not in table.credentials:
        raise _unknown(credential, list(table.credentials), f"the credentials are those of {TABLE}")
    declared = table.credentials[credential]
    if declared.kind == "given":
        raise RepositoryError(
            f"{credential} was not generated, so it cannot be made new here",
            where=str(TABLE),
            fix="bring a new one with `homelab seal NAME KEY`",
        )
    sealed = read_sealed(root, table, key)
    old = recover_values(table, sealed)
    values, _ = complete_values(table, old)
    values.update({(credential, field): value for field, value in declared.generate().items()})
    if declared.kind == "s3-user":
        values[credential, "previousAccessKey"] = old.get((credential, "accessKey"), "")
        values[credential, "previousSecretKey"] = old.get((credential, "secretKey"), "")
    return write_all(seal_values(root, table, values, sealed, key))


def reveal(root: Path, credential: str, *, key_file: Path | None = None) -> dict[str, str]:
    """The fields of a sealed credential in plain text."""
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    if credential not in table.credentials:
        raise _unknown(credential, list(table.credentials), f"the credentials are those of {TABLE}")
    values: Values = recover_values(table, read_sealed(root, table, key))
    return {field: value for (owner, field), value in values.items() if owner == credential}


def _find_spec(table: SecretTable, name: str, namespace: str | None) -> SecretSpec | None:
    found = [spec for spec in table.secrets if spec.name == name and namespace in {None, spec.namespace}]
    if len(found) > 1:
        raise RepositoryError(
            f"{name} is a Secret of {' and of '.join(spec.namespace for spec in found)}", fix="say which by --namespace"
        )
    return found[0] if found else None


def _field_of(spec: SecretSpec, key: str) -> tuple[str, str]:
    if key not in spec.keys:
        raise _unknown(key, list(spec.keys), f"the keys of {spec.id} are {', '.join(spec.keys)}")
    match = REFERENCE.fullmatch(spec.keys[key])
    if match is None:
        raise RepositoryError(
            f"{key} of {spec.id} is composed of credentials, it cannot be set itself", where=str(TABLE)
        )
    return match[1], match[2]


def _declare(root: Path, name: str, namespace: str, keys: list[str]) -> tuple[SecretTable, dict[Path, str]]:
    def add(document: Any) -> None:
        document["credentials"][name] = {"kind": "given", "fields": keys}
        document["secrets"].append(
            {
                "name": name,
                "namespace": namespace,
                "purpose": "brought by homelab seal",
                "keys": {key: f"${{{name}.{key}}}" for key in keys},
            }
        )

    path = root / TABLE
    text = edited(path, [add])
    return SecretTable.model_validate(yaml.safe_load(text)), {path: text}


def _unknown(name: str, known: list[str], hint: str) -> RepositoryError:
    near = difflib.get_close_matches(name, known, n=1)
    return RepositoryError(f"there is no {name!r}", fix=f"did you mean {near[0]!r}?" if near else hint)

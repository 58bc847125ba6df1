"""`homelab seal`: brings, replaces, rotates, shows or removes a credential that is sealed in the repository."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from homelab_mlops.certificates import refuse_pair
from homelab_mlops.console import print_json, stdout
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.files import write_all
from homelab_mlops.gitops.private import edited
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import (
    ARGO_CD_SEALED,
    KUSTOMIZATION,
    REFERENCE,
    TABLE,
    SecretSpec,
    SecretTable,
    Values,
    as_bytes,
    complete_values,
    credential_of,
    load_table,
    read_sealed,
    recover_values,
    seal_values,
    secret_name,
)
from homelab_mlops.gitops.secrets.values import LARGEST_SECRET, ask
from homelab_mlops.gitops.settings import ARGO_CD, CLUSTER, find_root
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.manifests.strict_yaml import parse_model

TLS = "kubernetes.io/tls"
OVERLAYS = Path("overlays") / CLUSTER


class Target(NamedTuple):
    """What gets values: a credential by its fields, a Secret by its keys, or a Secret that is still to be declared.

    Attributes:
        spec: the Secret; None where the credential itself is meant.
        is_new: whether the Secret is still to be declared.
    """

    credential: str
    spec: SecretSpec | None = None
    is_new: bool = False


def seal_command(
    name: str,
    keys: list[str],
    *,
    namespace: str | None,
    rotate_it: bool,
    show: bool,
    as_json: bool,
    remove: bool,
    files: list[str],
    key_file: Path | None,
) -> None:
    """The command `homelab seal`: takes values from files, standard input or prompts, and prints what changed."""
    root = find_root()
    if rotate_it + show + remove > 1 or (files and (rotate_it or show or remove)):
        raise RepositoryError("--rotate, --show, --remove and --from-file exclude one another", fix="give one of them")
    if as_json and not show:
        raise RepositoryError("--json belongs to --show", where=f"homelab seal {name}")
    if show:
        _print_values(show_secret(root, name, namespace=namespace, key_file=key_file), name, keys, as_json=as_json)
        return
    if rotate_it:
        if keys:
            raise RepositoryError(
                f"a credential is rotated whole, without {keys[0]}", fix=f"homelab seal --rotate {name}"
            )
        changed = rotate(root, name, namespace=namespace, key_file=key_file)
    elif remove:
        changed = remove_keys(root, name, keys, namespace=namespace, key_file=key_file)
    else:
        # Before a person types a value.
        find_target(root, load_table(root), name, namespace, keys)
        changed = set_secret(root, name, ask(name, keys, files), namespace=namespace, key_file=key_file)
    for path in changed:
        stdout().print(str(path.relative_to(root)), markup=False)
    stdout().print("Commit and push these files." if changed else "Nothing to do: the values are sealed already.")


def _print_values(values: dict[str, str], name: str, keys: list[str], *, as_json: bool) -> None:
    """Prints lines KEY=value, or a JSON object, or the bytes of the one key that was named."""
    for key in keys:
        if key not in values:
            raise _unknown(key, list(values), f"the keys of {name} are {', '.join(values)}")
    if as_json:
        print_json({key: values[key] for key in keys or values})
        return
    shown = {key: as_bytes(values[key]) for key in keys or values}
    if len(keys) == 1:
        sys.stdout.buffer.write(shown[keys[0]])
        return
    for key, value in shown.items():
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = f"({len(value):,} bytes that are no text: `homelab seal --show {name} {key} > FILE` writes them)"
        stdout().print(f"{key}={text}", markup=False)


def set_secret(
    root: Path, name: str, assignments: dict[str, str], *, namespace: str | None = None, key_file: Path | None = None
) -> list[Path]:
    """Gives keys of a Secret, or fields of a credential, new values, also in every other Secret that shares them.

    A Secret that is not declared yet is added to the table when ``namespace`` says where it belongs, and so is a new
    key of a Secret of one's own.

    Returns:
        the files that changed.

    Raises:
        RepositoryError: Secret, namespace or key are not known, or the private key is not here.
    """
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    target = find_target(root, table, name, namespace, list(assignments))
    drafts: dict[Path, str] = {}
    fields = {given: (target.credential, given) for given in assignments}
    if target.spec is not None:
        table, drafts, spec = _declared(root, table, target, list(assignments))
        fields = {given: _field_of(spec, given) for given in assignments}
    sealed = read_sealed(root, table, key)
    values, _ = complete_values(table, recover_values(table, sealed))
    values.update({fields[given]: value for given, value in assignments.items()})
    for spec in table.secrets:
        if spec.type == TLS and spec.references() & set(fields.values()):
            _refuse_unusable(spec, spec.data(values))
        size = sum(len(as_bytes(value)) for value in spec.data(values).values())
        if size > LARGEST_SECRET:
            raise RepositoryError(f"{spec.id} would have {size:,} bytes, and a Secret holds {LARGEST_SECRET:,} at most")
    return write_all({**drafts, **seal_values(root, table, values, sealed, key)})


def _refuse_unusable(spec: SecretSpec, data: dict[str, str]) -> None:
    """Refuses a certificate whose private key is another's: a server would answer with neither."""
    try:
        refuse_pair(data.get("tls.crt", ""), data.get("tls.key", ""))
    except RepositoryError as error:
        both = (
            f"bring both at once: homelab seal {spec.own or spec.id} --from-file tls.crt=FILE --from-file tls.key=FILE"
        )
        raise RepositoryError(error.what, where=spec.id, fix=error.fix or both) from error


def find_target(root: Path, table: SecretTable, name: str, namespace: str | None, keys: list[str]) -> Target:
    """What ``name`` stands for: NAME or NAMESPACE/NAME of a Secret, or a credential that a person brings.

    Raises:
        RepositoryError: there is no such Secret, several are meant, or a new one cannot be.
    """
    name, namespace = _split(name, namespace)
    if namespace is not None:
        _known_namespace(root, namespace)
    specs = [spec for spec in table.secrets if spec.name == name and namespace in {None, spec.namespace}]
    known = table.credentials.get(name)
    if namespace is not None and specs and specs[0].own == name and _shared(table, name):
        return Target(credential_of(f"{namespace}/{name}"), specs[0])
    by_fields = known is not None and known.kind == "given" and set(keys) <= set(known.fields)
    if by_fields and (namespace is None or any(_credentials(spec) == {name} for spec in specs)):
        others = [spec for spec in specs if _credentials(spec) != {name}]
        if not others:
            return Target(name)
        specs = [spec for spec in table.secrets if spec in others or name in _credentials(spec)]
    if len(specs) > 1:
        raise _ambiguous(name, [spec.id for spec in specs])
    if specs:
        return Target(specs[0].own, specs[0])
    if namespace is None:
        raise _unknown(
            name, [spec.name for spec in table.secrets], "a new Secret needs --namespace: " + _listed(namespaces(root))
        )
    new = SecretSpec(
        name=secret_name(name),
        namespace=namespace,
        purpose="brought by homelab seal",
        keys={key: f"${{{credential_of(f'{namespace}/{name}')}.{key}}}" for key in keys or ["KEY"]},
    )
    return Target(credential_of(f"{namespace}/{name}"), new, is_new=True)


def _shared(table: SecretTable, credential: str) -> bool:
    """Whether Secrets of several namespaces have become one credential, as older versions made it."""
    brought = table.credentials.get(credential)
    sharing = [spec for spec in table.secrets if spec.own == credential]
    return brought is not None and brought.kind == "given" and len(sharing) > 1


def namespaces(root: Path) -> list[str]:
    """The namespaces that the repository renders, each with a folder for sealed Secrets."""
    return sorted({"argo-cd", *(path.parent.name for path in (root / OVERLAYS).glob(f"*/{KUSTOMIZATION}"))})


def _known_namespace(root: Path, namespace: str) -> None:
    known = namespaces(root)
    if namespace not in known:
        near = difflib.get_close_matches(namespace, known, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise RepositoryError(
            f"the repository has no namespace {namespace!r}", where="--namespace", fix=f"{guess}known: {_listed(known)}"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _split(name: str, namespace: str | None) -> tuple[str, str | None]:
    """Name and namespace of ``NAME`` or ``NAMESPACE/NAME``."""
    before, slash, after = name.partition("/")
    if not slash:
        return name, namespace
    if namespace not in {None, before}:
        raise RepositoryError(f"{name} is of the namespace {before}, and --namespace says {namespace}")
    return after, before


def _credentials(spec: SecretSpec) -> set[str]:
    return {credential for credential, _ in spec.references()}


def _declared(
    root: Path, table: SecretTable, target: Target, keys: list[str]
) -> tuple[SecretTable, dict[Path, str], SecretSpec]:
    """The table with the target's Secret and all ``keys`` in it, the files that say so, and the Secret."""
    spec = target.spec
    assert spec is not None  # noqa: S101 - for mypy
    credential = table.credentials.get(target.credential)
    splits = not target.is_new and target.credential not in {"", spec.own}
    added = keys if target.is_new else [key for key in keys if key not in spec.keys]
    if not added and not splits:
        return table, {}, spec
    if not target.is_new and not splits and (credential is None or credential.kind != "given"):
        raise _unknown(added[0], list(spec.keys), f"the keys of {spec.id} are {_listed(list(spec.keys))}")

    def add(document: Any) -> None:
        credentials, secrets = document["credentials"], document["secrets"]
        if target.is_new or splits:
            credentials[target.credential] = {"kind": "given", "fields": []}
        if target.is_new:
            secrets.append({"name": spec.name, "namespace": spec.namespace, "purpose": spec.purpose, "keys": {}})
        (row,) = (row for row in secrets if (row["namespace"], row["name"]) == (spec.namespace, spec.name))
        for key in [*spec.keys, *added] if splits else added:
            if key not in credentials[target.credential]["fields"]:
                credentials[target.credential]["fields"].append(key)
            row["keys"][key] = f"${{{target.credential}.{key}}}"

    new, drafts = _edited_table(root, add)
    if target.is_new:
        drafts.update(_reached(root, spec))
    (found,) = (one for one in new.secrets if one.id == spec.id)
    return new, drafts, found


def _edited_table(root: Path, edit: Callable[[Any], None]) -> tuple[SecretTable, dict[Path, str]]:
    text = edited(root / TABLE, [edit])
    return parse_model(text, str(TABLE), SecretTable, RepositoryError), {root / TABLE: text}


def _reached(root: Path, spec: SecretSpec) -> dict[Path, str]:
    """What lets the namespace's kustomization name the folder of its sealed Secrets, where it does not yet."""
    path = _kustomization(root, spec)
    folder = spec.path.parent.name
    resources = (yaml_reader.load(path.read_text(encoding="utf-8")) or {}).get("resources") or []
    if any(str(name).removeprefix("./").rstrip("/") == folder for name in resources):
        return {}
    return {path: edited(path, [lambda document: document.setdefault("resources", []).append(folder)])}


def _kustomization(root: Path, spec: SecretSpec) -> Path:
    """The kustomization that names the folder in which a Secret lies."""
    return root / (ARGO_CD if spec.path.parent == ARGO_CD_SEALED else spec.path.parent.parent / KUSTOMIZATION)


def remove_keys(
    root: Path, name: str, keys: list[str], *, namespace: str | None = None, key_file: Path | None = None
) -> list[Path]:
    """Takes keys out of a Secret of one's own, or the whole Secret where no key is named.

    Returns:
        the files that changed.

    Raises:
        RepositoryError: it is no Secret of one's own, or has no such key.
    """
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    spec = _only_secret(root, table, name, namespace)
    if (
        not spec.own
        or table.credentials[spec.own].kind != "given"
        or credential_of(spec.id) not in {spec.own, f"{spec.namespace}/{spec.own}"}
    ):
        raise RepositoryError(f"{spec.id} belongs to the platform, which reads it", where=str(TABLE))
    for given in keys:
        if given not in spec.keys:
            raise _unknown(given, list(spec.keys), f"the keys of {spec.id} are {_listed(list(spec.keys))}")
    gone = set(keys or spec.keys)
    whole = gone == set(spec.keys)
    used = {
        field for other in table.secrets if other != spec for owner, field in other.references() if owner == spec.own
    }

    def take(document: Any) -> None:
        credentials, secrets = document["credentials"], document["secrets"]
        (at,) = (n for n, row in enumerate(secrets) if (row["namespace"], row["name"]) == (spec.namespace, spec.name))
        kept = [field for field in credentials[spec.own]["fields"] if field not in gone - used]
        if whole:
            del secrets[at]
        else:
            for given in gone:
                del secrets[at]["keys"][given]
        if kept:
            credentials[spec.own]["fields"] = kept
        else:
            del credentials[spec.own]

    sealed = read_sealed(root, table, key)
    values, _ = complete_values(table, recover_values(table, sealed))
    new, drafts = _edited_table(root, take)
    if spec.id in sealed:
        for given in gone:
            sealed[spec.id].data.pop(given, None)
    files: dict[Path, str | None] = {**drafts, **seal_values(root, new, values, sealed, key)}
    if whole:
        files[root / spec.path] = None
        files.update(_left_folder(root, new, spec))
    return write_all(files)


def _left_folder(root: Path, table: SecretTable, spec: SecretSpec) -> dict[Path, str | None]:
    """The kustomizations of a folder whose last Secret has gone: kustomize refuses one without resources."""
    folder = spec.path.parent
    if any(other.path.parent == folder for other in table.secrets):
        return {}

    def forget(document: Any) -> None:
        document["resources"].remove(folder.name)

    path = _kustomization(root, spec)
    return {root / folder / KUSTOMIZATION: None, path: edited(path, [forget])}


def rotate(root: Path, name: str, *, namespace: str | None = None, key_file: Path | None = None) -> list[Path]:
    """Generates a credential anew, in every Secret that shares it. An S3 user's old key stays valid until the next
    time.

    ``name`` is a credential, or a Secret that holds one alone.

    Returns:
        the files that changed.
    """
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    credential = _credential_to_rotate(root, table, name, namespace)
    declared = table.credentials[credential]
    if declared.kind == "given":
        raise RepositoryError(
            f"{credential} was not generated, so it cannot be made new here",
            where=str(TABLE),
            fix=f"bring a new one with `homelab seal {credential} KEY`",
        )
    sealed = read_sealed(root, table, key)
    old = recover_values(table, sealed)
    values, _ = complete_values(table, old)
    values.update({(credential, field): value for field, value in declared.generate().items()})
    if declared.kind == "s3-user":
        values[credential, "previousAccessKey"] = old.get((credential, "accessKey"), "")
        values[credential, "previousSecretKey"] = old.get((credential, "secretKey"), "")
    return write_all(seal_values(root, table, values, sealed, key))


def _credential_to_rotate(root: Path, table: SecretTable, name: str, namespace: str | None) -> str:
    if namespace is None and name in table.credentials and table.credentials[name].kind != "given":
        return name
    spec = _one_secret(root, table, name, namespace)
    if spec is None:
        return name
    found = sorted(_credentials(spec))
    if len(found) > 1:
        raise RepositoryError(f"{spec.id} holds several credentials", fix=f"rotate one of {_listed(found)}")
    return found[0]


def reveal(root: Path, credential: str, *, key_file: Path | None = None) -> dict[str, str]:
    """The fields of a sealed credential in plain text."""
    key = find_sealing_key(root, key_file)
    table = load_table(root)
    if credential not in table.credentials:
        raise _unknown(credential, list(table.credentials), f"the credentials are those of {TABLE}")
    values: Values = recover_values(table, read_sealed(root, table, key))
    derived = table.credentials[credential].derived
    return {field: value for (owner, field), value in values.items() if owner == credential and field not in derived}


def show_secret(root: Path, name: str, *, namespace: str | None = None, key_file: Path | None = None) -> dict[str, str]:
    """The fields of a credential, or the keys of a Secret, in plain text.

    Raises:
        RepositoryError: there is neither, or several are meant.
    """
    table = load_table(root)
    spec = _one_secret(root, table, name, namespace)
    if spec is None:
        return reveal(root, name, key_file=key_file)
    sealed = read_sealed(root, table, find_sealing_key(root, key_file))
    if spec.id not in sealed:
        raise RepositoryError(f"{spec.id} is not sealed yet", where=str(spec.path), fix="homelab init")
    return sealed[spec.id].data


def _one_secret(root: Path, table: SecretTable, name: str, namespace: str | None) -> SecretSpec | None:
    """The Secret that is meant; None where ``name`` is a credential that no other Secret has the name of."""
    if namespace is None and name in table.credentials and "/" not in name:
        others = [spec for spec in table.secrets if spec.name == name and name not in _credentials(spec)]
        if not others:
            return None
        sharing = [spec for spec in table.secrets if name in _credentials(spec)]
        raise _ambiguous(name, [spec.id for spec in [*sharing, *others]])
    return _only_secret(root, table, name, namespace)


def _only_secret(root: Path, table: SecretTable, name: str, namespace: str | None) -> SecretSpec:
    bare, space = _split(name, namespace)
    if space is not None:
        _known_namespace(root, space)
    specs = [spec for spec in table.secrets if spec.name == bare and space in {None, spec.namespace}]
    if len(specs) > 1:
        raise _ambiguous(bare, [spec.id for spec in specs])
    if not specs:
        known = [*table.credentials, *(spec.id for spec in table.secrets)]
        raise _unknown(bare if space is None else f"{space}/{bare}", known, f"the names are those of {TABLE}")
    return specs[0]


def _field_of(spec: SecretSpec, key: str) -> tuple[str, str]:
    if key not in spec.keys:
        raise _unknown(key, list(spec.keys), f"the keys of {spec.id} are {_listed(list(spec.keys))}")
    match = REFERENCE.fullmatch(spec.keys[key])
    if match is None:
        raise RepositoryError(
            f"{key} of {spec.id} is composed of credentials, it cannot be set itself", where=str(TABLE)
        )
    return match[1], match[2]


def _ambiguous(name: str, ids: list[str]) -> RepositoryError:
    candidates = sorted(dict.fromkeys(ids))
    return RepositoryError(f"{name!r} may be {' or '.join(candidates)}", fix=f"say which, such as {candidates[0]}")


def _unknown(name: str, known: list[str], hint: str) -> RepositoryError:
    near = difflib.get_close_matches(name, known, n=1)
    return RepositoryError(f"there is no {name!r}", fix=f"did you mean {near[0]!r}?" if near else hint)

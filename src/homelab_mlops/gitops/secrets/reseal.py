"""A new sealing key: what the private keys of this machine open is sealed anew, and what they do not open is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from homelab_mlops.gitops.secrets.encrypt import seal_labelled, try_unseal
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, kept_keys, new_sealing_key, try_private
from homelab_mlops.gitops.secrets.table import REFERENCE, Sealed, SecretTable, Values
from homelab_mlops.gitops.secrets.unseal import label_of
from homelab_mlops.gitops.settings import DECLARED, Drafts
from homelab_mlops.manifests import yaml_reader


class Foreign(NamedTuple):
    """SealedSecrets of the repository that its table does not declare."""

    changed: dict[Path, str]
    closed: list[str]


def key_that_opens(root: Path, table: SecretTable) -> Path | None:
    """The private key of this machine that opens what is sealed in the repository; None where none opens a value."""
    texts = [
        (text, label)
        for spec in table.secrets
        if (root / spec.path).is_file()
        for document in _sealed_secrets((root / spec.path).read_text(encoding="utf-8"))
        for text, label in _values(document, spec.namespace)
    ]
    keys = {path: private for path in kept_keys() if (private := try_private(path)) is not None}
    opened = {path: sum(try_unseal(*value, private) is not None for value in texts) for path, private in keys.items()}
    best = max(opened, key=lambda path: opened[path], default=None)
    return best if best is not None and opened[best] else None


def lost_values(table: SecretTable, sealed: dict[str, Sealed], values: Values) -> list[tuple[str, str, bool]]:
    """What no private key of this machine opens and no other Secret holds.

    Returns:
        the Secret, its key, and whether a person has brought the value, so that nobody can generate it.
    """
    lost = []
    for spec in table.secrets:
        closed = sealed[spec.id].closed if spec.id in sealed else {}
        for name in closed:
            fields = [(match[1], match[2]) for match in REFERENCE.finditer(spec.keys.get(name, ""))]
            missing = [field for field in fields if field not in values]
            constant = [field for field in missing if field[1] in table.credentials[field[0]].constants]
            if name in spec.keys and len(missing) > len(constant):
                given = any(table.credentials[credential].kind == "given" for credential, _ in missing)
                lost.append((spec.id, name, given))
    return lost


def foreign(root: Path, table: SecretTable, key: SealingKey, drafts: Drafts) -> Foreign:
    """The SealedSecrets that somebody else has written into the repository, sealed anew under their own labels."""
    found = Foreign({}, [])
    declared = {root / spec.path for spec in table.secrets}
    paths = [path for folder in DECLARED for path in sorted((root / folder).rglob("*.yaml")) if path not in declared]
    for path in paths:
        try:
            text = drafts.get(path) or path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        renewed = text
        for document in _sealed_secrets(text):
            for sealed, label in _values(document, "".join(path.relative_to(root).parts[2:3])):
                value, is_right = _open(sealed, label, key)
                if value is None or (not is_right and sealed not in renewed):
                    found.closed.append(f"{label.decode() or 'cluster-wide'} in {path.relative_to(root)}")
                elif not is_right:
                    renewed = renewed.replace(sealed, seal_labelled(value, label, key.public()))
        if renewed != text:
            found.changed[path] = renewed
    return Foreign(found.changed, list(dict.fromkeys(found.closed)))


def replaced_key(root: Path, table: SecretTable, key_file: Path | None, old_keys: tuple[Path, ...]) -> SealingKey:
    """The key of a repository without a certificate: the one that opens what is sealed in it, or a new one."""
    if key_file is None and (kept := key_that_opens(root, table)) is not None:
        key_file = kept
    return new_sealing_key(root, key_file, old_keys)


def _sealed_secrets(text: str) -> Iterator[dict[str, Any]]:
    if "SealedSecret" not in text:
        return
    try:
        for document in yaml_reader.load_all(text):
            if isinstance(document, dict) and document.get("kind") == "SealedSecret":
                yield document
    except yaml.YAMLError:
        return  # `homelab check` says what is wrong with it


def _values(document: dict[str, Any], namespace: str) -> Iterator[tuple[str, bytes]]:
    """The values of a SealedSecret that are not empty, each with its label; ``namespace`` where it names none."""
    spec, metadata = document.get("spec"), document.get("metadata")
    values = spec.get("encryptedData") if isinstance(spec, dict) else None
    if isinstance(values, dict) and isinstance(metadata, dict):
        label = label_of({"namespace": namespace, **metadata})
        yield from ((str(text), label) for text in values.values() if text)


def _open(text: str, label: bytes, key: SealingKey) -> tuple[bytes | None, bool]:
    """The value, if a private key of this machine opens it, and whether that is the certificate's own."""
    for number, private in enumerate(key.privates()):
        if (value := try_unseal(text, label, private)) is not None:
            return value, number == 0
    return None, False

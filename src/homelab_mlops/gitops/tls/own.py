"""The certificate of the pages in the repository: where it lies, sealed, and when it is made anew."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from homelab_mlops.certificates import (
    RENEW_WITHIN,
    Pair,
    covers,
    domain_of,
    ends,
    new_authority,
    new_certificate,
    refuse_pair,
    signed_by,
)
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.names import TLS_OWN, TLS_SECRET
from homelab_mlops.gitops.private import edited
from homelab_mlops.gitops.secrets.encrypt import seal, strict_label, try_unseal
from homelab_mlops.gitops.secrets.sealing_key import SealingKey
from homelab_mlops.gitops.secrets.table import ARGO_CD_SEALED, KUSTOMIZATION, TABLE, SecretSpec, SecretTable, Values
from homelab_mlops.gitops.settings import ARGO_CD, Drafts, Settings, change_settings
from homelab_mlops.gitops.tls.pages import SECRET, pages
from homelab_mlops.location import AUTHORITY
from homelab_mlops.manifests import yaml_reader

AUTHORITY_KEY = AUTHORITY.with_name("authority-key.yaml")
CERTIFICATE, KEY = (SECRET, "tls.crt"), (SECRET, "tls.key")
# The authority's key is a value of a Secret that no cluster gets.
_NOWHERE = "nowhere", "authority"
_FIELD = "tls.key"
_KEYS = {field: f"${{{SECRET}.{field}}}" for _, field in (CERTIFICATE, KEY)}
Files = dict[Path, str | None]
"""New texts of files; None deletes one."""


class Made(NamedTuple):
    """The certificate of the pages, after a look at what is there.

    Attributes:
        is_new: whether the certificate was made now.
        authority_is_new: whether the authority was, so that every device needs its file.
        is_missing: whether a person has still to bring it.
    """

    values: Values
    files: Files
    is_new: bool = False
    authority_is_new: bool = False
    is_missing: bool = False


def declare_tls(root: Path, settings: Settings, table: SecretTable, drafts: Drafts) -> tuple[SecretTable, Files]:
    """Declares the Secret ``tls`` in each namespace with a page, or nowhere where ``tls`` needs none.

    Returns:
        the table of Secrets, and the files with their new text, those of ``drafts`` from there.
    """
    sealed = settings.tls_mode in (TLS_OWN, TLS_SECRET)
    wanted = sorted({page.namespace for page in _pages(root, settings, drafts)}) if sealed else []
    present = [
        spec for spec in table.secrets if spec.name == SECRET and SECRET in {owner for owner, _ in spec.references()}
    ]
    gone = [spec for spec in present if spec.namespace not in wanted]
    new = [namespace for namespace in wanted if namespace not in {spec.namespace for spec in present}]
    if not gone and not new:
        return table, {}

    def declare(document: Any) -> None:
        credentials, secrets = document["credentials"], document["secrets"]
        for at in reversed(range(len(secrets))):
            if any((secrets[at]["namespace"], secrets[at]["name"]) == (spec.namespace, spec.name) for spec in gone):
                del secrets[at]
        for namespace in new:
            secrets.append(
                {
                    "name": SECRET,
                    "namespace": namespace,
                    "purpose": "the certificate of the pages of this namespace",
                    "type": "kubernetes.io/tls",
                    "keys": dict(_KEYS),
                }
            )
        if wanted:
            credentials[SECRET] = {"kind": "given", "fields": list(_KEYS)}
        else:
            del credentials[SECRET]

    text = edited(root / TABLE, [declare], drafts)
    table = SecretTable.model_validate(yaml_reader.load(text))
    files: Files = {root / TABLE: text}
    for spec in gone:
        files[root / spec.path] = None
    for spec in [*gone, *(spec for spec in table.secrets if spec.name == SECRET and spec.namespace in new)]:
        files.update(_folder(root, table, spec, drafts))
    return table, files


def certificate_of_pages(
    root: Path,
    settings: Settings,
    values: Values,
    key: SealingKey,
    drafts: Drafts,
    *,
    renew: bool = False,
    renew_authority: bool = False,
) -> Made:
    """The certificate that ``tls: own`` needs: the one of ``values`` where it is good, else a new one.

    Raises:
        RepositoryError: no private key of this machine opens the authority's key.
    """
    if settings.tls_mode != TLS_OWN:
        left = [path for path in (AUTHORITY, AUTHORITY_KEY) if (root / path).is_file()]
        missing = settings.tls_mode == TLS_SECRET and not values.get(CERTIFICATE)
        return Made({}, {root / path: None for path in left}, is_missing=missing)
    hosts = [f"*.{settings.domain}"]
    hosts += sorted(
        {
            host
            for page in _pages(root, settings, drafts)
            for host in page.hosts
            if host.partition(".")[2] != settings.domain
        }
    )
    certificate = _text(root / AUTHORITY)
    authority_is_new = renew_authority or not certificate or domain_of(certificate) != settings.domain
    current = Pair(values.get(CERTIFICATE, ""), values.get(KEY, ""))
    if not authority_is_new and not renew and _is_good(current, certificate, hosts):
        return Made({}, {})
    kept = "" if authority_is_new else _unsealed(root, key)
    if not kept and not authority_is_new:
        if key.new is None:
            raise _closed(root)
        authority_is_new = True  # the person begins with another key, and has agreed to lose what the old ones hold
    authority = Pair(certificate, kept) if kept else new_authority(settings.domain)
    made = new_certificate(authority, hosts)
    files: Files = {}
    if authority_is_new:
        files = {root / AUTHORITY: authority.certificate, root / AUTHORITY_KEY: _sealed(authority.key, key)}
    return Made({CERTIFICATE: made.certificate, KEY: made.key}, files, True, authority_is_new)


def _pages(root: Path, settings: Settings, drafts: Drafts) -> list[Any]:
    """The pages as they will be, with the hosts of the new settings."""
    return pages(root, settings, {**drafts, **change_settings(root, settings, drafts)})


def _is_good(pair: Pair, authority: str, hosts: list[str]) -> bool:
    try:
        refuse_pair(*pair)
    except RepositoryError:
        return False
    lasts = ends(pair.certificate) - datetime.datetime.now(datetime.UTC) > RENEW_WITHIN
    named = all(covers(pair.certificate, host) for host in hosts)
    return lasts and named and signed_by(pair.certificate, authority)


def _sealed(authority_key: str, key: SealingKey) -> str:
    namespace, name = _NOWHERE
    value = seal(authority_key.encode(), namespace=namespace, name=name, public=key.public())
    return (
        "# Written by `homelab init`: the key of the authority. No Application has this file, so no cluster gets it.\n"
        "apiVersion: bitnami.com/v1alpha1\n"
        "kind: SealedSecret\n"
        f"metadata:\n  name: {name}\n  namespace: {namespace}\n"
        f"spec:\n  encryptedData:\n    {_FIELD}: {value}\n"
    )


def _unsealed(root: Path, key: SealingKey) -> str:
    """The private key of the authority; nothing where no private key of this machine opens it."""
    text = _text(root / AUTHORITY_KEY)
    sealed = str(yaml_reader.load(text)["spec"]["encryptedData"][_FIELD]) if text else ""
    for private in key.privates():
        if sealed and (value := try_unseal(sealed, strict_label(*_NOWHERE), private)) is not None:
            return value.decode()
    return ""


def _closed(root: Path) -> RepositoryError:
    there = (root / AUTHORITY_KEY).is_file()
    return RepositoryError(
        "no private key of this machine opens the key of the authority" if there else "the authority has no key here",
        where=str(AUTHORITY_KEY),
        fix="`homelab certificate --new-authority` makes another, whose file every device needs",
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _folder(root: Path, table: SecretTable, spec: SecretSpec, drafts: Drafts) -> Files:
    """Lets the kustomization of a namespace name the folder of its sealed Secrets, or forget one that has none."""
    folder = spec.path.parent
    path = root / (ARGO_CD if folder == ARGO_CD_SEALED else folder.parent / KUSTOMIZATION)
    used = any(other.path.parent == folder for other in table.secrets)
    named = folder.name in (yaml_reader.load(drafts.get(path) or _text(path)).get("resources") or [])
    if used == named:
        return {}
    edit: Callable[[Any], None] = (
        (lambda document: document["resources"].append(folder.name))
        if used
        else (lambda document: document["resources"].remove(folder.name))
    )
    files: Files = {path: edited(path, [edit], drafts)}
    return files if used else {**files, root / folder / KUSTOMIZATION: None}

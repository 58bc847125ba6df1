"""`homelab certificate`: shows the certificate of the pages, or renews it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from homelab_mlops.certificates import ends, hosts_of
from homelab_mlops.console import print_json, stdout
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.files import write_all
from homelab_mlops.gitops.names import TLS_OWN, TLS_SECRET
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import complete_values, load_table, read_sealed, recover_values, seal_values
from homelab_mlops.gitops.settings import Settings, find_root, load_settings
from homelab_mlops.gitops.tls.own import CERTIFICATE, certificate_of_pages
from homelab_mlops.location import AUTHORITY, SETTINGS

_ELSEWHERE = {
    TLS_SECRET: "it is your own: homelab seal tls --from-file tls.crt=FULLCHAIN.pem --from-file tls.key=KEY.pem",
    "cert-manager": "cert-manager renews it; `kubectl get certificates --all-namespaces` shows it",
    "off": "the pages are plain HTTP: homelab init --tls own",
}


def certificate_command(*, renew: bool, new_authority: bool, key_file: Path | None, as_json: bool) -> None:
    """The command `homelab certificate`."""
    root = find_root()
    settings = load_settings(root)
    if not (renew or new_authority):
        _show(root, settings, key_file, as_json=as_json)
        return
    changed = renew_certificate(root, key_file, new_authority=new_authority)
    if as_json:
        print_json({"changed": [str(path.relative_to(root)) for path in changed]})
        return
    for path in changed:
        stdout().print(str(path.relative_to(root)), markup=False)
    stdout().print("Commit and push these files: the pages then answer with the new certificate.")
    if new_authority:
        stdout().print(f"Every device needs the file of the new authority: {AUTHORITY}", markup=False)


def renew_certificate(root: Path, key_file: Path | None = None, *, new_authority: bool = False) -> list[Path]:
    """Makes a new certificate of the authority, or of a new one, and seals it for every namespace with a page.

    Returns:
        the files that changed.

    Raises:
        RepositoryError: the certificate is not of an authority of one's own, or its key is not here.
    """
    settings = load_settings(root)
    if settings.tls_mode != TLS_OWN:
        raise RepositoryError(
            f"there is no certificate to renew here: tls is {settings.tls}",
            where=str(SETTINGS),
            fix=_ELSEWHERE[settings.tls_mode],
        )
    key, table = find_sealing_key(root, key_file), load_table(root)
    sealed = read_sealed(root, table, key)
    values, _ = complete_values(table, recover_values(table, sealed))
    made = certificate_of_pages(root, settings, values, key, {}, renew=True, renew_authority=new_authority)
    values.update(made.values)
    return write_all({**made.files, **seal_values(root, table, values, sealed, key)})


def _show(root: Path, settings: Settings, key_file: Path | None, *, as_json: bool) -> None:
    shown: dict[str, Any] = {"tls": settings.tls}
    if settings.tls_mode == TLS_OWN and (root / AUTHORITY).is_file():
        shown["authority"] = str(AUTHORITY)
        shown["authority_ends"] = f"{ends((root / AUTHORITY).read_text(encoding='utf-8')):%Y-%m-%d}"
    if settings.tls_mode in (TLS_OWN, TLS_SECRET):
        key, table = find_sealing_key(root, key_file), load_table(root)
        found = recover_values(table, read_sealed(root, table, key)).get(CERTIFICATE, "")
        if found:
            shown["hosts"] = hosts_of(found)
            shown["ends"] = f"{ends(found):%Y-%m-%d}"
            shown["days"] = (ends(found) - datetime.datetime.now(datetime.UTC)).days
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else value
        stdout().print(f"{name.replace('_', ' ')}: {text}", markup=False)
    if "ends" not in shown and settings.tls_mode != TLS_OWN:
        stdout().print(_ELSEWHERE[settings.tls_mode], markup=False)

"""Where the repository lies; imports nothing, so that a quick command stays quick."""

from __future__ import annotations

from pathlib import Path

from homelab_mlops.errors import RepositoryError

CLUSTER = "homelab"
SETTINGS = Path("clusters") / CLUSTER / "settings.yaml"
SECRETS = SETTINGS.with_name("secrets.yaml")
# The certificate of an authority of one's own, which devices and programs trust.
AUTHORITY = SETTINGS.with_name("authority.pem")


def find_root(start: Path | None = None) -> Path:
    """The folder of the repository that ``start`` (the current folder) lies in.

    Raises:
        RepositoryError: there is no ``clusters/homelab/settings.yaml`` above ``start``.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / SETTINGS).is_file():
            return folder
    raise RepositoryError(
        f"this is not the repository of a cluster: no {SETTINGS} here or above",
        where=str(here),
        fix="cd into your clone",
    )

"""Whom the programs of a clone trust at the addresses of its own pages."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from homelab_mlops.errors import RepositoryError
from homelab_mlops.location import AUTHORITY, SETTINGS, find_root

_DOMAIN = re.compile(r"^domain: *[\"']?([^\s\"'#]+)", re.MULTILINE)


def authority_of(url: str) -> str:
    """The file of the authority that signs for the host of ``url``; nothing where that is not one of this clone's."""
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname:
        return ""
    try:
        root = find_root()
    except RepositoryError:
        return ""
    domain = _DOMAIN.search((root / SETTINGS).read_text(encoding="utf-8"))
    if domain is None or not f".{address.hostname}".endswith(f".{domain[1].lower()}"):
        return ""
    return str(root / AUTHORITY) if (root / AUTHORITY).is_file() else ""

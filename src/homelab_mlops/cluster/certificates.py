"""The certificates that the pages of a running cluster answer with, and what is wrong with one."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from homelab_mlops.certificates import WARN_WITHIN, covers, ends
from homelab_mlops.errors import RepositoryError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object

INGRESS = "networking.k8s.io/v1", "Ingress"
State = Literal["good", "ends", "ended", "missing", "other"]


@dataclasses.dataclass(frozen=True)
class PageCertificate:
    """The certificate of a host.

    Attributes:
        state: ``ends`` where it has to be renewed soon; ``other`` where it is for other hosts.
    """

    host: str
    secret: str
    state: State
    what: str
    days: int | None = None


def page_certificates(
    ingresses: Iterable[Object], secret_of: Callable[[str, str], Object | None], now: datetime.datetime | None = None
) -> Iterator[PageCertificate]:
    """The certificate of each host that an Ingress has TLS for, each once."""
    read: dict[tuple[str, str], str] = {}
    seen: set[tuple[str, str, str]] = set()
    for ingress in ingresses:
        namespace = ingress["metadata"]["namespace"]
        for entry in ingress["spec"].get("tls") or []:
            name = entry.get("secretName")
            for host in entry.get("hosts") or []:
                if not name or (namespace, name, host) in seen:
                    continue
                seen.add((namespace, name, host))
                if (namespace, name) not in read:
                    read[namespace, name] = _certificate(secret_of(namespace, name))
                yield _judged(host, f"{namespace}/{name}", read[namespace, name], now)


def _certificate(secret: Object | None) -> str:
    return base64.b64decode((secret or {}).get("data", {}).get("tls.crt", "")).decode("utf-8", "replace")


def _judged(host: str, secret: str, pem: str, now: datetime.datetime | None) -> PageCertificate:
    if not pem:
        return PageCertificate(host, secret, "missing", f"{host} has no certificate: Secret {secret} is not there")
    try:
        end = ends(pem)
    except RepositoryError:
        return PageCertificate(host, secret, "missing", f"{host} has no certificate: Secret {secret} holds none")
    left = end - (now or datetime.datetime.now(datetime.UTC))
    days = left.days
    if not covers(pem, host):
        return PageCertificate(host, secret, "other", f"the certificate of {host} is for other hosts", days)
    if days < 0:
        return PageCertificate(host, secret, "ended", f"the certificate of {host} ended on {end:%Y-%m-%d}", days)
    if left < WARN_WITHIN:
        what = f"the certificate of {host} ends in {days} days, on {end:%Y-%m-%d}"
        return PageCertificate(host, secret, "ends", what, days)
    return PageCertificate(host, secret, "good", "", days)

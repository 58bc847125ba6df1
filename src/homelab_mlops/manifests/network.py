"""What a NetworkPolicy admits, as pairs of a peer and a port."""

from __future__ import annotations

import ipaddress
from itertools import product
from typing import Any

from homelab_mlops.manifests.objects import entries

Atom = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""A peer and a port; None stands for any."""


def admitted(spec: dict[str, Any], direction: str) -> list[Atom]:
    """What the rules of a NetworkPolicy's ``spec`` admit in a direction, ``ingress`` or ``egress``."""
    found: list[Atom] = []
    for rule in spec.get(direction) or []:
        peers: list[dict[str, Any] | None] = [
            *entries((rule or {}).get("from" if direction == "ingress" else "to"))
        ] or [None]
        ports: list[dict[str, Any] | None] = [*entries((rule or {}).get("ports"))] or [None]
        found += list(product(peers, ports))
    return found


def admits(known: Atom, atom: Atom) -> bool:
    """Whether ``known`` lets through all that ``atom`` does."""
    return _peer_covers(known[0], atom[0]) and _port_covers(known[1], atom[1])


def _peer_covers(known: dict[str, Any] | None, peer: dict[str, Any] | None) -> bool:
    if known is None or known == peer:
        return True
    if peer is None:
        return False
    if "ipBlock" in known and "ipBlock" in peer:
        one, other = known["ipBlock"], peer["ipBlock"]
        try:
            inside = _subnet(other["cidr"], one["cidr"])
            kept = all(any(_subnet(gap, new) for new in other.get("except") or []) for gap in one.get("except") or [])
        except (ValueError, KeyError, TypeError):
            return False
        return inside and kept
    if "ipBlock" in known or "ipBlock" in peer:
        return False
    # More labels select fewer pods; no namespaceSelector means the policy's own namespace.
    if ("namespaceSelector" in known) != ("namespaceSelector" in peer):
        return False
    return all(_selector_covers(known.get(key), peer.get(key)) for key in ("namespaceSelector", "podSelector"))


def _subnet(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner, strict=False), ipaddress.ip_network(outer, strict=False)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def _selector_covers(known: Any, selector: Any) -> bool:
    if not known:
        return True
    if not isinstance(selector, dict):
        return False
    labels = known.get("matchLabels") or {}
    own = selector.get("matchLabels") or {}
    expressions = known.get("matchExpressions") or []
    return all(own.get(key) == value for key, value in labels.items()) and all(
        item in (selector.get("matchExpressions") or []) for item in expressions
    )


def _port_covers(known: dict[str, Any] | None, port: dict[str, Any] | None) -> bool:
    if known is None or known == port:
        return True
    if port is None or known.get("protocol") != port.get("protocol"):
        return False
    if "port" not in known:
        return True
    first, last = (item.get("port") for item in (known, port))
    until, end = known.get("endPort", first), port.get("endPort", last)
    if isinstance(first, int) and isinstance(last, int) and isinstance(until, int) and isinstance(end, int):
        return first <= last and end <= until
    return False

"""How a NetworkPolicy is read: which pods it selects, in which directions, and which peers and ports it admits."""

from __future__ import annotations

import ipaddress
from itertools import product
from typing import Any

from homelab_mlops.manifests.objects import entries

Atom = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""A peer and a port; None stands for any of them."""


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a label selector selects what has these labels; one that is empty or missing selects everything.

    Raises:
        KeyError: an expression has an operator that Kubernetes does not know.
    """
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        value, values = labels.get(expression["key"]), expression.get("values") or []
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[expression["operator"]]:
            return False
    return True


def directions(spec: dict[str, Any]) -> list[str]:
    """The directions that a NetworkPolicy's ``spec`` restricts: ``Ingress``, ``Egress`` or both.

    Without ``policyTypes`` the API server takes ``Egress`` only where there is an egress rule.
    """
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def has_port(port: dict[str, Any] | None, number: int, name: str, protocol: str) -> bool:
    """Whether a port of a rule, or None for any, is the port of a Service with this number and name."""
    if port is None:
        return True
    if port.get("protocol", "TCP") != protocol:
        return False
    first = port.get("port")
    last = port.get("endPort", first)
    if first is None or first in (number, name) or str(first) == str(number):
        return True
    return isinstance(first, int) and isinstance(last, int) and first <= number <= last


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

"""Traffic that was refused before, and gets through now."""

from __future__ import annotations

from typing import Any

from homelab_mlops.manifests.network import Atom, admits, admitted
from homelab_mlops.manifests.objects import entries, get, strings
from homelab_mlops.review.rules.rule import Review, Said, brief, rule


@rule(
    "network-loosened",
    "warning",
    looks_for="a NetworkPolicy that goes, selects other pods or admits more",
    reason="Traffic that was refused gets through.",
    action="Check that a program uses each new peer and port.",
)
def network_loosened(review: Review) -> Said:
    for change in review.of("NetworkPolicy"):
        old, new = change.old.get("spec") or {}, change.new.get("spec") or {}
        where = str(change.id)
        if change.action == "removed":
            yield where, "it no longer restricts the pods that it selects"
            continue
        for direction in ("Ingress", "Egress"):
            opened = _opened(old, new, direction)
            if change.action == "added":
                if change.id.namespace in review.new_namespaces:
                    continue
                if opened:
                    yield where, f"{direction.lower()}: {'; '.join(opened[:4])}"
                continue
            if direction in strings(old.get("policyTypes")) and direction not in strings(new.get("policyTypes")):
                yield where, f"{direction.lower()} is no longer restricted"
            elif opened:
                yield where, f"{direction.lower()}: {'; '.join(opened[:4])}"
        if change.action == "changed" and old.get("podSelector") != new.get("podSelector"):
            yield where, f"it selects other pods: {brief((old.get('podSelector'), new.get('podSelector')))}"


def _opened(old: dict[str, Any], new: dict[str, Any], direction: str) -> list[str]:
    """What the new policy admits that the old one did not."""
    if direction not in strings(new.get("policyTypes")):
        return []
    before = admitted(old, direction.lower()) if direction in strings(old.get("policyTypes")) else []
    if old and direction not in strings(old.get("policyTypes")):
        return []
    return [
        _say_atom(atom) for atom in admitted(new, direction.lower()) if not any(admits(known, atom) for known in before)
    ]


def _say_atom(atom: Atom) -> str:
    peer, port = atom
    who = "anyone" if peer is None else _say_peer(peer)
    if port is None:
        return f"{who}, any port"
    end = f"-{port['endPort']}" if "endPort" in port else ""
    where = f"port {port.get('port', 'any')}{end}"
    return f"{who}, {where}"


def _say_peer(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"].get("cidr"))
    parts = []
    for key, word in (("podSelector", "pods"), ("namespaceSelector", "namespaces")):
        if key in peer:
            labels = (peer[key] or {}).get("matchLabels") or {}
            named = [str(value) for value in labels.values()]
            parts.append(
                f"{word} {', '.join(named)}"
                if named
                else f"{word} {'of any label' if not peer[key] else 'by expression'}"
            )
    return " in ".join(parts)


@rule(
    "exposed",
    "warning",
    looks_for="a Service or Ingress that answers to the outside",
    reason="Programs outside the cluster can reach it.",
    action="Make sure that it asks for a login.",
)
def exposed(review: Review) -> Said:
    for change in review.of("Service"):
        kind, old = get(change.new, "spec", "type"), get(change.old, "spec", "type")
        if change.action != "removed" and kind in ("NodePort", "LoadBalancer") and old != kind:
            yield str(change.id), f"its type is {kind}"
        elif change.action == "changed" and (get(change.new, "spec", "externalIPs") or []) != (
            get(change.old, "spec", "externalIPs") or []
        ):
            yield str(change.id), "its externalIPs change"
    for change in review.of("Ingress"):
        old = {str(item.get("host", "any host")) for item in entries(get(change.old, "spec", "rules"))}
        new = {str(item.get("host", "any host")) for item in entries(get(change.new, "spec", "rules"))}
        if change.action != "removed" and new - old:
            yield str(change.id), f"it answers for {', '.join(sorted(new - old))}"
        if get(change.old, "spec", "tls") and change.new and not get(change.new, "spec", "tls"):
            yield str(change.id), "it no longer has TLS"

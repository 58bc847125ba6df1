"""Credentials in plain text, and sealed ones that cannot be opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from homelab_mlops.gitops.argo_cd.applications import Side
from homelab_mlops.manifests.objects import Manifest, get, group
from homelab_mlops.review.compare import Object, everything
from homelab_mlops.review.masking import is_reference, is_secret_name, is_secret_value
from homelab_mlops.review.rules.rule import Review, Said, rule

_CERTIFICATE = re.compile(r"clusters/([^/]+)/sealing-certificate\.pem")


@rule(
    "plaintext-secret",
    "danger",
    looks_for="a Secret, or a value that looks like a credential, in plain text",
    reason="Git keeps the value for ever, and everyone who can read the repository can read it.",
    action="Seal the value with `homelab seal`, and replace the credential: it is known now.",
)
def plaintext_secret(review: Review) -> Said:
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        if change.id.kind == "Secret" and group(change.new) == "":
            values = [value for value in (change.new.get("data") or {}).values() if value not in ("", None)]
            if values and (change.new.get("data") != change.old.get("data")):
                yield str(change.id), "its values lie in git in plain text"
            continue
        found = [leaf for leaf in _leaves((), change.new, change.old) if _is_credential(*leaf)]
        old = set(_leaves((), change.old)) if found and change.old else set()
        for where, _ in (leaf for leaf in found if leaf not in old):
            yield str(change.id), f"{'.'.join(where)} looks like a credential"


def _is_credential(where: tuple[str, ...], value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return is_secret_value(value) or (is_secret_name(where[-1]) and not is_reference(value) and _holds_values(where))


def _holds_values(where: tuple[str, ...]) -> bool:
    return "env" in where or "data" in where or "stringData" in where or "parameters" in where


def _leaves(path: tuple[str, ...], node: Any, old: Any = None) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in a node with their paths, except those of parts that are as in ``old``."""
    if node == old and node is not None:
        return
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and isinstance(node.get("value"), str):
            yield (*path, node["name"]), node["value"]
        for key, value in node.items():
            if str(key) not in ("encryptedData", "openAPIV3Schema"):
                yield from _leaves((*path, str(key)), value, old.get(key) if isinstance(old, dict) else None)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(path, value)
    else:
        yield path, node


@rule(
    "sealed-elsewhere",
    "danger",
    looks_for="a SealedSecret for another name or namespace than its own",
    reason="The controller cannot open it, and the pods wait for a Secret that never comes.",
    action="Seal the value again for this name and namespace: `homelab seal`.",
)
def sealed_elsewhere(review: Review) -> Said:
    ciphertexts = {
        value: change.old["metadata"]
        for change in review.changes
        if change.id.kind == "SealedSecret" and change.old
        for value in (get(change.old, "spec", "encryptedData") or {}).values()
    }
    for change in review.of("SealedSecret"):
        if not change.new:
            continue
        metadata = change.new["metadata"]
        template = get(change.new, "spec", "template", "metadata") or {}
        for key in ("name", "namespace"):
            if key in template and template[key] != metadata.get(key):
                yield str(change.id), f"its {key} is {metadata.get(key)}, that of its Secret {template[key]}"
        moved = {
            str(ciphertexts[value].get("namespace")) + "/" + str(ciphertexts[value].get("name"))
            for value in (get(change.new, "spec", "encryptedData") or {}).values()
            if value and value in ciphertexts
        } - {f"{change.id.namespace}/{change.id.name}"}
        if moved and not _scope(change.new):
            yield str(change.id), f"it holds what was sealed for {', '.join(sorted(moved))}"


def _scope(manifest: Manifest) -> str:
    annotations = get(manifest, "metadata", "annotations") or {}
    names = [
        name
        for name in ("namespace-wide", "cluster-wide")
        if str(annotations.get(f"sealedsecrets.bitnami.com/{name}")) == "true"
    ]
    return names[-1] if names else ""


@rule(
    "sealing-certificate",
    "danger",
    looks_for="another sealing certificate of a cluster",
    reason="The controller opens a value only with the private key of the certificate that it was sealed for.",
    action="Run `homelab init --new-key`, which seals every value anew, and `homelab bootstrap` after the push.",
)
def sealing_certificate(review: Review) -> Said:
    for file in review.files:
        cluster = _CERTIFICATE.fullmatch(file)
        if cluster is None or file not in review.base.tree.entries:
            continue
        if file not in review.head.tree.entries:
            yield file, "it leaves git; `homelab seal` can no longer seal for this cluster"
            continue
        old = {
            item.id: get(item.raw, "spec", "encryptedData") or {} for item in _sealed(review, review.base, cluster[1])
        }
        new = {
            item.id: get(item.raw, "spec", "encryptedData") or {} for item in _sealed(review, review.head, cluster[1])
        }
        lost = [
            f"{name.namespace}/{name.name}"
            for name, values in new.items()
            if any(value and value == old.get(name, {}).get(key) for key, value in values.items())
        ]
        if lost:
            more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
            yield file, f"the new key cannot open what is not sealed anew: {', '.join(lost[:8])}{more}"
        else:
            yield file, "every SealedSecret is sealed anew; the key that is in the cluster cannot open them"


def _sealed(review: Review, side: Side, cluster: str) -> list[Object]:
    """The SealedSecrets of a cluster."""
    other = review.base if side is review.head else review.head
    found = everything(side, other, re.compile(r"^kind: SealedSecret$", re.MULTILINE))
    several = any(key.startswith(f"{cluster}/") for key in side.sources)
    return [
        item
        for item in found
        if item.application.startswith(f"{cluster}/") or (not several and "/" not in item.application)
    ]


@rule(
    "sealed-wider",
    "warning",
    looks_for="a SealedSecret with a wider scope than strict, or with an empty key",
    reason="Other names can open it, or it holds nothing.",
    action="Seal it again with strict scope: `homelab seal`.",
)
def sealed_wider(review: Review) -> Said:
    for change in review.of("SealedSecret"):
        scope, old = _scope(change.new), _scope(change.old)
        if scope and scope != old and old != "cluster-wide":
            yield str(change.id), f"it may be unsealed {scope}"
        sealed, before = ((get(side, "spec", "encryptedData") or {}) for side in (change.new, change.old))
        empty = [key for key, value in sealed.items() if not value and before.get(key, "absent")]
        if empty:
            more = f" and {len(empty) - 4} more" if len(empty) > 4 else ""
            yield str(change.id), f"nothing is sealed for {', '.join(empty[:4])}{more}"

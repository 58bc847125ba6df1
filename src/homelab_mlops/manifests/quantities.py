"""The values of Kubernetes' quantities, and the sum that objects request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from homelab_mlops.manifests.objects import Manifest, containers, entries, get, is_workflow, pod_specs

_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(?:([eE][+-]?\d+)|(m|u|n|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei))?$", re.ASCII)
_UNITS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
# Argo's executor runs as a container beside each step.
EXECUTOR_MEMORY = Decimal(32) * 2**20


def quantity(value: object) -> Decimal | None:
    """The value of a Kubernetes quantity such as ``1Gi``, ``500m`` or ``1e9``, or None where it is none."""
    return None if value is None or isinstance(value, bool) else _parsed(str(value))


@cache
def _parsed(text: str) -> Decimal | None:
    match = _QUANTITY.match(text)
    if match is None:
        return None
    try:
        number = Decimal(match[1] + (match[2] or ""))
    except InvalidOperation:
        return None
    unit = match[3] or ""
    if unit in _BINARY:
        return number * Decimal(1024 ** _BINARY[unit])
    return number.scaleb(_UNITS.get(unit, 0))


def say_quantity(resource: str, value: Decimal) -> str:
    """An amount of ``memory``, ``cpu`` or ``storage`` (bytes, cores, bytes) as people read it."""
    if resource == "cpu":
        return f"{value * 1000:.0f}m"
    return f"{value / 2**20:.0f} MiB" if value < 2**33 else f"{value / 2**30:.1f} GiB".replace(".0 GiB", " GiB")


def claimed_storage(claim: Manifest) -> Decimal | None:
    """The bytes that a PersistentVolumeClaim asks for, or None where it says none."""
    return quantity(get(claim, "spec", "resources", "requests", "storage"))


@dataclass
class Requests:
    """What all servers, the largest step of a workflow or Job, and all claims request: bytes, cores, bytes."""

    memory: Decimal = Decimal(0)
    cpu: Decimal = Decimal(0)
    storage: Decimal = Decimal(0)


def sum_requests(manifests: Iterable[Manifest]) -> Requests:
    """The sum over ``manifests``: of workflows and Jobs only the largest counts, since they run one after the other."""
    total, largest = Requests(), Requests()
    for manifest in manifests:
        total.storage += _storage(manifest)
        if is_workflow(manifest) or manifest.get("kind") in ("Job", "CronJob"):
            _keep_largest(largest, manifest)
            continue
        for pod in pod_specs(manifest):
            total.memory += _of_pod(pod, "memory") * _replicas(manifest)
            total.cpu += _of_pod(pod, "cpu") * _replicas(manifest)
    total.memory += largest.memory
    total.cpu += largest.cpu
    return total


def _keep_largest(largest: Requests, manifest: Manifest) -> None:
    executor = EXECUTOR_MEMORY if is_workflow(manifest) else Decimal(0)
    for container in containers(manifest):
        largest.memory = max(largest.memory, _request(container.spec, "memory") + executor)
        largest.cpu = max(largest.cpu, _request(container.spec, "cpu"))


def _of_pod(pod: dict[str, Any], resource: str) -> Decimal:
    """Init containers run before the others, so that the larger of both counts."""
    running = sum((_request(item, resource) for item in entries(pod.get("containers"))), Decimal(0))
    starting = max((_request(item, resource) for item in entries(pod.get("initContainers"))), default=Decimal(0))
    return max(running, starting)


def _request(container: dict[str, Any], resource: str) -> Decimal:
    """What a container requests; the API server takes the limit where there is no request."""
    given = container.get("resources")
    request = get(given, "requests", resource)
    return quantity(get(given, "limits", resource) if request is None else request) or Decimal(0)


def _replicas(manifest: Manifest) -> int:
    count = get(manifest, "spec", "replicas")
    return count if isinstance(count, int) else 1


def _storage(manifest: Manifest) -> Decimal:
    if manifest.get("kind") == "PersistentVolumeClaim":
        return claimed_storage(manifest) or Decimal(0)
    claims = entries(get(manifest, "spec", "volumeClaimTemplates"))
    each = sum((claimed_storage(item) or Decimal(0) for item in claims), Decimal(0))
    return each * (_replicas(manifest) if manifest.get("kind") == "StatefulSet" else 1)

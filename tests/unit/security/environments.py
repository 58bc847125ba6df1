"""The table of containers and of the Secrets that they hold in docs/security.md, made of the rendered platform."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from homelab_mlops.gitops.render import render
from homelab_mlops.manifests.objects import Container, Manifest, containers
from tests.conftest import ROOT
from tests.sections import Section

SECTION = Section("the Secrets")


def with_table(text: str) -> str:
    """The document with its table made anew."""
    return SECTION.written(text, table(platform()))


def platform() -> list[Manifest]:
    """What the overlays render, without the optional components."""
    folders = sorted(path.parent for path in (ROOT / "overlays" / "homelab").glob("*/kustomization.yaml"))
    return [manifest for folder in folders for manifest in render(folder)]


def table(manifests: Iterable[Manifest]) -> str:
    """A line for each container that has a Secret in its environment or in a volume."""
    rows = set()
    for manifest in manifests:
        metadata = manifest["metadata"]
        for container in containers(manifest):
            if held := sorted(_held(container)):
                of = f"{metadata.get('namespace', '')} | {manifest['kind']} `{metadata['name']}`"
                rows.add(f"| {of} | `{container.name}` | {', '.join(f'`{name}`' for name in held)} |")
    return "\n".join(["| namespace | object | container | Secrets |", "|---|---|---|---|", *sorted(rows)])


def _held(container: Container) -> set[str]:
    """The Secrets in the environment of a container and in the volumes that it mounts."""
    text = json.dumps([container.spec.get("env"), container.spec.get("envFrom")])
    held = set(re.findall(r'"secret(?:Key)?Ref": \{[^}]*"name": "([^"]+)"', text))
    mounted = {mount["name"] for mount in container.spec.get("volumeMounts") or []}
    for volume in container.pod.get("volumes") or []:
        if volume["name"] in mounted:
            held |= set(_of_volume(volume))
    return held


def _of_volume(volume: Any) -> list[str]:
    return re.findall(r'"secretName": "([^"]+)"', json.dumps(volume))

"""The JSON schemas that `homelab check` validates against: no kind is skipped, and a misspelt field is an error.

Kubernetes' own come from the Python package kubernetes-validate, those of custom resources from the CRDs in the Go
modules that the cluster runs. Both become files that kubeconform reads without following a reference.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops import tools
from homelab_mlops.manifests import yaml_reader

KUBERNETES = "1.35"
LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"
_TRAEFIK = "docs/content/reference/dynamic-configuration"
# The modules whose CRDs the manifests use, and where the complete CRDs lie in them.
CRDS = {
    tools.TOOLS["argo"].module: (tools.TOOLS["argo"].version, "manifests/base/crds/full"),
    tools.TOOLS["kubeseal"].module: (tools.TOOLS["kubeseal"].version, "helm/sealed-secrets/crds"),
    "github.com/argoproj/argo-cd/v3": ("v3.2.11", "manifests/crds"),
    "github.com/traefik/traefik/v3": ("v3.7.13", f"{_TRAEFIK}/kubernetes-crd-definition-v1.yml"),
}
_REFERENCE = "#/$defs/"


def folder(root: Path) -> Path:
    """The folder with all schemas, written on first use.

    Raises:
        ToolError: kubernetes-validate is not installed, or a Go module cannot be had.
    """
    pins = json.dumps([KUBERNETES, CRDS, Path(__file__).read_text(encoding="utf-8")], sort_keys=True)
    target = root / tools.FOLDER / "schemas" / hashlib.sha256(pins.encode()).hexdigest()[:12]
    if target.is_dir():
        return target
    shutil.rmtree(target.parent, ignore_errors=True)
    partial = target.parent / "partial"
    partial.mkdir(parents=True)
    for name, schema in _kubernetes():
        (partial / name).write_text(json.dumps(schema))
    for crd in custom_resources(root):
        for name, schema in _of_crd(crd):
            (partial / name).write_text(json.dumps(schema))
    partial.rename(target)
    return target


def _kubernetes() -> Iterator[tuple[str, Any]]:
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        raise ToolError("the package kubernetes-validate is not installed", fix="run `make setup`")
    source = Path(found.origin).parent / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    definitions = json.loads((source / "_definitions.json").read_text())["$defs"]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if definition.get("properties", {}).keys() >= {"apiVersion", "kind", "metadata"}:
                schema = {**_local(definition), "$defs": _needed(definition, definitions)}
                yield _name(kind["group"], kind["kind"], kind["version"]), schema


def _needed(schema: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions that ``schema`` reaches, their references made local."""
    needed: dict[str, Any] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = _local(definitions[name])
            waiting += _references(definitions[name])
    return needed


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.partition(_REFERENCE)[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _local(node: Any) -> Any:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            return {"$ref": "#/$defs/" + reference.partition(_REFERENCE)[2]}
        return {key: _local(value) for key, value in node.items() if not _is_text(key, value)}
    return [_local(value) for value in node] if isinstance(node, list) else node


def custom_resources(root: Path) -> list[dict[str, Any]]:
    """The complete CRDs of the pinned Go modules."""
    found = []
    for module, (version, path) in CRDS.items():
        source = Path(tools.module(module, version, root)["Dir"]) / path
        for file in sorted(source.glob("*.yaml")) if source.is_dir() else [source]:
            documents = yaml_reader.load_all(file.read_text(encoding="utf-8"))
            found += [item for item in documents if item and item.get("kind") == "CustomResourceDefinition"]
    return found


def _of_crd(crd: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for version in crd["spec"]["versions"]:
        schema = _shared(_strict(version["schema"]["openAPIV3Schema"]))
        yield _name(crd["spec"]["group"], crd["spec"]["names"]["kind"], version["name"]), schema


def _strict(node: Any) -> Any:
    """An OpenAPI schema of a CRD as a JSON schema in which an undeclared field is an error."""
    if isinstance(node, list):
        return [_strict(value) for value in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    result = {
        key: _strict(value)
        for key, value in node.items()
        if not key.startswith("x-") and key != "nullable" and not _is_text(key, value)
    }
    if isinstance(node.get("properties"), dict):
        result["properties"] = {name: _strict(value) for name, value in node["properties"].items()}
        # The metadata of a CRD's schema is empty: the API server knows it.
        open_ended = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
        if not open_ended:
            result["additionalProperties"] = False
    if node.get("nullable") and isinstance(node.get("type"), str):
        result["type"] = [node["type"], "null"]
    return result


def _is_text(key: str, value: Any) -> bool:
    """Whether the key is the description of a schema, and not a field of that name."""
    return key == "description" and isinstance(value, str)


def _shared(schema: Any) -> Any:
    """The same schema, with each repeated object written once: a CRD repeats a pod's parts dozens of times."""
    objects: dict[str, Any] = {}

    def visit(node: Any) -> Any:
        if isinstance(node, list):
            return [visit(item) for item in node]
        if not isinstance(node, dict):
            return node
        visited = {key: visit(value) for key, value in node.items()}
        if node.get("type") != "object" or not isinstance(node.get("properties"), dict):
            return visited
        name = hashlib.sha256(json.dumps(visited, sort_keys=True).encode()).hexdigest()[:12]
        objects[name] = visited
        return {"$ref": f"{_REFERENCE}{name}"}

    return {**visit(schema), "$defs": objects}


def _name(group: str, kind: str, version: str) -> str:
    """The file name that kubeconform looks for: it uses only a group's first label."""
    return "-".join([kind.lower(), *group.lower().split(".")[:1], version]).replace("--", "-") + ".json"


def reduced(crd: dict[str, Any], depth: int) -> dict[str, Any]:
    """A CRD small enough to read and to apply: it declares fields down to ``depth``, and allows anything below."""
    versions = []
    for version in crd["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        for name in schema["properties"].keys() - properties.keys():
            properties[name] = _reduced(schema["properties"][name], depth if name == "spec" else 0)
        ordered = {name: properties[name] for name in sorted(properties)}
        required = {"required": sorted(schema["required"])} if schema.get("required") else {}
        kept = {key: version[key] for key in ("name", "served", "storage")}
        printed = {key: version[key] for key in ("additionalPrinterColumns", "subresources") if version.get(key)}
        body = {"type": "object", **required, "properties": ordered}
        versions.append({**kept, **printed, "schema": {"openAPIV3Schema": body}})
    spec = crd["spec"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": crd["metadata"]["name"],
            "labels": {"app.kubernetes.io/name": "argo-workflows", "app.kubernetes.io/part-of": "homelab-mlops"},
            "annotations": {
                "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
                "argocd.argoproj.io/sync-wave": "-15",
            },
        },
        "spec": {
            "group": spec["group"],
            "names": spec["names"],
            "scope": spec["scope"],
            "versions": versions,
        },
    }


def _reduced(node: dict[str, Any], depth: int) -> dict[str, Any]:
    if node.get("x-kubernetes-int-or-string"):
        return {"x-kubernetes-int-or-string": True}
    kind = node.get("type", "object")
    if kind == "array":
        return {"type": "array", "items": _reduced(node["items"], depth)}
    if kind == "object":
        if depth == 0 or "properties" not in node:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        properties = {name: _reduced(value, depth - 1) for name, value in sorted(node["properties"].items())}
        required = {"required": sorted(node["required"])} if node.get("required") else {}
        return {"type": "object", **required, "properties": properties}
    return {key: node[key] for key in ("type", "format") if key in node}


def write_reduced_crds(root: Path, target: Path) -> None:
    """Writes ``base/argo-workflows/crds``: CRDs that declare the kinds that a person writes in depth, and the others
    briefly."""
    by_hand = {"CronWorkflow": 3, "WorkflowTemplate": 2}
    names = []
    for crd in custom_resources(root):
        kind = crd["spec"]["names"]["kind"]
        if crd["spec"]["group"] != "argoproj.io" or "orkflow" not in kind:
            continue
        names.append(f"{crd['spec']['names']['plural']}.yaml")
        text = yaml.dump(reduced(crd, by_hand.get(kind, 0)), Dumper=_Indented, sort_keys=False, width=120)
        (target / names[-1]).write_text(f"# Written by `make crds` from Argo Workflows' own.\n{text}")
    lines = ["# yaml-language-server: $schema=https://json.schemastore.org/kustomization.json"]
    lines += ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:"]
    (target / "kustomization.yaml").write_text("\n".join([*lines, *(f"  - {name}" for name in sorted(names)), ""]))


class _Indented(yaml.SafeDumper):
    """Writes lists deeper than their key, as everywhere in the repository."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


if __name__ == "__main__":
    write_reduced_crds(Path.cwd(), Path("base/argo-workflows/crds"))

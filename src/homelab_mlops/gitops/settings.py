"""The settings of a cluster, and the one way to change them, which writes the new value wherever the old one stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import names
from homelab_mlops.location import CLUSTER as CLUSTER
from homelab_mlops.location import SETTINGS as SETTINGS
from homelab_mlops.location import find_root as find_root
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.manifests.quantities import quantity
from homelab_mlops.manifests.strict_yaml import read_model, valid_yaml

ARGO_CD = Path("clusters") / CLUSTER / "argo-cd" / "kustomization.yaml"
INGRESS = Path("clusters") / CLUSTER / "ingress" / "controller.yaml"
DECLARED = ("apps", "clusters", "overlays", "workflows")
ANY = "any"
# The ingress controllers that most clusters have, by the name that `homelab init --ingress` gives them.
INGRESS_PRESETS = {
    "k3s": {"ingress_class": "traefik", "ingress_namespace": "kube-system", "ingress_labels": ANY},
    "traefik": {
        "ingress_class": "traefik",
        "ingress_namespace": "traefik",
        "ingress_labels": "app.kubernetes.io/name=traefik",
    },
    "ingress-nginx": {
        "ingress_class": "nginx",
        "ingress_namespace": "ingress-nginx",
        "ingress_labels": "app.kubernetes.io/name=ingress-nginx",
    },
}
# The names that the upstream repository has in its settings.
UPSTREAM = {
    "repository": "https://github.com/homelab-mlops/homelab-mlops.git",
    "domain": "homelab.example",
    "image_registry": "ghcr.io/homelab-mlops",
}
_RELEASE = re.compile(r"(github\.com/argoproj/argo-cd[^\s?]*\?ref=)(v\d+\.\d+\.\d+)")


def _is_quantity(text: str) -> str:
    if (quantity(text) or 0) <= 0:
        raise ValueError(f"{text!r} is no amount such as 1536Mi, 2 or 100Gi")
    return text


Amount = Annotated[str, AfterValidator(_is_quantity)]


class Budgets(BaseModel):
    """How much all Applications except Argo CD may request together, as Kubernetes writes quantities."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    memory: Amount
    cpu: Amount
    storage: Amount


class Settings(BaseModel):
    """``clusters/homelab/settings.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    repository: Annotated[
        str,
        AfterValidator(names.repository),
        Field(description="address of this repository", examples=["https://github.com/me/homelab.git"]),
    ]
    branch: Annotated[
        str, AfterValidator(names.branch), Field(description="branch that Argo CD follows", examples=["main"])
    ]
    domain: Annotated[
        str,
        AfterValidator(names.domain),
        Field(description="domain below which the services answer", examples=["home.example.org"]),
    ]
    storage_class: Annotated[
        str,
        AfterValidator(names.dns_name),
        Field(alias="storageClass", description="StorageClass of the volumes", examples=["local-path"]),
    ]
    image_registry: Annotated[
        str,
        AfterValidator(names.image_registry),
        Field(
            alias="imageRegistry",
            description="registry and folder of the project's own images",
            examples=["ghcr.io/me"],
        ),
    ]
    ingress_class: Annotated[
        str,
        AfterValidator(names.dns_name),
        Field(alias="ingressClass", description="class of the Ingresses", examples=["traefik"]),
    ]
    ingress_namespace: Annotated[
        str,
        AfterValidator(names.dns_label),
        AfterValidator(names.scalar),
        Field(alias="ingressNamespace", description="namespace of the ingress controller", examples=["kube-system"]),
    ]
    ingress_labels: Annotated[
        str,
        AfterValidator(lambda text: names.labels(text, ANY)),
        Field(
            alias="ingressLabels",
            description=f"labels of the ingress controller's pods, as key=value,key=value, or {ANY}",
            examples=["app.kubernetes.io/name=traefik"],
        ),
    ]

    tls: Annotated[
        str,
        AfterValidator(names.tls),
        Field(
            description="certificate of the pages: own, secret, cert-manager ISSUER, or off",
            examples=["own"],
        ),
    ] = names.TLS_OFF
    budgets: Budgets

    @property
    def tls_mode(self) -> str:
        """``own``, ``secret``, ``cert-manager`` or ``off``."""
        return self.tls.partition(" ")[0]

    @property
    def issuer(self) -> str:
        """The ClusterIssuer of cert-manager, if it is that."""
        return self.tls.partition(" ")[2]

    @property
    def is_traefik(self) -> bool:
        """Whether the ingress controller is Traefik, by the name of its class or by the labels of its pods."""
        return "traefik" in self.ingress_class or "traefik" in self.ingress_labels

    @property
    def ingress_selector(self) -> dict[str, str]:
        """The labels that select the ingress controller's pods; none where all pods of its namespace count."""
        if self.ingress_labels == ANY:
            return {}
        return dict(label.split("=") for label in self.ingress_labels.split(","))


def load_settings(root: Path) -> Settings:
    """The settings of the repository in ``root``."""
    return read_model(root / SETTINGS, Settings, RepositoryError)


Drafts = Mapping[Path, str]
"""New texts of files that are not written yet."""


def argo_cd_release(root: Path) -> str:
    """The release of Argo CD that the repository pins, such as ``v3.6.1``."""
    path = root / ARGO_CD
    match = _RELEASE.search(path.read_text(encoding="utf-8"))
    if match is None:
        raise RepositoryError("no pinned release of argoproj/argo-cd (`?ref=vX.Y.Z`)", where=str(path))
    return match[2]


def change_settings(root: Path, new: Settings, drafts: Drafts | None = None) -> dict[Path, str]:
    """The files, with their new text, that change when the cluster gets the settings ``new``.

    Only scalars that hold an old value, or a name of upstream's, change; every other byte stays, of a file of
    ``drafts`` those of its draft. The settings file comes last, so that a second run completes an interrupted one.
    """
    old = load_settings(root)
    upstream = old.model_copy(update=_names_of_upstream(new))
    drafts = drafts or {}
    changed = {}
    for folder in DECLARED:
        for path in sorted((root / folder).rglob("*.yaml")):
            if path in (root / SETTINGS, root / INGRESS):
                continue
            text = drafts.get(path) or path.read_text(encoding="utf-8")
            rewritten = _rewrite(_rewrite(text, old, new, path), upstream, new, path)
            if rewritten != text:
                changed[path] = rewritten
    if (root / INGRESS).read_text(encoding="utf-8") != (text := _ingress_controller(new)):
        changed[root / INGRESS] = text
    path = root / SETTINGS
    text = path.read_text(encoding="utf-8")
    before, after = old.model_dump(by_alias=True), new.model_dump(by_alias=True)
    edits = [(value, after[key.value]) for key, value in _mapping(text) if before[key.value] != after[key.value]]
    missing = after.keys() - {key.value for key, _ in _mapping(text)}
    added = "".join(f'{key}: "{after[key]}"\n' for key in sorted(missing) if before[key] != after[key])
    if edits or added:
        changed[path] = f"{_replace(text, edits).rstrip()}\n{added}"
    return changed


def _names_of_upstream(new: Settings) -> dict[str, str]:
    """Upstream's own names, which files that a fork has merged still hold; its classes may be meant as they are."""
    nested = new.image_registry.startswith(f"{UPSTREAM['image_registry']}/")
    return {**UPSTREAM, "image_registry": new.image_registry} if nested else UPSTREAM


def change_argo_cd_release(root: Path, release: str) -> dict[Path, str]:
    """The files, with their new text, that change when Argo CD moves to ``release``, such as ``v3.6.1``."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", release):
        raise RepositoryError(f"{release!r} is not a release of Argo CD such as v3.6.1")
    if argo_cd_release(root) == release:
        return {}
    path = root / ARGO_CD
    return {path: _RELEASE.sub(rf"\g<1>{release}", path.read_text(encoding="utf-8"))}


def _ingress_controller(settings: Settings) -> str:
    """The patch that lets the ingress controller through the NetworkPolicies of every service with a host name."""
    peer: dict[str, object] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.ingress_namespace}}
    }
    if settings.ingress_selector:
        peer["podSelector"] = {"matchLabels": settings.ingress_selector}
    patch = [{"op": "add", "path": "/spec/ingress/0/from/-", "value": peer}]
    return f"# Written by `homelab init` from {SETTINGS.name}.\n" + yaml.safe_dump(patch, sort_keys=False)


def _mapping(text: str) -> list[tuple[yaml.ScalarNode, yaml.ScalarNode]]:
    root = yaml_reader.compose(text)
    return root.value if isinstance(root, yaml.MappingNode) else []


def _rewrite(text: str, old: Settings, new: Settings, path: Path) -> str:
    with valid_yaml(str(path), RepositoryError):
        documents = list(yaml_reader.compose_all(text))
    edits: list[tuple[yaml.ScalarNode, str]] = []
    for document in documents:
        _collect(document, "", {}, old, new, edits)
    return _replace(text, edits)


def _collect(
    node: yaml.Node | None,
    key: str,
    siblings: dict[str, str],
    old: Settings,
    new: Settings,
    edits: list[tuple[yaml.ScalarNode, str]],
) -> None:
    """Gathers the scalars below ``node`` that hold an old setting; ``key`` and ``siblings`` are of its mapping."""
    if isinstance(node, yaml.MappingNode):
        scalars = {name.value: value.value for name, value in node.value if isinstance(value, yaml.ScalarNode)}
        for name, value in node.value:
            _collect(value, name.value, scalars, old, new, edits)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _collect(value, key, siblings, old, new, edits)
    elif isinstance(node, yaml.ScalarNode):
        value = _renewed(node.value, key, siblings, old, new)
        if value != node.value:
            edits.append((node, value))


def _renewed(value: str, key: str, siblings: dict[str, str], old: Settings, new: Settings) -> str:
    if value == old.repository:
        return new.repository
    if key == "targetRevision" and siblings.get("repoURL") in {old.repository, new.repository}:
        return new.branch if value == old.branch else value
    if key == "storageClassName":
        return new.storage_class if value == old.storage_class else value
    if key == "ingressClassName":
        return new.ingress_class if value == old.ingress_class else value
    if value.startswith(f"{old.image_registry}/"):
        return new.image_registry + value.removeprefix(old.image_registry)
    # The longer one first: one domain may end with the other, and an interrupted run may have written some.
    either = "|".join(sorted((re.escape(old.domain), re.escape(new.domain)), key=len, reverse=True))
    return re.sub(rf"(?<![\w-])({either})(?![\w-]|\.\w)", new.domain, value)


def _replace(text: str, edits: list[tuple[yaml.ScalarNode, str]]) -> str:
    """``text`` with the given scalars replaced, each in the style in which it was written."""
    for node, value in sorted(edits, key=lambda edit: -edit[0].start_mark.index):
        start, end = node.start_mark.index, node.end_mark.index
        written = text[start:end]
        for before, after in zip(node.value.splitlines(), value.splitlines(), strict=True):
            if before != after:
                written = written.replace(before.strip(), after.strip(), 1)
        text = text[:start] + written + text[end:]
    return text

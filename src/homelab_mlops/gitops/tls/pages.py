"""What the manifests say about TLS of the pages, by the setting ``tls``: each Ingress, and each address of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml
from ruamel.yaml import YAML

from homelab_mlops.gitops.names import TLS_ISSUER, TLS_OFF
from homelab_mlops.gitops.settings import DECLARED, SETTINGS, Drafts, Settings
from homelab_mlops.manifests import yaml_reader

SECRET = "tls"  # noqa: S105 - the name of a Secret
MIDDLEWARES = "traefik.ingress.kubernetes.io/router.middlewares"
ISSUER = "cert-manager.io/cluster-issuer"
# A browser that has seen a page sends its cookies there by HTTPS only, this long.
HSTS_SECONDS = 30 * 24 * 3600
TRAEFIK = "traefik.io/v1alpha1"
# What Traefik is told in a Middleware; ingress-nginx does both by itself where an Ingress has TLS.
SPECS: dict[str, dict[str, Any]] = {
    "https": {"redirectScheme": {"scheme": "https", "permanent": True}},
    "hsts": {"headers": {"stsSeconds": HSTS_SECONDS}},
}


class Page(NamedTuple):
    """An Ingress all of whose hosts lie below the domain of the settings."""

    path: Path
    ingress: dict[str, Any]
    hosts: list[str]

    @property
    def namespace(self) -> str:
        return namespace_of(self.ingress, self.path)


def pages(root: Path, settings: Settings, drafts: Drafts | None = None) -> list[Page]:
    """The pages of the repository, by their files; an Ingress with another domain's host is somebody's own affair."""
    found: list[Page] = []
    for path, text in _files(root, drafts or {}):
        if "kind: Ingress" in text:
            documents = yaml_reader.load_all(text)
            found += [Page(path, item, hosts) for item in documents if (hosts := _hosts(item, settings))]
    return found


def namespace_of(ingress: dict[str, Any], path: Path) -> str:
    """The namespace of an Ingress: the folder has its name."""
    return str(ingress["metadata"].get("namespace") or path.parent.name)


def _hosts(document: Any, settings: Settings) -> list[str]:
    """The hosts of an Ingress, each once; none where one of them is not below the domain."""
    if not (isinstance(document, dict) and document.get("kind") == "Ingress"):
        return []
    hosts = list(dict.fromkeys(str(rule.get("host", "")) for rule in document["spec"].get("rules") or []))
    return hosts if all(host.endswith(f".{settings.domain}") for host in hosts) else []


def change_pages(root: Path, old: Settings, new: Settings, drafts: Drafts) -> dict[Path, str]:
    """The files, with their new text, that change when ``tls`` or the ingress controller does.

    What a person has written about TLS into an Ingress stays where ``tls`` is off, and was.
    """
    if old.tls_mode == new.tls_mode == TLS_OFF:
        return {}
    hosts = {host for page in pages(root, new, drafts) for host in page.hosts} - {urlsplit(new.repository).hostname}
    scheme = "http" if new.tls_mode == TLS_OFF else "https"
    changed = {}
    for path, before in _files(root, drafts):
        text = _with_scheme(before, hosts, scheme)
        if "kind: Ingress" in text:
            text = _with_tls(text, path, new)
        if text != before:
            changed[path] = text
    return changed


def missing(page: Page, settings: Settings) -> str:
    """What a page lacks of what ``tls`` says, in words; nothing where it lacks nothing."""
    if settings.tls_mode == TLS_OFF:
        return ""
    secured = {host for entry in page.ingress["spec"].get("tls") or [] for host in entry.get("hosts") or []}
    if bare := [host for host in page.hosts if host not in secured]:
        return f"{bare[0]} has no TLS"
    annotations = page.ingress["metadata"].get("annotations") or {}
    if settings.is_traefik and not all(name in annotations.get(MIDDLEWARES, "") for name in _middlewares(page.ingress)):
        return "plain HTTP is not redirected"
    return ""


def _files(root: Path, drafts: Drafts) -> Iterator[tuple[Path, str]]:
    for folder in DECLARED:
        for path in sorted((root / folder).rglob("*.yaml")):
            if path != root / SETTINGS:
                yield path, drafts.get(path) or path.read_text(encoding="utf-8")


def _with_scheme(text: str, hosts: Collection[str | None], scheme: str) -> str:
    """``text`` with the addresses of the pages under ``scheme``."""
    if not hosts:
        return text
    names = "|".join(sorted((re.escape(host) for host in hosts if host), key=len, reverse=True))
    renewed = re.sub(rf"https?://({names})(?![\w.-])", rf"{scheme}://\1", text)
    # A list that named both schemes names one of them twice.
    return re.sub(rf"({scheme}://({names})),{scheme}://\2(?![\w.-])", r"\1", renewed) if renewed != text else text


def _with_tls(text: str, path: Path, settings: Settings) -> str:
    """A file with Ingresses as ``settings`` want them; comments and style stay."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    documents = []
    for document in editor.load_all(text):
        if _is_own_middleware(document):
            continue
        documents.append(document)
        if hosts := _hosts(document, settings):
            documents += _dress(Page(path, document, hosts), settings)
    stream = io.StringIO()
    editor.dump_all(documents, stream)
    return stream.getvalue() if _differs(text, stream.getvalue()) else text


def _differs(before: str, after: str) -> bool:
    return list(yaml.safe_load_all(before)) != list(yaml.safe_load_all(after))


def _middlewares(ingress: dict[str, Any]) -> list[str]:
    return [f"{ingress['metadata']['name']}-{what}" for what in SPECS]


def _is_own_middleware(document: Any) -> bool:
    """Whether a document is a Middleware that this module wrote."""
    is_one = isinstance(document, dict) and document.get("kind") == "Middleware"
    return is_one and document.get("spec") in SPECS.values()


def _dress(page: Page, settings: Settings) -> list[dict[str, Any]]:
    """Gives an Ingress what ``tls`` says, and returns the Middlewares that it names."""
    metadata, spec = page.ingress["metadata"], page.ingress["spec"]
    wanted: dict[str, str] = {}
    if settings.tls_mode == TLS_ISSUER:
        wanted[ISSUER] = settings.issuer
    redirected = settings.is_traefik and settings.tls_mode != TLS_OFF
    if redirected:
        names = (f"{page.namespace}-{name}@kubernetescrd" for name in _middlewares(page.ingress))
        wanted[MIDDLEWARES] = ",".join(names)
    annotations = metadata.setdefault("annotations", {})
    for name in (ISSUER, MIDDLEWARES):
        annotations.pop(name, None)
    annotations.update(wanted)
    if not annotations:
        del metadata["annotations"]
    spec.pop("tls", None)
    if settings.tls_mode != TLS_OFF:
        spec["tls"] = [{"hosts": page.hosts, "secretName": _secret(page, settings)}]
    if not redirected:
        return []
    return [
        {
            "apiVersion": TRAEFIK,
            "kind": "Middleware",
            "metadata": {
                "name": name,
                "namespace": page.namespace,
                "labels": dict(metadata.get("labels") or {}),
            },
            "spec": spec_of,
        }
        for name, spec_of in zip(_middlewares(page.ingress), SPECS.values(), strict=True)
    ]


def _secret(page: Page, settings: Settings) -> str:
    """The Secret with the certificate of a page: cert-manager makes one for each host, which Ingresses may share."""
    return f"{SECRET}-{page.hosts[0].partition('.')[0]}" if settings.tls_mode == TLS_ISSUER else SECRET

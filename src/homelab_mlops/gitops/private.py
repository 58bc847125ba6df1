"""What a private repository or a private registry needs: a sealed login, and the manifests that name it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.image import IMAGES
from homelab_mlops.gitops.secrets.table import TABLE, SecretTable, Values, load_table
from homelab_mlops.gitops.settings import Drafts, Settings
from homelab_mlops.manifests import yaml_reader

REPOSITORY, REGISTRY = "repository", "registry"
# The namespaces whose pods run the platform's own images.
PULLING = ("minio", "mlflow", "serving", "training")
DOCKER_CONFIG = "kubernetes.io/dockerconfigjson"
_LOGIN = '{"auths":{"${registry.server}":{"username":"${registry.username}","password":"${registry.password}"}}}'
# Docker's own registry has this name where logins are kept.
_SERVERS = {"docker.io": "https://index.docker.io/v1/"}


def addresses(settings: Settings) -> Values:
    """The values that the settings give to the logins, by credential and field."""
    host = settings.image_registry.partition("/")[0]
    return {(REPOSITORY, "url"): settings.repository, (REGISTRY, "server"): _SERVERS.get(host, host)}


def declare(
    root: Path, settings: Settings, private: frozenset[str], drafts: Drafts | None = None
) -> tuple[SecretTable, dict[Path, str]]:
    """Lets Argo CD read a private repository, and pods pull from a private registry, as ``private`` names them.

    Returns:
        the table of Secrets, and the files with their new text, those of ``drafts`` from there.

    Raises:
        RepositoryError: the repository's address takes no login.
    """
    table = load_table(root)
    changes: dict[Path, list[Callable[[Any], None]]] = {}
    if REPOSITORY in private and REPOSITORY not in table.credentials:
        if not settings.repository.startswith("https://"):
            raise RepositoryError(
                "a login by user and token needs a repository whose address begins with https://",
                where=settings.repository,
                fix="homelab init --repository https://…",
            )
        changes.setdefault(root / TABLE, []).append(_add_repository)
    if REGISTRY in private and REGISTRY not in table.credentials:
        changes.setdefault(root / TABLE, []).append(_add_registry)
        changes[root / IMAGES] = [_add_pull_secrets]
    files = {path: edited(path, edits, drafts) for path, edits in changes.items()}
    if root / TABLE in files:
        table = SecretTable.model_validate(yaml_reader.load(files[root / TABLE]))
    return table, files


def edited(path: Path, edits: list[Callable[[Any], None]], drafts: Drafts | None = None) -> str:
    """The text of a YAML file after ``edits`` of its content; comments and style stay."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load((drafts or {}).get(path) or path.read_text(encoding="utf-8"))
    for edit in edits:
        edit(document)
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()


def _add_repository(document: Any) -> None:
    document["credentials"][REPOSITORY] = {"kind": "given", "fields": ["url", "username", "password"]}
    document["secrets"].append(
        {
            "name": REPOSITORY,
            "namespace": "argo-cd",
            "purpose": "how Argo CD reads this repository",
            "labels": {"argocd.argoproj.io/secret-type": "repository"},
            "keys": {
                "type": "git",
                "url": "${repository.url}",
                "username": "${repository.username}",
                "password": "${repository.password}",
            },
        }
    )


def _add_registry(document: Any) -> None:
    document["credentials"][REGISTRY] = {"kind": "given", "fields": ["server", "username", "password"]}
    for namespace in PULLING:
        document["secrets"].append(
            {
                "name": REGISTRY,
                "namespace": namespace,
                "purpose": "how the images of the platform are pulled",
                "type": DOCKER_CONFIG,
                "keys": {".dockerconfigjson": _LOGIN},
            }
        )


def _add_pull_secrets(document: Any) -> None:
    patch = f"- op: add\n  path: /imagePullSecrets\n  value: [{{name: {REGISTRY}}}]\n"
    document.setdefault("patches", []).append({"target": {"kind": "ServiceAccount"}, "patch": patch})

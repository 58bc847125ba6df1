"""The completions of a word that a person has begun to type. They come from this clone alone, and so at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import typer

from homelab_mlops.errors import HomelabError
from homelab_mlops.location import SECRETS, find_root

GIT_SECONDS = 1.0


def models(incomplete: str) -> list[str]:
    """The models of this clone whose names begin with ``incomplete``."""
    try:
        folders = (find_root() / "workflows" / "models").glob("*/model.yaml")
    except HomelabError:
        return []
    return _beginning((path.parent.name for path in folders), incomplete)


def credentials(incomplete: str) -> list[str]:
    """The credentials that this clone seals."""
    import yaml

    from homelab_mlops.manifests import yaml_reader

    try:
        table = yaml_reader.load((find_root() / SECRETS).read_text(encoding="utf-8"))
        return _beginning(table["credentials"], incomplete)
    except (HomelabError, OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return []


def parameters(incomplete: str) -> list[str]:
    """The parameters of a training, as `--set` takes them."""
    from homelab_mlops.model.parameters import KNOWN

    return _beginning((f"{name}=" for name in KNOWN), incomplete)


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The versions that git has ever named of the model on the command line, and the one registered here."""
    model = ctx.params.get("model")
    try:
        found = {*_in_git(find_root(), str(model)), *_registered_here(str(model))}
    except HomelabError:
        return []
    return sorted((version for version in found if version.startswith(incomplete)), key=int, reverse=True)


def _in_git(root: Path, model: str) -> list[str]:
    """The versions in every branch that this clone knows, also in proposals."""
    from homelab_mlops.clients import git
    from homelab_mlops.model import promotion

    file = str(promotion.manifest_of(model))
    changes = git.run(root, "log", "--all", "--patch", "--unified=0", "--format=", "--", file, seconds=GIT_SECONDS)
    return re.findall(rf'^[+-]\s+{re.escape(promotion.LABEL)}: "(\d+)"$', changes.stdout, re.MULTILINE)


def _registered_here(model: str) -> list[str]:
    try:
        file = Path(os.environ.get("HOMELAB_WORK", "work"), "register", "registration.json")
        registration = json.loads(file.read_text(encoding="utf-8"))
        return [str(int(registration["version"]))] if registration["name"] == model else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})

"""Moves the alias `champion` of each model to the version that its manifest in git names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.console import say
from homelab_mlops.errors import RepositoryError, TrackingError
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.model.promotion import LABEL, NONE_YET
from homelab_mlops.serving.source import load

MODEL = "app.kubernetes.io/name"


def versions_of(folder: Path) -> dict[str, str]:
    """The version that each manifest in ``folder`` names, by model.

    Raises:
        RepositoryError: a manifest is not one of a model.
    """
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        labels = _labels(path)
        if labels is not None:
            found[labels[MODEL]] = str(labels[LABEL])
    return found


def _labels(path: Path) -> dict[str, Any] | None:
    try:
        for document in yaml_reader.load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, dict) and document.get("kind") == "Deployment":
                labels = document["spec"]["template"]["metadata"]["labels"]
                if LABEL in labels:
                    return dict(labels)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise RepositoryError(f"not the manifest of a model: {error}", where=str(path)) from error
    return None


def follow(folder: Path, commit: str) -> None:
    """Sets each model's alias to the version that git names, where the model version answers its input example.

    Raises:
        TrackingError: it failed for some model, whose alias stays; the aliases of the others are set.
    """
    failures: list[TrackingError] = []
    with ModelRegistry.of_environment() as registry:
        for model, version in versions_of(folder).items():
            try:
                say(f"{model}: {_follow(registry, model, version, commit)}")
            except TrackingError as error:
                say(f"{model}: the alias stays as it is: {error.what}")
                failures.append(error)
    if failures:
        transient = all(error.transient for error in failures)
        what = "; ".join(error.what for error in failures)
        raise TrackingError(what, where=failures[0].where, fix=failures[0].fix, transient=transient)


def _follow(registry: ModelRegistry, model: str, version: str, commit: str) -> str:
    if version == NONE_YET:
        return "git names no version yet"
    current = registry.champion(model)
    if current == version:
        return f"champion is version {version}, as git says"
    load(registry, model, version)
    registry.set_champion(model, version, commit)
    return f"champion is version {version} now, by commit {commit[:12] or 'unknown'}; it was {current or 'none'}"

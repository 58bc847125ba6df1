"""Moves the alias `champion` of each model to the version that its manifest in git names, where its bytes are git's."""

from __future__ import annotations

from pathlib import Path

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.console import say
from homelab_mlops.errors import TrackingError
from homelab_mlops.model.promotion import NONE_YET, Named, named_in
from homelab_mlops.serving.source import held, load


def follow(folder: Path, commit: str) -> None:
    """Sets each model's alias to the version that git names, where the version has git's bytes and answers its input
    example.

    Raises:
        RepositoryError: a manifest is not one of a model.
        TrackingError: it failed for some model, whose alias stays; the aliases of the others are set.
    """
    failures: list[TrackingError] = []
    with ModelRegistry.of_environment() as registry:
        for model, named in named_in(folder).items():
            try:
                say(f"{model}: {_follow(registry, model, named, commit)}")
            except TrackingError as error:
                say(f"{model}: the alias stays as it is: {error.what}")
                failures.append(error)
    if failures:
        transient = all(error.transient for error in failures)
        what = "; ".join(error.what for error in failures)
        raise TrackingError(what, where=failures[0].where, fix=failures[0].fix, transient=transient)


def _follow(registry: ModelRegistry, model: str, named: Named, commit: str) -> str:
    if named.version == NONE_YET:
        return "git names no version yet"
    current = registry.champion(model)
    if current == named.version:
        held(registry, model, named)
        return f"champion is version {named.version}, as git says"
    load(registry, model, named)
    registry.set_champion(model, named.version, commit)
    return f"champion is version {named.version} now, by commit {commit[:12] or 'unknown'}; it was {current or 'none'}"

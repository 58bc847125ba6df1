"""Brings a model to serve: from MLflow's REST interface and its artifact proxy, or from the folder of a training."""

from __future__ import annotations

from pathlib import Path

import yaml

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.console import say
from homelab_mlops.errors import StorageError, TrackingError
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.model.artifact import other_files, sha256_of
from homelab_mlops.model.promotion import Named
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.protocol import read_example

SCORING_MODULE = "homelab_scoring"
# The files that a training leaves in its folder.
MODEL_FILE, EXAMPLE_FILE = "xgboost-model", "input_example.json"
FILES = "files"


def load(registry: ModelRegistry, name: str, named: Named) -> Model:
    """The version that git names, once it has answered its input example.

    Nothing reads its files before their SHA-256 is the one that git names, and the very bytes that had it are loaded.

    Raises:
        TrackingError: the registry lacks it, its files are others than git names, it cannot be loaded, or its example
        fails; transient where the server does not answer.
    """
    where = f"{name} version {named.version}"
    files = held(registry, name, named)
    try:
        described = yaml_reader.load(files["MLmodel"])
        flavor = described["flavors"]["python_function"]
        module, data = flavor["loader_module"], flavor["data"]
        example = (described.get("saved_input_example_info") or {}).get("artifact_path")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise _unusable("its MLmodel does not describe a model", where) from error
    if module != SCORING_MODULE:
        raise _unusable(f"it was not made by a retraining of this platform, but for {str(module)[:60]!r}", where)
    if not example:
        raise _unusable("it has no input example", where)
    for path in (data, example):
        if path not in files:
            raise _unusable(f"it has no file {str(path)[:80]!r}", where)
    try:
        model = Model(name, named.version, files[data])
    except ValueError as error:  # XGBoost's own error is one, too
        raise _unusable(f"it cannot be loaded: {str(error).strip().splitlines()[-1][:200]}", where) from error
    try:
        model.answer_example(read_example(files[example]))
    except ValueError as error:
        raise _unusable(f"it does not answer its input example: {error}", where) from error
    return model


def held(registry: ModelRegistry, name: str, named: Named) -> dict[str, bytes]:
    """The files of the version that git names, by path, where they are those that git names.

    Raises:
        TrackingError: the registry lacks it, or its files are others.
    """
    where = f"{name} version {named.version}"
    files = registry.files(name, named.version)
    try:
        stored = sha256_of(files)
    except ValueError as error:
        raise _unusable(str(error), where) from error
    if named.unpinned:
        say(
            f"{where}: git names no SHA-256, so nothing holds its files; "
            f"`homelab promote {name} {named.version}` names it: {stored}"
        )
    elif stored != named.sha256:
        raise other_files(where, stored, named.sha256, "the registry")
    return files


def load_files(folder: Path) -> Model:
    """The model that a training left in ``folder``, once it has answered its input example; its version is ``files``.

    Raises:
        StorageError: the folder holds no model of a training, or not one that answers.
    """
    fix = "give the folder that `homelab train` wrote, such as work/train"
    try:
        content, example = (folder / MODEL_FILE).read_bytes(), (folder / EXAMPLE_FILE).read_bytes()
    except OSError as error:
        raise StorageError(f"no trained model: {error.strerror}", where=str(error.filename), fix=fix) from error
    try:
        model = Model("", FILES, content)
        model.name = model.description.model
        model.answer_example(read_example(example))
    except ValueError as error:  # XGBoost's own error is one, too
        reason = str(error).strip().splitlines()[-1][:200]
        raise StorageError(f"the model cannot be served: {reason}", where=str(folder), fix=fix) from error
    return model


def _unusable(what: str, where: str) -> TrackingError:
    return TrackingError(f"{where}: {what}", where="the registry", fix="promote another version, or revert the commit")

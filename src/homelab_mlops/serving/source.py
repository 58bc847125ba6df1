"""Brings a model to serve: from MLflow's REST interface and its artifact proxy, or from the folder of a training."""

from __future__ import annotations

from pathlib import Path

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.errors import StorageError, TrackingError
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.protocol import read_example

SCORING_MODULE = "homelab_scoring"
# The files that a training leaves in its folder.
MODEL_FILE, EXAMPLE_FILE = "xgboost-model", "input_example.json"
FILES = "files"


def load(registry: ModelRegistry, name: str, version: str) -> Model:
    """The model version, once it has answered its input example.

    Raises:
        TrackingError: the registry lacks it, it cannot be loaded, or its example fails; transient where the server does
        not answer.
    """
    where = f"{name} version {version}"
    folder = registry.folder_of(name, version)
    described = yaml_reader.load(registry.file(folder, "MLmodel", where))
    try:
        flavor = described["flavors"]["python_function"]
        module, data = flavor["loader_module"], flavor["data"]
        example = (described.get("saved_input_example_info") or {}).get("artifact_path")
    except (KeyError, TypeError, AttributeError) as error:
        raise _unusable("its MLmodel does not describe a model", where) from error
    if module != SCORING_MODULE:
        raise _unusable(f"it was not made by a retraining of this platform, but for {str(module)[:60]!r}", where)
    if not example:
        raise _unusable("it has no input example", where)
    try:
        model = Model(name, version, registry.file(folder, data, where))
    except ValueError as error:  # XGBoost's own error is one, too
        raise _unusable(f"it cannot be loaded: {str(error).strip().splitlines()[-1][:200]}", where) from error
    try:
        model.answer_example(read_example(registry.file(folder, example, where)))
    except ValueError as error:
        raise _unusable(f"it does not answer its input example: {error}", where) from error
    return model


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

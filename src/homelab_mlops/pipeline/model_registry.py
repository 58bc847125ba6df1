"""The model registry: the champion, and the versions of a model, by alias and tag."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homelab_mlops import completion
from homelab_mlops.console import progress
from homelab_mlops.errors import EvaluationError
from homelab_mlops.model.scoring import Scorer
from homelab_mlops.pipeline import result, tracking
from homelab_mlops.pipeline.split import RowIds
from homelab_mlops.pipeline.workdir import read_json

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Champion:
    """The model to beat: its scorer, its name for people, and the identities of what it has trained on.

    ``trained`` are the rows, and where its training had a ``group``, the column of `split.group`, their groups.
    """

    name: str
    version: str | None
    scorer: Scorer
    trained: RowIds
    group: str | None = None


def champion_of(name: str) -> Champion | None:
    """The model version with the alias ``champion``; None where the model has none.

    Raises:
        TrackingError: the registry cannot be asked, or the version cannot be read.
    """
    version = version_by_alias(name, CHAMPION)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        model, record = download(version, Path(temporary))
        return Champion(
            f"champion (version {version.version})",
            str(version.version),
            Scorer.load(model),
            result.trained_rows(record / result.TRAINED),
            _group(record),
        )


def model_for_scoring(model: str, work: Path) -> Champion:
    """The model that ``model`` names: the folder of a training, the registry's champion, or the training in ``work``.

    Raises:
        EvaluationError: there is none; the message names the models that exist.
        TrackingError: the registry cannot be asked.
    """
    if Path(model).is_dir():
        return _trained_in(Path(model))
    if os.environ.get("MLFLOW_TRACKING_URI"):
        found = champion_of(model)
        if found is None:
            known = completion.models("")
            if known and model not in known:
                raise EvaluationError(
                    f"the model {model!r} has no champion: there is no model {model!r}",
                    fix=f"models of this clone: {', '.join(known)}",
                )
            raise EvaluationError(
                f"the model {model!r} has no champion",
                fix=f"`homelab models {model}` lists its versions; `homelab promote {model} VERSION`, and a push, "
                "make one",
            )
        return found
    folder = work / "train"
    trained = _trained_in(folder) if (folder / result.MODEL).exists() else None
    if trained is None or trained.scorer.description.model != model:
        here = f"holds {trained.scorer.description.model!r}" if trained else "holds none"
        raise EvaluationError(
            f"no model {model!r} here: MLFLOW_TRACKING_URI names no registry, and {folder} {here}",
            fix="export MLFLOW_TRACKING_URI, train the model with files, or give the folder of a training",
        )
    return trained


def _trained_in(folder: Path) -> Champion:
    record = read_json(folder / result.RECORD, "homelab train")
    return replace(champion_in(folder), name=f"model in {folder}", version=f"files-{record['result'][:12]}")


def champion_in(folder: Path) -> Champion:
    """The result in ``folder`` as the champion, for work without a registry.

    Raises:
        EvaluationError: the folder holds no result.
    """
    if not (folder / result.MODEL).exists():
        raise EvaluationError(
            "the folder of the champion holds no xgboost-model",
            where=str(folder),
            fix="give the folder that a training wrote",
        )
    return Champion(
        f"champion ({folder})",
        None,
        Scorer.load(folder / result.MODEL),
        result.trained_rows(folder / result.TRAINED),
        _group(folder),
    )


def _group(folder: Path) -> str | None:
    split: dict[str, Any] = read_json(folder / result.RECORD, "homelab train")["spec"]["split"]
    return split.get("group")


def version_by_alias(name: str, alias: str) -> Any | None:
    """The model version that ``alias`` points at; None where the model or the alias does not exist."""
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    with tracking.explained(f"asking for {name}@{alias}"):
        # A server with passwords says of a missing model only that access is denied.
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            return None
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def download(version: Any, folder: Path) -> tuple[Path, Path]:
    """Downloads a model version: the path of its booster, and the folder of its run's records."""
    import mlflow

    what = f"downloading {version.name} version {version.version}"
    with tracking.explained(what), progress(what):
        model = mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(folder / "model")
        )
        record = mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/homelab", dst_path=str(folder / "run"))
    return next(Path(model).rglob(result.MODEL)), Path(record)

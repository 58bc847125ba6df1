"""The model registry: the champion, and the versions of a model, by alias and tag."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_mlops.errors import EvaluationError
from homelab_mlops.model.scoring import Scorer
from homelab_mlops.pipeline import result, tracking
from homelab_mlops.pipeline.split import RowIds

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Champion:
    """The model to beat: its scorer, its name for people, and the identities of the rows that it has trained on."""

    name: str
    version: str | None
    scorer: Scorer
    trained: RowIds


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
        )


def champion_in(folder: Path) -> Champion:
    """The result in ``folder`` as the champion, for the way without a registry.

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
        f"champion ({folder})", None, Scorer.load(folder / result.MODEL), result.trained_rows(folder / result.TRAINED)
    )


def version_by_alias(name: str, alias: str) -> Any | None:
    """The model version that ``alias`` points at; None where the model or the alias does not exist."""
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    with tracking.explained(f"asking for {name}@{alias}"):
        # Of a model that does not exist, a server with passwords says only that access is denied.
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

    with tracking.explained(f"downloading {version.name} version {version.version}"):
        model = mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(folder / "model")
        )
        record = mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/homelab", dst_path=str(folder / "run"))
    return next(Path(model).rglob(result.MODEL)), Path(record)

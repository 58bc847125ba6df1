"""The model registry: the champion, and the versions of a model, by alias and tag."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homelab_mlops import completion
from homelab_mlops.clients.mlflow import SHA256, tracking_uri
from homelab_mlops.console import progress, say
from homelab_mlops.errors import EvaluationError, RepositoryError, TrackingError
from homelab_mlops.location import find_root
from homelab_mlops.model.artifact import other_files, sha256_of
from homelab_mlops.model.promotion import FOLDER, NONE_YET, Named, named_in
from homelab_mlops.model.scoring import Scorer
from homelab_mlops.pipeline import result, tracking
from homelab_mlops.pipeline.split import RowIds
from homelab_mlops.pipeline.workdir import read_json

CHAMPION, CHALLENGER = "champion", "challenger"
# The folder with the manifests that Argo CD has applied, in the pods of a workflow.
APPLIED = "HOMELAB_APPLIED_MODELS"


@dataclass(frozen=True)
class Champion:
    """The model to beat: its scorer, its name for people, and the identities of what it has trained on.

    ``trained`` are the rows, and where its training had a ``group``, the column of `split.group`, their groups. A
    champion of the registry has a ``version``, another one lies in a ``folder``; ``result`` names its training.
    """

    name: str
    version: str | None
    scorer: Scorer
    trained: RowIds
    group: str | None = None
    folder: Path | None = None
    result: str = ""


def champion_of(name: str, *, as_git_says: bool = False) -> Champion | None:
    """The model version with the alias ``champion``; None where the model has none.

    Its files have to be those that git names, where git names that version, or those that its training recorded.

    Args:
        as_git_says: the champion has to be the version that git names, here in a clone too, where git names one.

    Raises:
        TrackingError: the registry cannot be asked, or the version cannot be read, or has other files.
        RepositoryError: what git names cannot be read.
    """
    version = version_by_alias(name, CHAMPION)
    if version is None:
        return None
    git = _named_by_git(name, clone=as_git_says)
    with tempfile.TemporaryDirectory() as temporary:
        model, record = download(version, Path(temporary), git, only_git=as_git_says)
        return Champion(
            f"champion (version {version.version})",
            str(version.version),
            Scorer.load(model),
            result.trained_rows(record / result.TRAINED),
            _group(_record(record)),
        )


def _named_by_git(name: str, *, clone: bool) -> Named | None:
    """What git names of a model: in the manifests that Argo CD has applied, or, with ``clone``, in those of this clone.

    Raises:
        RepositoryError: the manifests cannot be read.
    """
    applied = os.environ.get(APPLIED, "")
    if applied:
        named = named_in(Path(applied))
        if not named:
            raise RepositoryError(
                "what git names is not here yet",
                where=f"{APPLIED}={applied}",
                fix="wait until the Application serving is Synced",
                transient=True,
            )
        return named.get(name)
    if not clone:
        return None
    try:
        folder = find_root() / FOLDER
    except RepositoryError:
        return None
    return named_in(folder).get(name)


def model_for_scoring(model: str, work: Path) -> Champion:
    """The model that ``model`` names: the folder of a training, the registry's champion, or the training in ``work``.

    Raises:
        EvaluationError: there is none; the message names the models that exist.
        TrackingError: the registry cannot be asked.
    """
    if Path(model).is_dir():
        return _trained_in(Path(model))
    if os.environ.get("MLFLOW_TRACKING_URI"):
        found = champion_of(model, as_git_says=True)
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
    within = folder / "train"
    if not (folder / result.RECORD).exists() and (within / result.MODEL).exists():
        raise EvaluationError(
            "the folder holds a training, and no model itself",
            where=str(folder),
            fix=f"give the folder that the training wrote: {within}",
        )
    record = _record(folder)
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
    record = _record(folder)
    return Champion(
        f"champion ({folder})",
        None,
        Scorer.load(folder / result.MODEL),
        result.trained_rows(folder / result.TRAINED),
        _group(record),
        folder,
        record["result"],
    )


def _record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(folder / result.RECORD, "homelab train")
    return content


def _group(record: dict[str, Any]) -> str | None:
    split: dict[str, Any] = record["spec"]["split"]
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


def download(version: Any, folder: Path, git: Named | None = None, *, only_git: bool = False) -> tuple[Path, Path]:
    """Downloads a model version: the path of its booster, and the folder of its run's records.

    Raises:
        TrackingError: its files are not those that git names or that its training recorded, or, with ``only_git``, it
            is another version than git names.
    """
    import mlflow

    what = f"downloading {version.name} version {version.version}"
    client = tracking.client()
    with tracking.explained(what), progress(what):
        files = tracking.files_at(client.get_model_version_download_uri(version.name, version.version))
        _hold(version, files, git, only_git=only_git)
        record = mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/homelab", dst_path=str(folder / "run"))
    if tracking.BOOSTER not in files:
        raise TrackingError(
            f"{version.name} version {version.version} has no file {tracking.BOOSTER}",
            where="the registry",
            fix="choose a version that a retraining of this platform made",
        )
    booster = folder / result.MODEL
    booster.write_bytes(files[tracking.BOOSTER])
    return booster, Path(record)


def _hold(version: Any, files: dict[str, bytes], git: Named | None, *, only_git: bool) -> None:
    """Checks that the files of a version are those that git names, or that its training recorded."""
    where = f"{version.name} version {version.version}"
    try:
        stored = sha256_of(files)
    except ValueError as error:
        raise TrackingError(f"{where}: {error}", where="the registry") from error
    if git is not None and git.version == NONE_YET:
        git = None
    if git is not None and git.version != str(version.version):
        if only_git:
            raise TrackingError(
                f"git names version {git.version} with the SHA-256 {git.sha256 or 'none'}, and the champion is version "
                f"{version.version} with the SHA-256 {stored}",
                where=f"{tracking_uri()}, {version.name}",
                fix="wait until the alias follows git; a model of another registry is scored outside of this clone",
                transient=True,
            )
    elif git is not None and git.sha256 and git.sha256 != stored:
        raise other_files(where, stored, git.sha256, tracking_uri())
    elif git is not None and not git.sha256:
        say(f"{where}: git names no SHA-256; `homelab promote {version.name} {version.version}` names it: {stored}")
    recorded = version.tags.get(SHA256, "")
    if recorded and recorded != stored:
        raise TrackingError(
            f"{where}: its files have the SHA-256 {stored}, and its training recorded {recorded}",
            where=tracking_uri(),
            fix="look who else writes there, and choose another version",
        )

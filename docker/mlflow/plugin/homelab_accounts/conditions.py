"""What a request may not say, on a route that its login may use.

MLflow does not know git. So that training cannot touch what git names, it may change nothing that is finished: a
logged model from the moment it is ready, a version and its run from the moment the version is registered.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from flask import request
from mlflow.exceptions import MlflowException
from mlflow.protos import mlflow_artifacts_pb2 as artifacts
from mlflow.protos import service_pb2 as tracking
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.model_registry_pb2 import (
    CreateModelVersion,
    CreateRegisteredModel,
    SetModelVersionTag,
    SetRegisteredModelAlias,
)
from mlflow.server import handlers

from homelab_accounts.rights import MULTIPART, PROMOTER, TRAINING

REGISTERED, PROMOTED = "homelab.registered", "homelab.promoted_by"
CHAMPION, CHALLENGER = "champion", "challenger"
RUN_ID = re.compile(r"[0-9a-f]{32}")
MODEL_SOURCE = re.compile(r"models:/(m-[0-9a-f]{32})")
OF_RUN = re.compile(r"[0-9]+/([0-9a-f]{32})/artifacts/.+")
OF_MODEL = re.compile(r"[0-9]+/models/(m-[0-9a-f]{32})/artifacts/.+")
# What the doctor writes, reads and deletes again.
PROBE = re.compile(r"[0-9]+/homelab-doctor/[0-9a-f]{32}")


def refuse(what: str) -> MlflowException:
    """The refusal of this app."""
    return MlflowException(f"homelab-accounts: {what}", PERMISSION_DENIED)


def check(login: str, name: str, *, is_admin: bool) -> None:
    """Holds the request in Flask's context to the conditions of its route.

    Raises:
        MlflowException: it breaks one.
    """
    if location := LOCATIONS.get(name):
        location(is_admin)
    if not is_admin and (condition := CONDITIONS.get((login, name))):
        condition(dict(request.view_args or {}))


def check_artifact(login: str, method: str, path: str, *, is_admin: bool) -> None:
    """Holds the upload or deletion of an artifact to its condition.

    Raises:
        MlflowException: the login may not change this artifact.
    """
    if is_admin or method not in ("PUT", "DELETE"):
        return None
    parts = path.split("/")
    if "%" in path or "\\" in path or not all(parts) or {".", ".."} & set(parts):
        raise refuse("the path of an artifact is plain: without empty parts, dots, backslashes and percent signs")
    if login == TRAINING and PROBE.fullmatch(path):
        return None
    if login == TRAINING and method == "PUT":
        if found := OF_RUN.fullmatch(path):
            return _open_run(found[1])
        if found := OF_MODEL.fullmatch(path):
            return _open_model(found[1])
    raise refuse(f"{login} may not change {path}")


def _message(message: Any) -> Any:
    """The request, read as MLflow reads it."""
    return handlers._get_request_message(message)


def _open_run(*run_ids: str) -> None:
    for run_id in filter(None, run_ids):
        if not RUN_ID.fullmatch(run_id):
            raise refuse("this is not the identity of a run")
        versions = handlers._get_model_registry_store().search_model_versions(f"run_id = '{run_id}'", 1000)
        if versions.token or any(map(_closed, versions)):
            raise refuse(f"the run {run_id} belongs to a registered version; it changes no more")


def _open_model(model_id: str) -> None:
    if str(handlers._get_tracking_store().get_logged_model(model_id).status) != "PENDING":
        raise refuse(f"the model {model_id} is finished; it changes no more")


def _open_version(name: str, version: str) -> None:
    if _closed(handlers._get_model_registry_store().get_model_version(name, version)):
        raise refuse(f"version {version} of {name} is registered; only its alias moves")


def _closed(version: Any) -> bool:
    return REGISTERED in version.tags or PROMOTED in version.tags or CHAMPION in version.aliases


def _of_run(message: type[Any]) -> Callable[[dict[str, str]], None]:
    def condition(_: dict[str, str]) -> None:
        given = _message(message())
        _open_run(given.run_id, getattr(given, "run_uuid", ""))

    return condition


def _of_model(view: dict[str, str]) -> None:
    _open_model(view["model_id"])


def _created_model(_: dict[str, str]) -> None:
    _open_run(_message(tracking.CreateLoggedModel()).source_run_id)


def _created_registered_model(_: dict[str, str]) -> None:
    if _message(CreateRegisteredModel()).tags:
        raise refuse("training makes a registered model without tags")


def _created_version(_: dict[str, str]) -> None:
    given = _message(CreateModelVersion())
    source = MODEL_SOURCE.fullmatch(given.source)
    if source is None:
        raise refuse("training registers a logged model, by its identity: models:/m-...")
    model = handlers._get_tracking_store().get_logged_model(source[1])
    if str(model.status) != "READY" or model.source_run_id != given.run_id:
        raise refuse(f"the model {source[1]} is not finished, or is of another run")
    if any(tag.key == PROMOTED for tag in given.tags):
        raise refuse(f"only what moves the alias sets the tag {PROMOTED}")
    _open_run(given.run_id)


def _tagged_by_training(_: dict[str, str]) -> None:
    given = _message(SetModelVersionTag())
    if given.key == PROMOTED:
        raise refuse(f"only what moves the alias sets the tag {PROMOTED}")
    _open_version(given.name, given.version)


def _tagged_by_promoter(_: dict[str, str]) -> None:
    if _message(SetModelVersionTag()).key != PROMOTED:
        raise refuse(f"promoter sets the tag {PROMOTED} and no other")


def _alias_of_training(_: dict[str, str]) -> None:
    given = _message(SetRegisteredModelAlias())
    if given.alias != CHALLENGER:
        raise refuse(f"training sets the alias {CHALLENGER} and no other: git names the champion (--alias-by-git)")
    _open_version(given.name, given.version)


def _alias_of_promoter(_: dict[str, str]) -> None:
    if _message(SetRegisteredModelAlias()).alias != CHAMPION:
        raise refuse(f"promoter moves the alias {CHAMPION} and no other")


def _artifact(method: str) -> Callable[[dict[str, str]], None]:
    def condition(view: dict[str, str]) -> None:
        check_artifact(TRAINING, method, view["artifact_path"], is_admin=False)

    return condition


def _is_own(location: str) -> bool:
    return bool(re.fullmatch(r"mlflow-artifacts:(/[^/%?#\\]+)+/?", location)) and ".." not in location.split("/")


def _location_of_experiment(is_admin: bool) -> None:
    location = _message(tracking.CreateExperiment()).artifact_location
    if location and not (is_admin and _is_own(location)):
        raise refuse("the artifacts lie in the server's own store: give no artifact location")


def _location_of_version(_: bool) -> None:
    source = _message(CreateModelVersion()).source
    # A prompt is a version without files.
    prompt = source in handlers._PROMPT_SOURCE_PLACEHOLDERS
    if not prompt and not MODEL_SOURCE.fullmatch(source) and not _is_own(source):
        raise refuse("the source of a version is a model in the server's own store")


def _location_of_workspace(_: bool) -> None:
    given = request.get_json(force=True, silent=True)
    if not isinstance(given, dict) or any("root" in key.lower() for key in given):
        raise refuse("the artifacts lie in the server's own store: give no artifact root")


def _location_of_trace(_: bool) -> None:
    if "artifactLocation" in request.get_data(as_text=True):
        raise refuse("the artifacts of a trace lie in the server's own store")


_PARTS = {
    "create": artifacts.CreateMultipartUpload,
    "complete": artifacts.CompleteMultipartUpload,
    "abort": artifacts.AbortMultipartUpload,
}


def _part(message: type[Any]) -> Callable[[dict[str, str]], None]:
    def condition(view: dict[str, str]) -> None:
        # The route names the folder, and the body a path of which the store takes the last part.
        file = posixpath.basename(_message(message()).path)
        check_artifact(TRAINING, "PUT", f"{view['artifact_path']}/{file}", is_admin=False)

    return condition


LOCATIONS: dict[str, Callable[[bool], None]] = {
    "POST 2.0/mlflow/experiments/create": _location_of_experiment,
    "POST 2.0/mlflow/model-versions/create": _location_of_version,
    "POST 2.0/mlflow/traces": _location_of_trace,
    "POST 3.0/mlflow/traces": _location_of_trace,
    "PATCH 2.0/mlflow/traces/<request_id>": _location_of_trace,
    "PATCH 2.0/mlflow/traces/<request_id>/tags": _location_of_trace,
    "PATCH 3.0/mlflow/traces/<trace_id>/tags": _location_of_trace,
    "POST 3.0/mlflow/workspaces": _location_of_workspace,
    "PATCH 3.0/mlflow/workspaces/<workspace_name>": _location_of_workspace,
}
"""The routes that take a location, whoever asks."""

CONDITIONS: dict[tuple[str, str], Callable[[dict[str, str]], None]] = {
    (TRAINING, "POST 2.0/mlflow/logged-models"): _created_model,
    (TRAINING, "PATCH 2.0/mlflow/logged-models/<model_id>"): _of_model,
    (TRAINING, "POST 2.0/mlflow/logged-models/<model_id>/params"): _of_model,
    (TRAINING, "PATCH 2.0/mlflow/logged-models/<model_id>/tags"): _of_model,
    (TRAINING, "POST 2.0/mlflow/model-versions/create"): _created_version,
    (TRAINING, "POST 2.0/mlflow/model-versions/set-tag"): _tagged_by_training,
    (TRAINING, "POST 2.0/mlflow/registered-models/alias"): _alias_of_training,
    (TRAINING, "POST 2.0/mlflow/registered-models/create"): _created_registered_model,
    (TRAINING, "POST 2.0/mlflow/runs/log-batch"): _of_run(tracking.LogBatch),
    (TRAINING, "POST 2.0/mlflow/runs/log-inputs"): _of_run(tracking.LogInputs),
    (TRAINING, "POST 2.0/mlflow/runs/log-metric"): _of_run(tracking.LogMetric),
    (TRAINING, "POST 2.0/mlflow/runs/log-model"): _of_run(tracking.LogModel),
    (TRAINING, "POST 2.0/mlflow/runs/log-parameter"): _of_run(tracking.LogParam),
    (TRAINING, "POST 2.0/mlflow/runs/outputs"): _of_run(tracking.LogOutputs),
    (TRAINING, "POST 2.0/mlflow/runs/set-tag"): _of_run(tracking.SetTag),
    (TRAINING, "POST 2.0/mlflow/runs/update"): _of_run(tracking.UpdateRun),
    (TRAINING, "PUT 2.0/mlflow-artifacts/artifacts/<artifact_path>"): _artifact("PUT"),
    (TRAINING, "DELETE 2.0/mlflow-artifacts/artifacts/<artifact_path>"): _artifact("DELETE"),
    **{(TRAINING, MULTIPART[step]): _part(message) for step, message in _PARTS.items()},
    (PROMOTER, "POST 2.0/mlflow/model-versions/set-tag"): _tagged_by_promoter,
    (PROMOTER, "POST 2.0/mlflow/registered-models/alias"): _alias_of_promoter,
}

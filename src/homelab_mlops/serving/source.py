"""Brings a model version from MLflow: over its REST interface and its artifact proxy, with a login and no S3 key."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from homelab_mlops.errors import TrackingError
from homelab_mlops.serving.model import Model
from homelab_mlops.serving.protocol import read_example

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 60.0
SCORING_MODULE = "homelab_scoring"
API = "/api/2.0/mlflow"


class Registry:
    """MLflow's registry, as ``MLFLOW_TRACKING_URI`` and the login in the environment reach it."""

    def __init__(self) -> None:
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        if not self.uri.startswith(("http://", "https://")):
            raise TrackingError(
                "there is no tracking server: MLFLOW_TRACKING_URI is no http address",
                where="environment",
                fix="export MLFLOW_TRACKING_URI=http://...",
            )
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        self._client = httpx.Client(
            base_url=self.uri,
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def load(self, name: str, version: str) -> Model:
        """The model version, once it has answered its input example.

        Raises:
            TrackingError: the registry lacks it, it cannot be loaded, or its example fails; transient where the server
                is away.
        """
        where = f"{name} version {version}"
        answer = self._ask("GET", f"{API}/model-versions/get-download-uri", {"name": name, "version": version}, where)
        folder = str(answer.json()["artifact_uri"])
        if not folder.startswith("mlflow-artifacts:"):
            raise TrackingError(f"its artifacts are not served by MLflow: {folder}", where=where)
        folder = folder.removeprefix("mlflow-artifacts:").lstrip("/")
        described = yaml.safe_load(self._file(folder, "MLmodel", where))
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
            model = Model(name, version, self._file(folder, data, where))
        except ValueError as error:  # XGBoost's own error is one, too
            raise _unusable(f"it cannot be loaded: {str(error).strip().splitlines()[-1][:200]}", where) from error
        try:
            model.answer_example(read_example(self._file(folder, example, where)))
        except ValueError as error:
            raise _unusable(f"it does not answer its input example: {error}", where) from error
        return model

    def champion(self, name: str) -> str | None:
        """The version that the alias ``champion`` points at, or None."""
        path, query = f"{API}/registered-models/alias", {"name": name, "alias": "champion"}
        answer = self._ask("GET", path, query, name, missing_is_none=True)
        return None if answer is None else str(answer.json()["model_version"]["version"])

    def set_champion(self, name: str, version: str, commit: str) -> None:
        """Points the alias ``champion`` at the version, and tags the version with the commit that names it."""
        where = f"{name} version {version}"
        if commit:
            tag = {"name": name, "version": version, "key": "homelab.promoted_by", "value": commit}
            self._ask("POST", f"{API}/model-versions/set-tag", tag, where)
        alias = {"name": name, "alias": "champion", "version": version}
        self._ask("POST", f"{API}/registered-models/alias", alias, where)

    def _file(self, folder: str, path: str, where: str) -> bytes:
        address = f"/api/2.0/mlflow-artifacts/artifacts/{quote(folder)}/{quote(path)}"
        answer: bytes = self._ask("GET", address, {}, f"{where}, {path}").content
        return answer

    def _ask(
        self, method: str, path: str, content: dict[str, str], where: str, *, missing_is_none: bool = False
    ) -> Any:
        try:
            if method == "GET":
                answer = self._client.get(path, params=content)
            else:
                answer = self._client.post(path, json=content)
        except httpx.HTTPError as error:
            raise TrackingError(
                f"MLflow cannot be reached: {str(error)[:200] or type(error).__name__}",
                where=f"{self.uri}, for {where}",
                fix="wait for it; this tries again",
                transient=True,
            ) from error
        if answer.status_code == httpx.codes.OK:
            return answer
        code, message = _explained(answer)
        if code == "RESOURCE_DOES_NOT_EXIST" or (missing_is_none and code == "INVALID_PARAMETER_VALUE"):
            if missing_is_none:
                return None
            raise TrackingError(
                f"the registry lacks {where}: {message}",
                where=self.uri,
                fix="`homelab models` lists the versions; promote one of them, or revert the commit",
            )
        if answer.status_code in (401, 403):
            raise TrackingError(
                f"MLflow refuses this login ({answer.status_code}), or has no such model",
                where=f"{self.uri}, for {where}",
                fix="check MLFLOW_TRACKING_USERNAME and its password, and `homelab models`",
                # A server that has just been set up may not know the login yet.
                transient=answer.status_code == 401,
            )
        raise TrackingError(
            f"MLflow fails with status {answer.status_code}: {message}",
            where=f"{self.uri}, for {where}",
            fix="look at MLflow's log",
            transient=answer.status_code >= 500,
        )


def _unusable(what: str, where: str) -> TrackingError:
    return TrackingError(f"{where}: {what}", where="the registry", fix="promote another version, or revert the commit")


def _explained(answer: httpx.Response) -> tuple[str, str]:
    try:
        content = answer.json()
        return str(content["error_code"]), str(content.get("message", ""))[:200]
    except (ValueError, KeyError, TypeError):
        return "", answer.text.strip()[:200]

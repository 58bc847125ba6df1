"""Which login may use which route. A route that nothing here names is the administrator's alone.

A route is a method and a path without its first part: `/api/` and `/ajax-api/` lead to the same.
"""

from __future__ import annotations

import re

TRAINING, PROMOTER, SERVING, PERSON = "training", "promoter", "serving", "person"
"""The logins of the platform; `person` is every other that the administrator has added."""

PUBLIC = frozenset(
    {
        "GET /health",
        "GET /static-files/<path>",
        "GET 3.0/mlflow/server-info",
    }
)
"""MLflow asks for no login here."""

MODELS = frozenset(
    {
        "GET /version",
        "GET 2.0/mlflow/model-versions/get",
        "GET 2.0/mlflow/model-versions/get-download-uri",
        "GET 2.0/mlflow/model-versions/search",
        "GET 2.0/mlflow/registered-models/alias",
        "GET 2.0/mlflow/registered-models/get",
        "GET 2.0/mlflow/registered-models/search",
        "GET 2.0/mlflow/runs/get",
        "GET 2.0/mlflow-artifacts/artifacts",
        "GET 2.0/mlflow-artifacts/artifacts/<artifact_path>",
        "GET 2.0/mlflow-artifacts/presigned/<artifact_path>",
    }
)
"""What who serves a model, moves its alias or lists its versions reads."""

LOOK = MODELS | frozenset(
    {
        "GET /",
        "GET /get-artifact",
        "GET /graphql",
        "POST /graphql",
        "GET /model-versions/get-artifact",
        "GET 2.0/mlflow/artifacts/list",
        "GET 2.0/mlflow/experiments/get",
        "GET 2.0/mlflow/experiments/get-by-name",
        "GET 2.0/mlflow/experiments/search",
        "POST 2.0/mlflow/experiments/search",
        "POST 2.0/mlflow/experiments/search-datasets",
        "GET 2.0/mlflow/logged-models/<model_id>",
        "GET 2.0/mlflow/logged-models/<model_id>/artifacts/directories",
        "GET 2.0/mlflow/logged-models/<model_id>/artifacts/files",
        "POST 2.0/mlflow/logged-models/search",
        "GET 2.0/mlflow/metrics/get-history",
        "GET 2.0/mlflow/metrics/get-history-bulk",
        "GET 2.0/mlflow/metrics/get-history-bulk-interval",
        "GET 2.0/mlflow/registered-models/get-latest-versions",
        "POST 2.0/mlflow/registered-models/get-latest-versions",
        "POST 2.0/mlflow/runs/search",
        "GET 2.0/mlflow/users/current",
        "GET 3.0/mlflow/traces/<trace_id>",
        "POST 3.0/mlflow/traces/metrics",
        "POST 3.0/mlflow/traces/search",
        "GET 3.0/mlflow/users/current/permissions",
    }
)
"""What the pages and MLflow's client read of experiments, runs and models."""

MULTIPART = {step: f"POST 2.0/mlflow-artifacts/mpu/{step}/<artifact_path>" for step in ("create", "complete", "abort")}
"""How MLflow's client uploads a file of 500 MiB or more to a server whose artifacts lie in S3."""

TRAIN = frozenset(
    {
        "POST 2.0/mlflow/experiments/create",
        "POST 2.0/mlflow/logged-models",
        "PATCH 2.0/mlflow/logged-models/<model_id>",
        "POST 2.0/mlflow/logged-models/<model_id>/params",
        "PATCH 2.0/mlflow/logged-models/<model_id>/tags",
        "POST 2.0/mlflow/model-versions/create",
        "POST 2.0/mlflow/model-versions/set-tag",
        "POST 2.0/mlflow/registered-models/alias",
        "POST 2.0/mlflow/registered-models/create",
        "POST 2.0/mlflow/runs/create",
        "POST 2.0/mlflow/runs/log-batch",
        "POST 2.0/mlflow/runs/log-inputs",
        "POST 2.0/mlflow/runs/log-metric",
        "POST 2.0/mlflow/runs/log-model",
        "POST 2.0/mlflow/runs/log-parameter",
        "POST 2.0/mlflow/runs/outputs",
        "POST 2.0/mlflow/runs/set-tag",
        "POST 2.0/mlflow/runs/update",
        "PUT 2.0/mlflow-artifacts/artifacts/<artifact_path>",
        "DELETE 2.0/mlflow-artifacts/artifacts/<artifact_path>",
        *MULTIPART.values(),
    }
)
"""What a training writes, each under a condition of its own: `conditions.py`."""

PROMOTE = frozenset({"POST 2.0/mlflow/model-versions/set-tag", "POST 2.0/mlflow/registered-models/alias"})
"""What moves the alias `champion`."""

RIGHTS = {
    TRAINING: LOOK | TRAIN,
    PROMOTER: MODELS | PROMOTE,
    SERVING: MODELS,
    PERSON: LOOK | {"PATCH 2.0/mlflow/users/update-password"},
}


def login_of(username: str) -> str:
    """The login whose rights a user has."""
    return username if username in RIGHTS else PERSON


def route(method: str, rule: str) -> str:
    """The name of a route here, from a rule of Flask or the path of a route of FastAPI."""
    path = re.sub(r"[<{](?:path:)?(\w+)(?::path)?[>}]", r"<\1>", rule)
    return f"{'GET' if method == 'HEAD' else method} {re.sub('^/(?:ajax-)?api/', '', path)}"


def may(username: str, name: str) -> bool:
    """Whether a user who is no administrator may use the route."""
    return name in PUBLIC or name in RIGHTS[login_of(username)]

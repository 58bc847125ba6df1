"""What a command of the tests finds imported; tests/forks.py says why."""

import importlib
import os

# Its client starts with the first import.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for _name in (
    "boto3",
    "homelab_mlops.cli",
    "homelab_mlops.doctor.preflight",
    "homelab_mlops.pipeline.job",
    "homelab_mlops.pipeline.predict",
    "homelab_mlops.pipeline.retrain",
    "homelab_mlops.pipeline.sagemaker",
    "homelab_mlops.serving.server",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    # What an MLflow server imports, but for `mlflow.server`, which reads the environment as it is imported.
    "alembic.command",
    "fastapi",
    "flask_cors",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "uvicorn.main",
    "sklearn.compose",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.preprocessing",
):
    importlib.import_module(_name)

"""What a command of the tests finds imported; tests/command_line.py says why."""

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
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "sklearn.compose",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.preprocessing",
):
    importlib.import_module(_name)

"""What a user runs where nobody has asked the doctor: train, and log the model. Nothing else.

python tests/benchmarks/plain_log_model.py EXPERIMENT [ARTIFACT_LOCATION]
"""

import sys

import mlflow
import numpy as np
import xgboost as xgb

name, *location = sys.argv[1:]
print(flush=True)  # from here on it is measured
booster = xgb.train({}, xgb.DMatrix(np.eye(4), np.arange(4)), 2)
booster.set_attr(padding="x" * 9_000_000)  # the size of a real model: above the 8 MiB from which boto3 sends parts
if location:
    mlflow.create_experiment(name, location[0])
mlflow.set_experiment(name)
with mlflow.start_run():
    mlflow.xgboost.log_model(booster, name="model")

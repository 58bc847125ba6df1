"""The script that a user comes from: the same fit on the same rows, and `save_model`. Nothing else.

python tests/benchmarks/plain_script.py data.parquet parameters.json model.ubj
"""

import json
import sys

import pandas as pd
import xgboost as xgb

data, parameters, model = sys.argv[1:]
settings = json.load(open(parameters))  # noqa: PTH123, SIM115
values, rounds, patience = settings["parameters"], settings["num_round"], settings["early_stopping_rounds"]
table = pd.read_parquet(data)
table = table[table["late"].notna()].sort_values("time", kind="stable")
label = (table.pop("late") == "true").astype(float)
table = table[settings["features"]]
for name in settings["categories"]:
    table[name] = table[name].astype("category")
for name in table.columns.difference(settings["categories"]):
    table[name] = table[name].astype("float32")
first, last = settings["train_rows"], settings["train_rows"] + settings["validation_rows"]
train = xgb.QuantileDMatrix(table[:first], label[:first], enable_categorical=True)
validation = xgb.QuantileDMatrix(table[first:last], label[first:last], ref=train, enable_categorical=True)
stop = xgb.callback.EarlyStopping(rounds=patience)
watched = [(train, "train"), (validation, "validation")]
booster = xgb.train(values, train, rounds, evals=watched, callbacks=[stop], verbose_eval=False)
booster.save_model(model)

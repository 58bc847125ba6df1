"""The objectives and metrics of each task, XGBoost's and the gate's, in one table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Literal

Task = Literal["binary", "multiclass", "regression"]
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")

METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("auc", "logloss", "brier", "accuracy"),
    "multiclass": ("logloss", "accuracy"),
    "regression": ("rmse", "mae"),
}
# Further metrics that a gate may decide by; a report has one only where it does.
FURTHER: dict[Task, tuple[str, ...]] = {
    "binary": ("average_precision", "class_logloss"),
    "multiclass": ("class_logloss",),
    "regression": ("poisson", "rmsle"),
}
LOWER_IS_BETTER = frozenset({"logloss", "brier", "rmse", "mae", "class_logloss", "poisson", "rmsle"})
# What is defined only of targets of at least 0.
OF_AMOUNTS = frozenset({"poisson", "rmsle"})
# The metric of XGBoost that orders models as the gate's does; the Brier score is the square of the RMSE. For the loss
# by class XGBoost has none: the loss of all rows is the nearest.
_WATCHED: dict[tuple[Task, str], str] = {
    ("binary", "auc"): "auc",
    ("binary", "logloss"): "logloss",
    ("binary", "brier"): "rmse",
    ("binary", "accuracy"): "error",
    ("multiclass", "logloss"): "mlogloss",
    ("multiclass", "accuracy"): "merror",
    ("regression", "rmse"): "rmse",
    ("regression", "mae"): "mae",
    ("binary", "average_precision"): "aucpr",
    ("binary", "class_logloss"): "logloss",
    ("multiclass", "class_logloss"): "mlogloss",
    ("regression", "poisson"): "poisson-nloglik",
    ("regression", "rmsle"): "rmsle",
}

# XGBoost 3.2, https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html#learning-task-parameters
OBJECTIVE_ALIASES = {"reg:linear": "reg:squarederror"}
_OBJECTIVES: dict[str, tuple[Task, ...]] = {
    "binary:logistic": ("binary",),
    "multi:softprob": ("multiclass",),
    "reg:squarederror": ("regression",),
    "reg:squaredlogerror": ("regression",),
    "reg:pseudohubererror": ("regression",),
    "reg:absoluteerror": ("regression",),
    "reg:quantileerror": ("regression",),
    "reg:logistic": ("regression", "binary"),
    "reg:gamma": ("regression",),
    "reg:tweedie": ("regression",),
    "count:poisson": ("regression",),
}
_NO_PROBABILITIES = {
    "binary:logitraw": "binary:logistic",
    "binary:hinge": "binary:logistic",
    "multi:softmax": "multi:softprob",
}
_EVAL_METRICS: dict[str, tuple[Task, ...]] = {
    "auc": ("binary", "multiclass"),
    "aucpr": ("binary", "multiclass"),
    "error": ("binary",),
    "gamma-deviance": ("regression",),
    "gamma-nloglik": ("regression",),
    "logloss": ("binary",),
    "mae": ("regression", "binary"),
    "map": ("binary",),
    "mape": ("regression",),
    "merror": ("multiclass",),
    "mlogloss": ("multiclass",),
    "mphe": ("regression",),
    "ndcg": ("binary",),
    "poisson-nloglik": ("regression",),
    "pre": ("binary",),
    "quantile": ("regression",),
    "rmse": ("regression", "binary"),
    "rmsle": ("regression",),
    "tweedie-nloglik": ("regression",),
}
_OTHER_TASKS = {
    "aft-nloglik": "a survival model",
    "cox-nloglik": "a survival model",
    "interval-regression-accuracy": "a survival model",
}
# What may follow an `@`: a threshold, how many of the first, a power.
_SUFFIXES = {
    "error": r"0?\.\d+|0|1",
    "map": r"\d+-?",
    "ndcg": r"\d+-?",
    "pre": r"\d+",
    "tweedie-nloglik": r"1\.\d+|1",
}
_OF_OTHERS = {
    "accuracy": "error, or merror of several labels",
    "balanced_accuracy": "error, or merror of several labels",
    "f1": "aucpr or logloss",
    "mse": "rmse, its root",
    "precision": "aucpr",
    "r2": "rmse",
    "recall": "aucpr",
}


def gate_metrics(task: Task) -> tuple[str, ...]:
    """The metrics that a gate may decide by."""
    return METRICS[task] + FURTHER[task]


def watched(task: Task, gate_metric: str) -> str:
    """XGBoost's name of the metric that early stopping watches for the gate's."""
    return _WATCHED[task, gate_metric]


def objective_name(objective: str) -> str:
    """The objective's present name."""
    return OBJECTIVE_ALIASES.get(objective, objective)


def task_of(objective: str) -> Task | None:
    """The task that an objective is for; None of one that this package does not train."""
    return next(iter(_OBJECTIVES.get(objective_name(objective), ())), None)


def objective_problem(objective: str, task: Task | None) -> tuple[str, str] | None:
    """What is wrong with an objective, and what to do about it; None where it fits.

    Args:
        task: None where the task is not known yet.
    """
    name = objective_name(objective)
    if better := _NO_PROBABILITIES.get(name):
        return f"the objective {objective!r} is not supported: it gives no probabilities", f"use {better}"
    if name not in _OBJECTIVES:
        fitting = objectives_of(task) if task else list(_OBJECTIVES)
        near = difflib.get_close_matches(name, fitting, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(fitting)}"
        return f"the objective {objective!r} is not supported", hint
    if task is not None and task not in _OBJECTIVES[name]:
        return (
            f"the objective {objective!r} is for a {_listed(_OBJECTIVES[name])} task; this one is {task}",
            f"use {' or '.join(objectives_of(task)[:3])}",
        )
    return None


def objectives_of(task: Task) -> list[str]:
    """The objectives of a task."""
    return [name for name, tasks in _OBJECTIVES.items() if task in tasks]


def metric_problem(metric: str, task: Task | None, objective: str = "") -> tuple[str, str] | None:
    """What is wrong with a metric of XGBoost's, and what to do about it; None where it fits.

    Args:
        task: None where the task is not known yet.
        objective: of the training, where one is given.
    """
    name, mark, suffix = metric.partition("@")
    fitting = [known for known, tasks in _EVAL_METRICS.items() if task is None or task in tasks]
    if name in _OTHER_TASKS:
        return f"the metric {metric!r} is for {_OTHER_TASKS[name]}, which is not trained here", _one_of(fitting)
    if name not in _EVAL_METRICS:
        near = difflib.get_close_matches(name, _EVAL_METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else _one_of(fitting)
        return f"XGBoost has no metric {metric!r}", f"use {_OF_OTHERS[name]}" if name in _OF_OTHERS else hint
    if name == "tweedie-nloglik" and not mark:
        return f"the metric {metric!r} needs its power", "write it as tweedie-nloglik@1.5"
    if mark and not re.fullmatch(_SUFFIXES.get(name, ""), suffix):
        return f"the metric {metric!r} cannot have @{suffix}", f"use {name}{_example(name)}"
    if task is not None and task not in _EVAL_METRICS[name] and not _of_logistic_regression(name, objective):
        return f"the metric {metric!r} is for a {_listed(_EVAL_METRICS[name])} task; this one is {task}", _one_of(
            fitting
        )
    if name == "quantile" and objective and objective_name(objective) != "reg:quantileerror":
        return f"the metric {metric!r} is for the objective reg:quantileerror", "use mae or rmse"
    return None


def _of_logistic_regression(metric: str, objective: str) -> bool:
    return objective == "reg:logistic" and metric in ("logloss", "error")


def _example(name: str) -> str:
    return {"error": "@0.3", "tweedie-nloglik": "@1.5"}.get(name, "@10" if name in _SUFFIXES else "")


def _one_of(names: Iterable[str]) -> str:
    shown = [f"{name}@1.5" if name == "tweedie-nloglik" else name for name in names]
    return f"use one of {', '.join(shown)}"


def _listed(tasks: Iterable[Task]) -> str:
    return " or ".join(tasks)

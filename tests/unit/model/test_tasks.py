"""Objective and metrics are the task's, and early stopping watches the gate's metric."""

from __future__ import annotations

from typing import Any

import pytest

from homelab_mlops.errors import ParameterError
from homelab_mlops.model.parameters import held_to_labels, resolve
from homelab_mlops.model.tasks import TASKS, Task, gate_metrics, watched


def refusal(task: Task | None, **train: Any) -> str:
    with pytest.raises(ParameterError) as error:
        resolve(task, train, {}, {})
    return str(error.value)


@pytest.mark.parametrize("task", TASKS)
def test_the_watched_metric_is_the_last_whatever_else_is_reported(task: Task) -> None:
    for metric in gate_metrics(task):
        last = watched(task, metric)
        for reported in ([], [last], [last, *(["mae"] if last == "rmse" else [])]):
            found = resolve(task, {"eval_metric": reported}, {}, {}, gate_metric=metric)["eval_metric"].value
            assert found[-1] == last
            assert len(found) == len(set(found))
        assert resolve(task, {}, {}, {}, gate_metric=metric)["eval_metric"].value[-1] == last


@pytest.mark.parametrize(
    ("task", "objective", "expected"),
    [
        ("multiclass", "multi:softmax", "use multi:softprob"),
        ("binary", "binary:logitraw", "use binary:logistic"),
        ("binary", "binary:hinge", "use binary:logistic"),
        ("binary", "rank:pairwise", "'rank:pairwise' is not supported"),
        ("regression", "survival:cox", "'survival:cox' is not supported"),
        ("regression", "reg:squarederor", "did you mean reg:squarederror?"),
        ("regression", "binary:logistic", "is for a binary task; this one is regression"),
        ("binary", "reg:linear", "is for a regression task; this one is binary"),
        (None, "multi:softmax", "use multi:softprob"),
        ("regression", "reg:quantileerror", "needs one quantile_alpha"),
    ],
)
def test_an_objective_of_another_kind_is_refused(task: Task | None, objective: str, expected: str) -> None:
    assert expected in refusal(task, objective=objective)


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [
        ("regression", "auc", "is for a binary or multiclass task; this one is regression"),
        ("binary", "mlogloss", "is for a multiclass task; this one is binary"),
        ("multiclass", "logloss", "is for a binary task; this one is multiclass"),
        ("regression", "tweedie-nloglik", "write it as tweedie-nloglik@1.5"),
        ("regression", "tweedie-nloglik@3", "cannot have @3"),
        ("binary", "auc@2", "cannot have @2"),
        ("binary", "accuracy", "use error"),
        ("binary", "aucc", "did you mean auc"),
        ("regression", "cox-nloglik", "is for a survival model"),
        ("regression", "quantile", "is for the objective reg:quantileerror"),
        (None, "nonsense", "XGBoost has no metric 'nonsense'"),
    ],
)
def test_a_metric_of_another_kind_is_refused(task: Task | None, metric: str, expected: str) -> None:
    objective = {} if task is None else {"objective": {"regression": "reg:squarederror"}.get(task, "")}
    objective = {name: value for name, value in objective.items() if value}
    assert expected in refusal(task, eval_metric=["rmse" if task == "regression" else metric, metric], **objective)


def test_an_alias_is_the_objective_that_it_stands_for() -> None:
    assert resolve("regression", {"objective": "reg:linear"}, {}, {})["objective"].value == "reg:squarederror"
    tweedie = {"objective": "reg:tweedie", "eval_metric": "tweedie-nloglik@1.5", "tweedie_variance_power": 1.5}
    assert resolve("regression", tweedie, {}, {})["tweedie_variance_power"].value == 1.5


@pytest.mark.parametrize(
    ("name", "value"), [("booster", "gblinear"), ("tree_method", "exact"), ("tree_method", "gpu_hist")]
)
def test_what_the_quantile_matrix_cannot_do_is_refused_before_a_row_is_read(name: str, value: str) -> None:
    assert f"{name}={value} is not supported" in refusal("binary", **{name: value})


def test_the_number_of_classes_is_that_of_the_labels() -> None:
    given = resolve("multiclass", {"num_class": 3}, {}, {})
    assert "num_class" not in held_to_labels(given, ["a", "b", "c"])
    with pytest.raises(ParameterError, match="num_class is 3, and the target has 4 labels"):
        held_to_labels(given, ["a", "b", "c", "d"])
    with pytest.raises(ParameterError, match="the target has no classes"):
        held_to_labels(given, ["a", "b"])

"""Hyperparameters are read as SageMaker's own XGBoost container reads them, or refused by name."""

from __future__ import annotations

import json

import pytest

from homelab_mlops.errors import ParameterError
from homelab_mlops.model.hyperparameters import from_environment
from homelab_mlops.model.parameters import resolve


def read(**given: object) -> dict[str, object]:
    return from_environment({"SM_HPS": json.dumps({name: str(value) for name, value in given.items()})})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"_tuning_objective_metric": "validation:auc"}, {"eval_metric": ["auc"]}),
        (
            {"_tuning_objective_metric": "validation:auc", "eval_metric": "auc,logloss"},
            {"eval_metric": ["logloss", "auc"]},
        ),
        ({"eval_metric": "rmse, mae"}, {"eval_metric": ["rmse", "mae"]}),
        ({"eval_metric": "rmse"}, {"eval_metric": "rmse"}),
        ({"silent": 1}, {"verbosity": 0}),
        ({"silent": 0}, {"verbosity": 1}),
        ({"silent": 1, "verbosity": 2}, {"verbosity": 2}),
        ({"dsplit": "row", "predictor": "cpu_predictor", "process_type": "default"}, {}),
        ({"deterministic_histogram": "true", "single_precision_histogram": "false"}, {}),
        ({"save_model_on_termination": "false"}, {}),
        ({"csv_weights": 1, "target": "y"}, {"csv_weights": 1, "target": "y"}),
        ({"early_stopping_rounds": 10, "tweedie_variance_power": 1.4},
         {"early_stopping_rounds": 10, "tweedie_variance_power": 1.4}),
    ],
)  # fmt: skip
def test_what_the_container_understands(given: dict[str, object], expected: dict[str, object]) -> None:
    assert expected == read(**given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"_kfold": 5}, "the hyperparameter _kfold=5"),
        ({"dsplit": "col"}, "the hyperparameter dsplit=col"),
        ({"predictor": "gpu_predictor"}, "the hyperparameter predictor=gpu_predictor"),
        ({"process_type": "update"}, "the hyperparameter process_type=update"),
        ({"updater": "grow_histmaker,prune"}, "use tree_method=hist"),
        ({"sketch_eps": 0.03}, "use max_bin"),
        ({"save_model_on_termination": "true"}, "set it to false"),
        ({"aft_loss_distribution": "normal"}, "survival models are not trained here"),
        ({"silent": 7}, "silent is 7, not 0 or 1"),
        ({"_tuning_objective_metric": "auc"}, "not validation:METRIC"),
    ],
)
def test_what_has_no_meaning_here_is_refused_by_name(given: dict[str, object], expected: str) -> None:
    with pytest.raises(ParameterError) as error:
        read(**given)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("name", "near"), [("csv_weight", "csv_weights"), ("num_rounds", "num_round"), ("targt", "target"), ("etaa", "eta")]
)
def test_an_unknown_one_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ParameterError) as error:
        resolve(None, {}, {f"SM_HP_{name.upper()}": "1"}, {})
    assert f"unknown training parameter '{name}'" in str(error.value)
    assert near in error.value.fix


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_number_is_finite(value: str) -> None:
    with pytest.raises(ParameterError, match="not a number"):
        resolve("binary", {}, {"SM_HP_ETA": value}, {})

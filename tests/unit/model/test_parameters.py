"""defaults < model.yaml < SM_HP_* < command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homelab_mlops.errors import ParameterError
from homelab_mlops.model import parameters
from homelab_mlops.model.hyperparameters import from_environment
from homelab_mlops.model.parameters import cpu_limit, resolve


def value(name: str, *, spec: dict[str, object] | None = None, env: dict[str, str] | None = None, **cli: str) -> object:
    return resolve("binary", spec or {}, env or {}, cli)[name].value


def test_each_layer_covers_the_one_before() -> None:
    assert value("eta") == 0.1
    assert value("eta", spec={"eta": 0.2}) == 0.2
    assert value("eta", spec={"eta": 0.2}, env={"SM_HPS": '{"eta": 0.3}'}) == 0.3
    assert value("eta", spec={"eta": 0.2}, env={"SM_HPS": '{"eta": 0.3}', "SM_HP_ETA": "0.4"}) == 0.4
    assert value("eta", spec={"eta": 0.2}, env={"SM_HP_ETA": "0.4"}, eta="0.5") == 0.5


def test_the_source_of_each_value_is_kept() -> None:
    effective = resolve("binary", {"eta": 0.2}, {"SM_HP_MAX_DEPTH": "3"}, {"seed": "7"})
    sources = {name: effective[name].source for name in ("num_round", "eta", "max_depth", "seed")}
    expected = {"num_round": "default", "eta": "model.yaml", "max_depth": "environment", "seed": "command line"}
    assert expected == sources


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SM_HP_NUM_ROUND", "42", ("num_round", 42)),
        ("SM_HP_num-round", "42", ("num_round", 42)),
        ("SM_HP_n_estimators", "42", ("num_round", 42)),
        ("SM_HP_LEARNING-RATE", "1e-1", ("eta", 0.1)),
        ("SM_HP_SEED_PER_ITERATION", "true", ("seed_per_iteration", True)),
        ("SM_HP_SEED_PER_ITERATION", "False", ("seed_per_iteration", False)),
        ("SM_HP_EVAL_METRIC", '["auc", "logloss"]', ("eval_metric", ["auc", "logloss"])),
        ("SM_HP_EVAL_METRIC", "auc", ("eval_metric", "auc")),
        ("SM_HP_MONOTONE_CONSTRAINTS", '{"age": 1}', ("monotone_constraints", {"age": 1})),
        ("SM_HP_MAX_DEPTH", "6.0", ("max_depth", 6)),
        ("SM_HP_OBJECTIVE", "binary:logistic", ("objective", "binary:logistic")),
    ],
)
def test_a_hyperparameter_is_decoded(name: str, text: str, expected: tuple[str, object]) -> None:
    assert expected[1] == value(expected[0], env={name: text})


def test_what_sagemaker_adds_for_itself_is_left_out() -> None:
    hps = json.dumps({"sagemaker_program": "train.py", "eta": "0.3"})
    assert from_environment({"SM_HPS": hps, "SM_HP_SAGEMAKER_REGION": "x"}) == {"eta": 0.3}


def test_a_base_score_is_bounded_only_where_the_objective_bounds_it() -> None:
    assert resolve("regression", {"base_score": -20.5}, {}, {})["base_score"].value == -20.5
    assert value("base_score", spec={"base_score": 0.25}) == 0.25


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SM_HP_MAX_DEPHT": "3"}, "did you mean max_depth"),
        ({"SM_HP_FOO": "3"}, "unknown training parameter 'foo'"),
        ({"SM_HP_MAX_DEPTH": "deep"}, "max_depth is 'deep', not a whole number"),
        ({"SM_HP_MAX_DEPTH": "2.5"}, "max_depth is 2.5, not a whole number"),
        ({"SM_HP_ETA": "true"}, "eta is True, not a number"),
        ({"SM_HP_MAX_BIN": "1"}, "max_bin is 1, not from 2 to 2147483647"),
        ({"SM_HP_MAX_BIN": "4294967296"}, "max_bin is 4294967296, not from 2"),
        ({"SM_HP_LEARNING_RATE": "-0.1"}, "eta is -0.1, not at least 0"),
        ({"SM_HP_SUBSAMPLE": "1.5"}, "subsample is 1.5, not from 0 to 1"),
        ({"SM_HP_BASE_SCORE": "2"}, "base_score is 2, not from 0 to 1 with binary:logistic"),
        ({"SM_HP_BASE_SCORE": "[0.5, -1]"}, "base_score is -1, not from 0 to 1 with binary:logistic"),
        ({"SM_HP_NUM_ROUND": "0"}, "not a whole number of at least 1"),
        ({"SM_HPS": "[1]"}, "SM_HPS is not a JSON object"),
        ({"SM_HPS": "{eta"}, "SM_HPS is not JSON"),
        ({"SM_NUM_CPUS": "many"}, "SM_NUM_CPUS is 'many'"),
    ],
)
def test_a_wrong_one_is_refused(env: dict[str, str], expected: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        resolve("binary", {}, env, {})
    assert expected in str(refusal.value)


def test_the_number_of_threads_is_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_limit({"SM_NUM_CPUS": "3"}) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(parameters, "CGROUP", Path("/nowhere"))
    assert cpu_limit({}) == 8


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_cgroups_quota_is_a_limit(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(parameters, "CGROUP", tmp_path)
    assert expected == cpu_limit({})

"""Training parameters: defaults, then model.yaml, then `SM_HP_*`, then the command line."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from homelab_mlops.errors import ParameterError
from homelab_mlops.model import tasks
from homelab_mlops.model.hyperparameters import CONTAINERS, SETTINGS, decoded, from_environment
from homelab_mlops.model.tasks import Task

Kind = Literal["int", "float", "bool", "text", "list", "mapping"]

# XGBoost 3.2, https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html
_XGBOOST: dict[str, tuple[Kind, ...]] = {
    "alpha": ("float",),
    "base_score": ("float", "list"),
    "booster": ("text",),
    "colsample_bylevel": ("float",),
    "colsample_bynode": ("float",),
    "colsample_bytree": ("float",),
    "disable_default_eval_metric": ("bool",),
    "eta": ("float",),
    "eval_metric": ("text", "list"),
    "extmem_single_page": ("bool",),
    "gamma": ("float",),
    "grow_policy": ("text",),
    "huber_slope": ("float",),
    "interaction_constraints": ("list", "text"),
    "lambda": ("float",),
    "max_bin": ("int",),
    "max_cached_hist_node": ("int",),
    "max_cat_threshold": ("int",),
    "max_cat_to_onehot": ("int",),
    "max_delta_step": ("float",),
    "max_depth": ("int",),
    "max_leaves": ("int",),
    "min_child_weight": ("float",),
    "monotone_constraints": ("mapping", "list", "text"),
    "multi_strategy": ("text",),
    "normalize_type": ("text",),
    "nthread": ("int",),
    "num_class": ("int",),
    "num_parallel_tree": ("int",),
    "objective": ("text",),
    "one_drop": ("bool",),
    "quantile_alpha": ("float", "list"),
    "rate_drop": ("float",),
    "refresh_leaf": ("bool",),
    "sample_type": ("text",),
    "sampling_method": ("text",),
    "scale_pos_weight": ("float",),
    "seed": ("int",),
    "seed_per_iteration": ("bool",),
    "skip_drop": ("float",),
    "subsample": ("float",),
    "tree_method": ("text",),
    "tweedie_variance_power": ("float",),
    "validate_parameters": ("bool",),
    "verbosity": ("int",),
}
_OURS: dict[str, tuple[Kind, ...]] = {"num_round": ("int",), "early_stopping_rounds": ("int",)}
KNOWN = _XGBOOST | _OURS
ALIASES = {
    "learning_rate": "eta",
    "min_split_loss": "gamma",
    "n_estimators": "num_round",
    "n_jobs": "nthread",
    "num_boost_round": "num_round",
    "random_state": "seed",
    "reg_alpha": "alpha",
    "reg_lambda": "lambda",
}
_DEFAULTS: dict[str, Any] = {
    "num_round": 500,
    "early_stopping_rounds": 30,
    "eta": 0.1,
    "max_depth": 6,
    "tree_method": "hist",
    "seed": 0,
    "validate_parameters": True,
}
_BY_TASK: dict[Task, dict[str, Any]] = {
    "binary": {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"]},
    "multiclass": {"objective": "multi:softprob", "eval_metric": ["merror", "mlogloss"]},
    "regression": {"objective": "reg:squarederror", "eval_metric": ["mae", "rmse"]},
}
# The rows lie in XGBoost's quantile matrix, which only trees by histogram read.
_UNSUPPORTED: dict[str, tuple[tuple[str, ...], str]] = {
    "booster": (("gblinear",), "use gbtree or dart"),
    "tree_method": (("exact", "approx", "gpu_hist"), "use hist"),
}
CGROUP = Path("/sys/fs/cgroup")
_POSITIVE = {"num_round", "early_stopping_rounds", "nthread"}
_LARGEST = 2**31 - 1
_SHARES = ("colsample_bylevel", "colsample_bynode", "colsample_bytree", "quantile_alpha", "rate_drop", "skip_drop")
_AT_LEAST_0 = ("alpha", "eta", "gamma", "lambda", "max_delta_step", "min_child_weight", "scale_pos_weight")
# The least and the greatest value that XGBoost takes.
_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys((*_SHARES, "subsample"), (0, 1)),
    **dict.fromkeys(_AT_LEAST_0, (0, math.inf)),
    **dict.fromkeys(("max_depth", "max_leaves"), (0, _LARGEST)),
    **dict.fromkeys(("max_cached_hist_node", "max_cat_threshold", "max_cat_to_onehot"), (1, _LARGEST)),
    "max_bin": (2, _LARGEST),
    "num_parallel_tree": (1, _LARGEST),
    "seed": (-(2**63), 2**63 - 1),
    "tweedie_variance_power": (1, 2),
    "verbosity": (0, 3),
}
# `base_score` is a prediction, which these objectives bound.
_BASE_SCORES: dict[str, tuple[float, float]] = dict.fromkeys(("binary:logistic", "reg:logistic"), (0, 1))


@dataclass(frozen=True)
class Parameter:
    """An effective parameter and where its value came from."""

    value: Any
    source: str


def resolve(
    task: Task | None,
    from_spec: Mapping[str, Any],
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    spec_name: str = "model.yaml",
    gate_metric: str | None = None,
) -> dict[str, Parameter]:
    """The effective parameters, by name, in alphabetical order.

    Args:
        task: None where it is not known yet; a name that no task knows is refused even then.
        gate_metric: the gate's, which early stopping watches: XGBoost's metric for it is the last of ``eval_metric``.

    Raises:
        ParameterError: a name is unknown (near ones are suggested), or a value has the wrong type or does not fit the
            task.
    """
    by_task = _BY_TASK[task] if task else {}
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("default", _DEFAULTS | by_task | {"nthread": cpu_limit(environ)}),
        (spec_name, from_spec),
        ("environment", _without_settings(from_environment(environ))),
        ("command line", {name: decoded(value) for name, value in overrides.items()}),
    ]
    effective: dict[str, Parameter] = {}
    for source, layer in layers:
        for given, value in layer.items():
            name = canonical(given, source)
            effective[name] = Parameter(_checked(name, value, source), source)
            _hold_to_bounds(name, effective[name], _BOUNDS.get(name))
    _hold_to_task(effective, task)
    if task is not None and gate_metric is not None:
        _watch(effective, tasks.watched(task, gate_metric))
    return dict(sorted(effective.items()))


def held_to_labels(
    parameters: dict[str, Parameter], labels: list[str] | None, *, at_most: bool = False
) -> dict[str, Parameter]:
    """The parameters, whose ``num_class`` is the number of labels where there are more than two.

    Args:
        at_most: replaces a larger ``num_class``: the container counts from 0 to the greatest label.

    Raises:
        ParameterError: ``num_class`` is another number.
    """
    given = parameters.get("num_class")
    if given is None:
        return parameters
    wanted = len(labels) if labels is not None and len(labels) > 2 else 0
    if given.value != wanted and not (wanted == 0 and given.value == 1) and not (at_most and given.value > wanted > 0):
        what = f"num_class is {given.value}, and the target has " + (f"{wanted} labels" if wanted else "no classes")
        raise ParameterError(what, where=given.source, fix=f"set it to {wanted}" if wanted else "leave it out")
    return {name: value for name, value in parameters.items() if name != "num_class"}


def _without_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in SETTINGS}


def _hold_to_task(effective: dict[str, Parameter], task: Task | None) -> None:
    """Refuses an objective or a metric that is not the task's, before any row is read."""
    objective = effective.get("objective")
    if objective is not None:
        _refuse(tasks.objective_problem(objective.value, task), objective.source)
        effective["objective"] = Parameter(tasks.objective_name(objective.value), objective.source)
    name = str(effective["objective"].value) if objective is not None else ""
    if "base_score" in effective:
        _hold_to_bounds("base_score", effective["base_score"], _BASE_SCORES.get(name), f" with {name}")
    given = effective.get("eval_metric")
    if given is not None:
        for metric in _metrics(given):
            _refuse(tasks.metric_problem(metric, task or (tasks.task_of(name) if name else None), name), given.source)
    alpha = effective.get("quantile_alpha")
    if name == "reg:quantileerror" and (alpha is None or (isinstance(alpha.value, list) and len(alpha.value) != 1)):
        _refuse(("reg:quantileerror needs one quantile_alpha", "set it to a number such as 0.9"), "objective")
    for parameter, (unsupported, advice) in _UNSUPPORTED.items():
        if parameter in effective and effective[parameter].value in unsupported:
            value = effective[parameter].value
            _refuse((f"{parameter}={value} is not supported", advice), effective[parameter].source)


def _hold_to_bounds(name: str, given: Parameter, bounds: tuple[float, float] | None, by: str = "") -> None:
    if bounds is None:
        return
    least, most = bounds
    between = f"at least {least}" if most == math.inf else f"from {least} to {most}"
    for value in given.value if isinstance(given.value, list) else [given.value]:
        if isinstance(value, int | float) and not least <= value <= most:
            _refuse((f"{name} is {value}, not {between}{by}", f"set {name} to a number {between}"), given.source)


def _refuse(problem: tuple[str, str] | None, source: str) -> None:
    if problem is not None:
        raise ParameterError(problem[0], where=source, fix=problem[1])


def _metrics(parameter: Parameter) -> list[str]:
    return [str(item) for item in (parameter.value if isinstance(parameter.value, list) else [parameter.value])]


def _watch(effective: dict[str, Parameter], metric: str) -> None:
    """Puts ``metric`` last: XGBoost's early stopping watches the last one."""
    given = effective["eval_metric"]
    if _metrics(given)[-1:] != [metric]:
        others = [name for name in _metrics(given) if name != metric]
        effective["eval_metric"] = Parameter([*others, metric], given.source)


def canonical(name: str, source: str) -> str:
    """XGBoost's own name: case does not matter, hyphens are underscores, scikit-learn's names are understood."""
    plain = name.lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain in KNOWN:
        return plain
    near = difflib.get_close_matches(plain, [*KNOWN, *ALIASES, *CONTAINERS], n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "the names are XGBoost's, and num_round, early_stopping_rounds"
    )
    raise ParameterError(f"unknown training parameter {name!r}", where=source, fix=hint)


def _checked(name: str, value: Any, source: str) -> Any:
    for kind in KNOWN[name]:
        if kind == "int" and _is_whole(value):
            value = int(value)
            if name in _POSITIVE and value < 1:
                break
            return value
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                break
            return value
        if kind == "bool" and (isinstance(value, bool) or value in (0, 1)):
            return bool(value)
        if isinstance(value, {"text": str, "list": list, "mapping": dict}.get(kind, ())):
            return value
    expected = " or ".join(
        {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "text": "text",
            "list": "a list",
            "mapping": "a mapping of names",
        }[k]
        for k in KNOWN[name]
    )
    at_least = " of at least 1" if name in _POSITIVE else ""
    raise ParameterError(
        f"{name} is {value!r}, not {expected}{at_least}", where=source, fix=f"set {name} to {expected}{at_least}"
    )


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))


def cpu_limit(environ: Mapping[str, str]) -> int:
    """``SM_NUM_CPUS``, or else the processors that this process may use by affinity and by its cgroup's quota."""
    given = environ.get("SM_NUM_CPUS", "").strip()
    if given:
        if not given.isdigit() or int(given) < 1:
            raise ParameterError(f"SM_NUM_CPUS is {given!r}, not a whole number of at least 1", where="SM_NUM_CPUS")
        return int(given)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, _cgroup_cpus() or available))


def _cgroup_cpus() -> int | None:
    """The quota of the cgroup (version 2, then version 1) in whole processors, rounded up; None without one."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((CGROUP / file).read_text(encoding="ascii") for file in files).split()
        except OSError:
            continue
        if len(words) == 2 and words[0] not in ("max", "-1"):
            return -(-int(words[0]) // int(words[1]))
    return None

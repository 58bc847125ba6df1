"""Training parameters: defaults, then model.yaml, then `SM_HP_*`, then the command line."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from homelab_mlops.errors import ParameterError
from homelab_mlops.model.spec import Task

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
CGROUP = Path("/sys/fs/cgroup")
_POSITIVE = {"num_round", "early_stopping_rounds", "nthread"}


@dataclass(frozen=True)
class Parameter:
    """An effective parameter and where its value came from."""

    value: Any
    source: str


def resolve(
    task: Task,
    from_spec: Mapping[str, Any],
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    spec_name: str = "model.yaml",
) -> dict[str, Parameter]:
    """The effective parameters, by name, in alphabetical order.

    Raises:
        ParameterError: a name is unknown (near ones are suggested), or a value has the wrong type.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("default", _DEFAULTS | _BY_TASK[task] | {"nthread": cpu_limit(environ)}),
        (spec_name, from_spec),
        ("environment", from_environment(environ)),
        ("command line", {name: _decoded(value) for name, value in overrides.items()}),
    ]
    effective: dict[str, Parameter] = {}
    for source, layer in layers:
        for given, value in layer.items():
            name = canonical(given, source)
            effective[name] = Parameter(_checked(name, value, source), source)
    return dict(sorted(effective.items()))


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The hyperparameters of SageMaker's script mode: ``SM_HPS``, a JSON object, and over it ``SM_HP_*``.

    Values are decoded as JSON where they decode, and raw otherwise. Names that begin with ``sagemaker_`` are the
    service's own and left out. Source: the environment variables of github.com/aws/sagemaker-training-toolkit.

    Raises:
        ParameterError: ``SM_HPS`` is not a JSON object.
    """
    found: dict[str, Any] = {}
    if text := environ.get("SM_HPS", "").strip():
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ParameterError(
                f"SM_HPS is not JSON: {error}", where="SM_HPS", fix='write it as {"eta": 0.1}'
            ) from error
        if not isinstance(content, dict):
            raise ParameterError("SM_HPS is not a JSON object", where="SM_HPS", fix='write it as {"eta": 0.1}')
        found |= {str(name): _decoded(value) if isinstance(value, str) else value for name, value in content.items()}
    for name in sorted(environ):
        if name.upper().startswith("SM_HP_"):
            found[name[len("SM_HP_") :]] = _decoded(environ[name])
    named = {name.lower().replace("-", "_"): value for name, value in found.items()}
    return {name: value for name, value in named.items() if not name.startswith("sagemaker_")}


def canonical(name: str, source: str) -> str:
    """XGBoost's own name: case does not matter, hyphens are underscores, scikit-learn's names are understood."""
    plain = name.lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain in KNOWN:
        return plain
    near = difflib.get_close_matches(plain, [*KNOWN, *ALIASES], n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "the names are XGBoost's, and num_round, early_stopping_rounds"
    )
    raise ParameterError(f"unknown training parameter {name!r}", where=source, fix=hint)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.strip().lower(), text)


def _checked(name: str, value: Any, source: str) -> Any:
    for kind in KNOWN[name]:
        if kind == "int" and _is_whole(value):
            value = int(value)
            if name in _POSITIVE and value < 1:
                break
            return value
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) if isinstance(value, float) else value
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

"""The hyperparameters of SageMaker's script mode, read as its own XGBoost container reads them.

Source: the environment variables of github.com/aws/sagemaker-training-toolkit, and the table of hyperparameters of
github.com/aws/sagemaker-xgboost-container. Names that the container knows and XGBoost 3.2 does not are understood here,
or refused: XGBoost itself would ignore them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from homelab_mlops.errors import ParameterError

# Read by script mode itself, and no parameter of a training.
SETTINGS = ("target", "csv_weights")
TUNED = "_tuning_objective_metric"
# Values that XGBoost does anyway by now.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "deterministic_histogram": (True, 1, "auto"),
    "dsplit": ("row",),
    "predictor": ("auto", "cpu_predictor"),
    "process_type": ("default",),
    "save_model_on_termination": (False, 0),
    "single_precision_histogram": (False, 0),
}
_REFUSED = {
    "_kfold": "cross-validation is not done here: leave it out, and evaluate on a holdout",
    "_num_cv_round": "cross-validation is not done here: leave it out, and evaluate on a holdout",
    "aft_loss_distribution": "survival models are not trained here",
    "aft_loss_distribution_scale": "survival models are not trained here",
    "deterministic_histogram": "histograms are always deterministic: leave it out",
    "dsplit": "columns are not split over machines: leave it out",
    "lambda_bias": "it is of booster=gblinear, which is not trained here",
    "predictor": "training is on processors: leave it out",
    "prob_buffer_row": "XGBoost has dropped it: leave it out",
    "process_type": "a model is trained anew, never updated: leave it out",
    "save_model_on_termination": "a training that is stopped leaves no model: set it to false",
    "single_precision_histogram": "XGBoost has dropped it: leave it out",
    "sketch_eps": "XGBoost has dropped it: use max_bin, about 1 / sketch_eps",
    "updater": "use tree_method=hist, whose updater is grow_quantile_histmaker",
}
_LISTS = ("eval_metric",)
CONTAINERS = (*SETTINGS, TUNED, "silent", *_REFUSED)


def decoded(text: str) -> Any:
    """The value that a text stands for: JSON where it decodes, ``True`` and ``False`` in any case, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.strip().lower(), text)


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The hyperparameters by name: ``SM_HPS``, a JSON object, and over it ``SM_HP_*``.

    Names are in small letters with underscores. Those that begin with ``sagemaker_`` are the service's own and left
    out. ``target`` and ``csv_weights`` stay as they are.

    Raises:
        ParameterError: ``SM_HPS`` is not a JSON object, or the container knows a hyperparameter that has no meaning
            here.
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
        found |= {str(name): decoded(value) if isinstance(value, str) else value for name, value in content.items()}
    for name in sorted(environ):
        if name.upper().startswith("SM_HP_"):
            found[name[len("SM_HP_") :]] = decoded(environ[name])
    named = {name.lower().replace("-", "_"): value for name, value in found.items()}
    return _understood({name: value for name, value in named.items() if not name.startswith("sagemaker_")})


def _understood(given: dict[str, Any]) -> dict[str, Any]:
    """The container's own hyperparameters as XGBoost's."""
    known = dict(given)
    for name, advice in _REFUSED.items():
        if name not in known:
            continue
        value = known.pop(name)
        if value in _WITHOUT_EFFECT.get(name, ()):
            continue
        if name == "updater" and value == "grow_quantile_histmaker":
            continue
        raise ParameterError(
            f"the hyperparameter {name}={value} of SageMaker's container is not supported",
            where="environment",
            fix=advice,
        )
    if "silent" in known:
        silent = known.pop("silent")
        if silent not in (0, 1):
            raise ParameterError(f"silent is {silent!r}, not 0 or 1", where="environment", fix="set verbosity, 0 to 3")
        known.setdefault("verbosity", 0 if silent else 1)
    for name in _LISTS:
        if isinstance(known.get(name), str):
            items = [item.strip() for item in known[name].split(",") if item.strip()]
            known[name] = items if len(items) > 1 else "".join(items)
    if TUNED in known:
        known["eval_metric"] = _with_tuned(known.get("eval_metric", []), known.pop(TUNED))
    return known


def _with_tuned(reported: Any, tuned: Any) -> list[str]:
    """The reported metrics; the tuning job's own comes last, so that early stopping watches it."""
    part, mark, metric = str(tuned).partition(":")
    if not mark or part not in ("validation", "train") or not metric:
        raise ParameterError(
            f"{TUNED} is {tuned!r}, not validation:METRIC", where="environment", fix="such as validation:auc"
        )
    metrics = [reported] if isinstance(reported, str) else list(reported)
    return [*(name for name in metrics if name != metric), metric]

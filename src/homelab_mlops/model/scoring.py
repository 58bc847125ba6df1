"""Scores raw rows with a trained booster, the same way everywhere.

MLflow stores this file and `values.py` beside each model and calls `_load_pyfunc`, so they stand alone: NumPy, pandas
and XGBoost, nothing of this package. The description of the features travels inside the booster, as an attribute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

try:
    import pandas as pd
except ModuleNotFoundError:  # in the service, which takes only the description from here
    pd = None  # type: ignore[assignment]
try:
    from homelab_mlops.model import values
except ImportError:  # beside a model
    import homelab_values as values  # type: ignore[import-not-found, no-redef]

ATTRIBUTE = "homelab"
FORMAT = 1


@dataclass(frozen=True)
class Input:
    """One feature: ``number``, ``integer``, ``boolean``, or ``category`` with the names seen in training."""

    name: str
    type: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What a booster predicts, and from what; ``labels`` is empty for a regression."""

    model: str
    task: str
    labels: tuple[str, ...]
    inputs: tuple[Input, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Description:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("the model was written by another version of homelab-mlops")
        inputs = tuple(Input(item["name"], item["type"], tuple(item["categories"])) for item in content["inputs"])
        return cls(content["model"], content["task"], tuple(content["labels"]), inputs)


def encode(frame: pd.DataFrame, inputs: tuple[Input, ...]) -> pd.DataFrame:
    """Raw rows as XGBoost takes them: float32 and categories; a category that training did not see is missing.

    Raises:
        ValueError: a column is missing, or holds a value that is not of its type.
    """
    missing = [item.name for item in inputs if item.name not in frame.columns]
    if missing:
        raise ValueError(f"the rows lack the columns {', '.join(missing)}")
    return pd.DataFrame({item.name: _column(frame[item.name], item) for item in inputs}, index=frame.index)


def matrix_names(names: list[str]) -> list[str]:
    """The names, or numbers in their place where one has ``[``, ``]`` or ``<``, which a matrix of XGBoost's refuses."""
    if not any(mark in name for name in names for mark in "[]<"):
        return names
    return [f"f{number}" for number in range(len(names))]


def matrix(frame: pd.DataFrame, inputs: tuple[Input, ...]) -> pd.DataFrame:
    """Like `encode`, with names that a matrix of XGBoost takes."""
    encoded = encode(frame, inputs)
    encoded.columns = pd.Index(matrix_names(list(encoded.columns)))
    return encoded


def _column(series: pd.Series[Any], item: Input) -> Any:
    if item.type == "category":
        return _categories(series, item.categories)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise ValueError(f"column {item.name} holds times, not a {item.type}")
    parse = values.boolean if item.type == "boolean" else values.number
    try:
        with np.errstate(over="ignore"):  # what is too large is refused below
            numbers = _parsed(series, parse).astype("float32")
        _refuse_infinite(numbers, series)
    except ValueError as error:
        raise ValueError(f"column {item.name}: {error}") from None
    return numbers


def _refuse_infinite(numbers: pd.Series[Any], given: pd.Series[Any]) -> None:
    infinite = np.flatnonzero(np.isinf(numbers.to_numpy(dtype=np.float32, na_value=np.nan)))
    if len(infinite):
        row = int(infinite[0])
        raise ValueError(f"row {row + 1}: {given.iloc[row]} is too large a number")


def _categories(series: pd.Series[Any], categories: tuple[str, ...]) -> Any:
    names, number = values.Names(categories), {name: code for code, name in enumerate(categories)}

    def code_of(value: object) -> int:
        return number.get(names.find(values.text_of(value)) or "", -1)

    return pd.Categorical.from_codes(_each(series, code_of, -1).astype(np.int64), categories=pd.Index(categories))


def _parsed(series: pd.Series[Any], parse: Callable[[str], float]) -> pd.Series[Any]:
    """The numbers of a column; missing is NaN."""
    if parse is values.number and pd.api.types.is_numeric_dtype(series.dtype):
        return series

    def number_of(value: object) -> float:
        if isinstance(value, bool | np.bool_):
            return float(value)
        text = values.text_of(value)
        return math.nan if values.is_missing(text) else parse(text)

    return pd.Series(_each(series, number_of, math.nan).astype(np.float64), index=series.index)


def _each(series: pd.Series[Any], become: Callable[[object], Any], missing: Any) -> np.ndarray[Any, Any]:
    """The new value of each value; equal ones are looked at once, unless Python takes True and 1 for equal."""
    if series.dtype == "object" and pd.api.types.infer_dtype(series, skipna=True) != "string":
        return np.array([missing if pd.isna(value) else become(value) for value in series], dtype="object")
    codes, given = pd.factorize(series)
    return np.array([*map(become, given), missing], dtype="object")[codes]


def as_text(series: pd.Series[Any]) -> pd.Series[Any]:
    """Values as text: ``True`` is ``true``, ``1.0`` is ``1``; missing is None."""
    return pd.Series(_each(series, values.text_of, None), index=series.index, name=series.name, dtype="object")


def booleans(series: pd.Series[Any]) -> pd.Series[Any]:
    """1.0 for true, 0.0 for false, NaN for what is missing or neither."""

    def parse(text: str) -> float:
        try:
            return values.boolean(text)
        except ValueError:
            return math.nan

    return _parsed(series, parse)


class Scorer:
    """A booster with the description of its features."""

    def __init__(self, booster: xgb.Booster) -> None:
        text = booster.attr(ATTRIBUTE)
        if text is None:
            raise ValueError(f"the booster has no attribute {ATTRIBUTE!r}: it was not trained by homelab-mlops")
        self.booster = booster
        self.description = Description.from_json(text)

    @classmethod
    def load(cls, path: str | Path) -> Scorer:
        """Reads an ``xgboost-model`` file."""
        booster = xgb.Booster()
        booster.load_model(bytearray(Path(path).read_bytes()))  # by its name, XGBoost would have to guess the format
        return cls(booster)

    def predict(self, frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Predictions for raw rows.

        Returns:
            float32; binary: the probability of the positive label, shape ``[rows]``; regression: the value, shape
            ``[rows]``; multiclass: a probability a label, shape ``[rows, labels]``.
        """
        rows = xgb.DMatrix(matrix(frame, self.description.inputs), enable_categorical=True)
        predicted = self.booster.predict(rows, validate_features=False)
        return np.asarray(predicted, dtype=np.float32)


class _PyfuncModel:
    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        predicted = self.scorer.predict(model_input)
        labels = self.scorer.description.labels
        return pd.DataFrame(predicted, columns=list(labels)) if predicted.ndim == 2 else predicted


def _load_pyfunc(data_path: str) -> _PyfuncModel:
    return _PyfuncModel(Scorer.load(data_path))

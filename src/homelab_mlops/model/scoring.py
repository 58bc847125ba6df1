"""Scores raw rows with a trained booster, the same way everywhere.

MLflow stores this file, `expressions.py`, `tree.py` and `values.py` beside each model and calls `_load_pyfunc`, so they
stand alone: NumPy, pandas and XGBoost, nothing of this package. The description of the features travels inside the
booster, as an attribute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
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
    from homelab_mlops.model import expressions, values
    from homelab_mlops.model import tree as trees
except ImportError:  # beside a model
    import homelab_expressions as expressions  # type: ignore[import-not-found, no-redef]
    import homelab_tree as trees  # type: ignore[import-not-found, no-redef]
    import homelab_values as values  # type: ignore[import-not-found, no-redef]

ATTRIBUTE = "homelab"
# Of a model whose features are its inputs, and of one with datetimes or derived features.
FORMAT, WIDER_FORMAT = 1, 2


@dataclass(frozen=True)
class Input:
    """A column that the model takes: ``number``, ``integer``, ``boolean``, ``datetime``, or ``category`` with its
    names, as the training saw them; one that only expressions read has none where they are not listed."""

    name: str
    type: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What a booster predicts, and from what; ``labels`` is empty for a regression.

    ``inputs`` are the columns of a request. Where there are ``derived`` features, ``order`` names all features in the
    order of XGBoost's matrix; else the inputs are the features.
    """

    model: str
    task: str
    labels: tuple[str, ...]
    inputs: tuple[Input, ...]
    derived: tuple[trees.Derived, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def features(self) -> dict[str, str]:
        """The type of each feature, in the order of XGBoost's matrix."""
        types = self.types
        if not self.derived:
            return types
        types |= {item.name: item.type for item in self.derived}
        return {name: types[name] for name in self.order}

    @property
    def types(self) -> dict[str, str]:
        """The type of each input."""
        return {item.name: item.type for item in self.inputs}

    def deriver(self) -> expressions.Deriver:
        """What computes the derived features."""
        return expressions.Deriver(self.derived, self.types)

    def to_json(self) -> str:
        plain = {"model": self.model, "task": self.task, "labels": self.labels, "inputs": [*map(asdict, self.inputs)]}
        if not self.derived and "datetime" not in self.types.values():
            return json.dumps({"format": FORMAT, **plain})
        derived = [
            {
                "name": item.name,
                "type": item.type,
                "categories": item.categories,
                "tree": trees.to_json(item.tree),
            }
            for item in self.derived
        ]
        return json.dumps({"format": WIDER_FORMAT, **plain, "derived": derived, "order": self.order})

    @classmethod
    def from_json(cls, text: str) -> Description:
        content = json.loads(text)
        if content.pop("format") not in (FORMAT, WIDER_FORMAT):
            raise ValueError("the model was written by another version of homelab-mlops")
        inputs = tuple(Input(item["name"], item["type"], tuple(item["categories"])) for item in content["inputs"])
        derived = tuple(
            trees.Derived(item["name"], item["type"], trees.from_json(item["tree"]), tuple(item["categories"]))
            for item in content.get("derived", ())
        )
        order = tuple(content.get("order", ()))
        return cls(content["model"], content["task"], tuple(content["labels"]), inputs, derived, order)


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


def matrix(frame: pd.DataFrame, description: Description) -> pd.DataFrame:
    """The features of raw rows as XGBoost takes them, with names that a matrix of XGBoost takes.

    Raises:
        ValueError: as `encode`.
    """
    encoded = encode(frame, description.inputs)
    if description.derived:
        deriver = description.deriver()
        found = deriver(arrays(frame, description.inputs, deriver.columns), len(frame))
        derived = {item.name: _derived_column(row, item) for row, item in zip(found, description.derived, strict=True)}
        columns = {name: derived[name] if name in derived else encoded[name] for name in description.order}
        encoded = pd.DataFrame(columns, index=frame.index)
    encoded.columns = pd.Index(matrix_names(list(encoded.columns)))
    return encoded


def features_of(frame: pd.DataFrame, description: Description) -> pd.DataFrame:
    """Raw rows, and for people and for other models the features beside them: derived ones as numbers and names, a
    datetime as days."""
    features = description.features
    if not description.derived and "datetime" not in features.values():
        return frame
    shown = matrix(frame, description)
    for number, (name, kind) in enumerate(features.items()):
        column = shown.iloc[:, number]
        if kind == "category" and name not in description.types:
            frame = frame.assign(**{name: column.astype("object").where(column.notna(), None)})
        elif kind == "datetime" or name not in description.types:
            frame = frame.assign(**{name: column})
    return frame


def _derived_column(found: np.ndarray[Any, Any], item: trees.Derived) -> Any:
    if item.type != "category":
        return found
    codes = np.where(np.isnan(found), -1, found).astype(np.int64)
    return pd.Categorical.from_codes(codes, categories=pd.Index(item.categories, dtype="object"))


def arrays(frame: pd.DataFrame, inputs: tuple[Input, ...], names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The named columns of raw rows as an expression takes them.

    Raises:
        ValueError: a column holds a value that is not of its type.
    """
    return {item.name: _array(frame[item.name], item) for item in inputs if item.name in names}


def _array(series: pd.Series[Any], item: Input) -> np.ndarray[Any, Any]:
    if item.type == "category":
        return _each(series, expressions.name_reader(item.categories), None)
    if item.type == "datetime":
        return _times(series)
    parse = values.boolean if item.type == "boolean" else values.number
    return _parsed(series, parse).to_numpy(dtype=np.float64, na_value=np.nan)


def _times(series: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """UTC, to the microsecond."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(series.dtype):
        return series.to_numpy().astype("datetime64[us]")
    return _each(series, expressions.read_time, np.datetime64("NaT", "us")).astype("datetime64[us]")


def _column(series: pd.Series[Any], item: Input) -> Any:
    if item.type == "category":
        return _categories(series, item.categories)
    if item.type == "datetime":
        try:
            return pd.Series(expressions.days(_times(series)).astype(np.float32), index=series.index)
        except ValueError as error:
            raise ValueError(f"column {item.name}: {error}") from None
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
        rows = xgb.DMatrix(matrix(frame, self.description), enable_categorical=True)
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

"""A loaded model version: its inputs and its predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost as xgb

from homelab_mlops.model.scoring import Description, Scorer
from homelab_mlops.serving.encoding import Encoder, RowsError
from homelab_mlops.serving.protocol import Table

# From this many rows on, a second thread saves more time than it costs to wake it.
MANY_ROWS = 256


class Model:
    """One version of one model, ready to answer.

    Raises:
        ValueError: the booster is not one that a retraining of this platform made.
    """

    def __init__(self, name: str, version: str, content: bytes) -> None:
        booster = xgb.Booster()
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1})
        self.name = name
        self.version = version
        self.description: Description = Scorer(booster).description
        self.encoder = Encoder(self.description)
        self._booster = booster

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of a prediction's numbers, where it has several."""
        return self.description.labels if self.description.task == "multiclass" else ()

    def predict(self, table: Table, *, strict: bool = False) -> np.ndarray[Any, np.dtype[np.float32]]:
        """As `homelab_mlops.model.scoring.Scorer.predict`, bit for bit.

        Raises:
            RowsError: the rows are not what the model takes.
        """
        matrix = self.encoder.encode(table.columns, table.rows, strict=strict)
        return np.asarray(self._booster.inplace_predict(matrix, validate_features=False), dtype=np.float32)

    def answer_example(self, table: Table) -> None:
        """Checks that the model answers its own input example.

        Raises:
            RowsError: the model refuses it.
        """
        predicted = self.predict(table)
        shape = (table.rows, len(self.labels)) if self.labels else (table.rows,)
        if predicted.shape != shape or not np.isfinite(predicted).all():
            raise RowsError(f"the answer to the input example is not {shape} finite numbers")

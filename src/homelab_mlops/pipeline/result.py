"""The result of a training: a folder, complete without any server.

=======================  =============================================================================================
``xgboost-model``        the booster up to its best round, UBJSON; loads with plain ``xgboost.Booster``
``metrics.json``         the metrics at the best round, and of every round
``record.json``          data, parameters, commit, packages: what a replay needs
``input_example.json``   five raw rows
``trained_rows.parquet`` the identities of the training and validation rows, and of their groups
``plots/``               learning curve and importance, as PNG
=======================  =============================================================================================
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from homelab_mlops.model import values
from homelab_mlops.model.parameters import Parameter
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline.fit import Fitted, Prepared
from homelab_mlops.pipeline.provenance import provenance
from homelab_mlops.pipeline.split import RowIds
from homelab_mlops.pipeline.workdir import read_json, write_json

MODEL, METRICS, RECORD, EXAMPLE, TRAINED = (
    "xgboost-model",
    "metrics.json",
    "record.json",
    "input_example.json",
    "trained_rows.parquet",
)


def new_record(
    spec: ModelSpec, manifest: Mapping[str, Any], parameters: Mapping[str, Parameter], rows: Mapping[str, int]
) -> dict[str, Any]:
    """The facts of a training that are known before it begins."""
    return {
        "result": uuid.uuid4().hex,
        "model": spec.name,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": spec.model_dump(mode="json"),
        "data": dict(manifest),
        "rows": dict(rows),
        "parameters": {name: parameter.value for name, parameter in parameters.items()},
        "parameter_sources": {name: parameter.source for name, parameter in parameters.items()},
        "provenance": provenance(),
    }


def write_result(folder: Path, record: Mapping[str, Any], fitted: Fitted, prepared: Prepared) -> None:
    """Writes all files of a result into an empty ``folder``."""
    from homelab_mlops.pipeline import plots

    (folder / MODEL).write_bytes(bytes(fitted.scorer.booster.save_raw("ubj")))
    write_json(folder / METRICS, metrics_of(fitted))
    example = prepared.example
    cells = example.astype("object").where(example.notna(), None).to_dict(orient="split", index=False)
    write_json(
        folder / EXAMPLE, {"columns": cells["columns"], "data": [[_plain(v) for v in row] for row in cells["data"]]}
    )
    pq.write_table(pa.table({"row": np.unique(prepared.row_ids)}), folder / TRAINED)
    (folder / "plots").mkdir()
    plots.learning_curve(folder / "plots" / "learning_curve.png", fitted.history, fitted.best_round)
    gains = fitted.scorer.booster.get_score(importance_type="total_gain")
    plots.importance(folder / "plots" / "importance.png", {name: float(gain) for name, gain in gains.items()})  # type: ignore[arg-type]
    write_json(folder / RECORD, {**record, "best_round": fitted.best_round})


def metrics_of(fitted: Fitted) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    return {
        **fitted.at_best(),
        "best_round": fitted.best_round,
        "rounds": fitted.rounds,
        "history": fitted.history,
        "times_ms": fitted.times,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return values.text_of(value)
    return value.item() if isinstance(value, np.generic) else value


def example_of(folder: Path) -> pd.DataFrame:
    """The raw rows of ``input_example.json``, shape ``[5, inputs]``."""
    content = read_json(folder / EXAMPLE, "homelab train")
    return pd.DataFrame(content["data"], columns=content["columns"])


def trained_rows(path: Path) -> RowIds:
    """The identities in ``trained_rows.parquet``, shape ``[rows]``, sorted."""
    return np.asarray(pq.read_table(path).column("row").to_numpy(), dtype=np.uint64)

"""A change in reading that changes a model is seen: of the demo tables the hash and the trained bytes are held.

Where the change is meant, write the hashes that the failure shows, and say in CHANGELOG.md that models change.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import pytest
import xgboost as xgb

from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.fit import fit, prepare
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import labelled, parameters_of
from tests.conftest import FIXTURES, ROOT

# The version of the lock, which wrote these bytes on x86_64; another machine may round another way.
XGBOOST, MACHINE = "3.2.0", "x86_64"
CHURN, PENGUINS = ROOT / "workflows/models/churn", FIXTURES / "models/valid/penguins"
FLIGHTS = ROOT / "workflows/models/flight-delay"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (CHURN, "235ce80d5db5a39baf4b79535275c904b9abf3535e16f8cde72f4e5f91560cbd"),
        (PENGUINS, "c54fb886e40fb044592ea8998d1c8b689fb5a406922fb56c7028baecc77163a7"),
        (FLIGHTS, "8b112c3723e189cff9f91544ed635a0d53a8c371ab843971a42856e1129c0669"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_demo_table_is_read_as_ever(model: Path, expected: str, tmp_path: Path) -> None:
    spec = load_spec(str(model))
    assert expected == ingest(spec, tmp_path, "demo" if spec.data.demo else None)["sha256"]


@pytest.mark.skipif(platform.machine() != MACHINE, reason=f"the bytes are those of {MACHINE}")
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (CHURN, "e25b6c1664535d644433bc6d7dc95381dc3a2559e360593759c086f74749a3bf"),
        (PENGUINS, "8004944b8321ba285259bc64fcadb42922a9b30b5867717475bb5c648f3b312e"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_demo_model_is_trained_as_ever(model: Path, expected: str, tmp_path: Path) -> None:
    assert xgb.__version__ == XGBOOST, f"these are the bytes of XGBoost {XGBOOST}: write those of the new one"
    spec = load_spec(str(model))
    manifest = ingest(spec, tmp_path, "demo" if spec.data.demo else None)
    frame, _ = load_ingested(spec, tmp_path)
    frame, parameters = labelled(frame, spec), parameters_of(spec, {})
    split = split_rows(frame, spec, manifest["window"])
    fitted = fit(spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters)
    assert expected == hashlib.sha256(fitted.scorer.booster.save_raw("ubj")).hexdigest()

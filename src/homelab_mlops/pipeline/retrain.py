"""All steps of a retraining, one after the other in one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homelab_mlops.doctor.preflight import check_tracking
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import Tracking, parameters_of, train
from homelab_mlops.pipeline.validate import validate


def retrain(
    spec: ModelSpec,
    work: Path,
    tracking: Tracking,
    overrides: Mapping[str, str],
    source: str | None = None,
    as_of: str | None = None,
    champion: Path | None = None,
) -> dict[str, Any]:
    """Runs ingest, validate, train and evaluate, and also register where the result is tracked.

    Returns:
        The decision, with the registration under ``registration`` where there is one.
    """
    parameters_of(spec, overrides)
    check_tracking(spec.name, tracking)
    ingest(spec, work, source, as_of)
    validate(spec, work)
    train(spec, work, tracking, overrides)
    decision = evaluate(spec, work, champion)
    if (work / "train" / "run.json").exists():
        decision["registration"] = register(spec, work)
    return decision

"""How good the shipped models are on rows they have not seen.

churn: the mean holdout AUC over five split seeds. flight-delay: trained on three months, held against the next one, for
every month that has three before it, beside always-majority and a logistic regression on the same features and rows.

    python tests/benchmarks/quality.py
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from homelab_mlops.model.parameters import resolve
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.fit import fit, prepare, targets
from homelab_mlops.pipeline.gate import linear_baseline, trivial_baseline
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.metrics import Array, paired_difference, weighted_metric
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import labelled


def churn(work: Path) -> None:
    spec = load_spec("churn")
    ingest(spec, work, "demo")
    frame, _ = load_ingested(spec, work)
    values = []
    for seed in range(5):
        other = spec.model_copy(update={"split": spec.split.model_copy(update={"seed": seed})})
        split = split_rows(frame, other, None)
        parameters = resolve(spec.task, spec.train, {}, {})
        fitted = fit(other, prepare(other, frame[split.train], frame[split.validation], parameters), parameters)
        held_out = frame[split.holdout]
        values.append(_auc(targets(held_out, spec), fitted.scorer.predict(held_out)))
    seeds = ", ".join(f"{value:.4f}" for value in values)
    print(f"churn: mean holdout AUC {statistics.mean(values):.4f} over five split seeds ({seeds}); 0.845 is wanted")


def flight_delay(work: Path) -> None:
    spec = load_spec("flight-delay")
    print("flight-delay, holdout AUC     model  majority  logistic  model - logistic, one-sided 95 % bound")
    wins = 0
    ends = pd.date_range("2013-05-01", "2014-01-01", freq="MS")
    for end in ends:
        ingest(spec, work, "demo", f"{end:%Y-%m-%d}T05:00")
        frame, manifest = load_ingested(spec, work)
        frame = labelled(frame, spec)
        split = split_rows(frame, spec, manifest["window"])
        train, held_out = frame[split.train], frame[split.holdout]
        parameters = resolve(spec.task, spec.train, {}, {})
        fitted = fit(spec, prepare(spec, train, frame[split.validation], parameters), parameters)
        truth, predicted = targets(held_out, spec), fitted.scorer.predict(held_out)
        majority, logistic = trivial_baseline(spec, train, len(held_out)), linear_baseline(spec, train, held_out)
        gain = paired_difference("auc", truth, predicted, logistic, 1000, 0.95)
        wins += gain.low > 0
        month = f"{end - pd.DateOffset(months=1):%B}"
        figures = f"{_auc(truth, predicted):.4f}    {_auc(truth, majority):.4f}    {_auc(truth, logistic):.4f}"
        print(f"  {month:10} {len(held_out):7,} rows   {figures}    {gain.value:+.4f} > {gain.low:+.4f}")
    print(f"  better than the logistic regression with 95 % confidence in {wins} of {len(ends)} months")


def _auc(truth: Array, predicted: Array) -> float:
    return weighted_metric("auc", truth, predicted)(np.ones(len(truth)))


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        churn(Path(temporary) / "churn")
        flight_delay(Path(temporary) / "flight-delay")


if __name__ == "__main__":
    main()

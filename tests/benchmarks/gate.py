"""How often the gate promotes by chance, and how often it misses a better model.

A/A: challenger and champion are trained alike on different seeds; every promotion is a false one.
A/B: on each holdout of 2,000 rows the challenger's true AUC is higher by 0.02.

    python tests/benchmarks/gate.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from homelab_mlops.model.parameters import Parameter, resolve
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.fit import fit, prepare, targets
from homelab_mlops.pipeline.gate import Opponent, judge
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.metrics import Array, weighted_metric
from homelab_mlops.pipeline.split import split_rows

HOLDOUT_ROWS = 2000
TRUE_GAIN = 0.02


def promoted(spec: ModelSpec, truth: Array, challenger: Array, champion: Array) -> bool:
    """Whether the gate takes the challenger."""
    everything = np.ones(len(truth), dtype=bool)
    baseline = Opponent("trivial baseline", np.full(len(truth), truth.mean()), everything)
    reasons = judge(spec, truth, challenger, baseline, Opponent("champion", champion, everything))
    return all(reason.passed for reason in reasons)


def same_training(gates: int) -> tuple[int, list[float]]:
    """Promotions among ``gates`` pairs of churn models that differ in the seed alone, each on a split of its own."""
    spec = load_spec("churn")
    promotions, differences = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        ingest(spec, Path(temporary), "demo")
        frame, _ = load_ingested(spec, Path(temporary))
    for seed in range(gates):
        split_spec = spec.model_copy(update={"split": spec.split.model_copy(update={"seed": seed})})
        split = split_rows(frame, split_spec, None)
        held_out = frame[split.holdout]
        truth = targets(held_out, spec)
        scores = []
        for training_seed in (2 * seed, 2 * seed + 1):
            parameters = resolve(spec.task, spec.train, {}, {"seed": str(training_seed)})
            scores.append(_scores(split_spec, frame, split, parameters, held_out))
        promotions += promoted(spec, truth, scores[1], scores[0])
        differences.append(_auc(truth, scores[1]) - _auc(truth, scores[0]))
    return promotions, differences


def _scores(spec: ModelSpec, frame: Any, split: Any, parameters: dict[str, Parameter], held_out: Any) -> Array:
    fitted = fit(spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters)
    return np.asarray(fitted.scorer.predict(held_out))


def _auc(truth: Array, predicted: Array) -> float:
    return weighted_metric("auc", truth, predicted)(np.ones(len(truth)))


def better_challenger(gates: int, champion_auc: float = 0.84) -> tuple[int, float]:
    """Promotions among ``gates`` holdouts of 2,000 rows on which the challenger's true AUC is higher by 0.02.

    Scores are normal in each class; challenger and champion share most of their noise, as two models of one table do
    (the correlation is that of two churn models with different features, 0.9).
    """
    from scipy.stats import norm

    spec = load_spec("churn")
    generator = np.random.default_rng(2026)
    distances = [np.sqrt(2) * norm.ppf(auc) for auc in (champion_auc, champion_auc + TRUE_GAIN)]
    promotions, gains = 0, []
    for _ in range(gates):
        truth = (generator.random(HOLDOUT_ROWS) < 0.265).astype(float)
        shared = generator.normal(size=HOLDOUT_ROWS)
        champion, challenger = (
            norm.cdf(
                distance * (truth - 0.5) + np.sqrt(0.9) * shared + np.sqrt(0.1) * generator.normal(size=HOLDOUT_ROWS)
            )
            for distance in distances
        )
        promotions += promoted(spec, truth, challenger, champion)
        gains.append(_auc(truth, challenger) - _auc(truth, champion))
    return promotions, float(np.mean(gains))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=200)
    gates = parser.parse_args().gates
    promotions, differences = same_training(gates)
    print(f"A/A  {promotions} of {gates} gates promote ({promotions / gates:.1%}; at most 5 % wanted)")
    print(f"     the pairs' AUC differs by {np.std(differences):.4f} (standard deviation)")
    promotions, gain = better_challenger(gates)
    print(f"A/B  {promotions} of {gates} gates promote ({promotions / gates:.1%}; at least 80 % wanted)")
    print(f"     the challengers are better by {gain:+.4f} AUC on average, on {HOLDOUT_ROWS:,} rows")


if __name__ == "__main__":
    main()

"""How often the gate promotes by chance, and how often it misses a better model.

A/A: challenger and champion are trained alike on different seeds; every promotion is a false one.
A/B: on each holdout of 2,000 rows the challenger's true AUC is higher by 0.02.
years: a year of nightly gates whose challengers are no better than the champion; without a budget, and with it. The
    holdout stays, or grows each night.
nights: a challenger whose true AUC is higher by 0.02 on 2,000 rows is trained anew on three nights, the first with that
    champion, or after 100 or 300 nights with others.

The gate itself decides, but where the difference of the AUC is far from what it wants, in DeLong's standard errors; a
sample of those nights shows that the gate says the same.

    python tests/benchmarks/gate.py --parts nights
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from homelab_mlops.model.parameters import Parameter, resolve
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.budget import Allowance, Comparison, allow
from homelab_mlops.pipeline.fit import fit, prepare, targets
from homelab_mlops.pipeline.gate import WHOLE, Opponent, judge
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.metrics import Array, weighted_metric
from homelab_mlops.pipeline.split import split_rows

HOLDOUT_ROWS = 2000
TRUE_GAIN = 0.02
POSITIVE = 0.265
CHAMPION_AUC = 0.84
# Of the scores of two churn models with different features, and of two with different seeds.
ALIKE, SEEDS_ALIKE = 0.9, 0.97
NIGHTS = 365
# In the parts of what the gate wants: below, and above, the gate is not asked.
CLEARLY_FAILS, CLEARLY_PASSES = 0.85, 1.15


def promoted(spec: ModelSpec, truth: Array, challenger: Array, champion: Array, allowance: Allowance = WHOLE) -> bool:
    """Whether the gate takes the challenger."""
    everything = np.ones(len(truth), dtype=bool)
    baseline = Opponent("trivial baseline", np.full(len(truth), truth.mean()), everything)
    reasons = judge(spec, truth, challenger, baseline, Opponent("champion", champion, everything), allowance=allowance)
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


def better_challenger(gates: int, champion_auc: float = CHAMPION_AUC) -> tuple[int, float]:
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
        truth = (generator.random(HOLDOUT_ROWS) < POSITIVE).astype(float)
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


def allowances(nights: int, most: int) -> list[Allowance]:
    """What each of a row of nightly comparisons may spend."""
    start, made, given = datetime(2026, 1, 1, tzinfo=UTC), list[Comparison](), list[Allowance]()
    for night in range(nights):
        at = start + timedelta(days=night)
        given.append(allow(made, most, at))
        made.append(Comparison(str(night), at, given[-1].number, given[-1].share, given[-1].left))
    return given


def year(spec: ModelSpec, generator: np.random.Generator, rows: int, grows: int) -> tuple[bool, bool, int, int]:
    """A year of nightly gates without any improvement.

    Returns:
        Whether the gate promotes at all, without and with the budget; how many nights of a sample of those that clearly
        fail it was asked for, and how many of these it promotes.
    """
    most = rows + grows * NIGHTS
    distance = np.sqrt(2) * NormalDist().inv_cdf(CHAMPION_AUC)
    truth = (generator.random(most) < POSITIVE).astype(float)
    shared = distance * (truth - 0.5) + np.sqrt(ALIKE) * generator.normal(size=most)
    champion = shared + np.sqrt(1 - ALIKE) * generator.normal(size=most)
    seeds = generator.integers(0, 2**63, NIGHTS)
    sizes = [rows + grows * night for night in range(NIGHTS)]

    def challenger(night: int) -> Array:
        noise = np.random.default_rng(seeds[night]).normal(size=most)
        return np.asarray(shared + np.sqrt(1 - ALIKE) * noise)

    error = _standard_error(truth, challenger(0), champion)
    gains = np.array(
        [
            (_auc(truth[:size], challenger(night)[:size]) - _auc(truth[:size], champion[:size]))
            / (error * np.sqrt(most / size))
            for night, size in enumerate(sizes)
        ]
    )

    def gate(night: int, allowance: Allowance) -> bool:
        size = sizes[night]
        return promoted(spec, truth[:size], _shares(challenger(night)[:size]), _shares(champion[:size]), allowance)

    without = _any_promoted(gate, gains, [WHOLE] * NIGHTS, spec)
    budget = allowances(NIGHTS, spec.gate.comparisons)
    within = _any_promoted(gate, gains, budget, spec)
    wanted = np.array([_wanted(spec, each) for each in budget])
    clear = np.flatnonzero((gains > 0.6 * wanted) & (gains <= CLEARLY_FAILS * wanted))[:1]
    return without, within, len(clear), sum(gate(int(night), budget[night]) for night in clear)


def _any_promoted(
    gate: Callable[[int, Allowance], bool], gains: Array, budget: list[Allowance], spec: ModelSpec
) -> bool:
    parts = gains / np.array([_wanted(spec, each) for each in budget])
    return any(gate(int(night), budget[night]) for night in np.argsort(-parts) if parts[night] > CLEARLY_FAILS)


def _wanted(spec: ModelSpec, allowance: Allowance) -> float:
    """How many standard errors the gate wants."""
    return NormalDist().inv_cdf(1 - (1 - spec.gate.confidence) * allowance.share)


def _shares(scores: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-scores)))


def _standard_error(truth: Array, ours: Array, theirs: Array) -> float:
    """Of the difference of two AUCs on the same rows (DeLong, DeLong, Clarke-Pearson 1988)."""
    from scipy.stats import rankdata

    positive = truth == 1

    def parts(scores: Array) -> tuple[Array, Array]:
        among_all, among_positive, among_negative = (
            rankdata(scores[rows]) for rows in (np.ones_like(positive), positive, ~positive)
        )
        above = (among_all[positive] - among_positive) / (~positive).sum()
        return above, 1 - (among_all[~positive] - among_negative) / positive.sum()

    differences = [first - second for first, second in zip(parts(ours), parts(theirs), strict=True)]
    return float(np.sqrt(sum(each.var(ddof=1) / len(each) for each in differences)))


def three_nights(spec: ModelSpec, generator: np.random.Generator, budgets: list[list[Allowance]]) -> list[list[bool]]:
    """Whether a better model passes on the first, and on any, of three nights, for each row of allowances."""
    distances = [np.sqrt(2) * NormalDist().inv_cdf(auc) for auc in (CHAMPION_AUC, CHAMPION_AUC + TRUE_GAIN)]
    truth = (generator.random(HOLDOUT_ROWS) < POSITIVE).astype(float)
    shared, own = generator.normal(size=HOLDOUT_ROWS), generator.normal(size=HOLDOUT_ROWS)
    champion = distances[0] * (truth - 0.5) + np.sqrt(ALIKE) * shared
    champion += np.sqrt(1 - ALIKE) * generator.normal(size=HOLDOUT_ROWS)
    better = distances[1] * (truth - 0.5) + np.sqrt(ALIKE) * shared + np.sqrt(SEEDS_ALIKE - ALIKE) * own
    nights = [better + np.sqrt(1 - SEEDS_ALIKE) * generator.normal(size=HOLDOUT_ROWS) for _ in range(3)]
    error = _standard_error(truth, nights[0], champion)
    gains = [(_auc(truth, night) - _auc(truth, champion)) / error for night in nights]

    def passes(night: int, allowance: Allowance) -> bool:
        part = gains[night] / _wanted(spec, allowance)
        if not CLEARLY_FAILS < part < CLEARLY_PASSES:
            return bool(part >= CLEARLY_PASSES)
        return promoted(spec, truth, _shares(nights[night]), _shares(champion), allowance)

    return [[passes(0, budget[0]), any(passes(night, each) for night, each in enumerate(budget))] for budget in budgets]


def show_years(years: int) -> None:
    spec = load_spec("churn")
    for grows, what in ((0, "the holdout stays, 1,400 rows"), (4, "the holdout grows from 1,400 rows by 4 a night")):
        found = np.array([year(spec, np.random.default_rng([2026, grows, each]), 1400, grows) for each in range(years)])
        without, within, asked, wrong = found.sum(axis=0)
        print(f"years   {what}: {without} of {years} years promote without a budget, {within} with it")
        print(f"        of {asked} nights that clearly fail the gate promotes {wrong}", flush=True)


def show_nights(runs: int) -> None:
    spec = load_spec("churn")
    given, starts = allowances(NIGHTS, spec.gate.comparisons), (0, 100, 300)
    budgets = [given[start : start + 3] for start in starts]
    found = [three_nights(spec, np.random.default_rng([2027, run]), [[WHOLE] * 3, *budgets]) for run in range(runs)]
    shares = np.mean(np.array(found), axis=0)
    for what, (first, any_of) in zip(
        ("without a budget", *(f"after {start} nights" for start in starts)), shares, strict=True
    ):
        print(f"nights  {what}: {first:.1%} pass on the first, {any_of:.1%} within three, of {runs} runs")


def show_pairs(gates: int) -> None:
    promotions, differences = same_training(gates)
    print(f"A/A  {promotions} of {gates} gates promote ({promotions / gates:.1%}; at most 5 % wanted)")
    print(f"     the pairs' AUC differs by {np.std(differences):.4f} (standard deviation)")
    promotions, gain = better_challenger(gates)
    print(f"A/B  {promotions} of {gates} gates promote ({promotions / gates:.1%}; at least 80 % wanted)")
    print(f"     the challengers are better by {gain:+.4f} AUC on average, on {HOLDOUT_ROWS:,} rows")


PARTS = {"pairs": show_pairs, "years": show_years, "nights": show_nights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=200, help="gates of a pair, years, and runs of three nights")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    for part in options.parts:
        PARTS[part](options.gates)


if __name__ == "__main__":
    main()

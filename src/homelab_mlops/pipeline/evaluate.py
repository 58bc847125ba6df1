"""The step *evaluate*: scores challenger and champion on the untouched holdout, and lets the gate decide."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.console import say, say_verdict
from homelab_mlops.errors import EvaluationError
from homelab_mlops.model.scoring import Scorer
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.model.tasks import OF_AMOUNTS
from homelab_mlops.pipeline import model_registry, result, tracking
from homelab_mlops.pipeline.budget import Allowance
from homelab_mlops.pipeline.comparisons import identity, spend_in_folder, spend_in_run
from homelab_mlops.pipeline.diagnostics import diagnose
from homelab_mlops.pipeline.fit import counting, targets, weights_of
from homelab_mlops.pipeline.gate import WHOLE, Opponent, Reason, judge, linear_baseline, trivial_baseline
from homelab_mlops.pipeline.ingest import load_ingested, read_frame
from homelab_mlops.pipeline.metrics import Array, Interval, Rows, holdout_metrics
from homelab_mlops.pipeline.report import DECISION, DIAGNOSTICS, write_intervals, write_report
from homelab_mlops.pipeline.slices import compare
from homelab_mlops.pipeline.split import RowIds, drawn_together, group_ids, groups_of, row_ids, split_rows
from homelab_mlops.pipeline.train import labelled
from homelab_mlops.pipeline.validate import refuse, validate_table
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json

FEWEST_ROWS = 50
FEWEST_GROUPS = 10
# What of a model.yaml a training settles. Its gate and its way of promotion are those of now.
SETTLED = ("name", "task", "data", "target", "inputs", "features", "split")


def evaluate(spec: ModelSpec, work: Path, champion: Path | None = None, holdout: str | None = None) -> dict[str, Any]:
    """Writes ``work/evaluate`` with ``decision.json``, ``report.html`` and pictures, and returns the decision.

    The champion is the version with the alias ``champion`` where the result was tracked, or the result in the folder
    ``champion``.

    Args:
        holdout: a table to score instead of the holdout part, for labelled rows from elsewhere.

    Raises:
        EvaluationError: rows of the holdout occur in training, or too few rows are left; or the training was of another
            model.yaml.
    """
    frame, manifest = load_ingested(spec, work)
    folder = work / "train"
    record = read_json(folder / result.RECORD, f"homelab train {spec.name} --work {work}")
    _refuse_another_model(spec, record["spec"], work)
    if record["data"]["sha256"] != manifest["sha256"]:
        raise EvaluationError(
            "the model was trained on other data than what is ingested now",
            where=str(work),
            fix=f"run `homelab train {spec.name} --work {work}` again",
        )
    frame = labelled(frame, spec)
    split = split_rows(frame, spec, manifest["window"])
    trained = result.trained_rows(folder / result.TRAINED)
    held_out = frame[split.holdout] if holdout is None else _external(spec, holdout, work)
    ids = row_ids(held_out, spec)
    _refuse_trained(ids, trained, held_out, spec)
    _refuse_trained_groups(held_out, frame[split.train | split.validation], spec)
    _refuse_too_little(held_out, spec)
    drawn = Rows(weights_of(held_out, spec), drawn_together(held_out, spec))

    scorer = Scorer.load(folder / result.MODEL)
    truth, predicted = targets(held_out, spec), scorer.predict(held_out)
    _refuse_negative(truth, spec)
    measured = partial(holdout_metrics, spec.task, count=spec.gate.resamples, gate_metric=spec.gate.metric)
    metrics = {"challenger": measured(truth, predicted, rows=drawn)}
    train_rows, everything = frame[split.train], np.ones(len(held_out), dtype=bool)
    baselines = {"trivial": trivial_baseline(spec, train_rows, len(held_out))}
    if spec.gate.baseline == "linear":
        baselines["linear"] = linear_baseline(spec, train_rows, held_out)
    for name, answer in baselines.items():
        metrics[f"{name} baseline"] = measured(truth, answer, rows=drawn)
    pictures = {"challenger": predicted}

    found = _champion(spec, folder, champion)
    opponent, note = (None, None) if found is None else _opponent(spec, found, held_out, ids, frame)
    allowance = WHOLE
    if found is not None and opponent is not None:
        allowance = _allowance(spec, folder, found, ids[opponent.rows])
        seen = opponent.rows
        metrics["champion"] = measured(truth[seen], opponent.predicted, rows=drawn[seen])
        if opponent.rows.all():
            pictures["champion"] = opponent.predicted
    baseline = Opponent(f"{spec.gate.baseline} baseline", baselines[spec.gate.baseline], everything)
    reasons = [*judge(spec, truth, predicted, baseline, opponent, drawn, allowance), *([note] if note else [])]
    sliced = compare(spec, held_out, truth, predicted, opponent, drawn)
    if sliced is not None:
        reasons.append(sliced[0])
    decision = {
        "model": spec.name,
        "result": record["result"],
        "promote": all(reason.passed for reason in reasons),
        "metric": spec.gate.metric,
        "reasons": [asdict(reason) for reason in reasons],
        "champion": opponent.name if opponent else None,
        "holdout": {
            "rows": len(held_out),
            "source": holdout or "holdout part",
            "compared": int(opponent.rows.sum()) if opponent else 0,
            "groups": _count(drawn.groups) if spec.split.group is not None else None,
            "blocks": _count(drawn.groups) if spec.split.group is None else None,
        },
        "metrics": {
            who: {name: asdict(interval) for name, interval in values.items()} for who, values in metrics.items()
        },
        "confidence": spec.gate.confidence,
        "slices": None if sliced is None else [{**asdict(each), "fails": each.fails} for each in sliced[1]],
        "budget": None if opponent is None else _budget(allowance),
    }
    with step_folder(work, "evaluate") as output:
        _draw(output / "plots", spec, truth, pictures, drawn.weights)
        write_json(output / DECISION, decision)
        write_json(output / DIAGNOSTICS, diagnose(spec, scorer, held_out, truth, predicted, drawn))
        write_intervals(output, decision)
        write_report(folder, output)
        if (folder / "run.json").exists():
            tracking.log_evaluation(folder, output, decision)
    _announce(spec, metrics, reasons, decision, work)
    return decision


def _count(drawn_together: Array | None) -> int | None:
    return None if drawn_together is None else len(np.unique(drawn_together))


def _refuse_another_model(spec: ModelSpec, trained: dict[str, Any], work: Path) -> None:
    now = spec.model_dump(mode="json")
    others = [key for key in SETTLED if now[key] != trained.get(key, {})]
    if others:
        raise EvaluationError(
            f"model.yaml says another {' and '.join(others)} than the training was of",
            where=str(work),
            fix="if it has changed since the training began, train again; if not, look who else writes the artifacts",
        )


def _external(spec: ModelSpec, source: str, work: Path) -> pd.DataFrame:
    with step_folder(work, "holdout") as folder:
        frame = read_frame(spec, source, folder)
    enough = spec.model_copy(update={"data": spec.data.model_copy(update={"min_rows": FEWEST_ROWS})})
    refuse(validate_table(frame, enough), source)
    return labelled(frame, spec)


def _refuse_trained(ids: Array, trained: Array, held_out: pd.DataFrame, spec: ModelSpec) -> None:
    leaked = np.isin(ids, trained)
    if leaked.any():
        first = int(np.flatnonzero(leaked)[0])
        what = {name: str(held_out.iloc[first][name]) for name in (spec.data.key or list(spec.raw)[:4])}
        raise EvaluationError(
            f"{int(leaked.sum()):,} of {len(ids):,} holdout rows occur in training: the metrics would be too good",
            where=f"the first is {what}",
            fix="take the rows out of the holdout, or give the rows a `data.key` that tells them apart",
        )


def _refuse_trained_groups(held_out: pd.DataFrame, trained: pd.DataFrame, spec: ModelSpec) -> None:
    """Refuses rows of an external holdout whose group also has training rows."""
    if spec.split.group is None:
        return
    leaked = np.isin(group_ids(held_out, spec.split.group), group_ids(trained, spec.split.group))
    if leaked.any():
        first = held_out[spec.split.group].iloc[int(np.flatnonzero(leaked)[0])]
        count = f"{int(leaked.sum()):,} of {len(leaked):,} holdout rows"
        raise EvaluationError(
            f"{count} are of a {spec.split.group} that occurs in training: the metrics would be too good",
            where=f"the first is {first}",
            fix="take these rows out of the holdout",
        )


def _refuse_too_little(held_out: pd.DataFrame, spec: ModelSpec) -> None:
    rows, of_weight = len(counting(held_out, spec)), " of some weight" if spec.data.weight else ""
    if rows < FEWEST_ROWS:
        raise EvaluationError(
            f"the holdout has {rows} rows{of_weight}; {FEWEST_ROWS} are the least",
            where=spec.name,
            fix="bring more rows, or a larger `split.holdout`",
        )
    groups = groups_of(held_out, spec)
    if groups is not None and len(np.unique(groups)) < FEWEST_GROUPS:
        raise EvaluationError(
            f"the holdout has {len(np.unique(groups))} groups of split.group; {FEWEST_GROUPS} are the least",
            where=spec.name,
            fix="bring more of them, or a larger `split.holdout`",
        )
    absent = sorted(set(spec.target.labels or []) - set(counting(held_out, spec)[spec.target.column]))
    if spec.task == "binary" and absent:
        raise EvaluationError(
            f"no row of the holdout has the label {absent[0]!r}: an AUC needs both",
            where=spec.name,
            fix="bring more rows, or a larger `split.holdout`",
        )


def _refuse_negative(truth: Array, spec: ModelSpec) -> None:
    """Refuses what `validate` refuses, where model.yaml has changed since."""
    if spec.gate.metric in OF_AMOUNTS and (truth < 0).any():
        raise EvaluationError(
            f"{int((truth < 0).sum()):,} targets of the holdout are below 0, and gate.metric {spec.gate.metric} is of "
            "amounts",
            where=spec.name,
            fix="choose another gate.metric, such as mae",
        )


def _champion(spec: ModelSpec, folder: Path, champion: Path | None) -> model_registry.Champion | None:
    if champion is not None:
        return model_registry.champion_in(champion)
    if (folder / "run.json").exists() and os.environ.get("MLFLOW_TRACKING_URI"):
        return model_registry.champion_of(spec.name)
    return None


def _opponent(
    spec: ModelSpec, found: model_registry.Champion, held_out: pd.DataFrame, ids: RowIds, table: pd.DataFrame
) -> tuple[Opponent | None, Reason | None]:
    """The champion's predictions on the rows that it has not trained on, or why it cannot be compared.

    With groups these are the rows of groups of which it has trained on no row. A champion without `split.group` keeps
    none: its groups are those of its rows in ``table``, the ingested one, and a note says so.
    """
    unseen = ~np.isin(ids, found.trained)
    note = None
    if spec.split.group is not None:
        groups = group_ids(held_out, spec.split.group)
        known = group_ids(table[np.isin(row_ids(table, spec), found.trained)], spec.split.group)
        unseen &= ~np.isin(groups, known) & ~np.isin(groups, found.trained)
        if found.group != spec.split.group:
            note = _of_unknown_groups(found.name, spec.split.group)
    left = counting(held_out[unseen], spec)[spec.target.column]
    if len(left) < FEWEST_ROWS or (spec.task == "binary" and left.nunique() < 2):
        seen = f"the {found.name} has trained on {int((~unseen).sum()):,} of the {len(unseen):,} holdout rows"
        text = f"{seen}; no fair comparison is left. Keep `split.seed`, or promote by hand"
        return None, Reason("champion", passed=False, text=text)
    try:
        return Opponent(found.name, found.scorer.predict(held_out[unseen]), unseen), note
    except ValueError as error:
        return None, Reason(
            "champion", passed=False, text=f"the {found.name} cannot score these rows: {error}. Promote by hand"
        )


def _allowance(spec: ModelSpec, folder: Path, champion: model_registry.Champion, rows: RowIds) -> Allowance:
    """What the comparison with the champion on ``rows`` may spend of the error budget; it is noted before."""
    of = identity((folder / result.MODEL).read_bytes(), spec.gate.metric, np.sort(rows))
    if champion.folder is not None:
        return spend_in_folder(champion.folder, champion.result, of, spec.gate.comparisons)
    return spend_in_run(tracking.load_run(folder), str(champion.version), of, spec.gate.comparisons)


def _budget(allowance: Allowance) -> dict[str, Any]:
    again = None if allowance.again is None else allowance.again.isoformat()
    return {**asdict(allowance), "again": again}


def _of_unknown_groups(name: str, group: str) -> Reason:
    text = (
        f"the {name} was trained without split.group: {group}; which of them it knows is told by the rows of this "
        "table alone. It may know more, which makes it harder to beat, never easier"
    )
    return Reason("champion", passed=True, text=text)


def _draw(folder: Path, spec: ModelSpec, truth: Array, predictions: dict[str, Array], weights: Array | None) -> None:
    from homelab_mlops.pipeline import plots

    folder.mkdir()
    if spec.task == "binary":
        plots.roc(folder / "roc.png", truth, predictions, weights)
        plots.calibration(folder / "calibration.png", truth, predictions, weights)
    elif spec.task == "multiclass":
        labels = spec.target.labels or []
        plots.confusion(folder / "confusion.png", truth, predictions["challenger"], labels, weights)
    else:
        plots.residuals(folder / "residuals.png", truth, predictions["challenger"])


def _announce(
    spec: ModelSpec,
    metrics: dict[str, dict[str, Interval]],
    reasons: list[Reason],
    decision: dict[str, Any],
    work: Path,
) -> None:
    for who, values in metrics.items():
        say(f"evaluate: {who}: " + ", ".join(f"{name} {interval}" for name, interval in values.items()))
    for reason in reasons:
        say_verdict(reason.passed, f"{reason.rule}: {reason.text}")
    verdict = "promote" if decision["promote"] else "do not promote"
    say(f"evaluate: {verdict} {spec.name}; see {work / 'evaluate' / 'report.html'}")

"""Where the comparisons with a champion are kept: beside its record, or as tags of the challengers' runs in MLflow.

A comparison is written down before anyone sees its outcome, so that a step that dies and runs again spends nothing
twice, and one that is never registered has spent its share all the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homelab_mlops.errors import StorageError, TrackingError
from homelab_mlops.pipeline import budget, tracking
from homelab_mlops.pipeline.budget import Allowance, Comparison
from homelab_mlops.pipeline.split import RowIds
from homelab_mlops.pipeline.workdir import write_json

FILE = "comparisons.json"
TAG = "homelab.compared."
PAGE = 1000


def identity(model: bytes, metric: str, rows: RowIds) -> str:
    """Names a comparison: the same model on the same rows by the same metric is the same, and spends nothing again."""
    parts = (hashlib.sha256(part).hexdigest()[:16] for part in (model, rows.tobytes()))
    return " ".join([*parts, metric])


def spend_in_folder(folder: Path, champion: str, of: str, most: int) -> Allowance:
    """What the comparison ``of`` with the champion in ``folder`` may spend; written into its `FILE`.

    Args:
        champion: the identity of the champion's result; comparisons with another one that lay there do not count.

    Raises:
        StorageError: the folder cannot be written, or the file is damaged.
    """
    path = folder / FILE
    with _locked(folder):
        every = _read(path)
        others = [comparison for _, comparison in every.get(champion, [])]
        known = next((other for other in others if other.of == of), None)
        if known is not None:
            return budget.spent(known, most)
        at = budget.now()
        allowance = budget.allow(others, most, at)
        if allowance.share > 0:
            made = Comparison(of, at, allowance.number, allowance.share, allowance.left)
            content = {name: [item for item, _ in items] for name, items in every.items()}
            content[champion] = [*content.get(champion, []), made.to_json()]
            _write(path, content)
        return allowance


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time read and write the comparisons in ``folder``."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(folder / FILE, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, list[tuple[dict[str, Any], Comparison]]]:
    """The comparisons by champion; each as it stands in the file, and as it is meant."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {champion: [(item, Comparison.from_json(item)) for item in items] for champion, items in content.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unwritable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{FILE} is damaged: {error!r}",
            where=str(path),
            fix="bring it back from a backup; without it nobody knows what of the error budget is left, so a new "
            "champion is the only other way",
        ) from error


def _write(path: Path, content: dict[str, list[dict[str, Any]]]) -> None:
    try:
        write_json(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the comparisons with this champion cannot be kept: {error.strerror}",
        where=str(path),
        fix="give --champion a folder that this user may write: the gate notes there what of the error budget is spent",
    )


def spend_in_run(run: dict[str, Any], version: str, of: str, most: int) -> Allowance:
    """What the comparison ``of`` with the champion's ``version`` may spend; written as a tag of the challenger's run.

    Challengers that are compared at the same time count each other, so that none of them spends too much.

    Args:
        run: the challenger's, as `tracking.load_run` gives it.

    Raises:
        TrackingError: the server does not answer, refuses the tag, or holds a damaged one.
    """
    client, tag = tracking.client(), f"{TAG}{version}"
    with tracking.explained("asking for the comparisons with the champion"):
        by_run = _in_runs(client, run["experiment_id"], tag)
        every = [comparison for found in by_run.values() for comparison in found]
        known = next((other for other in every if other.of == of and other.number), None)
        if known is not None:
            return budget.spent(known, most)
        own = by_run.get(run["run_id"], [])
        begun = next((other for other in own if other.of == of), Comparison(of, budget.now(), 0, 0.0, 1.0))
        kept = [other for other in own if other.of != of]
        allowance = budget.allow([other for other in every if other.of != of], most, begun.at)
        if not allowance.share:
            return allowance
        _note(client, run, tag, [*kept, begun])
        by_run = {**_in_runs(client, run["experiment_id"], tag), run["run_id"]: kept}
        allowance = budget.allow([other for found in by_run.values() for other in found], most, begun.at)
        if allowance.share:
            made = Comparison(of, begun.at, allowance.number, allowance.share, allowance.left)
            _note(client, run, tag, [*kept, made])
    return allowance


def _in_runs(client: Any, experiment: str, tag: str) -> dict[str, list[Comparison]]:
    """The comparisons that runs of an experiment have in ``tag``, by run; those of deleted runs, too."""
    from mlflow.entities import ViewType

    found: dict[str, list[Comparison]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{tag}` LIKE '[%'", ViewType.ALL, PAGE, page_token=token)
        for run in page:
            found[run.info.run_id] = _of_tag(run.data.tags[tag], f"run {run.info.run_id}, tag {tag}")
        token = page.token
        if not token:
            return found


def _of_tag(text: str, where: str) -> list[Comparison]:
    try:
        return [Comparison.from_json(item) for item in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            f"the comparisons with the champion are damaged: {error!r}",
            where=where,
            fix="look who else writes there; a new champion begins with a whole error budget",
        ) from error


def _note(client: Any, run: dict[str, Any], tag: str, comparisons: list[Comparison]) -> None:
    client.set_tag(run["run_id"], tag, json.dumps([comparison.to_json() for comparison in comparisons]))

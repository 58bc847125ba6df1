"""``report.html``: one page about a training, for people, which opens without a server or a network."""

from __future__ import annotations

import base64
import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from homelab_mlops.pages import template
from homelab_mlops.pipeline import result
from homelab_mlops.pipeline.provenance import origin
from homelab_mlops.pipeline.workdir import read_json

REPORT, DECISION, DIAGNOSTICS, INTERVALS = "report.html", "decision.json", "diagnostics.json", "holdout.csv"
# Image registries that show a page at the address of an image.
WITH_PAGES = ("ghcr.io/", "quay.io/")


def write_report(train: Path, evaluation: Path, registration: Mapping[str, Any] | None = None) -> None:
    """Writes ``evaluation/report.html`` from the files of both steps, with the model version once there is one.

    Raises:
        StorageError: the training or the evaluation is missing.
    """
    record = read_json(train / result.RECORD, "homelab train")
    decision = read_json(evaluation / DECISION, "homelab evaluate")
    run = read_json(train / "run.json", "homelab sync") if (train / "run.json").exists() else None
    page = template("homelab_mlops.pipeline", "report.html.j2").render(
        spec=record["spec"],
        record=record,
        decision=decision,
        diagnostics=read_json(evaluation / DIAGNOSTICS, "homelab evaluate"),
        metrics=decision["metrics"],
        names=list(decision["metrics"]["challenger"]),
        pictures=_pictures(record, decision, [evaluation / "plots", train / "plots"]),
        run=run,
        registration=registration,
        commit_page=commit_page(record["provenance"]["commit"]),
        image_page=image_page(record["provenance"]["image"]),
    )
    partial = evaluation / f".{REPORT}.partial"
    partial.write_text(page, encoding="utf-8")
    partial.replace(evaluation / REPORT)


def write_intervals(evaluation: Path, decision: Mapping[str, Any]) -> None:
    """Writes ``evaluation/holdout.csv``: each metric of each model and baseline, with its interval."""
    with (evaluation / INTERVALS).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["model", "metric", "value", "low", "high"])
        for who, values in decision["metrics"].items():
            for name, interval in values.items():
                table.writerow([who, name, interval["value"], interval["low"], interval["high"]])


def _pictures(record: Mapping[str, Any], decision: Mapping[str, Any], folders: list[Path]) -> list[dict[str, str]]:
    texts = _alternative_texts(record, decision)
    return [
        {
            "data": base64.b64encode(path.read_bytes()).decode(),
            "text": texts.get(path.stem, path.stem.replace("_", " ")),
        }
        for folder in folders
        for path in sorted(folder.glob("*.png"))
    ]


def _alternative_texts(record: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, str]:
    """What each picture shows, for a person who cannot see it."""

    def of_all(metric: str) -> str:
        return ", ".join(
            f"{who} {values[metric]['value']:.4f}" for who, values in decision["metrics"].items() if metric in values
        )

    holdout = f"on {decision['holdout']['rows']:,} holdout rows"
    return {
        "roc": f"ROC curve {holdout}: true against false positive rate; area: {of_all('auc')}",
        "calibration": f"Calibration {holdout}: observed share against predicted probability in ten bins; "
        f"Brier score: {of_all('brier')}",
        "confusion": f"Confusion matrix {holdout}; the table of the same name has the counts",
        "residuals": f"Residuals {holdout}: truth minus prediction against prediction; RMSE: {of_all('rmse')}",
        "learning_curve": f"Learning curve: the metric on training and validation rows by boosting round; "
        f"the best round is {record.get('best_round', 'unknown')}",
        "importance": "Share of each feature in the total gain of the trees' splits, the largest at the top",
    }


def repository_page() -> str | None:
    """Where people read the repository: ``HOMELAB_REPOSITORY``, or the remote ``origin`` of the current folder."""
    address = os.environ.get("HOMELAB_REPOSITORY", "") or origin()
    if scp := re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+\.[\w-]+):(?!/)(.+)", address):
        address = f"https://{scp[1]}/{scp[2]}"
    parts = urlsplit(address)
    if parts.scheme == "ssh" and parts.hostname:
        parts = parts._replace(scheme="https", netloc=parts.hostname)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host, path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/").removesuffix(".git")
    return f"{parts.scheme}://{host}{path}"


def commit_page(commit: str) -> str | None:
    """The page of a commit on the forge: GitHub, Forgejo and Gitea show it there, and GitLab redirects."""
    page = repository_page()
    return f"{page}/commit/{commit}" if page and commit else None


def image_page(image: str) -> str | None:
    """The page of an image, where its registry has one."""
    name = image.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    return f"https://{name}" if name.startswith(WITH_PAGES) else None

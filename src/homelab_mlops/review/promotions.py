"""The metrics of a model's version, from the commit that promoted it."""

from __future__ import annotations

import re

from homelab_mlops.gitops.argo_cd.applications import Side

_METRIC = re.compile(
    r"\b(auc|roc_auc|pr_auc|accuracy|log_?loss|brier(?:_score)?|rmse|mae|r2|f1|precision|recall)\b"
    r"\s*(?:=|:|of|is|\|)?\s*(-?\d+(?:\.\d+)?(?:\s*\[[^\]]+\])?)",
    re.IGNORECASE,
)


def metrics_of(side: Side, model: str, version: str) -> str:
    """The metrics in the newest commit that names this version of the model, or why there are none."""
    git = side.tree.git
    start = side.tree.commit or "HEAD"
    # A message names a version as `churn 7`, `churn/7`, `churn version 7` or `churn v7`.
    subject = rf"^promote {re.escape(model)} to version {re.escape(version)}$"
    pattern = rf"(^|[^[:alnum:]-]){re.escape(model)}[ /@:]*(to )?(version )?v?{re.escape(version)}([^0-9]|$)"
    if git.commit(start) is None:
        return "no metrics: there is no commit"
    search = ("log", "-1", "--format=%B", "--extended-regexp", "--regexp-ignore-case")
    message = git(*search, f"--grep={subject}", start) or git(*search, f"--grep={pattern}", start)
    return metrics_in(message) or _from_files(side, model, version) or "no metrics in a commit"


def metrics_in(text: str) -> str:
    """The metrics that a text names: ``auc 0.8517 [0.83, 0.87], log_loss 0.41``."""
    found = {match[1].lower(): match[2] for match in reversed(list(_METRIC.finditer(text)))}
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items()))


def _from_files(side: Side, model: str, version: str) -> str:
    """The file of the side that pins this version, whose comments or annotations may have the metrics."""
    for path in side.tree.entries:
        if re.fullmatch(rf"overlays/[^/]+/serving/{re.escape(model)}\.ya?ml", path):
            text = side.tree.read(path) or ""
            if re.search(rf"version[\"']?:\s*[\"']?v?{re.escape(version)}\b", text):
                return metrics_in(text)
    return ""

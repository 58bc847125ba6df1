"""The tables of docs/troubleshooting.md, made of the doctor's faults and of what was measured without the doctor."""

from __future__ import annotations

import json
from typing import Any

from homelab_mlops.doctor.faults import FAULTS, Fault
from tests.conftest import FIXTURES, ROOT
from tests.sections import Section

DOCUMENT = ROOT / "docs" / "troubleshooting.md"
# Beside it lies what the cluster's tests wrote. Each file maps a code to what a plain program says of its fault, and
# where or after how many seconds; a code that nobody has measured is left out.
MEASURED = FIXTURES / "doctor" / "plain_errors.json"
SECTION = Section("the tables")
HEADINGS = {
    "tracking": ("Tracking server", "`mlflow.xgboost.log_model`"),
    "store": ("Object store", "`mlflow.xgboost.log_model`"),
    "cluster": ("Cluster", "Kubernetes or Argo"),
    "gitops": ("Git", "git or Argo CD"),
}


def measured() -> dict[str, Any]:
    """What was measured, by code."""
    files = sorted(MEASURED.parent.glob("plain_*.json"))
    return {code: row for file in files for code, row in json.loads(file.read_text()).items()}


def tables() -> str:
    """A table for each group of faults."""
    rows = measured()
    parts = []
    for group, (heading, other) in HEADINGS.items():
        faults = [fault for fault in FAULTS.values() if fault.group == group]
        known = any(fault.code in rows for fault in faults)
        names = ["code", "what is wrong", "what mends it", *([f"what {other} says"] if known else [])]
        lines = [f"### {heading}", "", _row(names), _row(["---"] * len(names))]
        lines += [_row([*_said(fault), *([_otherwise(rows.get(fault.code))] if known else [])]) for fault in faults]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _said(fault: Fault) -> list[str]:
    warning = " (warning)" if fault.severity == "warning" else ""
    return [f"`{fault.code}`{warning}", fault.title, fault.fix]


def _otherwise(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    succeeds = "nothing" if "source" in row else "nothing: it succeeds"
    says = f"`{row['says'].replace('`', chr(39))}`" if row["says"] else succeeds
    where = f"{row['source']}: " if "source" in row else ""
    return f"{where}{says}" + (f", after {row['seconds']:.0f} s" if "seconds" in row and row["says"] else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def with_tables(text: str) -> str:
    """The document with its tables made anew."""
    return SECTION.written(text, tables())

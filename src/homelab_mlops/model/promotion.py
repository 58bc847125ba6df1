"""The line of git that names a model's version, and the commit that changes it, by a step or by a person."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from homelab_mlops.errors import RepositoryError

FOLDER = PurePosixPath("overlays/homelab/serving")
LABEL = "homelab-mlops/version"
NONE_YET = "0"
_LINE = re.compile(rf'^(\s+{re.escape(LABEL)}: )"(\d+)"$', re.MULTILINE)


def manifest_of(model: str) -> PurePosixPath:
    """The file that names the version of a model."""
    return FOLDER / f"{model}.yaml"


def named_version(text: str, where: str) -> str:
    """The version that a manifest names; ``0`` is none yet.

    Raises:
        RepositoryError: it names none, or several.
    """
    found = _LINE.findall(text)
    if len(found) != 1:
        raise RepositoryError(
            f"the manifest has {len(found)} lines {LABEL}, not one", where=where, fix='write it as `VERSION: "3"`'
        )
    return str(found[0][1])


def with_version(text: str, version: str, where: str) -> str:
    """The manifest with another version: one line differs.

    Raises:
        RepositoryError: it has no such line, or several.
    """
    named_version(text, where)
    return _LINE.sub(rf'\g<1>"{version}"', text)


def subject(model: str, version: str) -> str:
    """The first line of the commit."""
    return f"Promote {model} to version {version}"


def _scored(holdout: dict[str, Any], who: str) -> int:
    """How many rows of the holdout scored ``who``; for the champion only rows that it has not trained on."""
    return int(holdout["compared"] if who == "champion" else holdout["rows"])


def message(
    model: str,
    version: str,
    before: str,
    decision: dict[str, Any] | None,
    data: dict[str, Any] | None = None,
    links: dict[str, str] | None = None,
) -> str:
    """What the commit says: the gate's decision with its figures, the data, and where to look."""
    lines = [subject(model, version), ""]
    if decision is not None:
        name = decision["metric"]
        for who, metrics in decision["metrics"].items():
            value = metrics[name]
            known = decision["champion"] if who == "champion" and decision.get("champion") else who
            figure = f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
            lines.append(f"{known}: {name} {figure} on {_scored(decision['holdout'], who):,} holdout rows")
        lines.append("No row was in the training of the model that it scores.")
        lines += ["", "The gate:"]
        lines += [f"- {'pass' if r['passed'] else 'FAIL'} {r['rule']}: {r['text']}" for r in decision["reasons"]]
        lines.append("")
    if data is not None:
        window = data.get("window") or {}
        period = f", {window['train'][:10]} to {window['end'][:10]}" if window else ""
        lines.append(f"Data: {data['source']}, {data['rows']:,} rows{period}, sha256 {data['sha256'][:12]}")
    lines += [f"{what}: {address}" for what, address in (links or {}).items() if address]
    back = "nothing served before" if before == NONE_YET else f"version {before} serves again when this is reverted"
    return "\n".join([*lines, "", f"{back[0].upper()}{back[1:]}."]) + "\n"

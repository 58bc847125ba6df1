"""Says which cells are no category that the training saw, and so count as missing."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from homelab_mlops.model.scoring import Input

EXAMPLES = 3


def unknown_lines(frame: pd.DataFrame, inputs: Iterable[Input]) -> list[str]:
    """A line for each column with such cells."""
    lines: list[str] = []
    for item in inputs:
        if item.type != "category" or not item.categories:  # any text is one
            continue
        cells = frame[item.name]
        unknown = cells[cells.notna() & ~cells.isin(item.categories)]
        if len(unknown):
            names = ", ".join(repr(str(name)[:40]) for name in unknown.unique()[:EXAMPLES])
            lines.append(
                f"column {item.name!r}: {len(unknown):,} of {len(cells):,} cells count as missing, since the training "
                f"saw no such category: {names}"
            )
    return lines

"""Finds the column whose rows belong together, such as a customer's, where a random split would part them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homelab_mlops.model import values

# The beginning of a table that is looked at.
ROWS, CELLS = 10_000, 200_000
# Fewer values that stand in several rows are the names of classes, not of customers.
FEWEST = 20
# With this likelihood the label is the same in all rows of each value by chance (the logarithm).
CHANCE = math.log(1e-9)

Columns = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True)
class RowSplit:
    """A split that takes each row alone. ``known`` are the columns that the model learns from, or that it needs."""

    label: str
    known: frozenset[str]

    def lines(self, beginning: Columns) -> list[str]:
        """A warning for each column by whose values the rows should be split."""
        labels = beginning.get(self.label)
        if labels is None:
            return []
        others = {name: cells for name, cells in beginning.items() if name not in self.known | {self.label}}
        found = {name: _belonging_together(cells, labels) for name, cells in others.items()}
        return [
            f"warning: {self.label!r} is the same in all rows of one {name!r} ({count:,} values of it in the first "
            f"{len(labels):,} rows): where these rows are split at random, a model knows the answers of the holdout; "
            f"`split: {{method: random, group: {name}}}` keeps them together"
            for name, count in found.items()
            if count
        ]


def _belonging_together(cells: Sequence[str | None], labels: Sequence[str | None]) -> int:
    """How many values stand in several rows, where the label is the same in all rows of each, and not by chance."""
    of: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    for cell, label in zip(cells, labels, strict=True):
        if cell is None or label is None or values.is_missing(cell):
            continue
        if of.setdefault(cell, label) != label:
            return 0
        sizes[cell] += 1
    repeated = {cell: size for cell, size in sizes.items() if size > 1}
    if len(repeated) < FEWEST or _is_measure(of):
        return 0
    total = sum(sizes.values())
    counts: Counter[str] = Counter()
    for cell, size in sizes.items():
        counts[of[cell]] += size
    shares = [count / total for count in counts.values()]
    likelihood = sum(math.log(sum(share**size for share in shares)) for size in repeated.values())
    return len(repeated) if likelihood < CHANCE else 0


def _is_measure(of: Mapping[str, str]) -> bool:
    """Whether the label follows the size of a number, as that of a delay which the label is made of."""
    if not all(map(values.is_number, of)):
        return False
    ordered = [of[cell] for cell in sorted(of, key=values.number)]
    changes = sum(one != other for one, other in itertools.pairwise(ordered))
    by_chance = 1 - sum((count / len(ordered)) ** 2 for count in Counter(ordered).values())
    return changes < by_chance * len(ordered) / 2

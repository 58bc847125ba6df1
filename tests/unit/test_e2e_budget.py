"""CI says of every end-to-end file whether it runs, and why not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.e2e import budget

# Of the 5300 s that `.ci/run` has until it ends the files, `make test`, the cluster and the images took 1000.
LEFT = 4300.0


def test_every_file_has_its_seconds() -> None:
    assert set(budget.SECONDS) == set(budget.files())
    assert set(budget.LEFT_OUT) <= set(budget.files())
    assert budget.files()[-1] == budget.LAST


def test_what_does_not_fit_is_left_out_with_the_reason() -> None:
    file, *_ = budget.files()
    needed = budget.cost(file)
    assert budget.choose(file, needed).reason == ""
    assert budget.choose(file, needed - 1).reason == f"{needed - 1:.0f} s are left, and it is given {needed:.0f} s"
    assert budget.choose(file, needed, slowness=3.0).reason
    for left_out, reason in budget.LEFT_OUT.items():
        assert budget.choose(left_out, 1e6).reason == reason


@pytest.mark.parametrize("slowness", [1.0, 1.1])
def test_every_file_fits_into_what_ci_leaves(slowness: float) -> None:
    left = LEFT
    for file in (name for name in budget.files() if name not in {*budget.LEFT_OUT, budget.LAST}):
        assert budget.choose(file, left, slowness).reason == ""
        left -= slowness * budget.SECONDS[file]


def test_without_a_cluster_every_file_is_named() -> None:
    command = [sys.executable, "-m", "tests.e2e", "--left-out", "there is no cluster"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    named = [f"left out  {file}: there is no cluster" for file in budget.files()]
    assert done.stdout.splitlines() == ["end-to-end files:", *named]

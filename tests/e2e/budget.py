"""What each end-to-end file costs, and which of them fit into a given time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

E2E = Path(__file__).parent
# Measured on a two-core machine with little else to do, its cluster up and every image built. With a load of 8 to 24
# most files took up to 1.4 times as long (07: 1670 s); 13 was measured at a load of 2 to 26, 14 at one of 15.
# How quick this machine is, its first files tell.
SECONDS = {
    "test_00_images.py": 44,
    "test_01_bootstrap.py": 226,
    "test_02_push_to_deploy.py": 187,
    "test_03_retraining.py": 282,
    "test_04_file_way.py": 73,
    "test_05_least_privilege.py": 3,
    "test_05_rotation.py": 215,
    "test_06_faults.py": 411,
    "test_07_promotion.py": 1230,
    "test_08_review.py": 59,
    "test_09_doctor.py": 647,
    "test_11_pages.py": 57,
    "test_12_rebuild.py": 230,
    "test_13_ten_clusters.py": 2650,
    "test_14_first_hour.py": 504,
}
UNMEASURED = 600
# A file is started only where this many times its seconds are left, by the pace of the files before it. That pace holds
# how busy the machine is; the rest is for a test that is run once more.
MARGIN = 1.25
QUICKEST = 0.5
# By name, whatever time there is.
LEFT_OUT = {
    "test_13_ten_clusters.py": "CI has no time for it; by hand, four and then six were green on 30 November 2026",
}
# CI runs it where the files before it were quick. Each of its tests goes on from the one before: it is run as a whole.
LAST = "test_14_first_hour.py"


class Choice(NamedTuple):
    """A file, and why it is left out; an empty reason means that it runs."""

    file: str
    reason: str


def files() -> list[str]:
    """The end-to-end files, in the order in which they run."""
    return sorted(path.name for path in E2E.glob("test_*.py"))


def cost(file: str, slowness: float = 1.0) -> float:
    """The seconds that have to be left for a file; ``slowness`` is this machine's time over the measured one."""
    return MARGIN * max(slowness, QUICKEST) * SECONDS.get(file, UNMEASURED)


def choose(file: str, left: float, slowness: float = 1.0) -> Choice:
    """Whether a file runs where ``left`` seconds are left."""
    needed = cost(file, slowness)
    if file in LEFT_OUT:
        return Choice(file, LEFT_OUT[file])
    if left < needed:
        return Choice(file, f"{left:.0f} s are left, and it is given {needed:.0f} s")
    return Choice(file, "")

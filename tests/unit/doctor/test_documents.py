"""docs/troubleshooting.md is made of the doctor's faults and what was measured, and every fault has a check."""

from __future__ import annotations

from homelab_mlops.doctor import cluster, forge, gitops, store, sync, tracking, workloads  # noqa: F401 - registers their checks
from homelab_mlops.doctor.checks import CHECKS
from homelab_mlops.doctor.faults import FAULTS
from homelab_mlops.doctor.run import GROUPS
from tests.unit.doctor.document import DOCUMENT, measured, with_tables
from tests.unit.doctor.lab import STORE, TRACKING


def test_the_document_has_the_tables_of_the_faults() -> None:
    """`python -m tests.benchmarks.plain_errors --write` makes them anew; with `--only none` it measures nothing."""
    text = DOCUMENT.read_text()
    assert text == with_tables(text)


def test_every_check_is_of_a_group_that_is_asked() -> None:
    """A check of no such group would never be asked, and would find nothing."""
    assert {item.group for item in CHECKS.values()} == set(GROUPS)


def test_what_was_measured_is_of_faults_that_there_are() -> None:
    assert measured().keys() <= FAULTS.keys()


def test_every_fault_has_a_check() -> None:
    assert {code for item in CHECKS.values() for code in item.codes} == FAULTS.keys()


def test_every_fault_of_tracking_and_store_is_made() -> None:
    made = {code for code, _ in (*TRACKING.values(), *STORE.values())}
    assert made == {fault.code for fault in FAULTS.values() if fault.group in ("tracking", "store")}

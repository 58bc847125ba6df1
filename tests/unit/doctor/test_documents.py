"""docs/troubleshooting.md is the table of the doctor's faults, and every fault has a check."""

from __future__ import annotations

import re

from homelab_mlops.doctor import cluster, repository, store, tracking  # noqa: F401 - registers their checks
from homelab_mlops.doctor.checks import CHECKS
from homelab_mlops.doctor.faults import FAULTS
from tests.conftest import ROOT


def test_the_document_lists_every_fault_as_the_table_does() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)`(?: \(warning\))? \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(fault.code, fault.title, fault.fix) for fault in FAULTS.values()]


def test_every_fault_has_a_check() -> None:
    assert {code for item in CHECKS.values() for code in item.codes} == FAULTS.keys() - {"DOCTOR_OUT_OF_TIME"}

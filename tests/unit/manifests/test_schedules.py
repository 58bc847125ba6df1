"""A schedule fires as often as the library says that Argo Workflows and Kubernetes call."""

from __future__ import annotations

import pytest
import yaml

from homelab_mlops.manifests.schedules import fires, runs_per_year
from tests.conftest import FIXTURES

EXPECTED = yaml.safe_load((FIXTURES / "manifests/schedules.yaml").read_text())


@pytest.mark.parametrize("schedule", EXPECTED)
def test_a_schedule(schedule: str) -> None:
    expected = EXPECTED[schedule]
    runs = runs_per_year(schedule)
    if isinstance(expected, dict):
        assert runs == pytest.approx(expected["per_year"])
    else:
        assert runs * 4 == pytest.approx(0 if expected == "refused" else expected)
    assert fires(schedule) == (runs > 0)

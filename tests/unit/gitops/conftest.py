"""An API server for the tests that run the controller of Sealed Secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_mlops.clients.kubernetes import Cluster
from tests.unit.gitops.controller import api_server_of_a_controller


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with api_server_of_a_controller(tmp_path, monkeypatch) as made:
        yield made

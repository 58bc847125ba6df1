"""Git names the policy: who decides about a model reads the model.yaml that Argo CD applied."""

from __future__ import annotations

from typing import Any

import pytest

from homelab_mlops.manifests import yaml_reader
from tests.conftest import ROOT


def template(name: str) -> dict[str, Any]:
    retrain = yaml_reader.load((ROOT / "workflows/templates/retrain.yaml").read_text())
    return dict(next(item for item in retrain["spec"]["templates"] if item["name"] == name))


@pytest.mark.parametrize("step", ["doctor", "ingest", "evaluate", "register", "propose"])
def test_a_step_that_decides_reads_the_applied_model(step: str) -> None:
    container = template(step)["container"]
    assert container["args"][:2] == [step, "/model/model.yaml"]
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in container["volumeMounts"]
    # Nothing that a step hands on may take its place.
    received = [item["path"] for item in template(step).get("inputs", {}).get("artifacts", [])]
    assert [path for path in received if path.startswith("/model")] == []

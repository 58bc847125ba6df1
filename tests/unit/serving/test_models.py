"""What git names, what the registry calls champion, and who waits, side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mlflow
import pytest

from homelab_mlops.clients.mlflow import Version
from homelab_mlops.cluster.models import compared
from tests.conftest import HOMELAB, ROOT, clean_environment
from tests.unit.serving.conftest import Registered


def models(root: Path, uri: str) -> list[dict[str, Any]]:
    env = clean_environment({"MLFLOW_TRACKING_URI": uri, "KUBECONFIG": "/nonexistent"})
    command: list[str | Path] = [HOMELAB, "models", "--json"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
    assert "the cluster cannot be asked" in done.stderr
    return list(json.loads(done.stdout))


def test_a_version_waits_until_git_names_it(registered: dict[str, Registered], mlflow_uri: str, tmp_path: Path) -> None:
    model = registered["penguins"]
    mlflow.MlflowClient(mlflow_uri, mlflow_uri).set_registered_model_alias(model.name, "champion", "1")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    manifest = tmp_path / "overlays/homelab/serving" / f"{model.name}.yaml"
    manifest.parent.mkdir(parents=True)
    text = (ROOT / "overlays/homelab/serving/churn.yaml").read_text().replace("churn", model.name)
    manifest.write_text(text)
    (found,) = models(tmp_path, mlflow_uri)
    assert (found["git"], found["registry"], found["serves"]) == ("none", "1", "unknown")
    manifest.write_text(text.replace('version: "0"', 'version: "1"'))
    (found,) = models(tmp_path, mlflow_uri)
    assert (found["git"], found["registry"], found["drift"], found["waiting"]) == ("1", "1", "", [])


@pytest.mark.parametrize(
    ("named", "champion", "drift", "waiting"),
    [
        ("0", None, False, ["3", "1"]),
        ("0", "1", False, ["3"]),
        ("1", "1", False, ["3"]),
        ("1", "2", True, ["3"]),
        ("3", None, True, []),
        ("3", "3", False, []),
    ],
)
def test_drift_and_waiting(named: str, champion: str | None, drift: bool, waiting: list[str]) -> None:
    versions = [Version("3", "promote", "auc 0.9", ""), Version("2", "reject", "", ""), Version("1", "promote", "", "")]
    (status,) = compared({"churn": named}, {"churn": (champion, versions)}, {"churn": named})
    assert bool(status.drift) == drift
    assert [item["version"] for item in status.waiting] == waiting

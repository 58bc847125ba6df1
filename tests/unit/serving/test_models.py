"""What git names, what the registry calls champion, and who waits, side by side."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest

from homelab_mlops.clients.mlflow import ModelRegistry, Version
from homelab_mlops.cluster.models import Registered, compared
from homelab_mlops.model.promotion import Named
from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment
from tests.unit.serving.conftest import Registered as Trained


def listed(root: Path, uri: str, *arguments: str) -> str:
    env = clean_environment({"MLFLOW_TRACKING_URI": uri, "KUBECONFIG": "/nonexistent", "COLUMNS": "200"})
    done = forks.run(["models", *arguments], env, root, PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "the cluster cannot be asked" in done.stderr
    return done.stdout


def models(root: Path, uri: str, name: str) -> list[dict[str, Any]]:
    return list(json.loads(listed(root, uri, name, "--json")))


def test_a_version_waits_until_git_names_it(registered: dict[str, Trained], mlflow_uri: str, tmp_path: Path) -> None:
    model = registered["penguins"]
    mlflow.MlflowClient(mlflow_uri, mlflow_uri).set_registered_model_alias(model.name, "champion", "1")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    manifest = tmp_path / "overlays/homelab/serving" / f"{model.name}.yaml"
    manifest.parent.mkdir(parents=True)
    text = (ROOT / "overlays/homelab/serving/churn.yaml").read_text().replace("churn", model.name)
    manifest.write_text(text)
    (found,) = models(tmp_path, mlflow_uri, model.name)
    assert (found["git"], found["registry"], found["serves"]) == ("none", "1", "unknown")
    manifest.write_text(text.replace('version: "0"', 'version: "1"'))
    (found,) = models(tmp_path, mlflow_uri, model.name)
    assert (found["git"], found["registry"], found["drift"], found["waiting"]) == ("1", "1", "", [])
    done = forks.run(["models", "nope"], clean_environment(), tmp_path, PATIENCE)
    assert done.returncode == 1
    assert "no model 'nope'" in done.stderr


def test_each_version_is_listed_with_its_verdict_and_why(
    registered: dict[str, Trained], mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are more than one answer of MLflow's holds; a rejected one has no alias, and says why."""
    client = mlflow.MlflowClient(mlflow_uri, mlflow_uri)
    model = client.get_model_version(registered["penguins"].name, "1")
    assert model.source is not None
    model_id = model.source.removeprefix("models:/")
    client.create_registered_model("many")
    promoted = {"homelab.gate": "promote", "homelab.why": "better than the baseline", "homelab.holdout.auc": "0.9"}
    rejected = {"homelab.gate": "reject", "homelab.why": "champion: auc improves by +0.0006"}
    for tags in (promoted, *[rejected] * 11):
        client.create_model_version("many", model.source, run_id=model.run_id, model_id=model_id, tags=tags)
    client.set_registered_model_alias("many", "champion", "1")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")

    monkeypatch.setattr("homelab_mlops.clients.mlflow.PAGE", 5)
    with closing(ModelRegistry(mlflow_uri, "", "")) as registry:
        assert [item.version for item in registry.versions("many")] == [str(number) for number in range(12, 0, -1)]
    (found,) = models(tmp_path, mlflow_uri, "many")
    assert (found["git"], found["registry"], found["waiting"]) == ("none", "1", [])
    first, last = found["versions"][0], found["versions"][-1]
    assert (first["alias"], first["gate"], first["why"]) == ("", "reject", "champion: auc improves by +0.0006")
    assert (last["alias"], last["gate"], last["evidence"]) == ("champion", "promote", "auc 0.9")
    lines = listed(tmp_path, mlflow_uri).splitlines()
    assert any(re.match(r"many +alias +gate +holdout +sha256 +why", line) for line in lines)
    assert "and 2 older: `homelab models many` lists them" in lines
    lines = listed(tmp_path, mlflow_uri, "many").splitlines()
    assert any(re.match(r"1 +champion +promote +auc 0.9 +better than the baseline", line) for line in lines)
    assert any(re.match(r"12 +reject +champion: auc improves by \+0.0006", line) for line in lines)


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
    (status,) = compared({"churn": Named(named)}, {"churn": Registered(champion, versions)}, {"churn": named})
    assert bool(status.drift) == drift
    assert [item["version"] for item in status.waiting] == waiting

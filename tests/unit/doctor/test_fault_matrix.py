"""Each fault of tracking and store, really made: the doctor gives exactly its code, and nothing once it is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homelab_mlops.doctor import store, tracking  # noqa: F401 - registers their checks
from homelab_mlops.doctor.examine import Report, examine
from homelab_mlops.doctor.visit import Visit
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.ingest import ingest
from tests.conftest import ROOT, Homelab, listing, refused
from tests.unit.doctor.conftest import Inside
from tests.unit.doctor.lab import STORE, TRACKING, Fault, Lab, NoDiskError, Scene, made, set_environment

CHURN = load_spec(str(ROOT / "workflows/models/churn"))


def examined(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> Report:
    set_environment(monkeypatch, scene.env)
    # Nothing here is about time: no check is left out because the machine is slow.
    visit = Visit(models=scene.models, model_given=scene.model_given, deadline=float("inf"))
    report = examine(visit, ("tracking", "store"))
    assert report.out_of_time == []
    return report


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


@contextlib.contextmanager
def made_or_skipped(fault: Fault, lab: Lab) -> Iterator[tuple[Scene, Callable[[], Scene]]]:
    try:
        with made(fault, lab) as scenes:
            yield scenes
    except NoDiskError:
        pytest.skip("this machine lets nobody mount a file system")


@pytest.mark.parametrize("name", [*TRACKING, *STORE])
def test_a_fault_has_its_code_alone_and_no_code_once_it_is_gone(
    name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, fault = {**TRACKING, **STORE}[name]
    with made_or_skipped(fault, lab) as (broken, mended):
        report = examined(monkeypatch, broken)
        assert codes(report) == [code], [str(finding) for finding in report.findings]
        report = examined(monkeypatch, mended())
        assert codes(report) == [], [str(finding) for finding in report.findings]
        assert report.asked


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    ingest(CHURN, work, "demo")
    return work


# A training does not read the table again, needs not delete, and is of one experiment.
NOT_OF_A_TRAINING = {
    "a table that nobody has brought",
    "a folder of tables that is empty",
    "keys of another bucket",
    "keys that may not delete",
    "mlflow that may not delete",
    "the same for a user who may edit but not delete",
}
OF_THE_STORE = [name for name, (code, _) in {**TRACKING, **STORE}.items() if code.startswith("STORE")]


@pytest.mark.parametrize("name", [name for name in OF_THE_STORE if name not in NOT_OF_A_TRAINING])
def test_a_training_stops_before_it_begins_with_the_same_code(
    name: str, lab: Lab, ingested: Path, inside: Inside
) -> None:
    code, fault = {**TRACKING, **STORE}[name]
    before = listing(ingested)
    with made_or_skipped(fault, lab) as (broken, _):
        env = {"MLFLOW_TRACKING_URI": lab.mlflow, **broken.env}
        train = "train", "churn", "--work", ingested, "--tracking", "mlflow"
        refused(inside(*train, env=env, folder=ROOT), f"[{code}]")
    assert before == listing(ingested)


def test_a_training_of_a_process_of_its_own_stops_too(lab: Lab, ingested: Path, homelab: Homelab) -> None:
    before = listing(ingested)
    env = {"MLFLOW_TRACKING_URI": lab.mlflow, **lab.s3(AWS_SECRET_ACCESS_KEY="wrong-secret")}
    finished = homelab("train", "churn", "--work", ingested, "--tracking", "mlflow", env=env)
    refused(finished, "[STORE_WRONG_SECRET]")
    assert before == listing(ingested)


def test_a_healthy_stack_is_fine_twenty_times(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that can be looked at: a login, artifacts behind MLflow, and the same bucket with MLflow's own keys."""
    for _ in range(20):
        assert codes(examined(monkeypatch, Scene(lab.healthy))) == []

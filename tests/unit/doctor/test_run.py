"""`homelab doctor` as a person and a script call it: options, exit codes, and what it leaves behind."""

from __future__ import annotations

import functools
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from homelab_mlops.doctor import run, store, tracking  # noqa: F401 - registers their checks
from homelab_mlops.doctor.checks import CHECKS, Check
from homelab_mlops.doctor.examine import examine
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.run import Options, as_document, doctor_command, exit_code, show
from homelab_mlops.doctor.visit import DELETE_SECONDS, Visit
from homelab_mlops.errors import DoctorError
from tests import forks
from tests.conftest import HOMELAB, PATIENCE, ROOT, clean_environment
from tests.unit.doctor import network
from tests.unit.doctor.conftest import Inside
from tests.unit.doctor.lab import PARTS, PASSWORD, Lab, set_environment
from tests.unit.doctor.network import Answer, Request

NOTHING_LISTENS = "http://127.0.0.1:9"


@pytest.fixture
def doctor(inside: Inside) -> Inside:
    """Runs `homelab doctor` in this process."""
    return functools.partial(inside, "doctor")


def answer(finished: subprocess.CompletedProcess[str]) -> Any:
    assert "Traceback" not in finished.stderr, finished.stderr
    return json.loads(finished.stdout)


def codes(finished: subprocess.CompletedProcess[str]) -> list[str]:
    return [finding["code"] for finding in answer(finished)["findings"]]


def test_a_healthy_stack_ends_with_0(lab: Lab, doctor: Inside) -> None:
    finished = doctor("--json", env=lab.healthy)
    report = answer(finished)
    assert (finished.returncode, report["status"], report["findings"], report["out_of_time"]) == (0, "fine", [], [])
    assert {"tracking", "store"} <= report["looked_at"].keys()


def test_a_warning_ends_with_1(lab: Lab, doctor: Inside) -> None:
    env = lab.s3(**lab.user("s3:ListBucket", "s3:PutObject", "s3:GetObject", *PARTS))
    finished = doctor("--json", env=env)
    assert (finished.returncode, codes(finished), answer(finished)["status"]) == (1, ["STORE_DENIED_DELETE"], "warning")


def test_what_is_broken_ends_with_2_and_says_code_place_and_fix(lab: Lab, doctor: Inside) -> None:
    env = lab.s3(AWS_SECRET_ACCESS_KEY="wrong-secret")
    finished = doctor(env=env)
    assert finished.returncode == 2
    for words in ("STORE_WRONG_SECRET", "where: s3://mlflow/artifacts at", "fix:   check AWS_SECRET_ACCESS_KEY"):
        assert words in finished.stdout
    assert "wrong-secret" not in finished.stdout + finished.stderr
    (finding,) = answer(doctor("--json", env=env))["findings"]
    assert finding.keys() == {"code", "severity", "what", "where", "fix"}


def test_a_step_goes_on_with_warnings_and_tries_again_where_time_may_help(lab: Lab, doctor: Inside) -> None:
    may_not_delete = lab.s3(**lab.user("s3:ListBucket", "s3:PutObject", "s3:GetObject", *PARTS))
    environments = (may_not_delete, {"MLFLOW_TRACKING_URI": NOTHING_LISTENS}, lab.s3(AWS_SECRET_ACCESS_KEY="wrong"))
    assert [doctor("--as-step", env=env).returncode for env in environments] == [0, 75, 2]


def test_only_looks_for_one_fault(lab: Lab, doctor: Inside) -> None:
    env = {"MLFLOW_TRACKING_URI": NOTHING_LISTENS, **lab.s3(AWS_SECRET_ACCESS_KEY="wrong-secret")}
    assert codes(doctor("--json", env=env)) == ["TRACKING_REFUSED", "STORE_WRONG_SECRET"]
    only = doctor("--json", "--only", "STORE_WRONG_SECRET", env=env)
    assert (only.returncode, codes(only)) == (2, ["STORE_WRONG_SECRET"])
    other = doctor("--json", "--only", "STORE_WRONG_KEY", env=env)
    assert (other.returncode, codes(other)) == (0, [])
    kept_from = doctor("--json", "--only", "STORE_WRONG_KEY", env=lab.s3(NOTHING_LISTENS))
    assert (kept_from.returncode, codes(kept_from)) == (2, ["STORE_REFUSED"])
    misspelt = doctor("--only", "store_wrong_secrets", env=env)
    assert misspelt.returncode == 2
    assert "did you mean STORE_WRONG_SECRET?" in misspelt.stderr


def test_in_cluster_leaves_cluster_and_repository_out(doctor: Inside) -> None:
    env = {"MLFLOW_TRACKING_URI": NOTHING_LISTENS}
    outside, inside = (answer(doctor("--json", *options, env=env, folder=ROOT)) for options in ((), ("--in-cluster",)))
    assert "gitops" in outside["looked_at"]
    assert {*inside["looked_at"], *inside["not_looked_at"]} == {"tracking", "store"}
    assert [finding["code"] for finding in inside["findings"]] == ["TRACKING_REFUSED"]


def test_a_model_is_looked_at_with_its_table(lab: Lab, doctor: Inside) -> None:
    reader = lab.user("s3:ListBucket", "s3:GetObject", bucket="datasets")
    env = {"AWS_ENDPOINT_URL_S3": lab.minio.endpoint, **reader}
    assert codes(doctor("churn", "--in-cluster", "--json", env=env, folder=ROOT)) == ["STORE_NO_TABLE"]
    unknown = doctor("no-such-model", env=env, folder=ROOT)
    assert unknown.returncode == 2
    assert "no-such-model" in unknown.stderr


def test_a_login_in_an_address_is_not_shown(lab: Lab, doctor: Inside) -> None:
    for uri in (NOTHING_LISTENS, lab.guarded, "ftp://127.0.0.1"):
        with_login = uri.replace("://", "://somebody:hidden-word@")
        said = doctor("--json", env={"MLFLOW_TRACKING_URI": with_login})
        assert said.returncode == 2
        assert uri in said.stdout
        assert "hidden-word" not in said.stdout + said.stderr


def test_a_resolver_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tries of five seconds each are what the C library allows it."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_more: answered.wait(60))
    set_environment(monkeypatch, {"MLFLOW_TRACKING_URI": "http://mlflow.example:5000"})
    try:
        report = examine(Visit(), ("tracking",))
    finally:
        answered.set()
    (finding,) = report.findings
    assert finding.code == "TRACKING_DNS"
    assert "the resolver does not answer" in finding.what


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_slow_server_is_not_accused_of_anything(lab: Lab, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer takes its time: of what the doctor's own time does not suffice for, it says no more than that."""
    slow = threading.Event()

    def after_a_while(_request: Request) -> None:
        slow.wait(seconds)

    with (
        network.proxy(lab.mlflow, after_a_while) as tracker,
        network.proxy(lab.minio.endpoint, after_a_while) as behind,
    ):
        for env in ({"MLFLOW_TRACKING_URI": tracker}, lab.s3(behind)):
            set_environment(monkeypatch, env)
            report = examine(Visit(), ("tracking", "store"))
            assert report.findings == []
            assert report.status == ("incomplete" if report.out_of_time or report.in_doubt else "fine")


def test_a_login_may_lie_where_mlflow_reads_it(lab: Lab, tmp_path: Path, doctor: Inside) -> None:
    env = {"MLFLOW_TRACKING_URI": lab.guarded, "HOME": str(tmp_path)}
    assert codes(doctor("--json", env=env)) == ["TRACKING_LOGIN_MISSING"]
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login admin password {PASSWORD}\n")
    assert codes(doctor("--json", env=env)) == []
    (tmp_path / ".netrc").unlink()
    (tmp_path / ".mlflow").mkdir()
    kept = f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {PASSWORD}\n"
    (tmp_path / ".mlflow" / "credentials").write_text(kept)
    assert codes(doctor("--json", env=env)) == []


def test_a_bucket_that_is_none_is_no_fine_stack(lab: Lab, doctor: Inside) -> None:
    for options, env in ((["--store", "mlflow/artifacts"], lab.s3()), (["--store", "s3:///artifacts"], lab.s3())):
        assert doctor(*options, env=env).returncode == 2


def test_a_password_of_the_database_is_not_shown(doctor: Inside) -> None:
    uris = ("postgresql://mlflow:hidden/word@127.0.0.1:9/db", "mysql+pymysql://mlflow:hidden-word@127.0.0.1:nine/db")
    for uri in uris:
        said = doctor("--json", env={"MLFLOW_BACKEND_STORE_URI": uri})
        assert said.returncode in {0, 2}
        assert "hidden" not in said.stdout + said.stderr


def test_a_check_that_fails_itself_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone it ends the command; beside a finding it is a line of what was not looked at."""

    def fails(_visit: Visit) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setitem(CHECKS, "tracking.versions", replace(CHECKS["tracking.versions"], ask=fails))
    set_environment(monkeypatch, {"MLFLOW_TRACKING_URI": lab.mlflow})
    with pytest.raises(RuntimeError, match="a bug"):
        examine(Visit(), ("tracking",))
    set_environment(monkeypatch, {"MLFLOW_TRACKING_URI": lab.mlflow, **lab.s3(AWS_SECRET_ACCESS_KEY="wrong")})
    report = examine(Visit(), ("tracking", "store"))
    assert [finding.code for finding in report.findings] == ["STORE_WRONG_SECRET"]
    assert any("tracking.versions failed by a bug" in reason for reason in report.not_looked_at["tracking"])


def test_a_look_at_the_store_loads_no_library_of_a_training(lab: Lab) -> None:
    """They take longer to import, on a machine that is busy, than the doctor has."""
    command: list[str | Path] = [sys.executable, "-X", "importtime", HOMELAB, "doctor", "--in-cluster"]
    finished = subprocess.run(command, capture_output=True, text=True, env=clean_environment(lab.healthy))
    assert finished.returncode == 0, finished.stdout
    loaded = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "botocore.session" in loaded
    assert loaded & {"pandas", "sklearn", "xgboost", "mlflow", "kubernetes"} == set()


# The probe object.


def left(lab: Lab, path: str) -> list[str]:
    """What lies at the path of a request to the store, or is an unfinished upload to there."""
    client, key = lab.minio.client(), urlsplit(path).path.removeprefix("/mlflow/")
    found = client.list_objects_v2(Bucket="mlflow", Prefix=key).get("Contents", [])
    unfinished = client.list_multipart_uploads(Bucket="mlflow", Prefix=key).get("Uploads", [])
    return [str(item["Key"]) for item in (*found, *unfinished)]


def test_there_is_one_probe_object_and_it_is_deleted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that keeps old versions tells which objects there have been, through MLflow and beside it."""
    client = lab.minio.client()
    # Where MLflow may not delete or list, its probe stays: scenes before this one have left some.
    earlier = left(lab, "/mlflow/behind/")
    client.put_bucket_versioning(Bucket="mlflow", VersioningConfiguration={"Status": "Enabled"})
    set_environment(monkeypatch, lab.healthy)
    try:
        report = examine(Visit(), ("tracking", "store"))
        assert report.findings == []
        listed = client.list_object_versions(Bucket="mlflow", Prefix="behind/")
        kept = [item for kind in ("Versions", "DeleteMarkers") for item in listed.get(kind, [])]
        written = [item for item in listed.get("Versions", []) if item["Key"] not in earlier]
        probes = {item["Key"] for item in written if "/homelab-doctor/" in item["Key"]}
        for item in (item for item in kept if item["Key"] not in earlier):
            client.delete_object(Bucket="mlflow", Key=item["Key"], VersionId=item["VersionId"])
    finally:
        client.put_bucket_versioning(Bucket="mlflow", VersioningConfiguration={"Status": "Suspended"})
    assert len(probes) == 1
    assert [item["Key"] for item in written if item["IsLatest"]] == []


class Hold:
    """A proxy's rule: what ``held`` names waits until the test lets it go."""

    def __init__(self, held: Callable[[Request], bool]) -> None:
        self.held, self.path = held, ""
        # What the test does at that moment.
        self.then: Callable[[], None] = lambda: None
        self.reached, self.let_go = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Answer | None:
        if self.held(request):
            self.path = request.path
            self.reached.set()
            self.then()
            self.let_go.wait(PATIENCE)
        return None


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Iterator[Hold]:
    made = Hold(request.param)
    yield made
    made.let_go.set()


def reading_the_probe(request: Request) -> bool:
    return request.method == "GET" and "/homelab-doctor/" in request.path


def sending_a_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber" in request.path


@pytest.mark.parametrize("hold", [reading_the_probe, sending_a_part], indirect=True)
def test_a_stopped_doctor_leaves_nothing_in_the_store(lab: Lab, hold: Hold, tmp_path: Path) -> None:
    with network.proxy(lab.minio.endpoint, hold) as url:
        stop(lab.s3(url), hold, tmp_path)
    assert left(lab, hold.path) == []


@pytest.mark.parametrize("hold", [reading_the_probe], indirect=True)
def test_a_stopped_doctor_leaves_nothing_behind_mlflow(lab: Lab, hold: Hold, tmp_path: Path) -> None:
    with network.proxy(lab.mlflow, hold) as url:
        stop({"MLFLOW_TRACKING_URI": url}, hold, tmp_path)
    probe = hold.path.partition("/homelab-doctor/")[2]
    assert httpx.get(f"{lab.mlflow}{hold.path}", trust_env=False).status_code != 200
    assert [path for path in lab.database.parent.rglob("*") if path.name == probe] == []


# The doctor has all the time that a slow machine needs.
UNHURRIED = {"homelab_mlops.doctor.visit.BUDGET_SECONDS": math.inf}


def stop(env: Mapping[str, str], hold: Hold, folder: Path) -> None:
    """Starts the doctor, interrupts it as Ctrl-C does while a request waits, and holds that it ends."""
    environment = clean_environment({"KUBECONFIG": "", "HOME": str(folder), **env})
    process = forks.homelab(["doctor"], environment, folder, folder / "log", UNHURRIED)
    try:
        assert hold.reached.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
    finally:
        process.kill()


@pytest.mark.parametrize("hold", [reading_the_probe, sending_a_part], indirect=True)
def test_a_doctor_whose_time_is_over_leaves_nothing(lab: Lab, hold: Hold, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = Visit(deadline=math.inf)
    hold.then = lambda: setattr(visit, "deadline", time.monotonic())
    with network.proxy(lab.minio.endpoint, hold) as url:
        set_environment(monkeypatch, lab.s3(url))
        report = examine(visit, ("store",))
    assert hold.reached.is_set()
    assert (report.findings, report.out_of_time) == ([], ["store.usable"])
    assert left(lab, hold.path) == []


# The doctor's time.


class Slow:
    """Checks of the group `tracking` alone: one that ends, one that does not, and one that comes after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: list[Finding]) -> None:
        self.quick_ended, self.never = threading.Event(), threading.Event()
        self.found = found
        self.removed: list[str] = []
        checks = {
            "tracking.quick": self.quick,
            "tracking.hangs": self.hangs,
            "tracking.later": self.quick,
        }
        for name in [*CHECKS]:
            monkeypatch.delitem(CHECKS, name)
        for name, ask in checks.items():
            after = ("tracking.hangs",) if name == "tracking.later" else ()
            codes = ("TRACKING_DNS",) if name == "tracking.quick" else ("TRACKING_URI",)
            monkeypatch.setitem(CHECKS, name, Check(name, "tracking", ask, codes, after, ()))

    def quick(self, visit: Visit) -> Iterator[Finding]:
        yield from self.found
        visit.count("tracking")
        self.quick_ended.set()

    def hangs(self, visit: Visit) -> None:
        self.quick_ended.wait(PATIENCE)
        with visit.removing(lambda: self.removed.append(visit.probe)):
            visit.deadline = time.monotonic()
            self.never.wait(PATIENCE)


@pytest.fixture
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow(monkeypatch, getattr(request, "param", []))
    yield made
    made.never.set()


def test_the_doctor_ends_though_a_check_does_not_and_says_how_far_it_came(
    slow: Slow, capsys: pytest.CaptureFixture[str]
) -> None:
    visit = Visit(deadline=math.inf)
    report = examine(visit, ("tracking",))
    assert (report.findings, report.status, exit_code(report)) == ([], "incomplete", 0)
    assert not slow.never.is_set()
    assert slow.removed == [visit.probe]
    assert visit.seconds(60) == DELETE_SECONDS
    shown = as_document(report)
    assert shown["out_of_time"] == ["tracking.hangs", "tracking.later"]
    assert shown["not_looked_at"] == {"tracking": ["out of time: hangs, later"]}
    assert (shown["looked_at"], shown["requests"]) == ({"tracking": 1}, {"tracking": 1})
    show(report)
    said = capsys.readouterr().out
    assert "tracking: 1 checks, 1 requests" in said
    assert "tracking: not looked at: out of time: hangs, later" in said
    assert "doctor: 0 broken, 0 warnings, 2 checks out of time" in said


@pytest.mark.parametrize("slow", [[Finding("TRACKING_DNS", "http://nowhere.invalid")]], indirect=True)
@pytest.mark.usefixtures("slow")
def test_a_fault_is_told_beside_what_there_was_no_time_for() -> None:
    report = examine(Visit(deadline=math.inf), ("tracking",))
    assert ([finding.code for finding in report.findings], exit_code(report)) == (["TRACKING_DNS"], 2)
    assert report.out_of_time == ["tracking.hangs", "tracking.later"]


@pytest.mark.usefixtures("slow")
def test_a_doctor_that_saw_nothing_in_time_does_not_end_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is the code of the check that hangs."""
    monkeypatch.setattr(run, "groups_of", lambda _options: ("tracking",))
    options = Options(None, in_cluster=True, source="", only=["TRACKING_URI"], store="", context=None, key_file=None)
    monkeypatch.setitem(CHECKS, "tracking.hangs", replace(CHECKS["tracking.hangs"], after=("tracking.quick",)))
    with pytest.raises(DoctorError, match="were over before any check had ended") as refused:
        doctor_command(options, as_json=True)
    assert refused.value.exit_code == 75

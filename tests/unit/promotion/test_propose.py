"""A better model becomes one commit that changes one line; a worse one none; and the token stays where it is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.clients.git_remote import Remote
from homelab_mlops.errors import EvaluationError, RepositoryError
from homelab_mlops.model.promotion import Named, named_by, naming
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.propose import propose
from tests import forks
from tests.conftest import HOMELAB, PATIENCE, ROOT, Homelab, clean_environment, refused
from tests.unit.promotion.git_server import TOKEN, USERNAME, Forge, serving

CHURN = load_spec(str(ROOT / "workflows/models/churn"))
AUTOMATIC = CHURN.model_copy(update={"promotion": "automatic"})
MANIFEST = "overlays/homelab/serving/churn.yaml"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@invalid"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """A git server with the repository, and what the step has in its environment."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "overlays", clone / "overlays")
    git(clone, "init", "--quiet", "--initial-branch=main")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "Begin")
    bare = tmp_path / "me" / "homelab.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(clone), str(bare))
    git(bare, "config", "http.receivepack", "true")
    with serving(tmp_path) as server:
        monkeypatch.setenv("HOMELAB_REPOSITORY", server.url)
        monkeypatch.setenv("HOMELAB_BRANCH", "main")
        monkeypatch.setenv("GIT_USERNAME", USERNAME)
        monkeypatch.setenv("GIT_TOKEN", TOKEN)
        yield server


def bare(forge: Forge) -> Path:
    return forge.root / "me" / "homelab.git"


def branches(forge: Forge) -> list[str]:
    return git(bare(forge), "for-each-ref", "--format=%(refname:short)", "refs/heads").split()


def changed(forge: Forge, branch: str) -> list[str]:
    """The changed lines of the branch against main."""
    lines = git(bare(forge), "diff", "--unified=0", f"main...{branch}").splitlines()
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


def sha256_of(version: int) -> str:
    return f"{version:064x}"


def work(folder: Path, version: int, *, better: bool = True) -> Path:
    """What the steps before leave."""
    interval = {"value": 0.8522, "low": 0.8318, "high": 0.8739}
    decision = {
        "model": "churn",
        "result": "of this training",
        "promote": better,
        "metric": "auc",
        "champion": "champion (version 1)",
        "metrics": {"challenger": {"auc": interval}, "champion": {"auc": {**interval, "value": 0.8417}}},
        "holdout": {"rows": 1399, "compared": 1201},
        "reasons": [{"rule": "champion", "passed": better, "text": "auc improves by +0.0105"}],
    }
    links = {"url": "http://mlflow.example/v", "run_url": "http://mlflow.example/r"}
    registration = {"name": "churn", "version": str(version), "sha256": sha256_of(version), **links}
    data = {"source": "s3://datasets/churn.parquet", "rows": 7043, "sha256": "a" * 64, "window": None}
    record = {
        "model": "churn",
        "result": "of this training",
        "data": data,
        "provenance": {"workflow": "churn-abc", "commit": "0" * 40},
    }
    for path, content in {
        "evaluate/decision.json": decision,
        "register/registration.json": registration,
        "train/record.json": record,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    return folder


def test_a_better_model_is_one_branch_with_two_changed_lines(forge: Forge, tmp_path: Path) -> None:
    first = propose(CHURN, work(tmp_path / "work", 3))
    assert first["outcome"] == "pushed"
    assert branches(forge) == ["main", "promote/churn"]
    assert changed(forge, "promote/churn") == [
        '-        homelab-mlops/sha256: ""',
        f'+        homelab-mlops/sha256: "{sha256_of(3)}"',
        '-        homelab-mlops/version: "0"',
        '+        homelab-mlops/version: "3"',
    ]
    said = git(bare(forge), "log", "-1", "--format=%an%n%B", "promote/churn")
    for text in ("homelab-mlops\nPromote churn to version 3", "auc 0.8522 [0.8318, 0.8739]", "champion (version 1)"):
        assert text in said
    assert "challenger: auc 0.8522 [0.8318, 0.8739] on 1,399 holdout rows" in said
    assert "champion (version 1): auc 0.8417 [0.8318, 0.8739] on 1,201 holdout rows" in said
    assert sha256_of(3) in said
    for text in ("s3://datasets/churn.parquet, 7,043 rows", "http://mlflow.example/r", "churn-abc", "+0.0105"):
        assert text in said
    git(bare(forge), "fsck", "--strict")

    # Once more changes nothing, and a newer version takes the place of the waiting one.
    commit = git(bare(forge), "rev-parse", "promote/churn")
    assert propose(CHURN, tmp_path / "work")["outcome"] == "proposed already"
    assert git(bare(forge), "rev-parse", "promote/churn") == commit
    assert propose(CHURN, work(tmp_path / "work", 4))["outcome"] == "pushed"
    assert branches(forge) == ["main", "promote/churn"]
    assert changed(forge, "promote/churn")[1::2] == [
        f'+        homelab-mlops/sha256: "{sha256_of(4)}"',
        '+        homelab-mlops/version: "4"',
    ]
    assert git(bare(forge), "rev-list", "--count", "main..promote/churn") == "1"


def test_a_worse_model_is_no_commit(forge: Forge, tmp_path: Path) -> None:
    assert propose(CHURN, work(tmp_path / "work", 3, better=False))["outcome"] == "rejected"
    assert branches(forge) == ["main"]


def test_without_a_login_the_step_says_so_and_succeeds(tmp_path: Path, homelab: Homelab) -> None:
    done = homelab("propose", "churn", "--work", work(tmp_path, 3), env={"HOMELAB_REPOSITORY": "https://git.example/x"})
    assert done.returncode == 0
    (line,) = done.stderr.strip().splitlines()
    assert "`homelab promote churn 3`" in line


def test_a_proposal_survives_a_push_race(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people push to the branch between the step's fetch and its push; the step begins anew on what is there."""
    clone = tmp_path / "clone"
    pushes: list[int] = []
    push = Remote.push

    def late(self: Remote, *arguments: Any) -> str:
        if len(pushes) < 2:
            pushes.append(1)
            git(clone, "commit", "--quiet", "--allow-empty", "--message", "Theirs")
            git(clone, "push", "--quiet", str(bare(forge)), "main:refs/heads/promote/churn")
        return push(self, *arguments)

    monkeypatch.setattr(Remote, "push", late)
    assert propose(CHURN, work(tmp_path / "work", 3))["outcome"] == "pushed"
    subjects = git(bare(forge), "log", "--format=%s", "promote/churn").splitlines()
    assert subjects == ["Promote churn to version 3", "Begin"]


def test_automatic_promotion_pushes_nothing_to_main(
    forge: Forge, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server without pull requests merges nothing, and the step says who does."""
    main = git(bare(forge), "rev-parse", "main")
    assert propose(AUTOMATIC, work(tmp_path / "work", 3))["outcome"] == "pushed"
    assert branches(forge) == ["main", "promote/churn"]
    assert git(bare(forge), "rev-parse", "main") == main
    assert "so a person merges promote/churn" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["github", "gitea", "gitlab"])
def test_automatic_promotion_asks_the_forge_to_merge(
    kind: str, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMELAB_FORGE", kind)
    if kind == "gitlab":
        assert propose(AUTOMATIC, work(tmp_path / "work", 3))["merge"] == "by a person"
        assert "so a person merges promote/churn" in capfd.readouterr().err
        return
    with pytest.raises(RepositoryError, match="main requires no check"):
        propose(AUTOMATIC, work(tmp_path / "work", 3))
    assert forge.merging == []
    forge.checks = ["success"]
    assert propose(AUTOMATIC, tmp_path / "work")["merge"].startswith("by the forge")
    assert forge.merging == [1]
    assert propose(CHURN, work(tmp_path / "work", 4))["merge"] == "by a person"
    assert forge.merging == [1]
    forge.refuses = "auto-merge is not allowed"
    with pytest.raises(RepositoryError, match="auto-merge is not allowed"):
        propose(AUTOMATIC, work(tmp_path / "work", 5))


@pytest.mark.parametrize("spec", [CHURN, AUTOMATIC], ids=["proposal", "automatic"])
def test_a_repository_that_refuses_is_a_clear_error(spec: ModelSpec, forge: Forge, tmp_path: Path) -> None:
    hook = bare(forge) / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RepositoryError, match="refuses the push") as error:
        propose(spec, work(tmp_path / "work", 3))
    assert not error.value.transient
    assert "stays a challenger" in error.value.fix
    assert branches(forge) == ["main"]
    assert not (tmp_path / "work" / "propose").exists()


@pytest.mark.usefixtures("forge")
def test_a_wrong_token_and_a_server_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TOKEN", "wrong")
    with pytest.raises(RepositoryError, match="does not accept the bot's login"):
        propose(CHURN, work(tmp_path / "work", 3))
    monkeypatch.setenv("HOMELAB_REPOSITORY", "http://127.0.0.1:1/me/homelab.git")
    with pytest.raises(RepositoryError, match="cannot be reached") as error:
        propose(CHURN, tmp_path / "work")
    assert error.value.transient


@pytest.mark.parametrize("kind", ["github", "gitea", "gitlab"])
def test_one_pull_request_is_opened_and_then_updated(
    kind: str, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMELAB_FORGE", kind)
    first = propose(CHURN, work(tmp_path / "work", 3))
    second = propose(CHURN, work(tmp_path / "work", 4))
    assert first["url"] == second["url"]
    assert len(forge.open) == 1
    methods = [method for method, _, _ in forge.asked]
    assert methods == ["GET", "POST", "GET", "PUT" if kind == "gitlab" else "PATCH"]
    sent = forge.asked[-1][2]
    assert sent["title"] == "Promote churn to version 4"
    assert "auc 0.8522" in (sent.get("body") or sent["description"])


def test_the_token_is_in_no_log_and_no_process_list(forge: Forge, tmp_path: Path) -> None:
    hook = bare(forge) / "hooks" / "pre-receive"
    listed = tmp_path / "processes"
    hook.write_text(f"#!/bin/sh\ncat /proc/[0-9]*/cmdline > {listed} 2>/dev/null\ncat >/dev/null\n")
    hook.chmod(0o755)
    env = {
        "HOMELAB_REPOSITORY": forge.url,
        "HOMELAB_BRANCH": "main",
        "HOMELAB_FORGE": "gitea",
        "GIT_USERNAME": USERNAME,
        "GIT_TOKEN": TOKEN,
        "HOMELAB_DEBUG": "1",
    }
    command: list[str | Path] = [HOMELAB, "propose", "churn", "--json", "--work", work(tmp_path / "work", 3)]
    done = subprocess.run(command, capture_output=True, env=clean_environment(env), cwd=ROOT, check=True)
    processes = listed.read_bytes()
    assert b"propose" in processes
    written = [path.read_bytes() for path in (tmp_path / "work").rglob("*.json")]
    for text in (done.stdout, done.stderr, processes, *written, (bare(forge) / "config").read_bytes()):
        assert TOKEN.encode() not in text


@pytest.mark.usefixtures("forge")
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("evaluate/decision.json", "model"),
        ("evaluate/decision.json", "result"),
        ("register/registration.json", "name"),
        ("train/record.json", "result"),
    ],
)
def test_a_step_that_hands_on_another_training_is_no_proposal(file: str, key: str, tmp_path: Path) -> None:
    path = work(tmp_path / "work", 3) / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "another"}))
    with pytest.raises(EvaluationError, match="different trainings"):
        propose(CHURN, tmp_path / "work")


@pytest.mark.usefixtures("forge")
def test_a_registration_without_the_hash_of_its_files_is_no_proposal(tmp_path: Path) -> None:
    folder = work(tmp_path / "work", 3)
    file = folder / "register/registration.json"
    for sha256 in (None, "", "a" * 63, "a" * 64 + "\n"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "sha256": sha256}))
        with pytest.raises(RepositoryError, match="has no SHA-256 of its files"):
            propose(CHURN, folder)


@pytest.mark.usefixtures("forge")
def test_a_person_promotes_by_one_commit(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for folder in ("apps", "clusters"):
        shutil.copytree(ROOT / folder, clone / folder)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "Settings and Applications")
    (clone / "unrelated").write_text("not committed")
    for name, value in {"user.name": "me", "user.email": "me@invalid"}.items():
        git(clone, "config", name, value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = clean_environment({"KUBECONFIG": "/nonexistent", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
        return forks.run(["promote", "--deadline", "1", *arguments], env, clone, PATIENCE)

    # Nothing serves needs no registry; a version does, for the bytes that git names.
    path = clone / MANIFEST
    path.write_text(naming(path.read_text(), Named("7", sha256_of(7)), MANIFEST))
    git(clone, "add", MANIFEST)
    git(clone, "commit", "--quiet", "--message", "Promote churn to version 7")
    assert run("churn", "0").returncode == 0
    assert git(clone, "diff", "--numstat", "HEAD~1", "HEAD") == f"2\t2\t{MANIFEST}"
    assert git(clone, "log", "-1", "--format=%s") == "Promote churn to version 0"
    git(clone, "revert", "--no-edit", "HEAD")
    refused(run("churn", "7"), "names version 7 of churn already")
    refused(run("churn", "8"), "MLflow cannot be reached")
    refused(run("chrun", "7"), "no manifest serves 'chrun'")
    refused(run("churn", "seven"), "is not the number of a version")
    assert named_by(path.read_text(), MANIFEST) == Named("7", sha256_of(7))

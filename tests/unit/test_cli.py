"""What a person meets at the command line: help, completion, and remedies that fit where the person sits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.cli import _command
from tests.conftest import HOMELAB, ROOT, clean_environment, refused


def commands(command: Any, name: str = "homelab") -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {child}")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A clone on a laptop, without programs, logins or a cluster."""
    for folder in ("clusters", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git") or "git")
    return tmp_path


def run(desk: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **clean_environment(),
        "HOME": str(desk / "home"),
        "PATH": str(desk / "bin"),
        "KUBECONFIG": "",
        **env,
    }
    command: list[str | Path] = [HOMELAB, *arguments]
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_no_type_of_what_is_there_or_not(desk: Path) -> None:
    for arguments in ([], ["train"], ["init"], ["status"]):
        shown = run(desk, *arguments, "--help")
        assert shown.returncode == 0
        assert "bool" not in shown.stdout


def test_machinery_is_not_listed(desk: Path) -> None:
    listed = run(desk, "--help", COLUMNS="200").stdout
    assert "retrain" in listed
    for name in ("propose", "outcome", "storage"):
        assert f"│ {name} " not in listed, name
        assert run(desk, name, "--help").returncode == 0


@pytest.mark.parametrize(
    "words", ["train", "retrain", "ingest", "validate", "evaluate", "predict", "run", "promote", "models", "data push"]
)
def test_a_shell_completes_the_name_of_a_model(words: str, desk: Path) -> None:
    line = f"homelab {words} fl"
    count = str(len(words.split()) + 1)
    done = run(desk, _HOMELAB_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count)
    assert done.stdout.split() == ["flight-delay"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["train"], "homelab train MODEL (models: churn, flight-delay)"),
        (["ingest", "churn"], "`--source demo` for the built-in table"),
        (["diff"], "bring it to PATH, or cd into your clone"),
    ],
)
def test_the_remedy_fits(arguments: list[str], remedy: str, desk: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], cwd=desk, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for step in (["add", "--all"], [*identity, "commit", "--quiet", "--message", "one"]):
        subprocess.run(["git", *step], cwd=desk, check=True)
    refused(run(desk, *arguments, AWS_EC2_METADATA_DISABLED="true"), remedy)


def test_predict_of_an_unknown_model_names_those_that_are_here(desk: Path, mlflow_uri: str) -> None:
    table = ["--source", "rows.csv", "--target", "out.parquet"]
    done = run(desk, "predict", "nope", *table, MLFLOW_TRACKING_URI=mlflow_uri)
    refused(done, "models of this clone: churn, flight-delay")


def test_every_command_of_a_person_has_an_example() -> None:
    for name, command in commands(_command()):
        if not command.hidden and not getattr(command, "commands", None):
            assert f"{name}" in (command.help or ""), name

"""What a person meets at the command line: help, completion, and remedies that fit where the person sits."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from homelab_mlops.cli import app
from tests import terminal
from tests.conftest import HOMELAB, PATIENCE, ROOT, clean_environment, refused

# What takes longer to import than a shell should wait, and nobody needs for help.
HEAVY = {"boto3", "kubernetes", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "rich", "xgboost", "yaml"}


# These print lines for a person, write files, or run until they are stopped.
WITHOUT_JSON = {"backup init", "bootstrap", "data push", "demo", "image", "init", "serve", "storage apply", "ui"}


def commands(command: Any, name: str = "homelab") -> Iterator[tuple[str, Any]]:
    """Every command below one, by the words that call it."""
    for child in getattr(command, "commands", {}):
        _, one, _ = command.resolve_command(typer.Context(command), [child])
        if hasattr(one, "commands"):
            yield from commands(one, f"{name} {child}")
        else:
            yield f"{name} {child}", one


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A clone on a laptop, without programs, logins or a cluster."""
    for folder in ("clusters", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git") or "git")
    return tmp_path


def git(desk: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=desk, env=clean_environment(), check=True)


def commit(desk: Path) -> None:
    git(desk, "add", "--all")
    git(desk, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "one")


def run(desk: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **clean_environment(),
        "HOME": str(desk / "home"),
        "PATH": str(desk / "bin"),
        "KUBECONFIG": "",
        **env,
    }
    command: list[str | Path] = [HOMELAB, *arguments]
    return subprocess.run(
        command, cwd=desk, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_help_names_no_type_of_what_is_there_or_not() -> None:
    for words in ["homelab", *(name for name, _ in commands(get_command(app)))]:
        shown = CliRunner().invoke(app, [*words.split()[1:], "--help"])
        assert shown.exit_code == 0, words
        assert "bool" not in shown.output, words
        assert "list[" not in shown.output, words


def test_machinery_is_not_listed(desk: Path) -> None:
    listed = run(desk, "--help", COLUMNS="200").stdout
    assert "  retrain " in listed
    for name in ("propose", "outcome", "storage"):
        assert f"  {name} " not in listed, name
        assert run(desk, name, "--help").returncode == 0


def completed(desk: Path, line: str) -> list[str]:
    count = str(len(line.split(" ")) - 1)
    done = run(desk, _HOMELAB_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_the_name_of_a_model(desk: Path) -> None:
    taking_a_model = [
        name
        for name, command in commands(get_command(app))
        if not command.hidden and any(parameter.name == "model" for parameter in command.params)
    ]
    for name in taking_a_model:
        option = "--model " if name == "homelab demo" else ""
        if name != "homelab replay":  # takes models:/NAME/VERSION
            assert completed(desk, f"{name} {option}fl") == ["flight-delay"], name


def test_a_shell_completes_parameters_and_credentials(desk: Path) -> None:
    assert completed(desk, "homelab train churn --set max_d") == ["max_delta_step=", "max_depth="]
    assert completed(desk, "homelab seal --rotate mlflow-t") == ["mlflow-training"]


@pytest.mark.parametrize("command", ["promote", "serve"])
def test_a_shell_completes_the_versions_that_git_and_a_training_know(command: str, desk: Path) -> None:
    manifest = desk / "overlays/homelab/serving/churn.yaml"
    shutil.copytree(ROOT / "overlays/homelab/serving", manifest.parent)
    git(desk, "init", "--quiet", "--initial-branch", "main")
    commit(desk)
    text = manifest.read_text(encoding="utf-8")
    for version, branch in [("3", "main"), ("12", "promote/churn")]:
        git(desk, "switch", "--quiet", "--force-create", branch)
        manifest.write_text(text.replace('version: "0"', f'version: "{version}"'), encoding="utf-8")
        commit(desk)
    git(desk, "switch", "--quiet", "main")
    (desk / "work/register").mkdir(parents=True)
    (desk / "work/register/registration.json").write_text('{"name": "churn", "version": "13"}', encoding="utf-8")

    assert completed(desk, f"homelab {command} churn ") == ["13", "12", "3", "0"]
    assert completed(desk, f"homelab {command} churn 1") == ["13", "12"]
    assert completed(desk, f"homelab {command} flight-delay ") == ["0"]


def test_completion_outside_a_clone_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert [completed(tmp_path, f"homelab {words} ") for words in ("train", "promote churn", "seal")] == [[], [], []]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["train"], "homelab train MODEL (models: churn, flight-delay)"),
        (["ingest", "churn"], "`--source demo` for the built-in table"),
        (["diff"], "put it on PATH, or cd into your clone"),
    ],
)
def test_the_remedy_fits(arguments: list[str], remedy: str, desk: Path) -> None:
    git(desk, "init", "--quiet", "--initial-branch", "main")
    commit(desk)
    refused(run(desk, *arguments, AWS_EC2_METADATA_DISABLED="true"), remedy)


def test_predict_of_an_unknown_model_names_those_that_are_here(desk: Path, mlflow_uri: str) -> None:
    table = ["--source", "rows.csv", "--target", "out.parquet"]
    done = run(desk, "predict", "nope", *table, MLFLOW_TRACKING_URI=mlflow_uri)
    refused(done, "models of this clone: churn, flight-delay")


def test_every_command_of_a_person_has_an_example() -> None:
    for name, command in commands(get_command(app)):
        assert name in command.help.partition("\b")[2], name


def test_every_example_can_be_pasted(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "customers.csv").touch()
    for folder in ("base", "overlays"):
        (desk / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(desk)
    for name, command in commands(get_command(app)):
        lines = [shlex.split(line, comments=True) for line in command.help.partition("\b")[2].strip().splitlines()]
        for words in [[word for word in line if not re.match(r"[A-Z_]+=", word)] for line in lines]:
            end = next((place for place, word in enumerate(words) if word in {"|", "<", ">"}), len(words))
            typed = words[len(name.split()) : end]
            if words[0] == "homelab":
                assert words[: len(name.split())] == name.split()
                command.make_context(name, typed, parent=typer.Context(command))
            else:
                assert name == "homelab serve"  # asks the service with curl, as its test does


def test_the_list_says_the_first_sentence_of_every_command() -> None:
    listed = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for name, command in commands(get_command(app)):
        if not command.hidden and name.count(" ") == 1:
            first = " ".join(command.help.partition("\n\n")[0].split()).partition(". ")[0]
            assert f"{name.split()[1]} {first}" in listed, name


@pytest.mark.parametrize("line", ["--help", "train --help", "train fl", "train churn --s"])
def test_help_and_completion_load_nothing_heavy(line: str, desk: Path) -> None:
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    if line.endswith("--help"):
        shown = run(desk, *line.split(), **environment)
    else:
        words = {"COMP_WORDS": f"homelab {line}", "COMP_CWORD": str(len(line.split()))}
        shown = run(desk, _HOMELAB_COMPLETE="complete_bash", **words, **environment)
    loaded = {text.split("|")[-1].strip().partition(".")[0] for text in shown.stderr.splitlines()}
    assert shown.stdout
    assert "typer" in loaded
    # Typer itself reads the words of a command that runs with Pydantic.
    assert loaded & HEAVY <= ({"pydantic"} if line == "train --help" else set())


def test_what_a_script_would_read_is_there_as_json() -> None:
    without = {
        name.removeprefix("homelab ")
        for name, command in commands(get_command(app))
        if not command.hidden and not {"--json", "--output"} & {one for part in command.params for one in part.opts}
    }
    assert without == WITHOUT_JSON


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "nope", "--json"]])
def test_a_reader_who_has_gone_is_no_error(words: list[str], desk: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**clean_environment(), "HOME": str(desk), "PATH": str(desk / "bin")}
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [HOMELAB, *words], cwd=desk, env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "pipe" not in done.stderr.lower()
    assert "stopped" not in done.stderr
    assert done.stderr == "" or words[1:] == ["nope", "--json"]


def test_a_training_on_a_terminal_says_what_differs_from_the_defaults_and_how_far_it_is(desk: Path) -> None:
    env = {**clean_environment(), "HOME": str(desk / "home"), "PATH": str(desk / "bin")}
    terminal.run([HOMELAB, "ingest", "churn", "--source", "demo"], desk, env)
    settings = [word for pair in ("max_bin=64", "eta=0.1", "num_round=60") for word in ("--set", pair)]
    _, shown = terminal.run([HOMELAB, "train", "churn", "--tracking", "files", *settings], desk, env)
    assert re.findall(r"boosting rounds .*?(\d+)/60", shown)
    said = {found[1]: found[2] for found in re.finditer(r"^  (\w+) = (\S+)  \(.*\)\r$", shown, re.MULTILINE)}
    assert {"max_bin": "64", "num_round": "60", "max_depth": "3"}.items() <= said.items()
    assert not {"eta", "tree_method"} & set(said)

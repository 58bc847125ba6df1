"""The forges run the same: GitHub its own files, Forgejo and Gitea one set, which each reads in another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

FORGES = (".github", ".forgejo", ".gitea")


def workflow(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("forge", FORGES)
def test_a_forge_checks_reviews_and_publishes(forge: str) -> None:
    assert sorted(path.stem for path in (ROOT / forge / "workflows").iterdir()) == [
        "check",
        "publish",
        "review",
        "scan",
    ]


@pytest.mark.parametrize("forge", FORGES)
def test_the_first_push_of_a_fork_publishes_and_a_person_can(forge: str) -> None:
    # YAML 1.1 reads the key `on` as true.
    starts = workflow(ROOT / forge / "workflows/publish.yaml")[True]
    assert "workflow_dispatch" in starts
    assert "clusters/homelab/settings.yaml" in starts["push"]["paths"]  # what `homelab init` changes


def test_gitea_has_the_files_of_forgejo() -> None:
    texts = ({path.name: path.read_text() for path in (ROOT / forge / "workflows").iterdir()} for forge in FORGES[1:])
    assert next(texts) == next(texts)


@pytest.mark.parametrize("forge", FORGES)
def test_a_pull_request_does_not_review_itself(forge: str) -> None:
    """The workflow is the base's, `make` runs there, and nothing of the head is a command."""
    path = ROOT / forge / "workflows/review.yaml"
    # YAML reads `on` as true.
    assert list(workflow(path)[True]) == ["pull_request_target"]
    commands = [str(step.get("run", "")) for step in steps(path)]
    made = [step for step in steps(path) if "make " in str(step.get("run", ""))]
    assert len(made) == 1
    if forge == ".github":
        assert made[0]["working-directory"] == "base"
    else:
        assert 'git checkout --quiet "$BASE"\nmake setup programs' in made[0]["run"]
    ran = [
        line.strip()
        for command in commands
        for line in command.splitlines()
        if "homelab" in line and "mark=" not in line
    ]
    assert [line for line in ran if line.startswith(("head/", "./"))] == []
    (promotion,) = (command for command in commands if "homelab check --promotion" in command)
    assert ".venv/bin/homelab check" in promotion
    assert "/.venv" not in promotion.replace("base/.venv", "")
    checks = [command for command in commands if "homelab check" in command and command != promotion]
    assert len(checks) == 1
    assert "rm -rf" in checks[0].partition("homelab check")[0]
    assert "../.venv/bin/homelab check" in checks[0] or "../base/.venv/bin/homelab check" in checks[0]


@pytest.mark.parametrize("forge", FORGES)
def test_nothing_of_a_pull_request_commands_the_runner(forge: str) -> None:
    """A step that prints what the tree holds takes no commands from its output, and edits no comment of a stranger."""
    path = ROOT / forge / "workflows/review.yaml"
    first = [text.splitlines()[0] for step in steps(path) if "/homelab " in (text := str(step.get("run", "")))]
    assert len(first) == 3
    assert all(line.startswith('echo "::stop-commands::$(head -c 16 /dev/urandom') for line in first)
    (comment,) = (str(step["run"]) for step in steps(path) if step.get("name") == "Comment")
    assert ".user.login" in comment.partition("PATCH")[0]


@pytest.mark.parametrize("forge", FORGES)
def test_only_the_comment_can_write(forge: str) -> None:
    path = ROOT / forge / "workflows/review.yaml"
    assert [step["name"] for step in steps(path) if "secrets." in str(step)] == (
        [] if forge == ".github" else ["Comment"]
    )
    if forge == ".github":
        rights = {name: job.get("permissions") for name, job in workflow(path)["jobs"].items()}
        assert rights == {
            "diff": {"contents": "read"},
            "comment": {"actions": "read", "pull-requests": "write"},
            "success": None,
        }

"""What the documents say is so: commands run, links and paths exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import readme
from tests.conftest import PATIENCE, ROOT, clean_environment

DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("requirements/*.md")] if path.is_file()
)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# That the commands run is the point here, and not how well a model learns.
FEW_ROUNDS = 40
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")


def sections(path: Path) -> dict[str, str]:
    """The text under each heading of the second level."""
    parts = re.split(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    "section", ["A retraining, step by step", "The file way", "The tracked way", "Add a model", "When something fails"]
)
def test_the_commands_run(section: str, tmp_path: Path, mlflow_uri: str, homelab_on_path: str) -> None:
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    for model in tmp_path.glob("workflows/models/*/model.yaml"):
        model.write_text(re.sub(r"num_round: \d+", f"num_round: {FEW_ROUNDS}", model.read_text()))
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (block,) = BLOCK.findall(sections(ROOT / "README.md")[section])
    environment = {"PATH": homelab_on_path, "HOMELAB_GIT_COMMIT": "0" * 40, "KUBECONFIG": "", "HOME": str(tmp_path)}
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("http://127.0.0.1:5000", mlflow_uri)],
        cwd=tmp_path,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )
    assert finished.returncode == 0, finished.stderr


def test_every_make_verb_exists() -> None:
    verbs = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z0-9-]+)`|^make ([a-z0-9-]+)", path.read_text(), re.MULTILINE))
        assert {first or second for first, second in named} <= verbs, path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text()):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings}, anchor


SHOWN = """workflow training/churn-x7k2p
  train: Succeeded in 41 s
...
churn version 1 is the champion: http://mlflow.homelab.example/...
"""
PRINTED = """what comes before
workflow training/churn-abcde
  train: Succeeded in 7.5 s
  evaluate: Succeeded in 3 s
churn version 1 is the champion: http://mlflow.home.arpa/#/models
"""


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("", "", ""),
        ("train: Succeeded", "train: Failed", "  train: Succeeded in 41 s"),
        ("version 1", "version 2", "churn version 1 is the champion: http://mlflow.homelab.example/..."),
        ("home.arpa", "other.arpa", "churn version 1 is the champion: http://mlflow.homelab.example/..."),
        ("training/churn-abcde", "training/churn", "workflow training/churn-x7k2p"),
    ],
)
def test_what_is_printed_is_held_to_what_is_shown(old: str, new: str, missing: str) -> None:
    printed = PRINTED.replace(old, new) if old else PRINTED
    assert readme.first_missing(printed, SHOWN, {"homelab.example": "home.arpa"}) == missing
    assert readme.first_missing("\n".join(reversed(PRINTED.splitlines())), SHOWN, {}) != ""

"""The rules: the page shows each of them, and one more of them is one function."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from homelab_mlops.review.rules.table import RULES, SUBJECTS
from tests.conftest import ROOT, clean_environment
from tests.unit.review.document import DOCUMENT, with_tables
from tests.unit.review.repository import commit, link_programs, repository

PACKAGE = ROOT / "src/homelab_mlops"
ONE_MORE = """

@rule(
    "name-changed",
    "note",
    looks_for="a new ConfigMap",
    reason="It is there to be read.",
    action="Read it.",
)
def name_changed(review: Review) -> Said:
    for change in review.of("ConfigMap"):
        if change.action == "added":
            yield str(change.id), "it is new"
"""
NEW = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: new\ndata:\n  a: b\n"


def test_the_page_has_the_table_of_the_rules() -> None:
    """`make docs` writes it."""
    text = DOCUMENT.read_text()
    assert text == with_tables(text)


def test_a_name_stands_once() -> None:
    assert [name for name, count in Counter(rule.name for rule in RULES).items() if count > 1] == []


def test_every_file_of_rules_is_a_subject() -> None:
    files = {path.stem for path in (PACKAGE / "review/rules").glob("*.py")} - {"__init__", "rule", "table"}
    assert files == set(SUBJECTS)


def test_one_more_rule_is_one_function_and_a_line_that_make_docs_writes(tmp_path: Path) -> None:
    """Of the code only the subject's file changes; beside it the page, and the two fixtures of its pair."""
    shutil.copytree(PACKAGE, tmp_path / "src/homelab_mlops")
    with (tmp_path / "src/homelab_mlops/review/rules/data.py").open("a") as file:
        file.write(ONE_MORE)
    root = repository(tmp_path / "clone")
    link_programs(root)
    commit(root, "The tree before")
    (root / "base/store/new.yaml").write_text(NEW)
    kustomization = root / "base/store/kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace("  - network.yaml\n", "  - network.yaml\n  - new.yaml\n")
    )

    def run(*arguments: str) -> str:
        environment = clean_environment({"PYTHONPATH": f"{tmp_path / 'src'}:{ROOT}"})
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    reviewed = run("-c", "from homelab_mlops.cli import main; main()", "diff", "HEAD")
    page = run("-c", "from tests.unit.review.document import table; print(table())")

    assert "note: [name-changed] ConfigMap store/new: it is new" in reviewed
    assert "| `name-changed` | note | a new ConfigMap |" in page

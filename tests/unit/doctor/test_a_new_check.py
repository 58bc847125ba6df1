"""A check of the doctor is one function and one row: what a person changes to add one, done in a copy of the tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, clean_environment, listing

CHECK = '''

@check("gitops", "GITOPS_NO_LICENCE")
def licence(visit: Visit) -> Iterator[Finding]:
    """Whether the repository has a licence."""
    if not (root_of(visit) / "LICENCE.txt").is_file():
        yield Finding("GITOPS_NO_LICENCE", "LICENCE.txt")
'''
FAULT = """_GITOPS = (
    Fault(
        "GITOPS_NO_LICENCE",
        "the repository has no licence",
        "write one, commit and push",
    ),
"""
FILES = {
    "src/homelab_mlops/doctor/gitops.py",
    "src/homelab_mlops/doctor/faults.py",
    "docs/troubleshooting.md",
}


def test_a_new_check_touches_three_files(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0"):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    before = listing(tmp_path)

    with (tmp_path / "src/homelab_mlops/doctor/gitops.py").open("a") as file:
        file.write(CHECK)
    faults = tmp_path / "src/homelab_mlops/doctor/faults.py"
    faults.write_text(faults.read_text().replace("_GITOPS = (\n", FAULT, 1))
    run(tmp_path, "-m", "tests.document")

    changed = {name for name, content in listing(tmp_path).items() if before.get(name) != content}
    assert {name for name in changed if not name.startswith(".tools/")} == FILES
    documented = (tmp_path / "docs/troubleshooting.md").read_text()
    assert "| `GITOPS_NO_LICENCE` | the repository has no licence | write one, commit and push |" in documented
    report = doctor(tmp_path)
    assert [finding["code"] for finding in report["findings"]] == ["GITOPS_NO_LICENCE"]
    (tmp_path / "LICENCE.txt").touch()
    report = doctor(tmp_path)
    assert (report["findings"], report["looked_at"]) == ([], {"gitops": 1})


def doctor(folder: Path) -> Any:
    """The report of the copy's own doctor."""
    command = "from homelab_mlops.cli import main; main()"
    return json.loads(run(folder, "-c", command, "doctor", "--json", "--only", "GITOPS_NO_LICENCE"))


def run(folder: Path, *command: str) -> str:
    """What the copy's own code prints."""
    env = clean_environment({"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "KUBECONFIG": ""})
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout

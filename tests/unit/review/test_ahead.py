"""A review whose commits are read before the command line is known says what any other says."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_mlops.review.ahead import opened, reading
from homelab_mlops.signals import StoppedError
from tests.unit.review.repository import commit, git, link_programs

APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: one, namespace: argocd}
spec:
  project: default
  source: {repoURL: https://git.example.org/one.git, targetRevision: main, path: one}
  destination: {name: in-cluster, namespace: one}
"""
OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {number: '%d'}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    target = tmp_path / "clone"
    (target / "one").mkdir(parents=True)
    git(target, "init", "--quiet", "--initial-branch", "main")
    link_programs(target)
    (target / "one.yaml").write_text(APPLICATION)
    for number in (1, 2, 3):
        (target / "one/object.yaml").write_text(OBJECT % number)
        if number < 3:
            commit(target, f"Number {number}")
    return target


@pytest.fixture
def _as_before() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    gc.enable()
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["HEAD"], ["HEAD~1", "HEAD"], ["HEAD~1..HEAD", "--fail-on", "note"], ["HEAD~1", "-o", "json"],
        ["-o", "json", "HEAD~1"], ["HEAD~1", "-o", "json", "HEAD"], ["nothing"], ["HEAD", "--nothing"],
        ["HEAD", "HEAD", "HEAD"], ["HEAD", "--help"], ["HEAD", "--root", "one.yaml"], ["HEAD", "--root=none.yaml"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_review_is_the_same(root: Path, arguments: list[str]) -> None:
    said = []
    for module in ("start", "cli"):
        program = f"import sys; from homelab_mlops.{module} import main; sys.argv[0] = 'homelab'; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "diff", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1]
    assert "Traceback" not in said[0][2]


@pytest.mark.usefixtures("_as_before")
def test_what_was_read_ahead_goes_when_the_command_is_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    work: list[Path] = []
    with pytest.raises(StoppedError):
        _stop_within(work)
    assert not work[0].exists()


def _stop_within(work: list[Path]) -> None:
    with reading(["HEAD"]), opened("HEAD", None) as (base, head):
        work.append(base.git.work)
        assert head.read("one/object.yaml") == OBJECT % 3
        with opened("HEAD", None) as (again, _):
            assert again is base
        raise StoppedError(143)

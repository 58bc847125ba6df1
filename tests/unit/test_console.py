"""What a person sees while something is long: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from homelab_mlops import console
from homelab_mlops.tables.csv_dialect import Needed
from homelab_mlops.tables.read import read_as_it_is
from tests import terminal
from tests.conftest import Store

PROGRAM = """
from homelab_mlops.console import counted, progress, say, say_verdict
for _ in counted(range(300), "resamples", 300):
    pass
with progress("rounds", 40) as reached:
    for number in range(40):
        reached(number + 1, "validation:auc [0.8]")
    say("in the midst")
with progress("MLflow starts"):
    pass
say_verdict(True, "floor: [0.9]")
say_verdict(False, "champion")
print("the answer")
"""


def test_a_terminal_shows_bars_and_colours() -> None:
    answer, shown = terminal.run([sys.executable, "-c", PROGRAM])
    assert answer == "the answer\n"
    assert "40/40" in shown
    assert "validation:auc [0.8]" in shown
    assert "MLflow starts" in shown
    assert "in the midst" in shown
    assert "\x1b[1;32mpass\x1b[0m  floor: [0.9]" in shown
    assert "\x1b[1;31mFAIL\x1b[0m  champion" in shown


def test_without_a_terminal_nothing_but_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "the answer\n"
    assert "\x1b" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("resamples: ", "rounds: "))]
    assert lines == ["in the midst", "  pass  floor: [0.9]", "  FAIL  champion"]


def test_plain_progress_is_said_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 1.0, 2.5, 5.0, 12.0, 13.0])
    monkeypatch.setattr("homelab_mlops.console.time", SimpleNamespace(monotonic=lambda: next(now)))
    with console.progress("train: rounds", 2000) as reached:
        for number in (100, 200, 300, 1200, 1300):
            reached(number, "auc 0.8")
    assert capsys.readouterr().err.splitlines() == [
        "train: rounds: 200 of 2,000, auc 0.8",
        "train: rounds: 1,300 of 2,000, auc 0.8",
    ]


def test_a_download_and_the_reading_of_a_large_table_say_how_far_they_are(
    minio: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("homelab_mlops.console.FIRST_LINE_SECONDS", 0)
    monkeypatch.setattr("homelab_mlops.console.LINE_SECONDS", 0)
    monkeypatch.setattr("homelab_mlops.tables.read.LARGE", 1000)
    for name, value in minio.env.items():
        monkeypatch.setenv(name, value)
    for number, name in enumerate(("one", "two")):
        body = "a,b\n" + f"1,{number}\n" * 300_000
        minio.client().put_object(Bucket="datasets", Key=f"long/{name}.csv", Body=body.encode())

    read_as_it_is("s3://datasets/long/", tmp_path, Needed((), ()))

    said = capsys.readouterr().err
    assert "download s3://datasets/long/: 1 of 2, 2.4 MB" in said
    assert "read 2 MB of s3://datasets/long/: 2 of 2" in said

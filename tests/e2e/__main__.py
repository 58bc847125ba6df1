"""Runs the end-to-end files that fit into a time, one after the other on one fork, and says of each whether it ran.

    python -m tests.e2e 3600
    python -m tests.e2e --left-out "there is no cluster here"

A test that fails is run once more; what passes only then is named, and what fails again ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.e2e import budget

ROOT = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "--tb=short", "-ra", "-v", "--timeout", "2400"]
# What pytest gets to undo what a test has changed, once its time is over.
GRACE = 120.0


class Ran(NamedTuple):
    """How the tests of a call of pytest ended."""

    code: int
    failed: list[str]


class Result(NamedTuple):
    """How a file ended."""

    passed: bool
    retried: list[str]
    seconds: float


def pytest(tests: list[str], environment: dict[str, str], until: float) -> Ran:
    """Runs tests until a time of the monotonic clock; the names of the failed ones come back through a file."""
    with tempfile.NamedTemporaryFile() as failed:
        process = subprocess.Popen(
            [*PYTEST, *tests], cwd=ROOT, env={**environment, "HOMELAB_E2E_FAILED": failed.name}, start_new_session=True
        )
        try:
            code = process.wait(max(1.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"the time is over for {' '.join(tests)}", flush=True)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return Ran(-1, [])
        return Ran(code, list(dict.fromkeys(Path(failed.name).read_text().splitlines())))


def run(file: str, environment: dict[str, str], until: float) -> Result:
    """Runs a file, and those of its tests that failed once more, or all where they go on from each other."""
    started = time.monotonic()
    whole = [f"tests/e2e/{file}"]
    first = pytest(whole, environment, until)
    tests = whole if file == budget.LAST else first.failed
    again = pytest(tests, environment, until) if first.code == 1 and first.failed else first
    retried = first.failed if again.code == 0 else again.failed or first.failed
    return Result(again.code == 0, retried, time.monotonic() - started)


def run_within(seconds: float) -> tuple[list[str], bool]:
    """Runs what fits into ``seconds``; returns a line for each file, and whether no test failed twice."""
    until = time.monotonic() + seconds
    lines: list[str] = []
    broken, taken, expected = "", 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        environment = {"HOMELAB_E2E_FORK": folder, **os.environ}
        for file in budget.files():
            slowness = taken / expected if expected else 1.0
            choice = budget.choose(file, until - time.monotonic(), slowness)
            if broken or choice.reason:
                lines.append(f"left out  {file}: {choice.reason or f'{broken} failed before it'}")
                continue
            result = run(file, environment, until)
            taken, expected = taken + result.seconds, expected + budget.SECONDS.get(file, budget.UNMEASURED)
            lines.append(f"{'passed' if result.passed else 'FAILED':<9} {file}: {result.seconds:.0f} s")
            what = "only the second time" if result.passed else "failed twice"
            lines += [f"          {what}: {test}" for test in result.retried]
            broken = "" if result.passed else file
    return lines, not broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", help="the time that there is")
    parser.add_argument("--left-out", metavar="REASON", help="run nothing, and name every file with this reason")
    given = parser.parse_args()
    # Whoever is started in the background ignores SIGINT, and so would pytest.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if given.left_out:
        lines, well = [f"left out  {file}: {given.left_out}" for file in budget.files()], True
    elif given.seconds is not None:
        lines, well = run_within(given.seconds)
    else:
        parser.error("say how many seconds there are, or --left-out REASON")
    print("end-to-end files:", *lines, sep="\n", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

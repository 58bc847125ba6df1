"""How long `homelab --help` and the completion of a model's name take, beside bare Python. Warm; medians of eleven."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOMELAB = Path(sys.executable).with_name("homelab")
ROUNDS = 11
COMPLETION = {"_HOMELAB_COMPLETE": "complete_bash", "COMP_WORDS": "homelab train fl", "COMP_CWORD": "2"}
STARTS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], {}, ""),
    "homelab --help": ([str(HOMELAB), "--help"], {}, "retrain"),
    "homelab train fl<TAB>": ([str(HOMELAB)], COMPLETION, "flight-delay"),
}


def seconds(command: list[str], env: dict[str, str], expected: str) -> tuple[float, float]:
    """The time of a clock, and that of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert expected in done.stdout, done.stdout
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    # With it a fresh clone compiles every module at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, start in STARTS.items():
        seconds(*start)
        wall, cpu = zip(*(seconds(*start) for _ in range(ROUNDS)), strict=True)
        print(
            f"{name}: {statistics.median(wall):.2f} s ({min(wall):.2f}-{max(wall):.2f}),"
            f" processor {statistics.median(cpu):.2f} s"
        )


if __name__ == "__main__":
    main()

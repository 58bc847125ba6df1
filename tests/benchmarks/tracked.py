"""What tracking costs: `homelab train flight-delay --tracking mlflow` against a script that only fits and saves.

Both train on all 336,776 flights with the same parameters, in turn; medians of the pairs are compared. Prints also how
long `homelab --help` takes.

    python tests/benchmarks/tracked.py --repeat 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from homelab_mlops.model.spec import TimeSplit, load_spec
from homelab_mlops.pipeline.demo import mlflow_server
from homelab_mlops.pipeline.ingest import ingest

HOMELAB = Path(sys.executable).with_name("homelab")
SCRIPT = Path(__file__).with_name("plain_script.py")


def measure(command: list[str | Path]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MiB of a command."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    start = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-S", "-c", program, *command],
        capture_output=True,
        check=False,
        text=True,
    )
    seconds = time.perf_counter() - start
    if finished.returncode:
        sys.exit(finished.stderr)
    return seconds, int(finished.stdout.split()[-1]) / 1024


def prepare(folder: Path) -> list[str | Path]:
    """Ingests all flights as one window of eleven months and one, and returns the script's command."""
    spec = load_spec("flight-delay")
    assert isinstance(spec.split, TimeSplit)
    text = Path("workflows/models/flight-delay/model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("train: 3 months", "train: 11 months"))
    manifest = ingest(load_spec(str(folder)), folder, "demo", "2014-01-01T05:00")
    subprocess.run([HOMELAB, "validate", folder, "--work", folder], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([HOMELAB, "train", folder, "--work", folder, "--tracking", "files"], check=True, capture_output=True)
    record: dict[str, Any] = json.loads((folder / "train" / "record.json").read_text())
    parameters = dict(record["parameters"])
    settings = {
        "num_round": parameters.pop("num_round"),
        "early_stopping_rounds": parameters.pop("early_stopping_rounds"),
        "parameters": parameters,
        "features": list(spec.features),
        "categories": [name for name, feature in spec.features.items() if feature.type == "category"],
        "train_rows": record["rows"]["train"],
        "validation_rows": record["rows"]["validation"],
    }
    (folder / "parameters.json").write_text(json.dumps(settings))
    print(f"{manifest['rows']:,} rows; {record['rows']}; best round {record['best_round']}")
    return [sys.executable, SCRIPT, folder / "ingest" / "data.parquet", folder / "parameters.json", folder / "m.ubj"]


def report(name: str, ours: list[float], theirs: list[float], unit: str) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{name:8} homelab {statistics.median(ours):8.1f} {unit}   script {statistics.median(theirs):8.1f} {unit}   "
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        script = prepare(folder)
        with mlflow_server(folder / "mlflow"):
            tracked: list[str | Path] = [HOMELAB, "train", folder, "--work", folder, "--tracking", "mlflow"]
            pairs = [(measure(tracked), measure(script)) for _ in range(repeat)]
    ours, theirs = [first for first, _ in pairs], [second for _, second in pairs]
    report("time", [seconds for seconds, _ in ours], [seconds for seconds, _ in theirs], "s")
    report("memory", [memory for _, memory in ours], [memory for _, memory in theirs], "MiB")
    over = [first[0] - 1.15 * second[0] for first, second in pairs]
    print(f"time over 1.15 times the script's: {statistics.median(over):+.1f} s (at most +3 s wanted)")
    helps = [measure([HOMELAB, "--help"])[0] for _ in range(2 * repeat)]
    print(f"homelab --help: median {statistics.median(helps):.3f} s (under 0.3 s wanted)")
    print(f"on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()

"""How long `homelab check` takes, against bare `kustomize build` over the same folders. Warm; medians of five pairs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from homelab_mlops.gitops.render import applications
from homelab_mlops.gitops.tools import find

ROOT = Path(__file__).parents[2]
HOMELAB = Path(sys.executable).with_name("homelab")
PAIRS = 5


def seconds(commands: list[list[str]]) -> float:
    started = time.perf_counter()
    for command in commands:
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - started


def within() -> float:
    """What `homelab check` says that rendering, validation and policies took, without the interpreter's start."""
    done = subprocess.run([str(HOMELAB), "check", "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["seconds"])


def main() -> None:
    kustomize = str(find("kustomize", ROOT))
    folders = [application["spec"]["source"]["path"] for application in applications(ROOT)]
    bare = [[kustomize, "build", folder] for folder in folders if (ROOT / folder / "kustomization.yaml").is_file()]
    whole = [[str(HOMELAB), "check"]]
    seconds(bare + whole)
    rounds = [(seconds(bare), seconds(whole), within()) for _ in range(PAIRS)]
    builds, checks, inside = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"{os.cpu_count()} cores, {len(bare)} folders")
    print(
        f"kustomize build: {builds:.2f} s; homelab check: {checks:.2f} s, of which {inside:.2f} s in the check itself"
    )
    for name, index in (("the command", 1), ("the check itself", 2)):
        ratios = [taken[index] / taken[0] for taken in rounds]
        print(f"ratio, {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()

"""How long `homelab diff` takes, against `kustomize build` of both sides one after the other. Warm; medians.

Two changes: of one overlay, as most pull requests are, and of every Application. For the first time, with nothing kept
from earlier runs, and again.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from homelab_mlops.gitops.render import applications
from homelab_mlops.gitops.tools import find

ROOT = Path(__file__).parents[2]
HOMELAB = Path(sys.executable).with_name("homelab")
PAIRS = 7


def seconds(commands: list[list[str]], root: Path) -> float:
    started = time.perf_counter()
    for command in commands:
        subprocess.run(command, cwd=root, capture_output=True, check=True)
    return time.perf_counter() - started


def clone(folder: Path) -> Path:
    """The committed tree, with the repository's tools."""
    root = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    if (ROOT / ".tools").exists():
        (root / ".tools").symlink_to((ROOT / ".tools").resolve())
        with (root / ".git/info/exclude").open("a") as file:
            file.write(".tools\n")
    return root


def main() -> None:
    kustomize = str(find("kustomize", ROOT))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        os.environ["XDG_CACHE_HOME"] = str(cache)
        root = clone(Path(folder))
        before = Path(folder) / "before"
        shutil.copytree(root, before, symlinks=True)
        paths = [application["spec"]["source"]["path"] for application in applications(root)]
        usable = [
            path
            for path in paths
            if subprocess.run([kustomize, "build", path], cwd=root, capture_output=True).returncode == 0
        ]
        builds = [[kustomize, "build", str(side / path)] for side in (before, root) for path in usable]
        review = [[str(HOMELAB), "diff", "HEAD"]]
        print(f"{os.cpu_count()} cores, {len(usable)} of {len(paths)} applications can be rendered here")
        changes = {
            "one overlay": [root / "overlays/homelab/minio/volume.yaml"],
            "every application": [
                path for name in ("base", "overlays", "workflows") for path in (root / name).rglob("*.yaml")
            ],
        }
        for name, files in changes.items():
            subprocess.run(["git", "checkout", "--quiet", "."], cwd=root, check=True)
            for path in files:
                text = path.read_text()
                path.write_text(
                    text.replace("part-of: homelab-mlops", "part-of: another").replace("storage: 20Gi", "storage: 40Gi")
                )
            seconds(builds + review, root)
            rounds = []
            for _ in range(PAIRS):
                built = seconds(builds, root)
                shutil.rmtree(cache, ignore_errors=True)
                rounds.append((built, seconds(review, root), seconds(review, root)))
            built, first, again = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"{name}: kustomize build of both sides {built:.2f} s")
            for what, index, taken in (("for the first time", 1, first), ("again", 2, again)):
                ratios = [values[index] / values[0] for values in rounds]
                print(
                    f"  homelab diff {what}: {taken:.2f} s; "
                    f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                )


if __name__ == "__main__":
    main()

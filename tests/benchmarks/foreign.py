"""Reviews the last commits of any clone that Argo CD follows, and compares with plain kustomize and helm.

    python -m tests.benchmarks.foreign CLONE [COMMITS]

For each commit, every source of a path that either side has is built by `kustomize build` or `helm template` in a plain
checkout. Each object that differs has to be named by the review, or its Application flagged. Nothing is downloaded.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.gitops.argo_cd.applications import Side
from homelab_mlops.gitops.argo_cd.sides import render_sides
from homelab_mlops.gitops.render import parse
from homelab_mlops.gitops.tools import find
from homelab_mlops.review.report import Report, review
from homelab_mlops.review.run import sides

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
Objects = dict[tuple[str, str], set[str]]


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def checkout(root: Path, commit: str, folder: Path) -> Path:
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=root, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def built(folder: Path, side: Side) -> dict[str, Objects]:
    """By Application, the texts of each object, as plain programs build them; what does not build is left out."""
    found: dict[str, Objects] = {}
    for key, source in side.sources.items():
        paths = [item["path"] for item in source.origins if item.get("path") and len(source.origins) == 1]
        if not paths or source.origins[0].get("kustomize") or source.origins[0].get("plugin"):
            continue
        path = folder / str(paths[0])
        if any((path / name).is_file() for name in KUSTOMIZATIONS):
            command = [str(find("kustomize")), "build", str(path)]
        elif (path / "Chart.yaml").is_file() and not source.origins[0].get("helm"):
            command = ["helm", "template", source.name, str(path), "--namespace", source.namespace, "--include-crds"]
        else:
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode == 0:
            found[key] = objects(done.stdout)
    return found


def objects(text: str) -> Objects:
    found: Objects = {}
    for item in parse(text):
        name = (str(item.get("kind")), str((item.get("metadata") or {}).get("name")))
        found.setdefault(name, set()).add(yaml.safe_dump(item, sort_keys=True))
    return found


def omitted(before: dict[str, Objects], after: dict[str, Objects], report: Report) -> list[str]:
    """What differs and is neither named nor flagged."""
    named = {(group.application, item.kind, item.name) for group in report.groups for item in group.items}
    flagged = " ".join(f"{flag.where} {flag.what}" for flag in report.flags)
    listed = re.findall("what becomes of the objects of (.*?) is not known", flagged)
    unknown = {name for names in listed for name in names.split(", ")}
    missing = []
    for key in before.keys() | after.keys():
        one, other = before.get(key, {}), after.get(key, {})
        for kind, name in one.keys() | other.keys():
            if one.get((kind, name)) == other.get((kind, name)) or f"Application {key}" in flagged or key in unknown:
                continue
            # A generated name ends with a digest, which the review leaves out.
            if not any(k == kind and name.startswith(n) for _, k, n in named):
                missing.append(f"{key}: {kind} {name}")
    return missing


def main(clone: Path, commits: int) -> int:
    faults = 0
    for commit in git(clone, "rev-list", "--first-parent", f"--max-count={commits}", "HEAD").split():
        parents = git(clone, "rev-list", "--parents", "-1", commit).split()[1:]
        if not parents:
            continue
        started = time.perf_counter()
        problems: list[str] = []
        report: Any = None
        try:
            with sides(clone, parents[0], commit) as (old, new), tempfile.TemporaryDirectory() as folder:
                report = review(old, new)
                base, head = render_sides(old, new)
                seconds = time.perf_counter() - started
                trees = [checkout(clone, name, Path(folder) / name) for name in (parents[0], commit)]
                problems = omitted(built(trees[0], base), built(trees[1], head), report)
        except Exception:
            problems, seconds = [traceback.format_exc()], time.perf_counter() - started
        faults += bool(problems)
        said = report.summary if report is not None else "no review"
        print(f"{commit[:10]} {seconds:5.1f} s  {said}")
        for problem in problems:
            print(f"    OMITTED {problem}")
    print(f"{faults} of {commits} commits with an omission or a crash")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 50))

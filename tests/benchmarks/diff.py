"""How long `homelab diff` takes, against `kustomize build` of both sides one after the other. Warm; medians.

This repository after a change of one overlay, as most pull requests are, and of every Application; a repository of a
hundred Applications after the same two changes; and a ConfigMap of a megabyte that is rewritten. For the first time,
with nothing kept from earlier runs, and again. The runs of a round follow each other, so that both sides of a ratio see
the same machine.
"""

from __future__ import annotations

import os
import random
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
KUSTOMIZE = str(find("kustomize", ROOT))
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
MANY = 100
PARTS = ("serviceaccount.yaml", "volume.yaml", "statefulset.yaml", "services.yaml", "networkpolicy.yaml")

APPLICATION = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: app-{0}, namespace: argo-cd}}
spec:
  project: default
  source: {{repoURL: https://git.example.org/many.git, targetRevision: main, path: overlays/app-{0}}}
  destination: {{name: in-cluster, namespace: app-{0}}}
  syncPolicy: {{automated: {{prune: true, selfHeal: true}}}}
"""
OVERLAY = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: app-{0}
resources: [../../base]
labels: [{{pairs: {{part-of: homelab-mlops, instance: app-{0}}}, includeSelectors: false}}]
configMapGenerator: [{{name: settings, literals: [number={0}]}}]
patches:
  - target: {{kind: PersistentVolumeClaim}}
    patch: |-
      - op: replace
        path: /spec/resources/requests/storage
        value: 20Gi
"""
HEADER = """\
| change | kustomize build of both sides | homelab diff, first | ratio | again | ratio |
|---|---|---|---|---|---|"""
FORTY_BECOMES_OF_TWENTY = ("storage: 20Gi", "storage: 40Gi"), ("value: 20Gi", "value: 40Gi")


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {ROUNDS}")
        own = clone(Path(folder))
        paths = [application["spec"]["source"]["path"] for application in applications(own)]
        print(HEADER)
        measure("", own, paths, own / "overlays/homelab/minio/volume.yaml")
        many = hundred(Path(folder) / "many")
        paths = ["apps", *(f"overlays/app-{number}" for number in range(MANY))]
        measure(f" of {MANY} applications", many, paths, many / "overlays/app-7/kustomization.yaml")
        megabyte(own)


def measure(name: str, root: Path, paths: list[str], overlay: Path) -> None:
    """Prints the times of the two changes of a repository, as rows of the table in docs/review.md."""
    before = root.with_name(f"{root.name}-before")
    shutil.copytree(root, before, symlinks=True)
    usable = [path for path in paths if built(root, path)]
    builds = [[KUSTOMIZE, "build", str(side / path)] for side in (before, root) for path in usable]
    everywhere = [path for part in ("base", "overlays", "workflows") for path in (root / part).rglob("*.yaml")]
    print(f"rendered here: {len(usable)} of {len(paths)}", file=sys.stderr)
    every = "every one" if name else "every application"
    for change, files in (("one overlay", [overlay]), (every, everywhere)):
        subprocess.run(["git", "checkout", "--quiet", "."], cwd=root, check=True)
        for path in files:
            text = path.read_text().replace("part-of: homelab-mlops", "part-of: another")
            for old, new in FORTY_BECOMES_OF_TWENTY:
                text = text.replace(old, new)
            path.write_text(text)
        review = [[str(HOMELAB), "diff", "HEAD"]]
        seconds(builds + review, root)
        rounds = []
        for _ in range(ROUNDS):
            base = seconds(builds, root)
            forget()
            rounds.append((base, seconds(review, root), seconds(review, root)))
        cells = [f"of {change}{name}", f"{statistics.median(item[0] for item in rounds):.2f} s"]
        for index in (1, 2):
            ratios = [item[index] / item[0] for item in rounds]
            cells.append(f"{statistics.median(item[index] for item in rounds):.2f} s")
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        print(f"| {' | '.join(cells)} |", flush=True)


def megabyte(root: Path) -> None:
    """Prints how much longer a review takes where a ConfigMap of a megabyte is rewritten."""
    words, chance = ["minio", "bucket", "policy", "lifecycle", "tenant", "object", "rule"], random.Random(7)
    overlay = root / "overlays/homelab/minio"

    def rewritten() -> str:
        lines = (" ".join(chance.choices(words, k=6)) for _ in range(25_000))
        return "\n".join(lines)[:1_000_000] + "\n"

    subprocess.run(["git", "checkout", "--quiet", "."], cwd=root, check=True)
    kustomization = overlay / "kustomization.yaml"
    kustomization.write_text(
        f"{kustomization.read_text()}\nconfigMapGenerator:\n  - {{name: big, namespace: minio, files: [big.txt]}}\n"
    )
    one, other = rewritten(), rewritten()
    (overlay / "big.txt").write_text(one)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgSign=false"]
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", "A large ConfigMap"], cwd=root, check=True)
    review = [[str(HOMELAB), "diff", "HEAD"]]
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for text in (f"{one}one more line\n", other):
            (overlay / "big.txt").write_text(text)
            forget()
            taken.append(seconds(review, root))
        rounds.append((taken[0], taken[1], taken[1] - taken[0]))
    line, whole, more = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"\na ConfigMap of 1 MB: one line {line:.2f} s, rewritten {whole:.2f} s; {more:.2f} s more")


def seconds(commands: list[list[str]], root: Path) -> float:
    started = time.perf_counter()
    for command in commands:
        subprocess.run(command, cwd=root, capture_output=True, check=True)
    return time.perf_counter() - started


def built(root: Path, path: str) -> bool:
    return subprocess.run([KUSTOMIZE, "build", path], cwd=root, capture_output=True).returncode == 0


def forget() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def clone(folder: Path) -> Path:
    """The committed tree, with the repository's tools."""
    root = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    if (ROOT / ".tools").exists():
        (root / ".tools").symlink_to((ROOT / ".tools").resolve())
        with (root / ".git/info/exclude").open("a") as file:
            file.write(".tools\n")
    return root


def hundred(root: Path) -> Path:
    """A repository of many Applications, each an overlay of what this repository's MinIO is made of."""
    (root / "base").mkdir(parents=True)
    for name in PARTS:
        shutil.copy(ROOT / "base/minio" / name, root / "base" / name)
    parts = "".join(f"  - {name}\n" for name in PARTS)
    (root / "base/kustomization.yaml").write_text(f"resources:\n{parts}")
    for number in range(MANY):
        overlay, application = root / f"overlays/app-{number}", root / f"apps/app-{number}.yaml"
        for path, text in ((overlay / "kustomization.yaml", OVERLAY), (application, APPLICATION)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(number))
    resources = "".join(f"  - app-{number}.yaml\n" for number in range(MANY))
    (root / "apps/kustomization.yaml").write_text(f"resources:\n{resources}")
    tool = [root / ".tools"] if (ROOT / ".tools").exists() else []
    for link in tool:
        link.symlink_to((ROOT / ".tools").resolve())
    (root / ".gitignore").write_text(".tools\n")
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgSign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "Many"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


if __name__ == "__main__":
    main()

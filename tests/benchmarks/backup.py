"""How long a backup takes, beside restic's own time for the same bytes from a folder, and how much memory.

A MinIO holds random bytes in large and small objects, as models and their small files are. In turn: restic stores the
same bytes from a folder into an empty repository; `homelab backup take` stores them from MinIO into an empty one. Then
one in a hundred bytes changes, and both store again. Every time is that of the whole command; the median counts.

    python -m tests.benchmarks.backup [--mib 1024] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import HOMELAB, ROOT, Store, clean_environment, minio_server
from tests.unit.backup.conftest import postgresql_server, server_programs

from homelab_mlops.backup.database import execute
from homelab_mlops.gitops import tools

LARGE, SMALL, SMALLS = 8 << 20, 20_000, 300
ALLOWED, SECOND_ALLOWED = 1.5, 0.2


def measured(command: list[str], env: dict[str, str], folder: Path) -> tuple[float, float]:
    """Seconds, and the largest resident size in MB of any one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode()}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def put(store: Store, source: Path, key: str, size: int) -> None:
    """Writes the same random bytes into the store and into the folder."""
    content = secrets.token_bytes(size)
    (source / key).write_bytes(content)
    store.client().put_object(Bucket="mlflow", Key=f"artifacts/{key}", Body=content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    programs = server_programs()
    if programs is None:
        sys.exit("PostgreSQL is not here")
    restic = str(tools.find("restic", ROOT))
    with (
        tempfile.TemporaryDirectory() as temporary,
        minio_server(Path(temporary)) as store,
        postgresql_server(programs) as server,
    ):
        folder, source = Path(temporary), Path(temporary, "source")
        source.mkdir()
        store.client().create_bucket(Bucket="mlflow")
        for name in ("mlflow", "mlflow_auth"):
            execute(server, f"CREATE DATABASE {name}")
        large = given.mib * (1 << 20) // LARGE
        for number in range(large):
            put(store, source, f"large-{number}", LARGE)
        for number in range(SMALLS):
            put(store, source, f"small-{number}", SMALL)
        uri = f"postgresql://mlflow@{server.host}:{server.port}"
        env = clean_environment(store.env) | {
            "PATH": f"{Path(restic).parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "RESTIC_PASSWORD": "x",
            "BACKUP_PASSWORD": "x",
            "MLFLOW_BACKEND_STORE_URI": f"{uri}/mlflow",
            "MLFLOW_AUTH_DATABASE_URI": f"{uri}/mlflow_auth",
        }
        sides = {
            "restic": [restic, "backup", "--quiet", "."],
            "homelab": [str(HOMELAB), "backup", "take", "--scratch", str(folder / "scratch")],
        }
        times: dict[tuple[str, str], list[float]] = {}
        memory: dict[str, float] = {}
        for number in range(given.rounds):
            for side, command in sides.items():
                target = str(folder / f"{side}-{number}")
                env |= {"RESTIC_REPOSITORY": target, "BACKUP_TARGET": target}
                measured([restic, "init"], env, source)
                seconds, used = measured(command, env, source)
                times.setdefault((side, "first"), []).append(seconds)
                memory[side] = max(memory.get(side, 0.0), used)
            for changed in range(max(1, round(large / 100))):
                put(store, source, f"large-{(number * 10 + changed) % large}", LARGE)
            for side, command in sides.items():
                target = str(folder / f"{side}-{number}")
                env |= {"RESTIC_REPOSITORY": target, "BACKUP_TARGET": target}
                times.setdefault((side, "second"), []).append(measured(command, env, source)[0])
                shutil.rmtree(target)
            print(
                f"round {number + 1}: load {os.getloadavg()[0]:.1f}, "
                + ", ".join(f"{side} {which} {values[-1]:.1f} s" for (side, which), values in times.items()),
                flush=True,
            )
        medians = {key: statistics.median(values) for key, values in times.items()}
        ours, theirs = medians["homelab", "first"], medians["restic", "first"]
        second = medians["homelab", "second"]
        print(
            f"{given.mib} MiB: restic {theirs:.1f} s, {memory['restic']:.0f} MB; homelab backup {ours:.1f} s, "
            f"{memory['homelab']:.0f} MB: {ours / theirs:.2f} times ({ALLOWED} are allowed); with 1 % changed "
            f"{second:.1f} s, {second / ours:.2f} of the first ({SECOND_ALLOWED} are allowed); restic's own second "
            f"{medians['restic', 'second']:.1f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )


if __name__ == "__main__":
    main()

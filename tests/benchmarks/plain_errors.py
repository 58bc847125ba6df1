"""What a plain `mlflow.xgboost.log_model` says of each fault of tracking and store, and after how many seconds.

The faults are those of tests/unit/doctor/lab.py. A fault of the store is met as where MLflow does not serve the
artifacts: the client writes them to the bucket itself. That of a table is met by boto3, which reads it. So that each
script ends, MLflow may try a request three times instead of eight, and wait 10 s for an answer instead of 120 s.

    python -m tests.benchmarks.plain_errors                    # prints
    python -m tests.benchmarks.plain_errors --write            # writes docs/troubleshooting.md too
    python -m tests.benchmarks.plain_errors --only STORE_DNS --write
    python -m tests.benchmarks.plain_errors --only none --write   # the document alone, of what was measured before
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import clean_environment, minio_server
from tests.unit.doctor.conftest import made_lab
from tests.unit.doctor.document import DOCUMENT, MEASURED, with_tables
from tests.unit.doctor.lab import STORE, TRACKING, Fault, Lab, NoDiskError, Scene, made

from homelab_mlops.doctor.faults import FAULTS

LOGS_MODEL = Path(__file__).with_name("plain_log_model.py")
READS_TABLE = Path(__file__).with_name("plain_read_table.py")
LIMITS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
PATIENCE_SECONDS = 180.0
LONGEST = 220
# The line of an exception, and those after it that belong to its message.
_RAISED = re.compile(
    r"^[A-Za-z_][\w.]*(?:Error|Exception|Timeout|\w+Failed)\b.*(?:\n(?!\S*Traceback).*)*", re.MULTILINE
)


def faults(only: list[str]) -> dict[str, Fault]:
    """The first scene of each code; those of the store with the store's own settings before those behind MLflow."""
    chosen: dict[str, Fault] = {}
    for code, fault in [*TRACKING.values(), *STORE.values()]:
        if code.startswith("TRACKING"):
            chosen.setdefault(code, fault)
    for code, fault in [*STORE.values(), *TRACKING.values()]:
        chosen.setdefault(code, fault)
    return {code: fault for code, fault in chosen.items() if not only or code in only}


def measure(lab: Lab, scene: Scene, number: int) -> dict[str, Any] | None:
    """What a script says in a scene; None where it does not meet the fault, since it runs no server."""
    location = scene.env.get("MLFLOW_ARTIFACTS_DESTINATION", "")
    source: dict[str, str] = {}
    command: list[str | Path]
    if location or "MLFLOW_TRACKING_URI" in scene.env:
        name = scene.models[0].name if scene.models else f"plain-{number}"
        command = [sys.executable, LOGS_MODEL, name, *([location] if location else [])]
    elif scene.model_given:
        command, source = [sys.executable, READS_TABLE, scene.models[0].source], {"source": "boto3, download_file"}
    else:
        return None
    env = clean_environment({"MLFLOW_TRACKING_URI": lab.mlflow, **LIMITS, **scene.env})
    with tempfile.TemporaryDirectory() as folder, Path(folder, "said").open("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=env, cwd=folder)
        assert process.stdout is not None
        process.stdout.readline()  # it has imported what it needs
        start = time.monotonic()
        try:
            failed = process.wait(PATIENCE_SECONDS) != 0
            said.seek(0)
            says = last_line(said.read(), lab) if failed else ""
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            says = "still waiting"
        process.stdout.close()
        return {**source, "says": says, "seconds": round(time.monotonic() - start)}


def last_line(text: str, lab: Lab) -> str:
    """The exception at the end of a traceback, on one line, without what only this machine has."""
    raised = _RAISED.findall(text)
    said = " ".join((raised[-1] if raised else text[-LONGEST:]).split())
    said = re.sub(rf"{re.escape(tempfile.gettempdir())}/\w+", "…", said.replace(str(lab.folder), "…"))
    said = re.sub(r"\b(?:127\.0\.0\.1|127\.1|localhost)(?:', port=|:)\d+", "HOST:PORT", said)
    said = re.sub(r"0x[0-9a-f]{6,}|\b[0-9a-f]{32}\b|\b[0-9A-F]{16}\b", "ID", said)
    # The kind of the exception is at its beginning, and what caused it often at its end.
    return said if len(said) <= LONGEST else f"{said[: LONGEST // 2]} … {said[-LONGEST // 2 :]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="CODE", help="measure this one; repeatable")
    parser.add_argument("--write", action="store_true", help="write the document and the figures it is made of")
    options = parser.parse_args()
    rows: dict[str, Any] = json.loads(MEASURED.read_text()) if MEASURED.is_file() and options.only else {}
    wanted = faults(options.only)
    if wanted:
        with laboratory() as lab:
            for number, (code, fault) in enumerate(wanted.items()):
                with contextlib.suppress(NoDiskError), made(fault, lab) as (broken, _):
                    row = measure(lab, broken, number)
                    print(f"{code}: {row}", flush=True)
                    if row is not None:
                        rows[code] = row
    if options.write:
        MEASURED.parent.mkdir(exist_ok=True)
        ordered = {code: rows[code] for code in FAULTS if code in rows}
        MEASURED.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))


@contextlib.contextmanager
def laboratory() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as name, minio_server(Path(name)) as minio:
        folder = Path(name) / "lab"
        folder.mkdir()
        with made_lab(folder, minio) as lab:
            yield lab


if __name__ == "__main__":
    main()

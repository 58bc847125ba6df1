"""How long `homelab ingest` takes, and how much memory, beside PyArrow's own way from file to Parquet.

The table is that of the 336,776 flights, as CSV and as Parquet. In turn, each in a process of its own: PyArrow reads
the file and writes it as Parquet; `homelab ingest flight-delay` reads, checks and writes it. The ratio is that of the
medians; one second is allowed for what ingest does beside, its start included.

    python tests/benchmarks/ingest.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from homelab_mlops.model.demo_tables import built_in

ROOT = Path(__file__).parents[2]
HOMELAB = Path(sys.executable).with_name("homelab")
ROUNDS = 5
ALLOWED, BESIDE = 1.3, 1.0
_PLAIN = {
    "csv": "import sys, pyarrow.csv as c, pyarrow.parquet as p; p.write_table(c.read_csv(sys.argv[1]), sys.argv[2])",
    "parquet": "import sys, pyarrow.parquet as p; p.write_table(p.read_table(sys.argv[1]), sys.argv[2])",
}


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the largest resident size in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = _waited(process)
    if status:
        raise SystemExit(f"{' '.join(command)}: {said.decode()}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def _waited(process: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    import os

    found = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(found[1])
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = pa.Table.from_pandas(built_in("flights-with-weather"), preserve_index=False)
        pacsv.write_csv(table, folder / "flights.csv")
        pq.write_table(table, folder / "flights.parquet")
        for kind in _PLAIN:
            source = folder / f"flights.{kind}"
            plain = [sys.executable, "-c", _PLAIN[kind], str(source), str(folder / "out.parquet")]
            ours = [str(HOMELAB), "ingest", "flight-delay", "--work", str(folder / "work"), "--source", str(source)]
            measured(plain), measured(ours)
            rounds = [(measured(plain), measured(ours)) for _ in range(ROUNDS)]
            (theirs, their_memory), (seconds, memory) = (
                tuple(statistics.median(values) for values in zip(*side, strict=True))
                for side in zip(*rounds, strict=True)
            )
            bound = ALLOWED * theirs + BESIDE
            print(
                f"{kind}, {source.stat().st_size / 1e6:.0f} MB, {table.num_rows:,} rows: PyArrow {theirs:.2f} s, "
                f"{their_memory:.0f} MB; homelab ingest {seconds:.2f} s ({bound:.2f} are allowed), {memory:.0f} MB "
                f"({memory / their_memory:.2f} times; {ALLOWED} are allowed)"
            )


if __name__ == "__main__":
    main()

"""The README's first command ends as it says, and its addresses answer once MLflow is opened again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import httpx

from tests import readme
from tests.conftest import HOMELAB, PATIENCE, ROOT, clean_environment

RUN = re.compile(
    r"(http://127\.0\.0\.1:\d+)/#/experiments/\d+/runs/([0-9a-f]{32})\?workflowType=machine_learning$", re.M
)


def test_the_demo_shows_what_the_readme_shows_and_its_addresses_answer_afterwards(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    env = {**clean_environment(), "HOME": str(tmp_path), "COLUMNS": "80", "HOMELAB_GIT_COMMIT": "0" * 40}
    done = subprocess.run(
        [HOMELAB, "demo"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    (_, table, *_) = readme.blocks("## Try it")
    assert "churn 2" in table
    assert [line for line in table.splitlines() if line not in done.stdout.splitlines()] == []
    runs = RUN.findall(done.stderr)
    assert len(runs) == 2

    opened = subprocess.Popen(
        [HOMELAB, "ui"], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    watchdog = threading.Timer(PATIENCE, opened.kill)
    watchdog.start()
    try:
        assert opened.stderr is not None
        assert any("Ctrl-C" in line for line in opened.stderr)
        for server, run in runs:
            answer = httpx.get(f"{server}/api/2.0/mlflow/runs/get?run_id={run}", trust_env=False, timeout=PATIENCE)
            assert answer.json()["run"]["info"]["status"] == "FINISHED"
    finally:
        os.killpg(opened.pid, signal.SIGTERM)
        opened.communicate()
        watchdog.cancel()

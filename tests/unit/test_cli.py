"""What the command line says when it ends otherwise than by itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HOMELAB, ROOT, clean_environment


@pytest.mark.parametrize("command", ["--help", "--version", "models --json", "train --help"])
def test_a_closed_pipe_is_nothing_to_complain_about(command: str, tmp_path: Path) -> None:
    """As `homelab --help | head -1` closes it, only that here it is closed before the first line."""
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [HOMELAB, *command.split()],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment({"KUBECONFIG": str(tmp_path / "none")}),
        timeout=120,
        check=False,
    )
    os.close(writer)

    assert [line for line in done.stderr.splitlines() if "cannot be asked" not in line] == []

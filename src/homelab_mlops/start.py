"""The command `homelab`: what takes long begins while the command line is still being loaded."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] != ["diff"]:
        _run()
    else:
        from homelab_mlops.review.ahead import reading
        from homelab_mlops.signals import stop_on_signals

        stop_on_signals()
        with reading(sys.argv[2:]):
            _run()


def _run() -> None:
    from homelab_mlops.cli import main as run

    run()

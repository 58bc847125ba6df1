"""The signals that end a command: it stops where it is, and what it began is taken back."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn


class StoppedError(SystemExit):
    """A signal has ended the command."""


def stop_on_signals() -> None:
    """Lets each signal that ends a command raise an error, which ends every block on its way."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        signal.signal(signal.SIGHUP, _stop)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    raise StoppedError(128 + signum)

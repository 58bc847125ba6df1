"""One console for people: results on stdout, progress and errors on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from homelab_mlops.errors import HomelabError


def stdout() -> Console:
    """The console for what a command answers."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """The console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints one plain line of progress; brackets in it are text, not markup."""
    stderr().print(text, markup=False)


def print_json(value: Any) -> None:
    """Prints ``value`` as the JSON document that a script reads."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def print_error(error: HomelabError) -> None:
    """Prints an error in at most three lines: what, where, and the fix."""
    from rich.text import Text

    console = stderr()
    code = f"[{error.code}] " if error.code else ""
    console.print(Text.assemble(("error: ", "bold red"), (code, "bold"), error.what))
    if error.where:
        console.print(Text.assemble(("  where: ", "bold"), error.where))
    if error.fix:
        console.print(Text.assemble(("  fix:   ", "bold"), error.fix))

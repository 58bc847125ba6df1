"""One console for people: results on stdout, progress and errors on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from homelab_mlops.errors import HomelabError

T = TypeVar("T")
Reached = Callable[..., None]
# Without a terminal: seconds until the first line of progress, and between further ones.
FIRST_LINE_SECONDS, LINE_SECONDS = 2.0, 10.0


def stdout() -> Console:
    """The console for the answer of a command."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """The console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints one plain line of progress. It does not load Rich, which takes longer than some steps."""
    if sys.stderr:
        sys.stderr.write(f"{text}\n")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Reached]:
    """Shows the progress of a long block: on a terminal a live line, elsewhere a line from time to time.

    Yields:
        A function to call with the number reached, out of ``total``, and a few words.
    """
    console = stderr()
    if not console.is_terminal:
        yield _plain_lines(what, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    columns += [BarColumn(bar_width=30), MofNCompleteColumn()] if total else []
    columns += [TextColumn("{task.fields[note]}", markup=False)]
    # The output of the block does not go through this console.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=5) as shown:
        task = shown.add_task(what, total=total, note="")

        def reached(number: int, note: str = "") -> None:
            shown.update(task, completed=number, note=note)

        yield reached


def _plain_lines(what: str, total: int | None) -> Reached:
    due = time.monotonic() + FIRST_LINE_SECONDS

    def reached(number: int, note: str = "") -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + LINE_SECONDS
            say(f"{what}: {number:,}{f' of {total:,}' if total else ''}{f', {note}' if note else ''}")

    return reached


def counted(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items one by one, with `progress`."""
    with progress(what, total) as reached:
        for number, item in enumerate(items, 1):
            yield item
            reached(number)


def say_verdict(passed: bool, text: str) -> None:
    """Prints one line of progress that begins with a green ``pass`` or a red ``FAIL``."""
    from rich.text import Text

    mark = ("pass", "bold green") if passed else ("FAIL", "bold red")
    stderr().print(Text.assemble("  ", mark, "  ", text))


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

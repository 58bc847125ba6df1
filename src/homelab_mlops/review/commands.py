"""The command of the review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command()
def diff(
    base: Annotated[
        str | None,
        typer.Argument(help="A commit (default: the merge base with the branch of Argo CD).", show_default=False),
    ] = None,
    head: Annotated[
        str | None, typer.Argument(help="A commit (default: the working tree, as it is).", show_default=False)
    ] = None,
    output: Annotated[
        Literal["text", "markdown", "json", "html"], typer.Option("--output", "-o", help="The format.")
    ] = "text",
    file: Annotated[Path | None, typer.Option(help="The file to write (default: standard output).")] = None,
    rest: Annotated[
        Path | None, typer.Option(help="With Markdown: a file for the whole review, where a comment is too short.")
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(help="File of a root Application (default: those that no other Application renders)."),
    ] = None,
    fail_on: Annotated[
        Literal["note", "warning", "danger"] | None, typer.Option(help="Exit with 3 where a flag is as bad or worse.")
    ] = None,
) -> None:
    """Show what a change changes in the cluster, object by object, and which changes are dangerous.

    Needs no cluster, and leaves the clone as it is. The exit code is 0 where the review could be made, 3 where
    --fail-on found something, 1 where a side has no Application, or this clone lacks it. A flag names each part that
    cannot be rendered.

    \b
    homelab diff
    homelab diff main..feature --fail-on danger
    homelab diff -o html --file review.html
    """
    from homelab_mlops.review.diff import diff_command

    if not diff_command(base, head, roots=tuple(root or ()), output=output, file=file, rest=rest, fail_on=fail_on):
        raise typer.Exit(3)

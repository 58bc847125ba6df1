"""The commands of the pipeline's steps."""

from __future__ import annotations

import typer

app = typer.Typer()

"""The commands of the repository and the cluster."""

from __future__ import annotations

import typer

app = typer.Typer()

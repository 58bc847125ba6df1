"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="The private sealing key (default: the one in ~/.config/homelab-mlops/homelab that fits).",
        show_default=False,
        dir_okay=False,
    ),
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig (default: the current one).")]
Deadline = Annotated[int, typer.Option(min=0, help="Seconds to wait for a cluster that is coming up.")]

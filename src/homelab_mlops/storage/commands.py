"""The commands of the object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
storage = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring the object store to its declared state.")
app.add_typer(storage, name="storage", hidden=True)


@storage.command()
def apply(file: Annotated[Path, typer.Argument(help="A storage.yaml.", exists=True, dir_okay=False)]) -> None:
    """Make buckets, rules and users those of a file. Safe to run again.

    The server is MINIO_ENDPOINT, its administrator MINIO_ROOT_USER and MINIO_ROOT_PASSWORD.

    \b
    homelab storage apply base/minio/storage.yaml
    """
    import os

    from homelab_mlops.storage.declaration import load
    from homelab_mlops.storage.provision import apply as provision

    provision(load(file), os.environ)

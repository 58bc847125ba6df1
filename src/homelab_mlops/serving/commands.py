"""The commands of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
SERVING = "Serving"


@app.command(rich_help_panel=SERVING)
def serve(
    model: Annotated[str, typer.Argument(help="A registered model.", envvar="HOMELAB_MODEL", show_default=False)],
    version: Annotated[
        str,
        typer.Argument(help="Its version; 0 for none yet.", envvar="HOMELAB_MODEL_VERSION", show_default=False),
    ],
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on (default: loopback; with a login, all).")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
    metrics_port: Annotated[int | None, typer.Option("--metrics-port", help="Where Prometheus reads.")] = None,
) -> None:
    """Serve a model version of the registry over HTTP.

    \b
    homelab serve churn 3
    curl -d '{"tenure": 5, ...}' -H 'content-type: application/json' http://127.0.0.1:8080/rows
    """
    from homelab_mlops.errors import ParameterError
    from homelab_mlops.serving.server import serve as run

    if not version.isdigit():
        raise ParameterError(
            f"{version!r} is not the number of a version", where=model, fix="`homelab models` lists them"
        )
    run(model, version, host, port, metrics_port)


@app.command(rich_help_panel=SERVING, hidden=True)
def alias(
    folder: Annotated[Path, typer.Argument(help="The manifests of the models.", exists=True, file_okay=False)],
    commit: Annotated[str, typer.Option("--commit", help="That names the versions.", envvar="HOMELAB_GIT_COMMIT")] = "",
) -> None:
    """Bring the alias `champion` of each model to the version that git names; a job runs it at each sync.

    \b
    homelab alias overlays/homelab/serving
    """
    from homelab_mlops.serving.alias import follow

    follow(folder, commit)

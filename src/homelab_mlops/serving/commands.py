"""The commands of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homelab_mlops import completion

app = typer.Typer()
SERVING = "Serving"


@app.command(rich_help_panel=SERVING)
def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="A registered model, or the folder that a training wrote.",
            envvar="HOMELAB_MODEL",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    version: Annotated[
        str | None,
        typer.Argument(
            help="Its version in the registry; 0 for none yet.",
            envvar="HOMELAB_MODEL_VERSION",
            show_default=False,
            autocompletion=completion.versions,
        ),
    ] = None,
    sha256: Annotated[
        str,
        typer.Option("--sha256", metavar="HEX", help="What its files have to be.", envvar="HOMELAB_MODEL_SHA256"),
    ] = "",
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on (default: loopback; with a login, all).")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
    metrics_port: Annotated[int | None, typer.Option("--metrics-port", help="The port that Prometheus reads.")] = None,
) -> None:
    """Serve a model over HTTP: a version of the registry, or the result of a training in a folder.

    \b
    homelab serve churn 3
    homelab serve work/train
    curl http://127.0.0.1:8080/   # what the model takes
    curl -d @row.json -H 'content-type: application/json' http://127.0.0.1:8080/rows
    """
    from homelab_mlops.errors import ParameterError

    # This check comes before the libraries of the service are loaded, which takes seconds.
    if version is None and not Path(model).is_dir():
        raise ParameterError(
            f"which version of {model!r}?",
            fix=f"`homelab models {model}` lists them: `homelab serve {model} 3`; for a model trained with files give "
            "the folder: `homelab serve work/train`",
        )
    if version is not None and not version.isdigit():
        raise ParameterError(
            f"{version!r} is not the number of a version", where=model, fix="`homelab models` lists them"
        )
    from homelab_mlops.model.artifact import is_sha256

    if sha256 and not is_sha256(sha256):
        raise ParameterError(
            f"{sha256[:80]!r} is not a SHA-256", where=model, fix="`homelab promote` writes the one that git names"
        )
    from homelab_mlops.serving.server import serve as run
    from homelab_mlops.serving.source import load_files

    if version is None:
        trained = load_files(Path(model))
        run(trained.name, trained.version, host, port, metrics_port, trained)
    else:
        run(model, version, host, port, metrics_port, sha256=sha256)


@app.command(rich_help_panel=SERVING, hidden=True)
def alias(
    folder: Annotated[Path, typer.Argument(help="The manifests of the models.", exists=True, file_okay=False)],
    commit: Annotated[
        str, typer.Option("--commit", help="The commit that names the versions.", envvar="HOMELAB_GIT_COMMIT")
    ] = "",
) -> None:
    """Bring the alias `champion` of each model to the version that git names; a job runs it at each sync.

    \b
    homelab alias overlays/homelab/serving
    """
    from homelab_mlops.serving.alias import follow

    follow(folder, commit)

"""The commands of a running cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from homelab_mlops import completion
from homelab_mlops.gitops.options import Context, Deadline, KeyFile

app = typer.Typer()


@app.command()
def bootstrap(
    context: Context = None,
    key_file: KeyFile = None,
    deadline: Annotated[int, typer.Option(min=30, help="Seconds within which everything must be green.")] = 1800,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether this is the right cluster.")] = False,
) -> None:
    """Bring the platform up on an empty cluster, or repair it: sealing key, Argo CD, root Application.

    \b
    homelab bootstrap --context k3s
    """
    from homelab_mlops.cluster.bootstrap import bootstrap as run_bootstrap

    run_bootstrap(context, key_file=key_file, deadline=deadline, yes=yes)


@app.command()
def status(
    context: Context = None,
    deadline: Deadline = 60,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Show every application, each part that is not ready and why, and the last workflow of each model.

    The exit code is 0 only when every application is Synced and Healthy.

    \b
    homelab status
    homelab status --json | jq .green
    """
    from homelab_mlops.cluster.status import status_command

    if not status_command(context, deadline=deadline, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def run(
    model: Annotated[
        str,
        typer.Argument(
            help="A model with a CronWorkflow, such as churn.", show_default=False, autocompletion=completion.models
        ),
    ],
    context: Context = None,
    deadline: Annotated[int, typer.Option(min=1, help="Seconds to follow it.")] = 3600,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for its end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Start a model's retraining now, and follow it step by step to the address of its MLflow run.

    \b
    homelab run churn
    homelab run churn --json | jq -r .registration.version
    """
    from homelab_mlops.cluster.run import run as run_model

    run_model(model, context, deadline=deadline, follow=follow, as_json=as_json)


@app.command()
def models(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Only this model, with all its versions.", show_default=False, autocompletion=completion.models
        ),
    ] = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Show each model's version in git, its champion and the version that serves; and each version with its verdict.

    \b
    homelab models
    homelab models churn
    """
    from homelab_mlops.cluster.models import models_command

    models_command(model, context, as_json=as_json)


@app.command()
def promote(
    model: Annotated[
        str,
        typer.Argument(
            help="A model with a manifest, such as churn.", show_default=False, autocompletion=completion.models
        ),
    ],
    version: Annotated[
        str,
        typer.Argument(help="Its version; 0 for none.", show_default=False, autocompletion=completion.versions),
    ],
    context: Context = None,
    deadline: Deadline = 60,
    as_stored: Annotated[
        bool, typer.Option("--as-stored", help="Take the files that lie in the store, where no training recorded them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Commit a version and the SHA-256 of its files, which serve after the next push; `git revert` is the way back.

    \b
    homelab promote churn 7
    """
    from homelab_mlops.cluster.models import promote_command

    promote_command(model, version, context, deadline=deadline, as_stored=as_stored, as_json=as_json)


@app.command()
def login(
    service: Annotated[
        Literal["argo-cd", "argo", "mlflow", "models", "minio"], typer.Argument(help="Where to.", show_default=False)
    ],
    context: Context = None,
    key_file: KeyFile = None,
    opens: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page (default: where there is a desktop).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Print where a service answers, and the user and password, or the token, of a person.

    The token of Argo is valid for 12 hours, and only lets a person read. docs/logins.md says how to add and remove
    people.

    \b
    homelab login argo-cd
    homelab login mlflow --json | jq -r .password
    """
    from homelab_mlops.cluster.login import login_command

    login_command(service, context, key_file=key_file, opens=opens, as_json=as_json)


data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Bring tables to the cluster.")
app.add_typer(data, name="data")


@data.command()
def push(
    model: Annotated[
        str,
        typer.Argument(
            help="The model whose data.source is written.", show_default=False, autocompletion=completion.models
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option(help="A Parquet or CSV file (default: the built-in table).", show_default=False, exists=True),
    ] = None,
    context: Context = None,
) -> None:
    """Upload a model's table to the bucket `datasets`, through the API server.

    \b
    homelab data push churn
    homelab data push churn --file customers.csv
    """
    from homelab_mlops.cluster.data import push as push_table

    push_table(model, file, context)

"""The commands of the repository and the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="The private sealing key (default: ~/.config/homelab-mlops/homelab/sealing-key.pem).",
        show_default=False,
        dir_okay=False,
    ),
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig (default: the current one).")]


@app.command()
def init(
    repository: Annotated[str | None, typer.Option(help="Address of your repository, as Argo CD reaches it.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch that Argo CD follows.")] = None,
    domain: Annotated[str | None, typer.Option(help="Domain below which the services answer.")] = None,
    storage_class: Annotated[str | None, typer.Option(help="StorageClass of the volumes.")] = None,
    image_registry: Annotated[str | None, typer.Option(help="Registry and folder of the project's own images.")] = None,
    argo_cd_release: Annotated[
        str | None, typer.Option("--argo-cd-version", help="Release of Argo CD to pin, such as v3.6.1.")
    ] = None,
    key_file: KeyFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: what is not given stays as it is.")] = False,
) -> None:
    """Make a fork your own: settings, sealing key, credentials. Safe to run again.

    Asks for what is not given. Writes only sealed credentials; the private key goes outside the repository.

    \b
    homelab init
    homelab init --yes --repository https://github.com/me/homelab.git --domain home.example.org
    """
    from homelab_mlops.gitops.init import ask_and_initialise

    answers = {
        "repository": repository,
        "branch": branch,
        "domain": domain,
        "storage_class": storage_class,
        "image_registry": image_registry,
    }
    ask_and_initialise(answers, argo_cd_release=argo_cd_release, key_file=key_file, ask=not yes)


@app.command()
def seal(
    name: Annotated[str, typer.Argument(help="A Secret; with --rotate or --show a credential.", show_default=False)],
    keys: Annotated[
        list[str] | None, typer.Argument(help="Its keys; asked for without echo.", show_default=False)
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Where a new Secret belongs.")] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Generate the credential anew.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the credential in plain text.")] = False,
    key_file: KeyFile = None,
) -> None:
    """Bring, replace, rotate or show a credential that is sealed in the repository.

    Values come from standard input, as lines KEY=value, or from a hidden prompt; never from the command line.

    \b
    homelab seal forge TOKEN                     # asks for the value
    homelab seal forge < token.env               # lines KEY=value
    homelab seal backup-target KEY -n minio      # a new Secret
    homelab seal --rotate s3-mlflow              # new values, then commit and push
    homelab seal --show mlflow-admin
    """
    from homelab_mlops.gitops.secrets.seal import seal_command

    seal_command(name, keys or [], namespace=namespace, rotate_it=rotate, show=show, key_file=key_file)


@app.command()
def check(as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False) -> None:
    """Render every application, validate it strictly, and hold it to the policies.

    \b
    homelab check
    homelab check --json | jq .findings
    """
    from homelab_mlops.gitops.check import check_command

    if not check_command(as_json):
        raise typer.Exit(1)


@app.command()
def grade(as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False) -> None:
    """Run other people's checks: checkov, kube-score, hadolint, actionlint, zizmor, shellcheck.

    `make check` installs them first. What stays as it is has its reason in accepted-findings.yaml.

    \b
    homelab grade
    """
    from homelab_mlops.gitops.graders import grade_command

    if not grade_command(as_json):
        raise typer.Exit(1)


@app.command()
def bootstrap(
    context: Context = None,
    key_file: KeyFile = None,
    deadline: Annotated[int, typer.Option(min=30, help="Seconds until all has to be green.")] = 1800,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is the right cluster.")] = False,
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
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Show every application, what is not ready and why, and the last workflow of each model.

    The exit code is 0 only when every application is Synced and Healthy.

    \b
    homelab status
    homelab status --json | jq .green
    """
    from homelab_mlops.cluster.status import status_command

    if not status_command(context, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="A model with a CronWorkflow, such as churn.", show_default=False)],
    context: Context = None,
    deadline: Annotated[int, typer.Option(min=1, help="Seconds to follow it.")] = 3600,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for its end.")] = True,
) -> None:
    """Start a model's retraining now, and follow it step by step to the address of its MLflow run.

    \b
    homelab run churn
    """
    from homelab_mlops.cluster.run import run as run_model

    run_model(model, context, deadline=deadline, follow=follow)


@app.command()
def models(
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Show, per model, the version that git names, the registry's champion, what serves, and who waits.

    \b
    homelab models
    """
    from homelab_mlops.cluster.models import models_command

    models_command(context, as_json=as_json)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="A model with a manifest, such as churn.", show_default=False)],
    version: Annotated[str, typer.Argument(help="Its version; 0 for none.", show_default=False)],
    context: Context = None,
) -> None:
    """Commit the one line that makes a version serve after the next push; `git revert` is the way back.

    \b
    homelab promote churn 7
    """
    from homelab_mlops.cluster.models import promote_command

    promote_command(model, version, context)


data = typer.Typer(no_args_is_help=True, help="Bring tables to the cluster.")
app.add_typer(data, name="data")


@data.command()
def push(
    model: Annotated[str, typer.Argument(help="Whose data.source is written.", show_default=False)],
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

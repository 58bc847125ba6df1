"""The command `homelab doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homelab_mlops import completion

app = typer.Typer()


@app.command()
def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Look at what this model's retraining needs, its table too.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    in_cluster: Annotated[
        bool,
        typer.Option("--in-cluster", help="In a pod: tracking and store, as the pod's environment names them."),
    ] = False,
    as_step: Annotated[
        bool,
        typer.Option(
            "--as-step",
            help="Exit codes for a workflow: 0 also with warnings, 75 where another try may help.",
        ),
    ] = False,
    source: Annotated[
        str,
        typer.Option(
            "--source", help="With MODEL: the table to look for, instead of model.yaml's.", show_default=False
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CODE", help="Look for this fault alone; repeatable.")
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="S3_URI",
            help="MLflow's bucket, such as s3://mlflow/artifacts (default: MLFLOW_ARTIFACTS_DESTINATION).",
            show_default=False,
        ),
    ] = "",
    context: Annotated[
        str | None, typer.Option("--context", help="Context of the kubeconfig (default: the current one).")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="The private sealing key.", show_default=False, dir_okay=False),
    ] = None,
) -> None:
    """Name each fault of tracking, store, cluster and repository by a code, with what mends it.

    The environment decides what the doctor looks at: MLFLOW_TRACKING_URI, the S3 variables of MLflow or of boto3, the
    kubeconfig, and the repository around the current folder. The exit code is 0 where all is fine, 1 where there are
    warnings only, 2 where something is broken, 75 where the doctor had no time to look at anything. It names what it
    had no time for. docs/troubleshooting.md lists every code.

    \b
    homelab doctor
    homelab doctor churn --json
    homelab doctor --store s3://mlflow/artifacts   # with MLflow's own S3 variables
    homelab doctor --only STORE_WRONG_SECRET
    """
    from homelab_mlops.doctor.run import Options, doctor_command

    options = Options(model, in_cluster, source, only or [], store, context, key_file)
    raise typer.Exit(doctor_command(options, as_json=as_json, as_step=as_step))

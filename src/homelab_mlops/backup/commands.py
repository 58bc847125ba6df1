"""The commands of a backup, as they run beside the parts that they back up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
backup = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Keep what lies on volumes at a target off the cluster."
)
app.add_typer(backup, name="backup", hidden=True)

Json = Annotated[bool, typer.Option("--json", help="For a script.")]
Scratch = Annotated[Path, typer.Option("--scratch", help="A folder for what passes through.", file_okay=False)]
SCRATCH = Path("/tmp/homelab-backup")  # noqa: S108


@backup.command()
def init() -> None:
    """Make the repository at the target, once, before the first backup.

    The target is BACKUP_TARGET, and BACKUP_PASSWORD encrypts what lies there.

    \b
    homelab backup init
    """
    import os

    from homelab_mlops.backup.restic import Restic
    from homelab_mlops.backup.target import target_of
    from homelab_mlops.console import say

    target = target_of(os.environ)
    Restic(target).init()
    say(f"made the repository at {target.where}; without its password nobody reads it: keep a copy elsewhere")


@backup.command()
def take(
    scratch: Scratch = SCRATCH,
    batch: Annotated[int, typer.Option("--batch", min=1, help="MiB of new objects that pass through at once.")] = 256,
    commit: Annotated[str, typer.Option("--commit", help="What is deployed.", envvar="HOMELAB_GIT_COMMIT")] = "",
    as_json: Json = False,
) -> None:
    """Back up MLflow's databases and then the buckets mlflow and datasets.

    The target is BACKUP_TARGET; the databases are MLFLOW_BACKEND_STORE_URI and MLFLOW_AUTH_DATABASE_URI; the object
    store is that of AWS_ENDPOINT_URL_S3.

    \b
    homelab backup take --json
    """
    import os

    from homelab_mlops.backup.database import databases_of
    from homelab_mlops.backup.restic import Restic
    from homelab_mlops.backup.take import take as run
    from homelab_mlops.backup.target import target_of
    from homelab_mlops.console import print_json, stdout

    target = target_of(os.environ)
    taken = run(Restic(target), databases_of(os.environ), scratch, commit=commit, batch_bytes=batch << 20)
    if as_json:
        print_json(taken.described())
        return
    objects, seconds = len(taken.manifest.objects), taken.seconds
    stdout().print(f"{taken.snapshot.where}: {objects:,} objects, {taken.fetched:,} of them new, in {seconds:.0f} s")


@backup.command("list")
def list_(as_json: Json = False) -> None:
    """List the backups at the target, the newest first.

    \b
    homelab backup list
    """
    import os

    from homelab_mlops.backup.restic import Restic
    from homelab_mlops.backup.snapshots import complete_of
    from homelab_mlops.backup.target import target_of
    from homelab_mlops.console import print_json, say, stdout

    found = complete_of(Restic(target_of(os.environ)))
    if as_json:
        print_json([{"snapshot": item.id, "sequence": item.sequence, "time": item.time.isoformat()} for item in found])
        return
    for item in found:
        stdout().print(f"{item.id[:8]}  {item.time:%Y-%m-%d %H:%M} UTC  number {item.sequence}")
    if not found:
        say("there is no backup yet")


@backup.command()
def restore(
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="The newest backup that is not later, such as 2026-11-30T04:00.")
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="models, database or datasets; may be given twice.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    scratch: Scratch = SCRATCH,
    as_json: Json = False,
) -> None:
    """Bring a backup back; what is there now stays until all of it is whole, and beside it afterwards.

    The same command goes on where one was stopped. Nothing may be connected to the databases.

    \b
    homelab backup restore --at 2026-11-30T04:00 --only datasets
    """
    import os

    from homelab_mlops.backup import restore as room
    from homelab_mlops.backup.database import databases_of
    from homelab_mlops.backup.restic import Restic
    from homelab_mlops.backup.snapshots import chosen, time_of
    from homelab_mlops.backup.target import target_of
    from homelab_mlops.console import print_json, say
    from homelab_mlops.errors import ParameterError

    if unknown := sorted({*(only or [])} - {*room.PARTS}):
        raise ParameterError(f"--only does not know {unknown[0]!r}", fix=f"it knows {', '.join(room.PARTS)}")
    parts = tuple(part for part in room.PARTS if not only or part in only)
    restic, sources = Restic(target_of(os.environ)), databases_of(os.environ)
    planned = room.plan(restic, chosen(restic, time_of(at) if at else None), parts)
    for line in planned.lines():
        say(f"restore: {line}")
    if not yes:
        typer.confirm("Restore it?", abort=True, err=True)
    done = room.restore(restic, planned, sources, scratch)
    if as_json:
        print_json(done)
    else:
        say(f"restore: {planned.snapshot.where} is back")


@backup.command()
def drill(
    report: Annotated[
        Path, typer.Option("--report", help="The folder for drill.json and drill.html.", file_okay=False)
    ],
    server: Annotated[str, typer.Option("--server", help="A scratch PostgreSQL.", envvar="BACKUP_DRILL_DATABASE_URI")],
    serving: Annotated[
        Path, typer.Option("--serving", help="The manifests of the models.", exists=True, file_okay=False)
    ] = Path("overlays/homelab/serving"),
    most_hours: Annotated[float, typer.Option("--most-hours", help="How old the newest backup may be.")] = 36,
    scratch: Scratch = SCRATCH,
    as_json: Json = False,
) -> None:
    """Restore the newest backup aside, and prove that it holds what git and its database name.

    \b
    homelab backup drill --report /tmp --server postgresql://mlflow@127.0.0.1:5432/postgres
    """
    import os

    from homelab_mlops.backup.database import postgres_of
    from homelab_mlops.backup.drill import drill as run
    from homelab_mlops.backup.restic import Restic
    from homelab_mlops.backup.target import target_of
    from homelab_mlops.console import print_json, say_verdict
    from homelab_mlops.model.promotion import named_in

    restic = Restic(target_of(os.environ))
    made = run(restic, postgres_of(server), named_in(serving), scratch, most_hours=most_hours)
    made.write(report)
    if as_json:
        print_json(made.described())
    for check in made.checks:
        say_verdict(check.passed, f"{check.name}: {check.text}")
    if made.error is not None:
        raise made.error

"""The command `homelab`. Commands live with their room and import what they need when they run."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from pathlib import Path
from typing import Annotated

import typer

from homelab_mlops import __version__
from homelab_mlops.backup.commands import app as backup
from homelab_mlops.cluster.commands import app as cluster
from homelab_mlops.doctor.commands import app as doctor
from homelab_mlops.errors import HomelabError, StorageError
from homelab_mlops.gitops.commands import app as gitops
from homelab_mlops.lazy_group import LazyGroup
from homelab_mlops.pipeline.commands import app as pipeline
from homelab_mlops.review.commands import app as review
from homelab_mlops.serving.commands import app as serving
from homelab_mlops.signals import StoppedError, stop_on_signals
from homelab_mlops.storage.commands import app as storage

INTERNAL_ERROR = 70


class Commands(LazyGroup):
    """Every command, in the order of the help."""

    rooms = (gitops, review, cluster, doctor, pipeline, serving, storage, backup)


app = typer.Typer(
    name="homelab",
    cls=Commands,
    help="Train, track, gate and register models; and keep the repository and the cluster in step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"homelab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """Runs the command line; every end has an exit code, and a failure has one message."""
    from homelab_mlops.console import print_error
    from homelab_mlops.pipeline.job import reported

    stop_on_signals()
    # Kept, since a writer that finds the pipe closed replaces standard output.
    output = os.dup(sys.stdout.fileno()) if sys.stdout else None
    try:
        with reported(sys.argv[1:], os.environ):
            code = typer.main.get_command(app)(standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except HomelabError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except StoppedError:
        if not _is_unread(output):
            sys.stderr.write("stopped: nothing half-written is left; the same command runs again\n")
        raise
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread(output):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        explained = storage_error(error)
        print_error(explained)
        sys.exit(explained.exit_code)
    except ModuleNotFoundError as error:
        print_error(missing_module(error))
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            error.show()  # type: ignore[attr-defined]
            sys.exit(error.exit_code)
        if os.environ.get("HOMELAB_DEBUG"):
            raise
        print_error(
            HomelabError(
                f"internal error: {type(error).__name__}: {error}",
                fix="this is a bug: set HOMELAB_DEBUG=1, run again, and report the traceback",
            )
        )
        sys.exit(INTERNAL_ERROR)
    sys.exit(code if isinstance(code, int) else 0)


def _is_unread(output: int | None) -> bool:
    """Whether ``output``, a file descriptor, is a pipe that nobody reads any more, as after `homelab ... | head`."""
    if output is None:
        return False
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


# Distributions whose name differs from that of their module.
_DISTRIBUTIONS = {
    "dateutil": "python-dateutil",
    "mlflow": "mlflow-skinny",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost-cpu",
}


def missing_module(error: ModuleNotFoundError) -> HomelabError:
    """The extra that brings a missing module; of several extras the one of the room that imports it."""
    import traceback
    from importlib import metadata

    module = (error.name or "").partition(".")[0]
    distribution = _DISTRIBUTIONS.get(module, module.replace("_", "-"))
    extras = [
        text.partition("extra == ")[2].strip("'\"")
        for text in metadata.requires("homelab-mlops") or []
        if re.match(rf"{re.escape(distribution)}(?![\w.-])", text) and "extra == " in text
    ]
    rooms = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if "homelab_mlops" in frame.filename]
    asking = Path(rooms[-1]).parent.name if rooms else ""
    extra = asking if asking in extras else (extras or [""])[0]
    if not extra:
        return HomelabError(f"the Python module {module!r} is not installed", fix="run `make setup`")
    return HomelabError(
        f"the extra {extra!r} is not installed: there is no {module}", fix=f"pip install 'homelab-mlops[{extra}]'"
    )


def storage_error(error: OSError) -> StorageError:
    """What a failed system call means for the person at the keyboard."""
    where = str(error.filename or "")
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StorageError("the disk is full", where=where, fix="free space, or choose another --work folder")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StorageError(f"no permission: {error.strerror}", where=where, fix="check owner and mode of the path")
        case errno.ENOENT:
            return StorageError("no such file or folder", where=where, fix="check the path")
        case _:
            return StorageError(f"{type(error).__name__}: {error.strerror or error}", where=where)

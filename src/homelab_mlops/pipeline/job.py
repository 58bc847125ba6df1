"""SageMaker's side of a job: its folders, its hyperparameters, and the file that says how the job ended.

Channels, folders and hyperparameters come from ``SM_*`` variables, or lie under ``/opt/ml`` as on SageMaker. Source:
ENVIRONMENT_VARIABLES.md of github.com/aws/sagemaker-training-toolkit, and SageMaker's guide to training containers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from homelab_mlops.console import say
from homelab_mlops.errors import HomelabError, ParameterError

ROOT = Path("/opt/ml")
CONFIGURATION = "input/config"
TRAIN, VALIDATION = ("train", "training"), ("validation",)


@dataclass(frozen=True)
class Folders:
    """Where a job finds its channels and leaves its results."""

    train: Path
    validation: Path | None
    model: Path
    data: Path
    outcome: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Folders:
        """The folders that ``SM_*`` variables name; SageMaker's own where no variable names one."""
        data = Path(environ.get("SM_OUTPUT_DATA_DIR") or ROOT / "output/data")
        outcome = environ.get("SM_OUTPUT_DIR") or (data if environ.get("SM_OUTPUT_DATA_DIR") else ROOT / "output")
        return cls(
            train=_channel(environ, TRAIN) or ROOT / "input/data/train",
            validation=_channel(environ, VALIDATION),
            model=Path(environ.get("SM_MODEL_DIR") or ROOT / "model"),
            data=data,
            outcome=Path(outcome),
        )


def _channel(environ: Mapping[str, str], names: tuple[str, ...]) -> Path | None:
    """The folder of the first of these channels that exists: the one its variable names, or else SageMaker's own."""
    given = [environ[f"SM_CHANNEL_{name.upper()}"] for name in names if environ.get(f"SM_CHANNEL_{name.upper()}")]
    mounted = [ROOT / "input/data" / name for name in names if (ROOT / "input/data" / name).is_dir()]
    return next(iter([*map(Path, given), *mounted]), None)


def is_job(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a channel to train on, or SageMaker has mounted one."""
    named = any(environ.get(f"SM_CHANNEL_{name.upper()}") for name in TRAIN)
    return named or (ROOT / "input/data").is_dir()


def job_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment; on SageMaker without its toolkit the hyperparameters are a file, all values text.

    Raises:
        ParameterError: the job has several machines, and each one would train on its share alone.
    """
    complete = dict(environ)
    path = ROOT / CONFIGURATION / "hyperparameters.json"
    if "SM_HPS" not in complete and path.is_file():
        complete["SM_HPS"] = path.read_text(encoding="utf-8")
    hosts = _hosts(complete)
    if len(hosts) > 1:
        raise ParameterError(
            f"the job runs on {len(hosts)} machines, and a training uses one",
            where="SM_HOSTS",
            fix="set the number of instances to 1",
        )
    read = {f"SM_CHANNEL_{name.upper()}" for name in (*TRAIN, *VALIDATION)}
    for name in sorted(complete):
        if name.startswith("SM_CHANNEL_") and name not in read:
            channel = name.removeprefix("SM_CHANNEL_").lower()
            say(f"train: the channel {channel} is not read; {', '.join((*TRAIN, *VALIDATION))} are")
    return complete


def _hosts(environ: Mapping[str, str]) -> list[str]:
    text, path = environ.get("SM_HOSTS", ""), ROOT / CONFIGURATION / "resourceconfig.json"
    try:
        if not text and path.is_file():
            return list(json.loads(path.read_text(encoding="utf-8")).get("hosts", []))
        return list(json.loads(text)) if text else []
    except (ValueError, TypeError, AttributeError):
        raise ParameterError(f"SM_HOSTS is {text!r}, not a JSON list", where="SM_HOSTS") from None


@contextmanager
def reported(arguments: Sequence[str], environ: Mapping[str, str]) -> Iterator[None]:
    """Where the command line of a job fails, writes the reason into SageMaker's file ``failure``, whatever it was.

    Args:
        arguments: of the command line, among which stands the command.
    """
    try:
        yield
    except BaseException as error:
        words = [argument for argument in arguments if not argument.startswith("-")]
        if ("train" in words or not words) and _reports(environ):
            _write(Folders.of(environ), "failure", _reason(error))
        raise


def _reports(environ: Mapping[str, str]) -> bool:
    return is_job(environ) or any(environ.get(f"SM_{name}") for name in ("MODEL_DIR", "OUTPUT_DIR", "OUTPUT_DATA_DIR"))


def _reason(error: BaseException) -> str:
    shown = getattr(error, "format_message", None)
    if shown is not None:  # of the command line itself, such as an option that there is not
        return str(shown())
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "stopped by a signal"
    if isinstance(error, HomelabError):
        return str(error)
    if isinstance(error, OSError | ModuleNotFoundError):
        return f"{type(error).__name__}: {error}"
    return f"internal error: {type(error).__name__}: {error}"


def succeeded(folders: Folders) -> None:
    """Writes SageMaker's file ``success``."""
    _write(folders, "success", f"the model is in {folders.model}")


def _write(folders: Folders, name: str, text: str) -> None:
    try:
        folders.outcome.mkdir(parents=True, exist_ok=True)
        (folders.outcome / {"success": "failure", "failure": "success"}[name]).unlink(missing_ok=True)
        (folders.outcome / name).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        say(f"train: {name} could not be written to {folders.outcome}: {error.strerror}")

"""The working directory of a retraining: every step owns one folder in it, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homelab_mlops.errors import StorageError


@contextmanager
def step_folder(work: Path, step: str) -> Iterator[Path]:
    """A folder to write a step's output into; it becomes ``work/step`` when the block ends without an error.

    An earlier output of the step stays in place until then. Raises OSError where ``work`` cannot be written.
    """
    work.mkdir(parents=True, exist_ok=True)
    partial, replaced, final = work / f".{step}.partial", work / f".{step}.replaced", work / step
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON that a person can read, too; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path, needs: str) -> Any:
    """Reads what an earlier step wrote.

    Raises:
        StorageError: the file is missing or damaged; ``needs`` names the command that writes it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(f"{path.name} is missing", where=str(path), fix=f"run `{needs}` first") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StorageError(f"{path.name} is damaged: {error}", where=str(path), fix=f"run `{needs}` again") from error

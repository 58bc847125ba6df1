"""The values that a person brings: from hidden prompts, from lines KEY=value, or from files byte by byte."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import names
from homelab_mlops.gitops.secrets.table import as_text

STANDARD_INPUT = "-"
# What Kubernetes allows for all values of a Secret together.
LARGEST_SECRET = 1024 * 1024


def ask(name: str, keys: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """The value of each key: of ``files``, as KEY=PATH, from there; of ``keys`` from standard input or a prompt.

    Raises:
        RepositoryError: a key cannot be one or stands twice, or standard input does not hold what was named.
    """
    for key in keys:
        if "=" in key:
            # A value on the command line is in the process list and the shell's history already.
            raise RepositoryError(
                f"{key.partition('=')[0]!r} with a value behind it is not a key",
                fix="name the keys only; values are asked for, or come from standard input",
            )
        secret_key(key)
    pairs = [_pair(text) for text in files]
    named = [*keys, *(key for key, _ in pairs)]
    if repeated := next((key for key in named if named.count(key) > 1), None):
        raise RepositoryError(f"{repeated!r} is named twice")
    from_input = [key for key, path in pairs if path == STANDARD_INPUT]
    if len(from_input) > 1 or (from_input and keys):
        raise RepositoryError(
            "standard input holds one value only",
            where=", ".join([*from_input, *keys]),
            fix="bring the others by files",
        )
    values = {key: _of_file(path) for key, path in pairs}
    if keys or not pairs:
        values.update(_prompted(name, keys) if sys.stdin.isatty() else _assigned(keys))
    if (size := sum(len(value) for value in values.values())) > LARGEST_SECRET:
        raise RepositoryError(f"the values have {size:,} bytes, and a Secret holds {LARGEST_SECRET:,} at most")
    return values


def secret_key(text: str) -> str:
    """The key, if a Secret can have it.

    Raises:
        RepositoryError: it cannot.
    """
    try:
        return names.secret_key(text)
    except ValueError as error:
        raise RepositoryError(f"{text!r} cannot be a key of a Secret: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, path = text.partition("=")
    if not equals:
        key, path = Path(text).name, text
    if not path:
        raise RepositoryError(f"no file behind {text!r}", where="--from-file", fix="such as --from-file id=key.pem")
    return secret_key(key), path


def _of_file(path: str) -> str:
    if path == STANDARD_INPUT:
        return as_text(sys.stdin.buffer.read())
    return as_text(Path(path).expanduser().read_bytes())


def _prompted(name: str, keys: Sequence[str]) -> dict[str, str]:
    if not keys:
        raise RepositoryError(f"which keys of {name}?", fix=f"homelab seal {name} KEY …")
    return {key: typer.prompt(key, hide_input=True, confirmation_prompt=True) for key in keys}


def _assigned(keys: Sequence[str]) -> dict[str, str]:
    assignments = parse_assignments(sys.stdin.buffer.read())
    if not assignments or (keys and set(assignments) != set(keys)):
        raise RepositoryError(
            f"expected lines KEY=value for {', '.join(keys) or 'at least one key'}", where="standard input"
        )
    return assignments


def parse_assignments(content: bytes) -> dict[str, str]:
    """``KEY=value`` lines as a mapping, without empty lines and comments.

    Raises:
        RepositoryError: a line has no ``=``, or its key cannot be a key of a Secret or stands twice.
    """
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise RepositoryError(
            "not UTF-8 text", where="standard input", fix="bring binary values by --from-file KEY=PATH"
        ) from error
    assignments: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.removesuffix("\r").partition("=")
        where = f"standard input:{number}"
        try:
            names.secret_key(key)
        except ValueError:
            equals = ""
        if not equals:
            raise RepositoryError(
                "not a line KEY=value", where=where, fix="bring a value of several lines by --from-file KEY=PATH"
            )
        if key in assignments:
            raise RepositoryError(f"{key!r} stands twice", where=where)
        assignments[key] = value
    return assignments

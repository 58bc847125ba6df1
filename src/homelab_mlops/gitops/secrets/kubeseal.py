"""Calls kubeseal: values go in and come out through pipes only."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops import tools

if TYPE_CHECKING:
    from homelab_mlops.gitops.secrets.sealing_key import SealingKey

TIMEOUT = 30.0


def seal(value: str, *, name: str, namespace: str, certificate: Path) -> str:
    """``value`` sealed for the Secret ``namespace``/``name`` alone (strict scope), as base64 text."""
    arguments = ["--raw", "--scope", "strict", "--name", name, "--namespace", namespace, "--cert", str(certificate)]
    return _kubeseal(arguments, value, f"{namespace}/{name}").strip()


def unseal(manifest: str, key: SealingKey, where: str) -> dict[str, str]:
    """The values of the SealedSecret ``manifest`` (YAML), by key; ``where`` names it in errors.

    Raises:
        RepositoryError: the private key is not on this machine, or is not the one it was sealed for.
    """
    if key.private is None:
        raise RepositoryError(
            "the private sealing key is not on this machine", where=where, fix="name it with --key-file"
        )
    try:
        secret = json.loads(
            _kubeseal(["--recovery-unseal", "--recovery-private-key", str(key.private)], manifest, where)
        )
    except ToolError as error:
        raise RepositoryError(
            f"it cannot be unsealed with {key.private}",
            where=where,
            fix="it was sealed for another key, or renamed: delete the file and run `homelab init`",
        ) from error
    # An empty value comes out as null.
    return {name: base64.b64decode(value or "").decode() for name, value in secret.get("data", {}).items()}


def _kubeseal(arguments: list[str], stdin: str, where: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the pinned kubeseal, arguments without values
            [str(tools.find("kubeseal")), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"kubeseal did not answer within {TIMEOUT:g} s", where=where) from error
    if done.returncode != 0:
        raise ToolError(f"kubeseal failed: {done.stderr.strip() or done.stdout.strip()}", where=where)
    return done.stdout

"""Trains a recorded model again, and compares the boosters byte for byte."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from homelab_mlops.clients import git
from homelab_mlops.console import say
from homelab_mlops.errors import ReplayError, RepositoryError
from homelab_mlops.gitops.settings import load_settings
from homelab_mlops.location import find_root
from homelab_mlops.model.parameters import Parameter
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline import result, tracking
from homelab_mlops.pipeline.fit import fit, prepare
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.model_registry import download
from homelab_mlops.pipeline.provenance import code_sha256, provenance
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import labelled
from homelab_mlops.pipeline.workdir import read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
COMPARED = ("python", "machine")
ENVIRONMENT = "install the lock of the recorded commit: `make setup` in a checkout of it"
CODE = "run the replay in a clone that has the recorded commit; a model from uncommitted changes cannot be replayed"


def replay(address: str, source: str | None = None, *, any_commit: bool = False) -> dict[str, Any]:
    """Repeats the training of ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.

    The recorded commit's code runs: this code where it is the same, or else a temporary worktree of the commit. Whoever
    may write in MLflow chooses that commit, so it has to be on the branch that Argo CD follows.

    Args:
        source: where to read the data, if it has moved; the content must be the same.
        any_commit: another commit of this clone may run, too.

    Returns:
        ``model``, ``version``, the ``sha256`` of the booster, and ``identical``, which is true.

    Raises:
        ReplayError: data, environment, code or booster differ from the recorded ones; the message says which.
    """
    name, version = _version(address)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, records = download(version, folder)
        record = read_json(records / result.RECORD, "homelab train")
        _refuse_differences(_environment_differences(record), address, ENVIRONMENT)
        worktree = _worktree(record, folder, address, any_commit=any_commit)
        say(f"replay: {name} version {version.version}, commit {record['provenance']['commit'][:12] or 'none'}")
        again = folder / "again"
        if worktree is None:
            train_again(record, source, again)
        else:
            try:
                _train_in(worktree, records / result.RECORD, source, again)
            finally:
                git.run(Path(), "worktree", "remove", "--force", str(worktree))
        return _compared(model, again / result.MODEL, name, str(version.version))


def train_again(record: dict[str, Any], source: str | None, folder: Path) -> None:
    """Trains on the recorded data and parameters, and writes the booster into ``folder``.

    Raises:
        ReplayError: the data is not the recorded data.
    """
    spec = ModelSpec.model_validate(record["spec"])
    data = record["data"]
    work = folder / "work"
    end = data["window"]["end"] if data["window"] else None
    manifest = ingest(spec, work, source or data["source"], end)
    if manifest["sha256"] != data["sha256"]:
        _refuse_differences(
            [
                f"data: sha256 {manifest['sha256'][:12]} with {manifest['rows']:,} rows now, "
                f"{data['sha256'][:12]} with {data['rows']:,} rows recorded"
            ],
            data["source"],
            "give the recorded table by --source",
        )
    frame, _ = load_ingested(spec, work)
    frame = labelled(frame, spec)
    split = split_rows(frame, spec, manifest["window"])
    parameters = {name: Parameter(value, "recorded") for name, value in record["parameters"].items()}
    fitted = fit(spec, prepare(spec, frame[split.train], frame[split.validation], parameters), parameters)
    (folder / result.MODEL).write_bytes(bytes(fitted.scorer.booster.save_raw("ubj")))


def _version(address: str) -> tuple[str, Any]:
    name, mark, wanted = address.removeprefix("models:/").replace("@", "/@").partition("/")
    if not address.startswith("models:/") or not mark or not wanted:
        raise ReplayError(
            f"{address!r} is no model version", where="MODEL", fix="write models:/churn/3 or models:/churn@champion"
        )
    client = tracking.client()
    with tracking.explained(f"asking for {address}"):
        if wanted.startswith("@"):
            return name, client.get_model_version_by_alias(name, wanted[1:])
        return name, client.get_model_version(name, wanted)


def _environment_differences(record: dict[str, Any]) -> list[str]:
    now, then = provenance(), record["provenance"]
    pairs = {name: (now[name], then[name]) for name in COMPARED}
    pairs |= {name: (now["packages"].get(name, "missing"), version) for name, version in then["packages"].items()}
    return [f"{name}: {ours} here, {theirs} recorded" for name, (ours, theirs) in pairs.items() if ours != theirs]


def _refuse_differences(differences: list[str], where: str, fix: str) -> None:
    if differences:
        raise ReplayError(
            "what is here is not what was recorded:\n  " + "\n  ".join(differences),
            where=where,
            fix=fix,
        )


def _worktree(record: dict[str, Any], folder: Path, address: str, *, any_commit: bool) -> Path | None:
    """A worktree of the recorded commit; None where the present code is the recorded code."""
    then = record["provenance"]
    if then["code_sha256"] == code_sha256():
        return None
    if then["dirty"] or not then["commit"]:
        state = "with uncommitted changes" if then["dirty"] else "without a commit"
        _refuse_differences([f"code: the model was trained {state}, and the code here is another"], address, CODE)
    if not _COMMIT.fullmatch(then["commit"]):
        raise ReplayError(f"the record names {then['commit'][:80]!r}, which is no commit", where=address, fix=CODE)
    if not any_commit:
        _refuse_unmerged(then["commit"], address)
    worktree = folder / "commit"
    if git.run(Path(), "worktree", "add", "--detach", str(worktree), then["commit"]).returncode:
        _refuse_differences([f"code: the commit {then['commit'][:12]} is not in this repository"], address, CODE)
    if code_sha256(worktree / "src" / "homelab_mlops") != then["code_sha256"]:
        git.run(Path(), "worktree", "remove", "--force", str(worktree))
        _refuse_differences(
            [f"code: that of the commit {then['commit'][:12]} is not the code that trained the model"], address, CODE
        )
    return worktree


def _refuse_unmerged(commit: str, address: str) -> None:
    """Raises ReplayError for a commit that is not on the branch that Argo CD follows, here or as last fetched."""
    try:
        branch = load_settings(find_root()).branch
    except RepositoryError:  # a clone of the package alone
        branch = "main"
    if git.run(Path(), "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        _refuse_differences([f"code: the commit {commit[:12]} is not in this repository"], address, CODE)
    for ref in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"):
        if git.run(Path(), "merge-base", "--is-ancestor", commit, ref).returncode == 0:
            return
    raise ReplayError(
        f"the record names the commit {commit[:12]}, which is not on the branch {branch}: nobody has merged its code",
        where=address,
        fix=f"`git fetch` where it is new; or look at it (`git show {commit[:12]}`), and run this with --any-commit",
    )


_TRAIN_AGAIN = """
import json, sys
from pathlib import Path
from homelab_mlops.pipeline.replay import train_again
train_again(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2] or None, Path(sys.argv[3]))
"""


def _train_in(worktree: Path, record: Path, source: str | None, folder: Path) -> None:
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _TRAIN_AGAIN, str(record), source or "", str(folder)],
        env={**os.environ, "PYTHONPATH": str(worktree / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        lines = finished.stderr.strip().splitlines()
        raise ReplayError(
            f"the recorded commit's code fails: {lines[-1] if lines else finished.returncode}", where=str(worktree)
        )


def _compared(recorded: Path, again: Path, name: str, version: str) -> dict[str, Any]:
    first, second = recorded.read_bytes(), again.read_bytes()
    if first != second:
        at = next(
            (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
        )
        raise ReplayError(
            f"the boosters differ from byte {at:,} on ({len(first):,} bytes recorded, {len(second):,} now)",
            where=f"models:/{name}/{version}",
            fix="the recorded figures do not hold for this machine: compare processor and number of threads",
        )
    sha = hashlib.sha256(second).hexdigest()
    say(f"replay: identical, {len(second):,} bytes, sha256 {sha[:12]}")
    return {"model": name, "version": version, "sha256": sha, "identical": True}

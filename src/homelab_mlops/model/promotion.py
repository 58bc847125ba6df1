"""The lines of git that name a model's version and its bytes, and the commit that changes them, by a step or by a
person."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from homelab_mlops.errors import RepositoryError
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.model.artifact import is_sha256

FOLDER = PurePosixPath("overlays/homelab/serving")
LABEL, ANNOTATION = "homelab-mlops/version", "homelab-mlops/sha256"
NAME = "app.kubernetes.io/name"
NONE_YET = "0"
_LINE = re.compile(rf'^(\s+{re.escape(LABEL)}: )"(\d+)"$', re.MULTILINE)
_SHA256_LINE = re.compile(rf'^(\s+{re.escape(ANNOTATION)}: )"[^"\n]*"$', re.MULTILINE)


class Named(NamedTuple):
    """What git names of a model: a version, ``0`` for none yet, and the SHA-256 of its files.

    ``sha256`` is empty where git names none: in a manifest of before, and beside the version ``0``.
    """

    version: str
    sha256: str = ""

    @property
    def unpinned(self) -> bool:
        """Whether git names a version and not its bytes."""
        return self.version != NONE_YET and not self.sha256


def named_in(folder: Path) -> dict[str, Named]:
    """What each manifest of a model in ``folder`` names, by model.

    Raises:
        RepositoryError: a manifest is not one of a model.
    """
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        metadata = _of_pods(path.read_text(encoding="utf-8"), str(path))
        if metadata is not None:
            found[str(metadata["labels"][NAME])] = named(metadata, str(path))
    return found


def named(metadata: dict[str, Any], where: str) -> Named:
    """What the metadata of a model's pods name.

    Raises:
        RepositoryError: a value is no version, or no SHA-256.
    """
    version = str((metadata.get("labels") or {}).get(LABEL, ""))
    sha256 = str((metadata.get("annotations") or {}).get(ANNOTATION) or "")
    if not version.isdigit():
        raise RepositoryError(f"{LABEL} is {version!r}, not a version", where=where, fix='write it as `VERSION: "3"`')
    if sha256 and not is_sha256(sha256):
        raise RepositoryError(
            f"{ANNOTATION} is {sha256[:80]!r}, not a SHA-256",
            where=where,
            fix="`homelab promote MODEL VERSION` writes it",
        )
    return Named(version, sha256 if version != NONE_YET else "")


def _of_pods(text: str, where: str) -> dict[str, Any] | None:
    """The metadata of a model's pods in its manifest; None where the file is none of a model."""
    try:
        for document in yaml_reader.load_all(text):
            if isinstance(document, dict) and document.get("kind") == "Deployment":
                metadata: dict[str, Any] = document["spec"]["template"]["metadata"]
                if LABEL in metadata["labels"]:
                    str(metadata["labels"][NAME])
                    return metadata
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise RepositoryError(f"not the manifest of a model: {error}", where=where) from error
    return None


def manifest_of(model: str) -> PurePosixPath:
    """The file that names the version of a model."""
    return FOLDER / f"{model}.yaml"


def named_by(text: str, where: str) -> Named:
    """What the manifest of a model names.

    Raises:
        RepositoryError: it names no version, several, or one that is written in another way.
    """
    lines = _LINE.findall(text)
    metadata = _of_pods(text, where)
    if len(lines) != 1 or metadata is None:
        raise RepositoryError(
            f"the manifest has {len(lines)} lines {LABEL}, not one", where=where, fix='write it as `VERSION: "3"`'
        )
    return named(metadata, where)


def naming(text: str, now: Named, where: str) -> str:
    """The manifest that names another version and its bytes: two lines differ.

    A manifest of before gets the line of the SHA-256.

    Raises:
        RepositoryError: it names no version, or is written in another way than `homelab` writes it.
    """
    named_by(text, where)
    before = text
    if not _SHA256_LINE.search(text):
        text = _with_annotation(text)
    changed = _LINE.sub(rf'\g<1>"{now.version}"', _SHA256_LINE.sub(rf'\g<1>"{now.sha256}"', text))
    if named_by(changed, where) != now or (text != before and (_of_pods(before, where) or {}).get("annotations")):
        raise RepositoryError(
            f"the line {ANNOTATION} cannot be written into this manifest",
            where=where,
            fix=f'write `{ANNOTATION}: ""` into the annotations of the pod template yourself',
        )
    return changed


def _with_annotation(text: str) -> str:
    """The manifest with an empty line for the SHA-256 in the annotations of the pods."""
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if _LINE.match(line.rstrip("\n")))
    depth = len(lines[at]) - len(lines[at].lstrip())
    while at and len(lines[at]) - len(lines[at].lstrip()) >= depth:
        at -= 1
    indent = " " * (len(lines[at]) - len(lines[at].lstrip()))
    written = f'{indent}annotations:\n{" " * depth}{ANNOTATION}: ""\n'
    return "".join([*lines[:at], written, *lines[at:]])


def subject(model: str, version: str) -> str:
    """The first line of the commit."""
    return f"Promote {model} to version {version}"


def _scored(holdout: dict[str, Any], who: str) -> int:
    """How many rows of the holdout scored ``who``; for the champion only rows that it has not trained on."""
    return int(holdout["compared"] if who == "champion" else holdout["rows"])


def message(
    model: str,
    version: str,
    before: str,
    decision: dict[str, Any] | None,
    data: dict[str, Any] | None = None,
    links: dict[str, str] | None = None,
    sha256: str = "",
) -> str:
    """What the commit says: the gate's decision with its figures, the data, where to look, and the model's bytes."""
    lines = [subject(model, version), ""]
    if decision is not None:
        name = decision["metric"]
        for who, metrics in decision["metrics"].items():
            value = metrics[name]
            known = decision["champion"] if who == "champion" and decision.get("champion") else who
            figure = f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
            lines.append(f"{known}: {name} {figure} on {_scored(decision['holdout'], who):,} holdout rows")
        lines.append("No row was in the training of the model that it scores.")
        lines += ["", "The gate:"]
        lines += [f"- {'pass' if r['passed'] else 'FAIL'} {r['rule']}: {r['text']}" for r in decision["reasons"]]
        lines.append("")
    if data is not None:
        window = data.get("window") or {}
        period = f", {window['train'][:10]} to {window['end'][:10]}" if window else ""
        lines.append(f"Data: {data['source']}, {data['rows']:,} rows{period}, sha256 {data['sha256'][:12]}")
    lines += [f"{what}: {address}" for what, address in (links or {}).items() if address]
    if sha256:
        lines.append(f"Files: sha256 {sha256}")
    back = "nothing served before" if before == NONE_YET else f"version {before} serves again when this is reverted"
    return "\n".join([*lines, "", f"{back[0].upper()}{back[1:]}."]) + "\n"

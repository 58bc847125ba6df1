"""Runs graders, programs of others, on the rendered manifests, the Dockerfiles, CI's workflows and the scripts.

Each finding is mended, or accepted with a reason in ``accepted-findings.yaml``. Upstream's install of Argo CD is not
graded, since it cannot be mended here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from homelab_mlops.clients import git
from homelab_mlops.console import print_json, say
from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops import tools
from homelab_mlops.gitops.files import write_file
from homelab_mlops.gitops.render import ARGO_CD, render_all
from homelab_mlops.gitops.settings import find_root
from homelab_mlops.manifests.strict_yaml import read_model

ACCEPTED = Path("accepted-findings.yaml")
PROGRAMS = Path(".tools/graders/bin")
# The lock that pins those of the graders that are Python packages.
VERSIONS = Path("requirements/graders.txt")
FOUND = Path(".tools/graders/found")
# kube-score's grades: 1 is critical, 5 a warning, 10 nothing to say.
GOOD = 10


class Graded(NamedTuple):
    """What a grader found."""

    grader: str
    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"[{self.grader} {self.rule}] {self.where}: {self.what}"


class Acceptance(BaseModel):
    """A finding that stays, and why; ``where`` is a shell pattern."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    grader: str
    rule: str
    where: str = "*"
    reason: Annotated[str, Field(min_length=10)]

    def covers(self, found: Graded) -> bool:
        return (found.grader, found.rule) == (self.grader, self.rule) and fnmatch.fnmatchcase(found.where, self.where)


class Acceptances(BaseModel):
    """``accepted-findings.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    accepted: list[Acceptance]


def grade(root: Path) -> tuple[list[Graded], list[Acceptance]]:
    """The findings that nobody accepted, and the acceptances that no longer cover a finding.

    Raises:
        ToolError: a grader is missing, or fails.
        RepositoryError: a kustomization does not build, or ``accepted-findings.yaml`` is not valid.
    """
    accepted = read_model(root / ACCEPTED, Acceptances, RepositoryError).accepted
    found = _found(root)
    open_findings = [item for item in found if not any(acceptance.covers(item) for acceptance in accepted)]
    stale = [acceptance for acceptance in accepted if not any(acceptance.covers(item) for item in found)]
    return open_findings, stale


def _found(root: Path) -> list[Graded]:
    """All findings of the graders, accepted or not; from an earlier run where the same graders read the same texts."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=2) as pool:
        rendered = Path(folder) / "rendered"
        rendered.mkdir()
        for application in render_all(root):
            if application.name != ARGO_CD:
                (rendered / f"{application.name}.yaml").write_text(application.text, encoding="utf-8")
        kept = root / FOUND / f"{_fingerprint(root, rendered)}.json"
        if kept.is_file():
            return [Graded(*item) for item in json.loads(kept.read_text(encoding="utf-8"))]
        graders: list[Callable[[Path, Path], Iterator[Graded]]] = [
            _checkov,
            _kube_score,
            _hadolint,
            _actionlint,
            _zizmor,
            _shellcheck,
        ]
        found = [item for items in pool.map(lambda grader: list(grader(root, rendered)), graders) for item in items]
    write_file(kept, json.dumps(found).encode())
    return found


def _fingerprint(root: Path, rendered: Path) -> str:
    """A SHA-256 of everything that the graders read, of their versions, and of how this module calls them."""
    patterns = "docker/**/*", ".github/**/*", ".*/workflows/*.yaml"
    graded = [*rendered.glob("*.yaml"), *(path for one in patterns for path in root.glob(one)), *_scripts(root)]
    files = {str(path.relative_to(rendered if rendered in path.parents else root)): path for path in graded}
    digest = hashlib.sha256(repr(tools.TOOLS).encode())
    for path in (root / VERSIONS, Path(__file__)):
        digest.update(path.read_bytes())
    for name, path in sorted(files.items()):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _checkov(root: Path, rendered: Path) -> Iterator[Graded]:
    # One run over a copy of all files that checkov reads: its start takes most of the time.
    for name in ("docker", ".github"):
        shutil.copytree(root / name, rendered.parent / "checkov" / name)
    shutil.copytree(rendered, rendered.parent / "checkov" / "rendered")
    frameworks = ["--framework", "kubernetes", "dockerfile", "github_actions"]
    options = ["--quiet", "--compact", "--skip-download", "--output", "json"]
    reports = _json(root, "checkov", "--directory", str(rendered.parent / "checkov"), *frameworks, *options)
    for report in reports if isinstance(reports, list) else [reports]:
        for check in report.get("results", {}).get("failed_checks", []):
            where = check["resource"] if check["resource"].count(".") >= 2 else check["file_path"].lstrip("/")
            yield Graded("checkov", check["check_id"], where, check["check_name"])


def _kube_score(root: Path, rendered: Path) -> Iterator[Graded]:
    files = [str(path) for path in sorted(rendered.glob("*.yaml"))]
    for thing in _json(root, "kube-score", "score", "--output-format", "json", *files):
        metadata = thing["object_meta"]
        where = f"{thing['type_meta']['kind']}.{metadata.get('namespace', '')}.{metadata['name']}"
        for check in thing["checks"]:
            if check["grade"] < GOOD and not check["skipped"]:
                what = "; ".join(comment["summary"] for comment in check["comments"] or []) or check["check"]["name"]
                yield Graded("kube-score", check["check"]["id"], where, what)


def _hadolint(root: Path, _: Path) -> Iterator[Graded]:
    files = [str(path.relative_to(root)) for path in sorted(root.glob("docker/*/Dockerfile"))]
    for item in _json(root, "hadolint", "--format", "json", *files):
        yield Graded("hadolint", item["code"], item["file"], f"line {item['line']}: {item['message']}")


def _actionlint(root: Path, _: Path) -> Iterator[Graded]:
    files = [str(path.relative_to(root)) for path in sorted(root.glob(".*/workflows/*.yaml"))]
    for item in _json(root, "actionlint", "-format", "{{json .}}", *files):
        yield Graded("actionlint", item["kind"], item["filepath"], f"line {item['line']}: {item['message']}")


def _zizmor(root: Path, _: Path) -> Iterator[Graded]:
    for item in _json(root, "zizmor", "--offline", "--persona=pedantic", "--quiet", "--format", "json", ".github"):
        key = item["locations"][0]["symbolic"]["key"]
        where = key.get("Local", {}).get("verbatim_path") or str(key)
        yield Graded("zizmor", item["ident"], where, f"{item['desc']} ({item['determinations']['severity']})")


def _shellcheck(root: Path, _: Path) -> Iterator[Graded]:
    files = [str(path.relative_to(root)) for path in _scripts(root)]
    for item in _json(root, "shellcheck", "--format", "json", *files):
        yield Graded("shellcheck", f"SC{item['code']}", item["file"], f"line {item['line']}: {item['message']}")


def _scripts(root: Path) -> list[Path]:
    """The shell scripts that git knows."""
    return [root / name for name in git.output(root, "grep", "-lE", "^#!.*[/ ](sh|bash)$").splitlines()]


def _json(root: Path, name: str, *arguments: str) -> Any:
    """What a grader prints. Its exit code says whether it found anything, so only its output says whether it ran."""
    program = tools.find(name, root) if name in tools.TOOLS else root / PROGRAMS / name
    if not program.is_file():
        raise ToolError(f"{name} is not here", where=str(program), fix="run `make check`")
    path = f"{root / PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LOG_LEVEL": "ERROR"}
    command = [str(program), *arguments]
    finished = subprocess.run(  # noqa: S603
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    try:
        return json.loads(finished.stdout)
    except json.JSONDecodeError as error:
        raise ToolError(f"{name} fails: {(finished.stderr or finished.stdout).strip()[:300]}") from error


def grade_command(as_json: bool) -> bool:
    """Prints what the graders find, and returns whether that is nothing."""
    started = time.monotonic()
    open_findings, stale = grade(find_root())
    if as_json:
        print_json({"findings": [item._asdict() for item in open_findings], "stale": [i.model_dump() for i in stale]})
    for found in open_findings:
        say(str(found))
    for acceptance in stale:
        say(f"{ACCEPTED}: {acceptance.grader} finds no {acceptance.rule} at {acceptance.where} any more: remove it")
    say(f"graders: {len(open_findings)} findings, {time.monotonic() - started:.1f} s")
    return not open_findings and not stale

"""`homelab doctor`: asks every check, and prints what is wrong, where, and what mends it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.console import print_json, stdout
from homelab_mlops.doctor.checks import known_codes
from homelab_mlops.doctor.examine import Report, examine
from homelab_mlops.doctor.visit import Model, Visit
from homelab_mlops.errors import DoctorError, HomelabError, RepositoryError
from homelab_mlops.manifests import yaml_reader

EXIT_CODES = {"fine": 0, "incomplete": 0, "warning": 1, "broken": 2}
GROUPS = ("tracking", "store", "cluster", "gitops")
# The groups that a pod can look at: it has no kubeconfig and no repository.
IN_CLUSTER = ("tracking", "store")


@dataclass(frozen=True)
class Options:
    """What a person said on the command line."""

    model: str | None
    in_cluster: bool
    source: str
    only: Sequence[str]
    store: str
    context: str | None
    key_file: Path | None


def doctor_command(options: Options, *, as_json: bool, as_step: bool = False) -> int:
    """The command `homelab doctor`; returns its exit code.

    Raises:
        DoctorError: there is no such code or model, or what a check reads of the repository is not valid.
    """
    known_codes(options.only)
    try:
        report = examine(visit_of(options), groups_of(options), options.only)
    except HomelabError as error:
        raise DoctorError(error.what, where=error.where, fix=error.fix, transient=error.transient) from error
    if report.out_of_time and not report.seen and not report.findings:
        raise DoctorError(
            f"the doctor's {report.seconds:.0f} s were over before any check had ended",
            where=", ".join(report.out_of_time),
            fix="run it again when this machine is less busy; --only CODE looks for one fault",
            transient=True,
        )
    if as_json:
        print_json(as_document(report))
    else:
        show(report)
    return exit_code(report, as_step=as_step)


def exit_code(report: Report, *, as_step: bool = False) -> int:
    """The exit code; as a step, 0 with warnings too, and 75 where the same may succeed in a minute."""
    if not as_step:
        return EXIT_CODES[report.status]
    broken = [finding for finding in report.findings if finding.severity == "broken"]
    if broken and all(finding.transient for finding in broken):
        return os.EX_TEMPFAIL
    return EXIT_CODES["broken"] if broken else 0


def groups_of(options: Options) -> tuple[str, ...]:
    """The groups of checks to ask; imports them, which registers their checks."""
    from homelab_mlops.doctor import store, tracking  # noqa: F401

    # An image that holds the pipeline alone cannot look at more.
    if options.in_cluster or not importlib.util.find_spec("kubernetes"):
        return IN_CLUSTER
    from homelab_mlops.doctor import cluster, forge, gitops, sync, workloads  # noqa: F401

    return GROUPS


def visit_of(options: Options) -> Visit:
    """What the command's options and the current folder say about what to look at."""
    from homelab_mlops.model.spec import load_spec

    if options.store and not options.store.startswith("s3://"):
        raise DoctorError(f"{options.store!r} is no bucket", where="--store", fix="write it as s3://BUCKET/PREFIX")
    root = None if options.in_cluster else _root()
    if options.model:
        spec = load_spec(options.model)
        models: tuple[Model, ...] = (Model(spec.name, options.source or spec.data.source),)
    else:
        models = models_of(root) if root else ()
    return Visit(
        root=root,
        models=models,
        model_given=bool(options.model),
        in_cluster=options.in_cluster,
        store=options.store,
        context=options.context,
        key_file=options.key_file,
    )


def models_of(root: Path) -> tuple[Model, ...]:
    """The models of the repository, but for a model.yaml that is not valid, which `homelab check` names."""
    found = []
    for path in sorted((root / "workflows" / "models").glob("*/model.yaml")):
        try:
            document = yaml_reader.load(path.read_text(encoding="utf-8"))
            found.append(Model(str(document["name"]), str(document["data"]["source"])))
        except (yaml.YAMLError, KeyError, TypeError, OSError):
            continue
    return tuple(found)


def _root() -> Path | None:
    try:
        from homelab_mlops.gitops.settings import find_root

        return find_root()
    except (RepositoryError, ModuleNotFoundError):
        return None


def as_document(report: Report) -> dict[str, Any]:
    """The report as a script reads it."""
    return {
        "status": report.status,
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity,
                "what": finding.what,
                "where": finding.where,
                "fix": finding.fix,
            }
            for finding in report.findings
        ],
        "looked_at": report.asked,
        "not_looked_at": report.not_looked_at,
        "out_of_time": report.out_of_time,
        "requests": report.requests,
        "seconds": round(report.seconds, 2),
    }


def show(report: Report) -> None:
    """Prints the findings, then a line for each group that was looked at, and for each that was not."""
    from rich.text import Text

    out = stdout()
    for finding in report.findings:
        style = "bold red" if finding.severity == "broken" else "bold yellow"
        out.print(Text.assemble((finding.code, style), f"  {finding.what}"))
        out.print(Text.assemble(("  where: ", "bold"), finding.where))
        out.print(Text.assemble(("  fix:   ", "bold"), finding.fix))
    for group, number in sorted(report.asked.items()):
        out.print(f"{group}: {number} checks{_requests(report, group)}", markup=False)
    for group, reasons in sorted(report.not_looked_at.items()):
        out.print(f"{group}: not looked at: {'; '.join(reasons)}", markup=False)
    broken = sum(finding.severity == "broken" for finding in report.findings)
    warnings = len(report.findings) - broken
    late = f"{len(report.out_of_time)} checks out of time, " if report.out_of_time else ""
    out.print(f"doctor: {broken} broken, {warnings} warnings, {late}{report.seconds:.1f} s", markup=False)


def _requests(report: Report, group: str) -> str:
    return f", {report.requests[group]} requests" if group in report.requests else ""


def is_pod() -> bool:
    """Whether this runs in a pod of a cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ

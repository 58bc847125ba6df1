"""Holds the whole tree to its schemas and policies, as Argo CD would see it. It never skips anything silently."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops import schemas, tools
from homelab_mlops.gitops.policies import Repository, Violation, requests, violations
from homelab_mlops.gitops.render import Rendered, render_all
from homelab_mlops.manifests.quantities import say_quantity

CANARY = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: canary
spec:
  replicaz: 1
  selector:
    matchLabels: {app: canary}
  template:
    metadata:
      labels: {app: canary}
    spec:
      containers:
        - name: canary
          image: canary:1
---
apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata:
  name: canary
spec:
  schedule: "* * * * *"
  schedules: ["* * * * *"]
  workflowSpec:
    workflowTemplateRef:
      name: canary
"""


@dataclass
class Report:
    """What `homelab check` has seen."""

    findings: list[Violation] = field(default_factory=list)
    objects: int = 0
    not_rendered: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": not self.findings}


def check_repository(root: Path) -> Report:
    """Renders every Application, validates each object strictly, lints the workflows, and applies the policies.

    Raises:
        RepositoryError: a kustomization does not build.
        ToolError: a program is missing, or lets a wrong manifest pass.
    """
    start = time.monotonic()
    folder = schemas.folder(root)
    rendered = render_all(root)
    texts: dict[str, str] = {}
    for item in rendered:
        if item.text:
            texts[item.name] = f"{texts[item.name]}\n---\n{item.text}" if item.name in texts else item.text
    texts |= _own_files(root, rendered)
    with ThreadPoolExecutor(max_workers=2) as pool:
        valid = pool.submit(_validate, texts, folder)
        linted = pool.submit(_lint, texts)
        repository = Repository(root, rendered)
        findings = [*valid.result(), *linted.result(), *violations(repository)]
    return Report(
        findings,
        sum(len(item.manifests) for item in rendered),
        {item.name: item.unreachable for item in rendered if item.unreachable},
        {resource: say_quantity(resource, value) for resource, value in vars(requests(repository)).items()},
        time.monotonic() - start,
    )


def _own_files(root: Path, rendered: list[Rendered]) -> dict[str, str]:
    """The complete objects of an Application whose upstream is out of reach; and the root."""
    files = {"root": root / "clusters/homelab/root.yaml"}
    for item in rendered:
        if item.unreachable:
            for name in ("namespace", "ingress", "networkpolicy"):
                files[f"{item.name}/{name}"] = root / item.path / f"{name}.yaml"
    return {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.is_file()}


def _validate(texts: dict[str, str], folder: Path) -> list[Violation]:
    """What kubeconform finds wrong. A manifest with two known faults beside the others proves that it looks."""
    findings = []
    report = _kubeconform({**texts, "canary": CANARY}, folder)
    if [item["status"] for item in report.pop("canary")] != ["statusInvalid", "statusInvalid"]:
        raise ToolError("kubeconform lets a misspelt field pass", where=str(folder), fix="delete .tools/schemas")
    for name, items in report.items():
        for item in items:
            if item["status"] != "statusValid":
                where = f"{item.get('kind') or 'object'} {item.get('name') or ''} of {name}"
                findings.append(Violation("schema", where, item.get("msg") or item["status"]))
    return findings


def _kubeconform(texts: dict[str, str], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What kubeconform says of each object, by the name of its text."""
    with tempfile.TemporaryDirectory() as work:
        files = {str(Path(work) / f"{number}.yaml"): name for number, name in enumerate(texts)}
        for file, name in files.items():
            Path(file).write_text(texts[name], encoding="utf-8")
        command = [str(tools.find("kubeconform")), "-strict", "-verbose", "-n", "1", "-output", "json"]
        command += ["-schema-location", f"{folder}/{schemas.LOCATION}", *files]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        resources: list[dict[str, Any]] = json.loads(finished.stdout)["resources"]
    except (json.JSONDecodeError, KeyError) as error:
        raise ToolError(f"kubeconform fails: {finished.stderr.strip()[:300]}") from error
    report: dict[str, list[dict[str, Any]]] = {name: [] for name in texts}
    for item in resources or []:
        if item["status"] != "statusEmpty":
            report[files[item["filename"]]].append(item)
    return report


def _lint(texts: dict[str, str]) -> list[Violation]:
    """What Argo itself says: whether a template's name, parameter and artifact exist."""
    text = texts.get("training")
    if text is None:
        return [Violation("argo-lint", "overlays/homelab/training", "there is nothing to lint")]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        command = [str(tools.find("argo")), "lint", "--offline", "--no-color", "--output", "simple", file.name]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if finished.returncode == 0:
        return []
    lines = (finished.stdout + finished.stderr).replace(f"{file.name}: ", "").splitlines()
    return [Violation("argo-lint", "workflows", line.strip()) for line in lines if line.strip()]


def check_command(as_json: bool) -> bool:
    """Prints what `check_repository` found, and returns whether nothing was."""
    from homelab_mlops.console import print_json, say
    from homelab_mlops.gitops.settings import find_root

    report = check_repository(find_root())
    if as_json:
        print_json(report.as_json())
    for finding in report.findings:
        say(str(finding))
    for name, address in report.not_rendered.items():
        say(f"not rendered: {name}, which cannot be rendered here: {address}")
    say(
        f"check: {report.objects} objects, {len(report.findings)} findings, "
        f"requests: {', '.join(f'{resource} {value}' for resource, value in report.requests.items())}, "
        f"{report.seconds:.1f} s"
    )
    return not report.findings


def promotion_command(span: str, as_json: bool) -> bool:
    """Prints what of the commits ``BASE..HEAD`` is no promotion, and returns whether nothing is."""
    from homelab_mlops.console import print_json, say
    from homelab_mlops.gitops.promotion_branch import promotion_violations
    from homelab_mlops.gitops.settings import find_root

    findings, looked = promotion_violations(find_root(), span)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "passed": not findings})
    for finding in findings:
        say(str(finding))
    say(looked or f"check: {len(findings)} findings: this is no promotion, and a person reviews it")
    return not findings

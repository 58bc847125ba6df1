"""`homelab models` and `homelab promote`: the version in git, the champion of the registry, and the one that serves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.clients import git
from homelab_mlops.clients.mlflow import Version, any_registry
from homelab_mlops.clients.patience import Patience
from homelab_mlops.cluster.push import Push, push_of
from homelab_mlops.console import print_json, say, stdout
from homelab_mlops.errors import HomelabError, RepositoryError, ToolError
from homelab_mlops.gitops.settings import find_root
from homelab_mlops.model import promotion

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster

NAMESPACE = "serving"
MODELS = "app.kubernetes.io/component=model"
UNKNOWN = "unknown"
# How many versions of each model are listed when all models are.
NEWEST = 10
# A commit without figures is better than a long wait for a name server.
NAME_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One model: its version by git, by the alias, and by the ready pods; or ``none``, or ``unknown``.

    ``versions`` are all that the registry holds, the newest first; those ``waiting`` could be promoted.
    """

    model: str
    git: str
    registry: str
    serves: str
    waiting: list[dict[str, str]]
    versions: list[dict[str, str]]

    @property
    def drift(self) -> str:
        """Why git and the registry differ, or nothing."""
        if UNKNOWN in (self.git, self.registry) or self.git in (self.registry, "none"):
            return ""
        return f"git names version {self.git}, but the alias champion is {self.registry}"


def versions_in_git(root: Path) -> dict[str, str]:
    """The version that each manifest of the working tree names, by model."""
    found = {}
    for path in sorted((root / promotion.FOLDER).glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if promotion.LABEL in text:
            found[path.stem] = promotion.named_version(text, str(path))
    return found


def versions_deployed(cluster: Cluster) -> dict[str, str]:
    """The version that each Deployment names, as Argo CD has applied it, by model."""
    return {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"].get(promotion.LABEL, UNKNOWN)
        for item in cluster.find("apps/v1", "Deployment", NAMESPACE, MODELS)
    }


def versions_serving(cluster: Cluster) -> dict[str, str]:
    """The versions of the ready pods, by model."""
    found: dict[str, set[str]] = {}
    for pod in cluster.find("v1", "Pod", NAMESPACE, MODELS):
        labels, conditions = pod["metadata"]["labels"], pod.get("status", {}).get("conditions", [])
        if any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
            found.setdefault(labels["app.kubernetes.io/name"], set()).add(labels.get(promotion.LABEL, UNKNOWN))
    return {model: ", ".join(_said(version) for version in sorted(versions)) for model, versions in found.items()}


def compared(
    named: dict[str, str], registry: dict[str, tuple[str | None, list[Version]]] | None, serves: dict[str, str] | None
) -> list[ModelStatus]:
    """One status for each model; ``unknown`` where git, registry or cluster could not be asked."""
    statuses = []
    for model, version in sorted(named.items()):
        champion, versions = registry[model] if registry is not None else (UNKNOWN, [])
        waiting = [
            item._asdict()
            for item in versions
            if int(item.version) > int(version) and item.version != champion and item.gate == "promote"
        ]
        serving = UNKNOWN if serves is None else serves.get(model, "none")
        every = [item._asdict() for item in versions]
        statuses.append(ModelStatus(model, _said(version), champion or "none", serving, waiting, every))
    return statuses


def _said(version: str) -> str:
    return "none" if version == promotion.NONE_YET else version


def models_command(model: str | None, context: str | None, *, as_json: bool) -> None:
    """The command `homelab models`.

    Raises:
        RepositoryError: neither git nor the registry knows ``model``.
    """
    named = versions_in_git(find_root())
    registry: dict[str, tuple[str | None, list[Version]]] | None = None
    serves: dict[str, str] | None = None
    try:
        with any_registry(context) as asked:
            named = {**dict.fromkeys(asked.models(), promotion.NONE_YET), **named}
            registry = {name: (asked.champion(name), asked.versions(name)) for name in named if model in (None, name)}
    except HomelabError as error:
        say(f"the registry cannot be asked: {error.what}")
    if model is not None:
        if model not in named:
            unasked = ", and the registry cannot be asked" if registry is None else ""
            raise RepositoryError(
                f"git names no model {model!r}{unasked}", fix=f"models: {', '.join(named) or 'none yet'}"
            )
        named = {model: named[model]}
    try:
        from homelab_mlops.clients.kubernetes import Cluster

        serves = versions_serving(Cluster(context))
    except HomelabError as error:
        say(f"the cluster cannot be asked: {error.what}")
    statuses = compared(named, registry, serves)
    if as_json:
        print_json([{**dataclasses.asdict(item), "drift": item.drift} for item in statuses])
        return
    _show(statuses, None if model else NEWEST)


def _show(statuses: list[ModelStatus], most: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "git", "registry", "serves", "waiting", box=None, pad_edge=False)
    for item in statuses:
        waiting = ", ".join(one["version"] for one in item.waiting)
        table.add_row(item.model, item.git, item.registry, item.serves, waiting)
    console = stdout()
    console.print(table)
    for item in statuses:
        if item.drift:
            console.print(f"{item.model}: {item.drift}", markup=False)
    for item in statuses:
        if not item.versions:
            continue
        table = Table(item.model, "alias", "gate", "holdout", "why", box=None, pad_edge=False)
        for one in item.versions[:most]:
            gate = Text(one["gate"] or "unknown", {"promote": "green", "reject": "red"}.get(one["gate"], ""))
            table.add_row(one["version"], one["alias"], gate, Text(one["evidence"]), Text(one["why"]))
        console.print()
        console.print(table)
        left_out = len(item.versions) - len(item.versions[:most])
        if left_out:
            console.print(f"and {left_out} older: `homelab models {item.model}` lists them", markup=False)


def promote(model: str, version: str, context: str | None, *, deadline: float) -> tuple[str, Push]:
    """Commits the one line that names ``version``; returns the commit, and what a push does with it.

    What a push does is said before the commit, where that is not to make it serve. Where MLflow answers, the version
    has to exist.

    Raises:
        RepositoryError: there is no such manifest, it names the version already, or it has other changes.
    """
    root = find_root()
    path = root / promotion.manifest_of(model)
    if not path.is_file():
        known = ", ".join(versions_in_git(root)) or "none"
        raise RepositoryError(f"no manifest serves {model!r}", where=str(path), fix=f"models here: {known}")
    if not version.isdigit() or (version != "0" and version.startswith("0")):
        raise RepositoryError(
            f"{version!r} is not the number of a version", where=model, fix="`homelab models` lists them"
        )
    file = str(promotion.manifest_of(model))
    if git.output(root, "status", "--porcelain", "--", file):
        raise RepositoryError(
            "the manifest has changes that are not committed", where=file, fix="commit or restore them"
        )
    text = path.read_text(encoding="utf-8")
    before = promotion.named_version(text, file)
    if before == version:
        raise RepositoryError(
            f"git names version {version} of {model} already", where=file, fix="push, if it is not live"
        )
    push = push_of(root, str(promotion.FOLDER))
    for line in [*push.beside, *([] if push.arrives else [push.does])]:
        say(line)
    evidence = _evidence(model, version, context, deadline)
    lines = [evidence, ""] if evidence else []
    said = promotion.message(model, version, before, None).splitlines()
    path.write_text(promotion.with_version(text, version, file), encoding="utf-8")
    try:
        git.output(root, "commit", "--quiet", "--message", "\n".join([*said[:2], *lines, *said[3:]]), "--", file)
    except ToolError:
        path.write_text(text, encoding="utf-8")
        raise
    return git.output(root, "rev-parse", "HEAD"), push


def promote_command(model: str, version: str, context: str | None, *, deadline: float, as_json: bool) -> None:
    """The command `homelab promote`."""
    commit, push = promote(model, version, context, deadline=deadline)
    if as_json:
        print_json({"model": model, "version": version, "commit": commit, "push": push.does, "arrives": push.arrives})
        return
    stdout().print(f"{promotion.subject(model, version)}: commit {commit[:12]}. {push.does}", markup=False)


def _evidence(model: str, version: str, context: str | None, deadline: float) -> str:
    if version == promotion.NONE_YET:
        return ""

    def ask(_: bool) -> dict[str, Version]:
        with any_registry(context) as registry:
            return {item.version: item for item in registry.versions(model)}

    try:
        versions = Patience(deadline, NAME_SECONDS).call(ask)
    except HomelabError as error:
        say(f"the registry cannot be asked, so the commit has no figures: {error.what}")
        return ""
    if version not in versions:
        known = ", ".join(versions) or "none"
        raise RepositoryError(f"the registry has no version {version} of {model}", fix=f"versions: {known}")
    found = versions[version]
    if found.gate == "reject":
        say(f"the gate rejects {model} version {version}: {found.why or 'its run says why'}")
    because = f" ({found.why})" if found.why else ""
    return f"{found.evidence or 'no figures'} on the holdout; the gate says {found.gate or 'nothing'}{because}"

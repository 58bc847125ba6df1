"""`homelab models` and `homelab promote`: the version in git, the champion of the registry, and the one that serves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.clients import git
from homelab_mlops.clients.mlflow import ModelRegistry, Version, any_registry
from homelab_mlops.clients.patience import Patience
from homelab_mlops.cluster.push import Push, push_of
from homelab_mlops.console import print_json, say, stdout
from homelab_mlops.errors import HomelabError, RepositoryError, ToolError, TrackingError
from homelab_mlops.gitops.settings import find_root
from homelab_mlops.model import promotion
from homelab_mlops.model.promotion import Named

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster

NAMESPACE = "serving"
MODELS = "app.kubernetes.io/component=model"
UNKNOWN = "unknown"
# How many versions of each model are listed when all models are.
NEWEST = 10
# A refusal is better than a long wait for a name server.
NAME_SECONDS = 5.0
# How much of a SHA-256 a table shows; `--json` has all of it.
SHORT = 12


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One model: its version by git, by the alias, and by the ready pods; or ``none``, or ``unknown``.

    ``sha256`` is that of the files that git names, ``stored`` that of the files that lie in the store for that version.
    ``versions`` are all that the registry holds, the newest first; those ``waiting`` could be promoted.
    """

    model: str
    git: str
    sha256: str
    stored: str
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

    @property
    def bytes(self) -> str:
        """Why the files of the version are not held to git, or are not those that git names; or nothing."""
        if self.git in (UNKNOWN, "none"):
            return ""
        if self.stored == "none":
            return f"the registry has no version {self.git}: no new pod serves it"
        if self.sha256 == "none":
            promote = f"`homelab promote {self.model} {self.git}`, and a push, name it"
            return f"git names version {self.git} without the SHA-256 of its files, so any files serve: {promote}"
        if self.stored in (UNKNOWN, self.sha256):
            return ""
        return (
            f"the files of version {self.git} have the SHA-256 {self.stored} in the store, and git names "
            f"{self.sha256}: no new pod serves them"
        )


@dataclasses.dataclass(frozen=True)
class Registered:
    """What the registry knows of one model; ``stored`` is the SHA-256 of the files of the version that git names."""

    champion: str | None
    versions: list[Version]
    stored: str = UNKNOWN


def asked(registry: ModelRegistry, model: str, version: str) -> Registered:
    """What the registry knows of a model of which git names ``version``.

    Raises:
        TrackingError: MLflow does not answer.
    """
    known = Registered(registry.champion(model), registry.versions(model))
    if version not in {item.version for item in known.versions}:
        return dataclasses.replace(known, stored="none")
    try:
        return dataclasses.replace(known, stored=registry.sha256(model, version))
    except TrackingError as error:
        say(f"{model}: the files of version {version} cannot be read: {error.what}")
        return known


def named_in_git(root: Path) -> dict[str, Named]:
    """What each manifest of the working tree names, by model."""
    return promotion.named_in(root / promotion.FOLDER)


def named_in_cluster(cluster: Cluster) -> dict[str, Named]:
    """What each Deployment names, as Argo CD has applied it, by model; `UNKNOWN` is a version that cannot be read."""
    found = {}
    for item in cluster.find("apps/v1", "Deployment", NAMESPACE, MODELS):
        name = item["metadata"]["name"]
        try:
            found[name] = promotion.named(item["spec"]["template"]["metadata"], f"Deployment {NAMESPACE}/{name}")
        except RepositoryError:
            found[name] = Named(UNKNOWN)
    return found


def versions_serving(cluster: Cluster) -> dict[str, str]:
    """The versions of the ready pods, by model."""
    found: dict[str, set[str]] = {}
    for pod in cluster.find("v1", "Pod", NAMESPACE, MODELS):
        labels, conditions = pod["metadata"]["labels"], pod.get("status", {}).get("conditions", [])
        if any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
            found.setdefault(labels["app.kubernetes.io/name"], set()).add(labels.get(promotion.LABEL, UNKNOWN))
    return {model: ", ".join(_said(version) for version in sorted(versions)) for model, versions in found.items()}


def compared(
    named: dict[str, Named], registry: dict[str, Registered] | None, serves: dict[str, str] | None
) -> list[ModelStatus]:
    """One status for each model; ``unknown`` where git, registry or cluster could not be asked."""
    statuses = []
    for model, (version, sha256) in sorted(named.items()):
        known = registry[model] if registry is not None else Registered(UNKNOWN, [])
        waiting = [
            item._asdict()
            for item in known.versions
            if version != UNKNOWN
            and int(item.version) > int(version)
            and item.version != known.champion
            and item.gate == "promote"
        ]
        statuses.append(
            ModelStatus(
                model,
                git=_said(version),
                sha256=sha256 or "none",
                stored=known.stored,
                registry=known.champion or "none",
                serves=UNKNOWN if serves is None else serves.get(model, "none"),
                waiting=waiting,
                versions=[item._asdict() for item in known.versions],
            )
        )
    return statuses


def _said(version: str) -> str:
    return "none" if version == promotion.NONE_YET else version


def models_command(model: str | None, context: str | None, *, as_json: bool) -> None:
    """The command `homelab models`.

    Raises:
        RepositoryError: neither git nor the registry knows ``model``.
    """
    named = named_in_git(find_root())
    registry: dict[str, Registered] | None = None
    serves: dict[str, str] | None = None
    try:
        with any_registry(context) as client:
            named = {**dict.fromkeys(client.models(), Named(promotion.NONE_YET)), **named}
            registry = {name: asked(client, name, one.version) for name, one in named.items() if model in (None, name)}
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
        print_json([{**dataclasses.asdict(item), "drift": item.drift, "bytes": item.bytes} for item in statuses])
        return
    _show(statuses, None if model else NEWEST)


def _show(statuses: list[ModelStatus], most: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "git", "sha256", "registry", "serves", "waiting", box=None, pad_edge=False)
    for item in statuses:
        waiting = ", ".join(one["version"] for one in item.waiting)
        table.add_row(item.model, item.git, item.sha256[:SHORT], item.registry, item.serves, waiting)
    console = stdout()
    console.print(table)
    for item in statuses:
        for what in filter(None, (item.drift, item.bytes)):
            console.print(f"{item.model}: {what}", markup=False)
    for item in statuses:
        if not item.versions:
            continue
        table = Table(item.model, "alias", "gate", "holdout", "sha256", "why", box=None, pad_edge=False)
        for one in item.versions[:most]:
            gate = Text(one["gate"] or "unknown", {"promote": "green", "reject": "red"}.get(one["gate"], ""))
            recorded = Text(one["sha256"][:SHORT])
            table.add_row(one["version"], one["alias"], gate, Text(one["evidence"]), recorded, Text(one["why"]))
        console.print()
        console.print(table)
        left_out = len(item.versions) - len(item.versions[:most])
        if left_out:
            console.print(f"and {left_out} older: `homelab models {item.model}` lists them", markup=False)


def promote(
    model: str, version: str, context: str | None, *, deadline: float, as_stored: bool = False
) -> tuple[str, Push]:
    """Commits the lines that name ``version`` and the SHA-256 of its files; returns the commit, and what a push does.

    What a push does is said before the commit, where that is not to make it serve. The registry has to record the
    SHA-256 that the files in the store have; ``as_stored`` takes that of the store where the registry records none.

    Raises:
        RepositoryError: there is no such manifest, it names the version already, it has other changes, or the files of
            the version are not those of its training.
        HomelabError: the registry cannot be asked.
    """
    root = find_root()
    path = root / promotion.manifest_of(model)
    if not path.is_file():
        known = ", ".join(named_in_git(root)) or "none"
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
    before = promotion.named_by(text, file)
    if before.version == version and not before.unpinned:
        raise RepositoryError(
            f"git names version {version} of {model} already", where=file, fix="push, if it is not live"
        )
    push = push_of(root, str(promotion.FOLDER))
    for line in [*push.beside, *([] if push.arrives else [push.does])]:
        say(line)
    evidence, sha256 = _evidence(model, version, context, deadline, as_stored=as_stored)
    said = promotion.message(model, version, before.version, None, sha256=sha256)
    if evidence:
        said = said.replace("\n\n", f"\n\n{evidence}\n", 1)
    path.write_text(promotion.naming(text, Named(version, sha256), file), encoding="utf-8")
    try:
        git.output(root, "commit", "--quiet", "--message", said, "--", file)
    except ToolError:
        path.write_text(text, encoding="utf-8")
        raise
    return git.output(root, "rev-parse", "HEAD"), push


def promote_command(
    model: str, version: str, context: str | None, *, deadline: float, as_stored: bool, as_json: bool
) -> None:
    """The command `homelab promote`."""
    commit, push = promote(model, version, context, deadline=deadline, as_stored=as_stored)
    if as_json:
        print_json({"model": model, "version": version, "commit": commit, "push": push.does, "arrives": push.arrives})
        return
    stdout().print(f"{promotion.subject(model, version)}: commit {commit[:12]}. {push.does}", markup=False)


def _evidence(model: str, version: str, context: str | None, deadline: float, *, as_stored: bool) -> tuple[str, str]:
    """The figures of a version, and the SHA-256 of its files."""
    if version == promotion.NONE_YET:
        return "", ""

    def ask(_: bool) -> tuple[dict[str, Version], str]:
        with any_registry(context) as registry:
            known = {item.version: item for item in registry.versions(model)}
            return known, registry.sha256(model, version) if version in known else ""

    versions, stored = Patience(deadline, NAME_SECONDS).call(ask)
    if version not in versions:
        known = ", ".join(versions) or "none"
        raise RepositoryError(f"the registry has no version {version} of {model}", fix=f"versions: {known}")
    found = versions[version]
    _hold(model, found, stored, as_stored=as_stored)
    if found.gate == "reject":
        say(f"the gate rejects {model} version {version}: {found.why or 'its run says why'}")
    because = f" ({found.why})" if found.why else ""
    return f"{found.evidence or 'no figures'} on the holdout; the gate says {found.gate or 'nothing'}{because}", stored


def _hold(model: str, version: Version, stored: str, *, as_stored: bool) -> None:
    """Checks that the files in the store are those of the training."""
    if version.sha256 == stored:
        return
    if version.sha256:
        raise RepositoryError(
            f"the files of {model} version {version.version} have the SHA-256 {stored} in the store, and its training "
            f"recorded {version.sha256}",
            where="the registry",
            fix="look who wrote there, and promote another version",
        )
    if not as_stored:
        raise RepositoryError(
            f"the training of {model} version {version.version} recorded no SHA-256 of its files",
            where="the registry",
            fix=f"if you know that nobody has changed them: `homelab promote {model} {version.version} --as-stored`",
        )
    say(f"nothing recorded the files of {model} version {version.version}: git names what lies in the store, {stored}")

"""Which Application reads a file of the repository, if any."""

from __future__ import annotations

import re
from dataclasses import dataclass

from homelab_mlops.gitops.argo_cd.applications import NAMESPACE, Side, Source
from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.manifests.objects import get

# Reaches no cluster, unless an Application reads it: pages, pictures, what runs on a forge or on a person's machine.
_INERT = re.compile(
    r"(^|/)(\.(git|github|forgejo|gitea|gitlab|vscode|idea|ci|devcontainer|husky|taskfiles)|tests?|docs?|notes|adr|wiki)/"
    r"|(^|/)(LICENSE|LICENCE|COPYING|NOTICE|CODEOWNERS|OWNERS|Makefile|Justfile|Taskfile\.ya?ml|\.?renovate\w*\.json5?)$"
    r"|(^|/)(Dockerfile[^/]*|\.git\w+|\.editorconfig|\.dockerignore|\.yamllint[^/]*|\.pre-commit-config\.ya?ml)$"
    r"|\.(md|mdx|rst|adoc|png|jpe?g|gif|svg|webp|drawio|py|sh|lock|schema\.json)$",
    re.IGNORECASE,
)
# What only this tool reads.
_OF_THIS_TOOL = re.compile(
    r"^(src|docker|requirements)/|^clusters/[^/]+/(settings|secrets)\.ya?ml$|^clusters/[^/]+/sealing-certificate\.pem$"
    r"|^(pyproject\.toml|accepted-findings\.yaml|renovate\.json|\.ci/.*|workflows/models/[^/]*\.json)$"
)


@dataclass(frozen=True)
class Unread:
    """A changed file that no rendered Application accounts for.

    Attributes:
        reader: the ApplicationSet that may read it; empty where there is none.
        reason: why its effect is not known.
    """

    file: str
    reader: str
    reason: str


def unread(files: list[str], base: Side, head: Side) -> list[Unread]:
    """The changed files that belong to no Application, but may reach a cluster."""
    found = []
    for file in files:
        sides = [side for side in (base, head) if file in side.tree.entries]
        if any(_is_read(side, file) for side in sides):
            continue
        generators = [item for side in sides for item in _generators(side, file)]
        if generators:
            _, name, why = max(generators, key=lambda item: len(item[0]))
            found.append(Unread(file, name, why))
        elif not is_inert(file, sides[0].tree):
            beside = next((why for side in reversed(sides) if (why := _beside(side, file))), "")
            found.append(Unread(file, "", beside or f"no Application that was found reads it{_not_known(sides)}"))
    return found


def _beside(side: Side, file: str) -> str:
    """Why the Applications of the folder in which a file lies do not read it; empty where there are none."""
    places = [
        (place, why)
        for source in side.sources.values()
        for place, why in source.beside.items()
        if place == "." or file == place or file.startswith(f"{place}/")
    ]
    nearest = max((len(place) for place, _ in places), default=0)
    reasons = sorted({why for place, why in places if len(place) == nearest})
    return (
        f"{reasons[0]}{f' (nor do {len(reasons) - 1} other Applications)' if len(reasons) > 1 else ''}"
        if reasons
        else ""
    )


def _not_known(sides: list[Side]) -> str:
    """The Applications that are not rendered and may hold others, since they go to Argo CD's own namespace."""
    sources = {source.key: source for side in sides for source in side.sources.values() if source.unrendered}
    names = sorted(
        key
        for key, source in sources.items()
        if source.namespace in (NAMESPACE, get(source.application, "metadata", "namespace"))
    )
    more = f" and {len(names) - 3} others" if len(names) > 3 else ""
    return f"; what {', '.join(names[:3])}{more} renders is not known" if names else ""


def is_inert(file: str, tree: Tree) -> bool:
    """Whether a file that no Application reads surely reaches no cluster."""
    own = not tree.is_needed("src/") and _OF_THIS_TOOL.search(file) is not None
    return own or ("/" not in file and file.startswith(".")) or _INERT.search(file) is not None


def reads(source: Source, file: str) -> bool:
    """Whether an Application reads a file, or the folder that it lies in."""
    return any(file == place or place == "." or file.startswith(f"{place}/") for place in source.reads)


def _is_read(side: Side, file: str) -> bool:
    return file in side.root_files or any(reads(source, file) for source in side.sources.values())


def _generators(side: Side, file: str) -> list[tuple[str, str, str]]:
    """The folders that are read and hold a file, with the ApplicationSets that read them, and why that is not known."""
    return [
        ("" if folder == "." else folder, name, why)
        for name, (why, folders) in side.unexpanded.items()
        for folder in folders
        if folder == "." or file.startswith(f"{folder}/")
    ]

"""Images that move, go back, or that nobody builds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from homelab_mlops.manifests.images import split_image, why_moving
from homelab_mlops.manifests.objects import strings
from homelab_mlops.review.compare import Change
from homelab_mlops.review.rules.rule import Review, Said, changed_references, paired, rule


def _images(review: Review) -> Iterator[tuple[Change, str, str | None, str]]:
    """Each image that is new in its place: the change, the container, the image before and after."""
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        for was, now in paired(change):
            image = now.spec.get("image")
            old = was.spec.get("image") if was else None
            if isinstance(image, str) and image != old:
                yield change, now.name, old, image
            seen = {str(item) for item in strings((was.spec if was else {}).get("args"))}
            for argument in strings(now.spec.get("args")):
                match = re.search(r"image=(\S+[:@]\S+)$", argument)
                if match and argument not in seen:
                    before = [item.partition("=")[2] for item in seen if item.startswith(argument.partition("=")[0])]
                    yield change, now.name, before[0] if before else None, match[1]


@rule(
    "image-mutable",
    "warning",
    looks_for="an image without a tag, or with a tag that moves",
    reason="The cluster may run another image than the one that was reviewed.",
    action="Name an exact version, best with its digest.",
)
def image_mutable(review: Review) -> Said:
    for change, name, _, image in _images(review):
        why = why_moving(image)
        if why:
            yield f"{change.id} container {name}", f"{image} {why}"


def _version(tag: str) -> tuple[tuple[int, ...], int, str] | None:
    match = re.match(r"^(?:v|release[._-])?(\d+(?:[._-]\d+)*)(.*)$", tag, re.IGNORECASE)
    if match is None:
        return None
    numbers = tuple(int(part) for part in re.split(r"[._-]", match[1]))
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    early = re.search(r"(alpha|beta|rc|pre|dev|snapshot)", match[2], re.IGNORECASE) is not None
    return numbers, 0 if early else 1, match[2] if early else ""


def is_older(before: str, after: str) -> bool:
    """Whether one version is older than the one before it."""
    one, other = _version(before), _version(after)
    return one is not None and other is not None and other < one


@rule(
    "image-downgraded",
    "warning",
    looks_for="an older version of an image or of a remote base",
    reason="The older version may not be able to read data that the newer one wrote.",
    action="Check that going back is meant and possible.",
)
def image_downgraded(review: Review) -> Said:
    for change, name, old, image in _images(review):
        if old:
            (repository, tag, _), (was, before, _) = split_image(image), split_image(old)
            if repository == was and is_older(before, tag):
                yield f"{change.id} container {name}", f"{repository}: {before} → {tag}"
    for name, source in review.head.sources.items():
        twin = review.base.sources.get(name)
        if twin:
            for address, before, after in changed_references(twin.remotes, source.remotes):
                if is_older(before, after):
                    yield f"Application {name}", f"{address}: {before} → {after}"


@rule(
    "image-unbuilt",
    "danger",
    looks_for="an image of this registry that no workflow builds",
    reason="No node can pull the image, and its pods never start.",
    action="Add docker/NAME/Dockerfile and name it in .github/workflows/publish.yaml, or correct the name.",
)
def image_unbuilt(review: Review) -> Said:
    tree = review.head.tree
    registry = re.search(
        r"^imageRegistry:\s*[\"']?([^\s\"'#]+)", tree.read("clusters/homelab/settings.yaml") or "", re.MULTILINE
    )
    if registry is None:
        return
    built = {path.split("/")[1] for path in tree.entries if re.fullmatch(r"docker/[^/]+/Dockerfile", path)}
    workflows = [
        tree.read(path) or ""
        for path in tree.entries
        if re.fullmatch(r"\.(github|forgejo|gitea)/workflows/[^/]+\.ya?ml", path)
    ]
    listed: set[str] = set()
    for text in workflows:
        for match in re.finditer(r"^\s+image:\s*\[([^\]]*)\]", text, re.MULTILINE):
            listed |= {item.strip().strip("\"'") for item in match[1].split(",")}
        listed |= {name for name in built if re.search(rf"docker/{re.escape(name)}/Dockerfile", text)}
    for change, name, _, image in _images(review):
        repository = split_image(image)[0]
        if repository.startswith(f"{registry[1]}/"):
            own = repository.removeprefix(f"{registry[1]}/")
            if own not in built:
                yield f"{change.id} container {name}", f"{image}: there is no docker/{own}/Dockerfile"
            elif workflows and own not in listed:
                yield f"{change.id} container {name}", f"{image}: no workflow builds docker/{own}"


@rule(
    "image-changed",
    "note",
    looks_for="an image from another repository, or another digest of a tag",
    reason="The cluster trusts another publisher, or another build.",
    action="Check who publishes the image.",
)
def image_changed(review: Review) -> Said:
    for change, name, old, image in _images(review):
        repository, tag, digest = split_image(image)
        if old and split_image(old)[0] != repository:
            yield f"{change.id} container {name}", f"{old} → {image}"
        elif old and split_image(old)[1] == tag and split_image(old)[2] != digest and tag:
            yield f"{change.id} container {name}", f"{repository}:{tag} is another image: {digest[:19] or 'no digest'}"

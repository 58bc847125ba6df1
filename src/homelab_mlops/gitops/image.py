"""`homelab image`: builds the platform's own images, and brings them to the registry or into k3s."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from homelab_mlops.clients import git
from homelab_mlops.console import say, stdout
from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.location import CLUSTER, find_root
from homelab_mlops.manifests import yaml_reader

IMAGES = Path("clusters") / CLUSTER / "images" / "kustomization.yaml"
Engine = Literal["docker", "podman", "buildah"]
ENGINES: tuple[Engine, ...] = ("docker", "podman", "buildah")
Target = Literal["registry", "k3s"]
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_NEW_TAG = re.compile(r"^(\s+newTag: ).*$", re.MULTILINE)


class Image(NamedTuple):
    """One image of the platform: the folder of its Dockerfile, and what the manifests call it."""

    name: str
    reference: str


def images(root: Path, tag: str | None = None) -> list[Image]:
    """The images that the manifests pin and this repository builds, with ``tag`` instead of the pinned one.

    Raises:
        RepositoryError: a pinned image has no Dockerfile, or a Dockerfile no pin.
    """
    document = yaml_reader.load((root / IMAGES).read_text(encoding="utf-8"))
    found = [Image(item["name"], f"{item['newName']}:{tag or item['newTag']}") for item in document["images"]]
    built = {path.parent.name for path in root.glob("docker/*/Dockerfile")}
    if unlike := built.symmetric_difference(image.name for image in found):
        raise RepositoryError(f"{min(unlike)} has either no Dockerfile or no pinned tag", where=str(IMAGES))
    return found


def pin(root: Path, tag: str) -> None:
    """Lets the manifests name all images by ``tag``."""
    path = root / IMAGES
    path.write_text(_NEW_TAG.sub(rf"\g<1>{tag}", path.read_text(encoding="utf-8")), encoding="utf-8")


def engine_here(wanted: Engine | None) -> Engine:
    """The program that builds: the one that was asked for, or the first of docker, podman and buildah that answers.

    Raises:
        ToolError: none is on PATH, or none answers.
    """
    found = [name for name in ((wanted,) if wanted else ENGINES) if shutil.which(name)]
    for name in found:
        if not (refusal := _refusal(name)):
            return name
        say(f"{name} does not answer: {refusal}")
    if found:
        fix = "start docker's daemon" if found[0] == "docker" else f"mend what `{found[0]} version` says"
        raise ToolError(f"{' and '.join(found)} cannot build here", fix=f"{fix}, or ask it as somebody who may")
    raise ToolError(
        f"{wanted} is not on PATH" if wanted else "none of docker, podman and buildah is on PATH",
        fix="install one; or let the workflow `publish` of your forge build the images",
    )


def _refusal(engine: Engine) -> str:
    """Why the program does not work here, as docker's does not without its daemon; empty where it does."""
    done = subprocess.run([engine, "version"], capture_output=True, text=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"it ends with {done.returncode}"])[-1]


def image_command(
    names: list[str], *, engine: Engine | None, to: Target | None, platform: str | None, tag: str | None
) -> None:
    """The command `homelab image`.

    Raises:
        RepositoryError: there is no such image, or the tag is not valid.
        ToolError: no engine is here, or it fails.
    """
    root = find_root()
    known = [image.name for image in images(root)]
    if wrong := [name for name in names if name not in known]:
        raise RepositoryError(f"there is no image {wrong[0]!r}", fix=f"images: {', '.join(known)}")
    if to == "k3s" and shutil.which("k3s") is None:
        fix = "run this on the node, or bring the images to a registry: --to registry"
        raise ToolError("k3s is not on PATH", fix=fix)
    builds = engine_here(engine)
    if tag is not None and not _TAG.fullmatch(tag):
        raise RepositoryError(f"{tag!r} is not a tag of an image", where="--tag", fix="such as 0.2.0")
    chosen = [image for image in images(root, tag) if not names or image.name in names]
    commit = git.output(root, "rev-parse", "HEAD")
    for image in chosen:
        _build(builds, root, image, commit, platform)
        if to == "registry":
            say(f"{image.name}: pushing {image.reference}")
            registry = image.reference.partition("/")[0]
            _run(root, [builds, "push", image.reference], fix=f"log in: {builds} login {registry}")
        elif to == "k3s":
            _import(builds, root, image)
        stdout().print(image.reference, markup=False)
    if tag is not None:
        pin(root, tag)
        stdout().print(f"{IMAGES} names {tag}: commit and push it.", markup=False)


def _build(engine: Engine, root: Path, image: Image, commit: str, platform: str | None) -> None:
    say(f"{image.name}: building {image.reference} with {engine}")
    options = ["--build-arg", f"COMMIT={commit}", "--file", f"docker/{image.name}/Dockerfile", "--tag", image.reference]
    if platform:
        options += ["--platform", platform]
    _run(root, [engine, "build", *options, "."], fix="mend what the build says, and run this again")


def _import(engine: Engine, root: Path, image: Image) -> None:
    """Brings the image into the containerd of the k3s on this machine."""
    say(f"{image.name}: importing {image.reference} into k3s")
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "image.tar")
        match engine:
            case "docker":
                saved = ["docker", "save", "--output", archive, image.reference]
            case "podman":
                saved = ["podman", "save", "--format", "docker-archive", "--output", archive, image.reference]
            case "buildah":
                saved = ["buildah", "push", image.reference, f"docker-archive:{archive}:{image.reference}"]
        _run(root, saved, fix="free space in the folder for temporary files, or name another one by TMPDIR")
        _run(root, ["k3s", "ctr", "--namespace", "k8s.io", "images", "import", archive], fix="run this as root")


def _run(root: Path, command: list[str], *, fix: str) -> None:
    """Runs a program that writes to the terminal itself, since it takes minutes."""
    done = subprocess.run(command, cwd=root, stdout=2, check=False)  # noqa: S603 - standard output is for the references
    if done.returncode:
        raise ToolError(f"{' '.join(command[:2])} ended with {done.returncode}; its reason stands above", fix=fix)

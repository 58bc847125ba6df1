"""Random edits of a repository that somebody else might make: of a value, a line or a byte, of files and of folders."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.unit.review.rewrites import places

NEW_OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: brought\ndata:\n  x: y\n"
OVERRIDES = {
    "kustomize": "kustomize:\n  namePrefix: other-\n",
    "helm": "helm:\n  releaseName: other\n",
    "directory": "directory:\n  exclude: '*'\n",
}


class NoPlaceError(Exception):
    """There is nothing to edit here."""


def files_of(root: Path) -> list[Path]:
    """The files that git may follow, the same in every run."""
    found = (path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(path for path in found if not {".git", ".tools", ".gitignore"} & set(path.relative_to(root).parts))


def edit_at_random(root: Path, rng: random.Random) -> str:
    """Makes one edit, and returns it in words."""
    while True:
        file, (name, edit) = rng.choice(files_of(root)), rng.choice(list(EDITS.items()))
        try:
            return f"{file.relative_to(root)}: {name} {edit(file, rng)}"
        except NoPlaceError:
            continue


def _value(file: Path, rng: random.Random) -> str:
    text = file.read_text()
    match = _chosen(rng, re.finditer(r"(?m)^(\s*(?:- )?[\w.-]+: |\s*- )([\w./:{}$' -]+)$", text))
    old = match[2]
    new = rng.choice([f"{old}x", f"{old}x", "7", f"[{old}]", f"{{a: {old}}}", "", "true", f"'{old}'", f"../{old}"])
    file.write_text(f"{text[: match.start(2)]}{new}{text[match.end(2) :]}")
    return f"{match[0].strip()} → {new}"


def _key(file: Path, rng: random.Random) -> str:
    text = file.read_text()
    match = _chosen(rng, re.finditer(r"(?m)^\s*(?:- )?([\w.-]+):", text))
    new = rng.choice([f"{match[1]}x", match[1].capitalize(), match[1][:-1] or "x"])
    file.write_text(f"{text[: match.start(1)]}{new}{text[match.end(1) :]}")
    return f"{match[1]} → {new}"


def _line(file: Path, rng: random.Random) -> str:
    lines = file.read_text().splitlines(keepends=True)
    number = _chosen(rng, range(len(lines)))
    old = lines[number]
    way = rng.choice(["gone", "twice", "deeper", "further out", "a comment", "the last", "with its neighbour"])
    new = {
        "gone": [],
        "twice": [old, old],
        "deeper": [f"  {old}"],
        "further out": [old.removeprefix("  ")],
        "a comment": [f"# {old}"],
        "the last": [old],
        "with its neighbour": [*lines[number + 1 : number + 2], old],
    }[way]
    end = {"the last": len(lines), "with its neighbour": number + 2}.get(way, number + 1)
    lines[number:end] = new
    file.write_text("".join(lines))
    return f"{number + 1} {way}"


def _byte(file: Path, rng: random.Random) -> str:
    content = bytearray(file.read_bytes())
    place = _chosen(rng, range(len(content)))
    old = content[place]
    content[place] = rng.choice([*b"\n :-#'\"{}[]x0", 0, 9, 255, old ^ 1, old ^ 32])
    file.write_bytes(content)
    return f"{place}: {old:02x} → {content[place]:02x}"


def _structure(file: Path, rng: random.Random) -> str:
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except yaml.YAMLError:
        raise NoPlaceError from None
    parent, key = _chosen(rng, (place for document in documents for place in places(document)))
    value: Any = parent[key]
    way = rng.choice(["gone", "emptied", "twice", "more"])
    match way, value:
        case "twice", _ if isinstance(parent, list):
            parent.append(value)
        case "emptied", dict() | list():
            value.clear()
        case "more", dict():
            value["more"] = "x"
        case "more", list():
            value.append("more")
        case _:
            del parent[key]
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return f"{key} {way}"


def _written(file: Path, rng: random.Random) -> str:
    text = file.read_text()
    way = rng.choice(["CRLF", "no end", "a mark", "a separator", "empty", "half", "only a comment", "JSON"])
    if way == "JSON":
        try:
            (document,) = yaml.safe_load_all(text)
        except (yaml.YAMLError, ValueError):
            raise NoPlaceError from None
        text = yaml.safe_dump(document, default_flow_style=True)
    else:
        text = {
            "CRLF": text.replace("\n", "\r\n"),
            "no end": text.rstrip("\n"),
            "a mark": f"\ufeff{text}",
            "a separator": f"---\n{text}---\n",
            "empty": "",
            "half": text[: len(text) // 2],
            "only a comment": "# nothing\n",
        }[way]
    file.write_bytes(text.encode())
    return way


def _removed(file: Path, rng: random.Random) -> str:
    what = rng.choice([file, file, file.parent])
    if not what.is_dir():
        what.unlink()
    else:
        _refuse_the_top(what)
        shutil.rmtree(what)
    return what.name


def _renamed(file: Path, rng: random.Random) -> str:
    what = rng.choice([file, file, file.parent])
    if what == file.parent:
        _refuse_the_top(what)
    name = rng.choice(
        [f"new-{what.name}", f".{what.name}", what.name.swapcase(), f"{what.name}.orig", f"{what.stem}.yml", what.stem]
    )
    if (what.parent / name).exists():
        raise NoPlaceError
    what.rename(what.parent / name)
    return f"{what.name} → {name}"


def _moved(file: Path, rng: random.Random) -> str:
    target = rng.choice(_folders(file)) / file.name
    if target.exists():
        raise NoPlaceError
    file.rename(target)
    return f"→ {target.relative_to(_top(file))}"


def _copied(file: Path, rng: random.Random) -> str:
    if rng.random() < 0.5:
        target = rng.choice(_folders(file)) / rng.choice([file.name, f"copy-{file.name}"])
        if target.exists():
            raise NoPlaceError
        shutil.copy(file, target)
    else:
        _refuse_the_top(file.parent)
        target = file.parent.with_name(rng.choice(["other", f".{file.parent.name}"]))
        if target.exists():
            raise NoPlaceError
        shutil.copytree(file.parent, target, symlinks=True)
    return f"to {target.relative_to(_top(file))}"


def _replaced(file: Path, rng: random.Random) -> str:
    way = rng.choice(["a link to another file", "a link to nothing", "a link out", "a folder", "another file"])
    others = [other for other in files_of(_top(file)) if other != file and other.is_file()]
    other = rng.choice(others)
    content = file.read_bytes()
    file.unlink()
    match way:
        case "a folder":
            file.mkdir()
            (file / "inside.yaml").write_bytes(content)
        case "another file":
            shutil.copy(other, file)
        case _:
            target = {"a link to nothing": "nothing.yaml", "a link out": "/etc/hostname"}
            file.symlink_to(target.get(way, os.path.relpath(other, file.parent)))
    return f"by {way} ({other.name})"


def _mode(file: Path, _: random.Random) -> str:
    file.chmod(file.stat().st_mode ^ 0o111)
    return "executable"


def _added(file: Path, rng: random.Random) -> str:
    folder = rng.choice(_folders(file))
    name, text = rng.choice(
        [
            ("brought.yaml", NEW_OBJECT),
            ("brought.yml", NEW_OBJECT),
            ("brought.json", '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "brought"}}'),
            (".brought.yaml", NEW_OBJECT),
            ("brought", NEW_OBJECT),
            ("deeper/brought.yaml", NEW_OBJECT),
            (".deeper/brought.yaml", NEW_OBJECT),
            ("templates/brought.yaml", NEW_OBJECT),
            ("kustomization.yaml", "resources: []\n"),
            ("kustomization.yml", "namePrefix: x-\n"),
            ("Chart.yaml", "apiVersion: v2\nname: brought\nversion: 1.0.0\n"),
            (".helmignore", "*.yaml\n"),
            ("values.yaml", "image: other\n"),
            ("brought.jsonnet", "{}"),
            ("crds/brought.yaml", NEW_OBJECT),
        ]
    )
    target = folder / name
    if target.exists():
        raise NoPlaceError
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return str(target.relative_to(_top(file)))


def _field(file: Path, rng: random.Random) -> str:
    """Another field of a kustomization or a chart."""
    name, text = rng.choice(
        [
            ("kustomization", "namePrefix: brought-\n"),
            ("kustomization", "namespace: brought\n"),
            ("kustomization", "commonLabels: {brought: label}\n"),
            ("kustomization", "commonAnnotations: {brought: annotation}\n"),
            ("kustomization", "components: [../brought]\n"),
            ("kustomization", "generators: [brought.yaml]\n"),
            ("kustomization", "transformers: [brought.yaml]\n"),
            ("kustomization", "crds: [brought.json]\n"),
            ("kustomization", "configMapGenerator: [{name: brought, files: [kustomization.yaml]}]\n"),
            ("kustomization", "configMapGenerator: [{name: brought, literals: [a=b]}]\n"),
            ("kustomization", "helmCharts: [{name: brought, repo: 'https://charts.example', version: 1.0.0}]\n"),
            ("kustomization", "patches: [{path: kustomization.yaml}]\n"),
            ("Chart", "dependencies: [{name: brought, version: 1.0.0, repository: 'file://../brought'}]\n"),
        ]
    )
    if file.stem != name:
        raise NoPlaceError
    file.write_text(file.read_text() + text)
    return text.strip()


def _override(file: Path, rng: random.Random) -> str:
    names = ["", *(f"-{name}" for name in ("web", "plain", "store", "api-dev", "one", "shop", "worker", "page-prod"))]
    target = file.parent / f".argocd-source{rng.choice(names)}.yaml"
    way = rng.choice(sorted(OVERRIDES))
    target.write_text(OVERRIDES[way])
    return f"{target.name} with {way}"


EDITS: dict[str, Callable[[Path, random.Random], str]] = {
    "value": _value,
    "key": _key,
    "line": _line,
    "byte": _byte,
    "structure": _structure,
    "written": _written,
    "removed": _removed,
    "renamed": _renamed,
    "moved": _moved,
    "copied": _copied,
    "replaced": _replaced,
    "mode": _mode,
    "added": _added,
    "field": _field,
    "override": _override,
}


def _chosen(rng: random.Random, items: Any) -> Any:
    found = list(items)
    if not found:
        raise NoPlaceError
    return rng.choice(found)


def _top(file: Path) -> Path:
    return next(folder for folder in file.parents if (folder / ".git").exists())


def _folders(file: Path) -> list[Path]:
    top = _top(file)
    return sorted({folder for path in files_of(top) for folder in path.parents if folder.is_relative_to(top)})


def _refuse_the_top(folder: Path) -> None:
    if (folder / ".git").exists():
        raise NoPlaceError

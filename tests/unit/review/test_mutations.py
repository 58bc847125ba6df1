"""`homelab diff`, as a person runs it, reports every mutation of the platform, and no neutral rewrite of it."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from homelab_mlops.gitops.render import render_all
from homelab_mlops.manifests.objects import Manifest, identity
from homelab_mlops.review.normalise import HASHED
from tests.conftest import FIXTURES, ROOT
from tests.unit.review.repository import commit, diffed, git, link_programs
from tests.unit.review.rewrites import as_text, mutate, neutral

SEEDS = range(20)
FILES = 12
# Upstream's definitions are large, and their schemas say of themselves what a default is.
LEFT_OUT = ("CustomResourceDefinition", "Application", "AppProject", "Secret")
Objects = dict[str, Manifest]


@pytest.fixture(scope="module")
def objects() -> Objects:
    rendered = [manifest for application in render_all(ROOT) for manifest in application.manifests]
    generated = [item["metadata"]["name"] for item in rendered if HASHED.match(item["metadata"]["name"])]
    text = yaml.dump_all((item for item in rendered if item["kind"] not in LEFT_OUT), Dumper=yaml.CSafeDumper)
    for name in generated:
        text = text.replace(name, HASHED.sub(r"\1", name))
    found = {identity(item): item for item in yaml.load_all(text, yaml.CSafeLoader)}
    assert len(found) >= 100
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, objects: Objects) -> Path:
    """The platform's objects as the plain files of one Application, committed."""
    root = tmp_path_factory.mktemp("mutations") / "clone"
    shutil.copytree(FIXTURES / "reviews/base/clusters", root / "clusters")
    (root / "apps").mkdir()
    link_programs(root)
    application = yaml.safe_load((FIXTURES / "reviews/base/apps/store.yaml").read_text())
    application["spec"]["source"]["path"] = "platform"
    (root / "apps/platform.yaml").write_text(yaml.safe_dump(application))
    (root / "apps/kustomization.yaml").write_text("resources: [platform.yaml]\n")
    write(root, {name: dumped(item) for name, item in objects.items()}, random.Random(0))
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root, "The platform")
    return root


@pytest.fixture
def tree(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(clone)
    yield clone
    git(clone, "checkout", "--quiet", "--", ".")
    git(clone, "clean", "--quiet", "-d", "--force")


def dumped(item: Manifest) -> str:
    return str(yaml.dump(item, Dumper=yaml.CSafeDumper))


def write(root: Path, texts: dict[str, str], rng: random.Random) -> None:
    """Spreads the objects over files and folders of the kustomization, as ``rng`` says."""
    folder = root / "platform"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "more").mkdir(parents=True)
    files: dict[str, list[str]] = {}
    for text in texts.values():
        files.setdefault(rng.choice(["", "more/"]) + f"file-{rng.randrange(FILES)}.yaml", []).append(text)
    for name, parts in files.items():
        (folder / name).write_text("---\n".join(parts))
    outside = [name for name in files if "/" not in name]
    inside = [name.removeprefix("more/") for name in files if "/" in name]
    rng.shuffle(outside)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [*outside, "more"]}))
    (folder / "more/kustomization.yaml").write_text(yaml.safe_dump({"resources": inside}))


def reported() -> dict[str, Any]:
    return {item["object"]: item for group in diffed()["applications"] for item in group["items"]}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_mutation_is_reported(seed: int, tree: Path, objects: Objects) -> None:
    """One mutation in each object; the others stay as they are."""
    rng = random.Random(seed)
    mutated, texts = {}, {}
    for name, item in objects.items():
        changed = copy.deepcopy(item)
        what = mutate(changed, rng) if rng.random() < 0.8 else None
        if what is not None:
            mutated[name] = what
        texts[name] = dumped(changed if what is not None else item)
    write(tree, texts, rng)
    found = reported()
    assert {name: what for name, what in mutated.items() if name not in found} == {}
    assert found.keys() - mutated.keys() == set()
    assert len(mutated) >= 60


@pytest.mark.parametrize("seed", SEEDS)
def test_no_neutral_rewrite_is_reported(seed: int, tree: Path, objects: Objects) -> None:
    """Every object is written otherwise, in another file."""
    rng = random.Random(seed)
    write(tree, {name: as_text(neutral(item, rng), rng) for name, item in objects.items()}, rng)
    found = reported()
    assert {name: item["fields"] for name, item in found.items()} == {}

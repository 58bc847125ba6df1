"""The hash of the code covers what decides a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from homelab_mlops.pipeline.provenance import code_sha256
from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "homelab_mlops"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "homelab_mlops"))


@pytest.mark.parametrize("room", ["model", "pipeline", "tables"])
def test_a_changed_byte_in_a_room_that_decides_a_model_changes_the_hash(room: str, package: Path) -> None:
    hashes = {code_sha256(package)}
    paths = sorted(package.joinpath(room).rglob("*.py"))
    for path in paths:
        path.write_bytes(path.read_bytes() + b"#")
        hashes.add(code_sha256(package))

    assert len(hashes) == len(paths) + 1 > 2


def test_what_does_not_decide_a_model_leaves_the_hash(package: Path) -> None:
    before = code_sha256(package)
    for path in [
        package / "cli.py",
        *package.joinpath("doctor").glob("*.py"),
        *package.joinpath("review").glob("*.py"),
    ]:
        path.write_bytes(path.read_bytes() + b"#")

    assert code_sha256(package) == before == code_sha256()

"""Which program on PATH is taken for one that the repository pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops.tools import find, module


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("helm", "kustomize"):
        (folder / name).write_text("#!/bin/sh\necho another version\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_any_version_where_none_is_pinned(on_path: Path, tmp_path: Path) -> None:
    assert find("helm", tmp_path) == on_path / "helm"


def test_the_pinned_version_only(on_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"kustomize v5\.\d+\.\d+ is not here"):
        find("kustomize", tmp_path)
    assert (on_path / "kustomize").exists()


def test_a_go_mod_of_the_repository_takes_no_part(on_path: Path, tmp_path: Path) -> None:
    (on_path / "go").write_text('#!/bin/sh\nprintf \'{"Dir": "%s"}\' "$PWD"\n')
    (on_path / "go").chmod(0o755)
    assert not Path(module("example.org/a", "v1.0.0", tmp_path)["Dir"]).is_relative_to(tmp_path)

"""The files of one step are written all, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_mlops.gitops.files import write_all
from tests.conftest import listing


def test_all_are_written_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    write_all({tmp_path / "folder/new": "2", tmp_path / "old": None})
    assert listing(tmp_path) == {"folder/new": b"2"}


def test_what_was_replaced_comes_back_when_a_later_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "gone").write_text("2")
    (tmp_path / "z").mkdir()
    before = listing(tmp_path)
    with pytest.raises(OSError, match="z"):
        write_all({tmp_path / "a": "new", tmp_path / "b": "new", tmp_path / "gone": None, tmp_path / "z": "new"})
    assert listing(tmp_path) == before

"""The files of both sides, as git writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_mlops.review.run import sides
from tests.unit.review.repository import commit, edit, git


@pytest.fixture
def root(tmp_path: Path) -> Path:
    target = tmp_path / "trees"
    target.mkdir()
    git(target, "init", "--quiet", "--initial-branch", "main")
    edit(target, {"write": {"a/one.yaml": "a: b\n", "b/two.yaml": "a: b\n", "b/three.yaml": "a: b\n"}})
    (target / "b/link.yaml").symlink_to("two.yaml")
    commit(target, "The tree")
    return target


def test_a_sparse_checkout_leaves_no_file_out(root: Path) -> None:
    git(root, "sparse-checkout", "set", "--no-cone", "/a/")
    edit(root, {"write": {"a/one.yaml": "a: c\n"}})
    assert not (root / "b").exists()
    with sides(root, "HEAD", None) as (base, head):
        for side, value in ((base, "b"), (head, "c")):
            files = {path: side.folder / path for path in side.below(".")}
            assert sorted(files) == ["a/one.yaml", "b/link.yaml", "b/three.yaml", "b/two.yaml"]
            assert {file.read_text() for file in files.values()} == {f"a: {value}\n", "a: b\n"}
            assert files["b/link.yaml"].readlink() == Path("two.yaml")


def test_both_sides_have_their_own_file_where_it_differs(root: Path) -> None:
    edit(root, {"write": {"b/two.yaml": "a: c\n"}})
    (root / "b/three.yaml").chmod(0o755)
    with sides(root, "HEAD", None) as (base, head):
        assert (base.folder / "b/two.yaml").read_text() == "a: b\n"
        assert (head.folder / "b/two.yaml").read_text() == "a: c\n"
        modes = [(side.folder / "b/three.yaml").stat().st_mode & 0o111 for side in (base, head)]
        assert modes == [0, 0o111]


def test_a_file_that_git_writes_in_another_way_is_written_anew(root: Path) -> None:
    edit(root, {"write": {".gitattributes": "*.yaml text eol=crlf\n"}})
    with sides(root, "HEAD", None) as (base, head):
        assert base.entries["a/one.yaml"] == head.entries["a/one.yaml"]
        assert not (head.folder / "a/one.yaml").samefile(base.folder / "a/one.yaml")
        assert (head.folder / "a/one.yaml").read_bytes() == b"a: b\r\n"

"""The SHA-256 of a model's files is what the command of its page gives, in any order, from any store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from homelab_mlops.errors import RepositoryError
from homelab_mlops.model import artifact
from homelab_mlops.model.artifact import files_in, sha256_of
from homelab_mlops.model.promotion import Named, manifest_of, named_by, named_in, naming
from tests.conftest import ROOT

FILES = {"MLmodel": b"a: 1\n", "code/a.py": b"", "code-b": b"b", "Code": b"\0\xff", "é": b"e", "z/y/x w": b"x"}
COMMAND = next(line.strip() for line in str(artifact.__doc__).splitlines() if "find ." in line)
CHURN = (ROOT / manifest_of("churn")).read_text()
A, B = "a" * 64, "b" * 64


def test_it_is_what_the_command_says(tmp_path: Path) -> None:
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    said = subprocess.run(["bash", "-c", COMMAND], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == f"{sha256_of(FILES)}  -\n"
    assert sha256_of(dict(reversed(FILES.items()))) == sha256_of(files_in(tmp_path)) == sha256_of(FILES)


@pytest.mark.parametrize(
    "other",
    [
        {**FILES, "MLmodel": b"a: 2\n"},
        {**FILES, "more": b""},
        {path: content for path, content in FILES.items() if path != "code/a.py"},
        {**{path: content for path, content in FILES.items() if path != "Code"}, "code": FILES["Code"]},
        {**FILES, "MLmodel": FILES["Code"], "Code": FILES["MLmodel"]},
    ],
    ids=["content", "more", "less", "name", "swapped"],
)
def test_every_difference_is_another_one(other: dict[str, bytes]) -> None:
    assert sha256_of(other) != sha256_of(FILES)


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", "a\nb", "a\\b", "./a", "a/"])
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        sha256_of({path: b""})


def test_no_file_is_no_model() -> None:
    with pytest.raises(ValueError, match="no files"):
        sha256_of({})


def test_two_lines_name_a_version_and_its_bytes() -> None:
    named = naming(CHURN, Named("3", A), "churn.yaml")
    changed = [line for line in named.splitlines() if line not in CHURN.splitlines()]
    assert changed == [f'        homelab-mlops/sha256: "{A}"', '        homelab-mlops/version: "3"']
    assert named_by(named, "churn.yaml") == Named("3", A)
    assert naming(naming(named, Named("4", B), ""), Named("3", A), "") == named
    assert naming(named, Named("0"), "") == CHURN


def test_a_manifest_of_before_gets_the_line() -> None:
    before = CHURN.replace('      annotations:\n        homelab-mlops/sha256: ""\n', "").replace('"0"', '"3"')
    assert "sha256" not in before
    assert named_by(before, "") == Named("3")
    assert named_by(before, "").unpinned
    assert naming(before, Named("3", A), "") == naming(CHURN, Named("3", A), "")
    own = before.replace(
        "      labels:\n        app.kubernetes.io/name: churn\n        app.kubernetes.io/component",
        """\
      annotations:
        mine: "1"
      labels:
        app.kubernetes.io/name: churn
        app.kubernetes.io/component""",
    )
    with pytest.raises(RepositoryError, match="cannot be written"):
        naming(own, Named("3", A), "")


@pytest.mark.parametrize("text", [A[1:], A.upper(), f"{A} ", "sha256:" + A], ids=["short", "case", "space", "prefix"])
def test_what_is_no_sha256_is_refused(text: str, tmp_path: Path) -> None:
    manifest = naming(CHURN, Named("3", A), "").replace(A, text)
    (tmp_path / "churn.yaml").write_text(manifest)
    with pytest.raises(RepositoryError, match="not a SHA-256"):
        named_in(tmp_path)

"""What a user sees of `homelab diff`: the working tree, exit codes, no secret, a comment that fits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import render
from homelab_mlops.review.markdown import LIMIT, markdown
from homelab_mlops.review.page import page
from homelab_mlops.review.text import plain
from tests import forks
from tests.conftest import HOMELAB, PATIENCE, ROOT, clean_environment, refused
from tests.unit.review.repository import commit, compared, edit, git, repository

SECRET = "correct-horse-battery"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = repository(tmp_path / "clone")
    (root / ".gitignore").write_text(".tools\nignored/\n")
    (root / ".tools").symlink_to((ROOT / ".tools").resolve())
    commit(root, "The tree before")
    return root


def diff(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.run(["diff", *arguments], clean_environment(), root, PATIENCE)


def test_a_review_does_not_load_what_takes_longer_than_itself(clone: Path) -> None:
    edit(clone, {"replace": {"overlays/homelab/store/volume.yaml": {"10Gi": "20Gi"}}})
    shown = subprocess.run(
        [HOMELAB, "diff", "HEAD", "--output", "markdown", "--fail-on", "danger"],
        cwd=clone,
        env=clean_environment({"PYTHONPROFILEIMPORTTIME": "1"}),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.split("|")[-1].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert "of 100 GiB" in shown.stdout
    assert "yaml" in loaded
    assert not loaded & {"pydantic", "rich"}


def test_the_working_tree_and_nothing_of_it_is_touched(clone: Path) -> None:
    volume, server = "overlays/homelab/store/volume.yaml", "base/store/server.yaml"
    edit(clone, {"replace": {volume: {"10Gi": "20Gi"}}})
    git(clone, "add", volume)
    edit(
        clone,
        {
            "replace": {
                server: {"value: info": "value: debug"},
                "base/store/kustomization.yaml": {"  - network.yaml\n": "  - network.yaml\n  - new.yaml\n"},
            }
        },
    )
    new = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: new\n"
    edit(clone, {"write": {"base/store/new.yaml": new, "ignored/secret.yaml": new}})
    before = git(clone, "status", "--porcelain"), (clone / ".git/index").read_bytes(), git(clone, "count-objects")
    found = diff(clone, "--output", "json")
    assert found.returncode == 0, found.stderr
    objects = {item["object"] for group in json.loads(found.stdout)["applications"] for item in group["items"]}
    assert objects == {"PersistentVolumeClaim store/data", "Deployment store/web", "ServiceAccount store/new"}
    assert before == (
        git(clone, "status", "--porcelain"),
        (clone / ".git/index").read_bytes(),
        git(clone, "count-objects"),
    )


def test_exit_codes(clone: Path) -> None:
    assert diff(clone, "--fail-on", "note").returncode == 0
    edit(clone, {"replace": {"overlays/homelab/store/volume.yaml": {"10Gi": "8Gi"}}})
    assert diff(clone, "--fail-on", "danger").returncode == 3
    assert diff(clone).returncode == 0
    refused(diff(clone, "0123456789"), "is not here")
    git(clone, "branch", "--move", "other")
    refused(diff(clone), "the branch 'main' is not here")


def test_no_output_shows_a_secret(clone: Path) -> None:
    base = git(clone, "rev-parse", "HEAD")
    manifests = f"""
apiVersion: v1
kind: Secret
metadata:
  name: plain
stringData:
  anything: {SECRET}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: notes
data:
  api_token: {SECRET}
  app.ini: |
    [login]
    password = {SECRET}
  app.yaml: |
    database:
      password: {SECRET}
      url: postgres://me:{SECRET}@database/me
"""
    edit(clone, {"write": {"base/store/secret.yaml": manifests}})
    edit(
        clone,
        {"replace": {"base/store/kustomization.yaml": {"  - network.yaml\n": "  - network.yaml\n  - secret.yaml\n"}}},
    )
    edit(
        clone,
        {
            "replace": {
                "base/store/server.yaml": {"args: [serve,": f"args: [serve, --db-password={SECRET}, --token, {SECRET},"}
            }
        },
    )
    with_secret = commit(clone, "With a secret")
    edit(
        clone,
        {
            "replace": {
                "base/store/secret.yaml": {SECRET: f"{SECRET}-2"},
                "base/store/server.yaml": {SECRET: f"{SECRET}-2"},
            }
        },
    )
    for report in (compared(clone, base, with_secret), compared(clone, with_secret)):
        assert report.levels["danger"] >= 1
        for text in (plain(report), markdown(report, None), page(report), json.dumps(report.as_json())):
            assert SECRET not in text


def test_a_comment_is_bounded(clone: Path) -> None:
    base = git(clone, "rev-parse", "HEAD")
    many = "\n---\n".join(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: many-{number}\ndata:\n  text: {'x' * 500}"
        for number in range(300)
    )
    edit(clone, {"write": {"base/store/many.yaml": many}})
    edit(
        clone,
        {"replace": {"base/store/kustomization.yaml": {"  - network.yaml\n": "  - network.yaml\n  - many.yaml\n"}}},
    )
    report = compared(clone, base)
    text = markdown(report, rest="review.md")
    assert len(text) <= LIMIT
    assert text.count("<details>") == text.count("</details>") == 1
    assert text.count("```") % 2 == 0
    assert "review.md" in text
    assert "many-299" in markdown(report, None)


def test_nothing_hostile_ends_the_review(clone: Path, tmp_path: Path) -> None:
    """Deep aliases, a value that is `=`, a name that is no UTF-8, a submodule and a link out of the repository."""
    aliases = "".join(f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 12))
    bomb = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: bomb}\na0: &a0 [x]\n" + aliases
    equals = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: equals}\ndata: {sign: =}\n"
    edit(clone, {"write": {"overlays/homelab/store/bomb.yaml": bomb, "overlays/homelab/store/equals.yaml": equals}})
    (clone / "overlays/homelab/store/outside.yaml").symlink_to(tmp_path / "outside.yaml")
    (tmp_path / "outside.yaml").write_text(equals)
    with (clone / "overlays/homelab/store/\udcff.yaml").open("w") as file:
        file.write(equals)
    git(
        clone,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{git(clone, 'rev-parse', 'HEAD')},overlays/homelab/module",
    )
    found = diff(clone, "HEAD", "--output", "json")
    assert found.returncode == 0, found.stderr
    flagged = {flag["where"] for flag in json.loads(found.stdout)["flags"]}
    names = ("bomb.yaml", "equals.yaml", "outside.yaml", "\\xff.yaml")
    assert {f"overlays/homelab/store/{name}" for name in names} <= flagged


def test_a_filter_of_git_that_fails_does_not_end_the_review(clone: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    edit(clone, {"write": {".gitattributes": "*.bin filter=lfs\n", "overlays/homelab/store/logo.bin": pointer}})
    commit(clone, "A file of git-lfs")
    for key, value in (("smudge", "exit 1"), ("process", "exit 1"), ("required", "true")):
        git(clone, "config", f"filter.lfs.{key}", value)
    found = diff(clone, "HEAD~1", "HEAD")
    assert found.returncode == 0, found.stderr
    assert "overlays/homelab/store/logo.bin" in found.stdout


def test_deep_aliases_are_refused_before_kustomize_reads_them(clone: Path) -> None:
    aliases = "".join(f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 9)}]\n" for depth in range(1, 12))
    bomb = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: bomb}\na0: &a0 [x]\n" + aliases
    kustomization = "overlays/homelab/store/kustomization.yaml"
    edit(
        clone,
        {
            "write": {"overlays/homelab/store/bomb.yaml": bomb},
            "replace": {kustomization: {"resources:\n": "resources:\n  - bomb.yaml\n"}},
        },
    )
    why = "the aliases of overlays/homelab/store/bomb.yaml stand for more than 2,000,000 values"
    flags = {(flag.rule, flag.where): flag.what for flag in compared(clone, "HEAD").flags}
    assert flags["does-not-build", "Application store"] == f"it does not build: {why}"
    with pytest.raises(RepositoryError, match=why):
        render.render_all(clone)

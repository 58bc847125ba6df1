"""The README's commands that make a fork, on a clone and a git server on loopback."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import readme
from tests.conftest import ROOT
from tests.person import Person
from tests.unit.promotion import git_server

HERE = {"init", "seal", "diff"}
# What other tests run: cluster/test_login.py, gitops/test_image.py, serving/test_files.py.
ELSEWHERE = {"login", "image", "serve", "predict"}
# A section of the README whose commands tests/unit/test_readme.py runs as they stand.
AS_THEY_STAND = {"ingest", "validate", "train", "evaluate", "retrain", "sync", "replay", "doctor"}
# What needs a cluster, and the end-to-end file that runs the README's command.
ON_A_CLUSTER = {
    "bootstrap": "test_01_bootstrap.py",
    "data": "test_03_retraining.py",
    "run": "test_03_retraining.py",
    "status": "test_03_retraining.py",
    "models": "test_07_promotion.py",
    "promote": "test_07_promotion.py",
}


def person(folder: Path, url: str, path: str) -> Person:
    """Someone who may push to the git server."""
    login = base64.b64encode(f"{git_server.USERNAME}:{git_server.TOKEN}".encode()).decode()
    return Person(folder, url, path, {"http.extraHeader": f"Authorization: Basic {login}"})


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A git server with this tree as the one commit of its repository."""
    folder = tmp_path_factory.mktemp("server")
    tree, bare = folder / "tree", folder / "me/homelab.git"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    identity = ["-c", "user.name=upstream", "-c", "user.email=upstream@invalid"]
    steps: tuple[list[str | Path], ...] = (
        ["init", "--quiet", "--initial-branch", "main", tree],
        ["-C", tree, "add", "--all"],
        ["-C", tree, *identity, "commit", "--quiet", "--message", "The platform"],
        ["clone", "--quiet", "--bare", tree, bare],
        ["-C", bare, "config", "http.receivepack", "true"],
    )
    for arguments in steps:
        subprocess.run(["git", *arguments], check=True)
    with git_server.serving(folder) as forge:
        yield forge.url


def test_a_fork_is_made_pushed_sealed_and_reviewed(server: str, tmp_path: Path, homelab_on_path: str) -> None:
    me = person(tmp_path, server, homelab_on_path)
    typed, shown = readme.blocks("**1. Make the fork yours.**")[:2]
    assert typed.splitlines()[-1] == "homelab init"
    printed = me.types(f"homelab init --yes --repository {server} --domain home.example.org")
    assert readme.first_missing(printed, shown, {"~": str(me.home)}) == ""

    push, *then = readme.blocks("**3. Push, then bootstrap.**")[0].splitlines()
    assert then == ["homelab bootstrap"]
    me.types(push)
    assert me.types("git rev-parse HEAD") == me.types("git ls-remote origin main").split()[0] + "\n"

    secrets = readme.README.read_text().partition("### Secrets")[2].partition("\n###")[0]
    rotate, own, from_file = re.findall(r"`(homelab seal (?!--show)[^`]+)`", secrets)
    show = "homelab seal --show mlflow-admin"
    before = me.types(show)
    assert re.fullmatch(r"(?s)username=admin\npassword=\S{20,}\n", before), before
    me.types(rotate)
    assert own == "homelab seal NAME KEY -n NAMESPACE"
    me.types("homelab seal backup-target URL -n minio", stdin="URL=s3://me:secret@far/away\n")
    (me.clone / "id_ed25519").write_text("-----BEGIN\nline\n")
    me.types(f"{from_file} && rm id_ed25519")
    assert me.types("homelab seal --show minio/backup-target ssh") == "-----BEGIN\nline\n"
    assert me.types(show) == before
    me.types("homelab init --yes --new-key")
    assert me.types(show) == before
    assert len(list((me.home / ".config/homelab-mlops/homelab").glob("*.pem"))) == 2

    review = readme.README.read_text().partition("### Review a change")[2].partition("\n###")[0]
    assert "`homelab diff`" in review
    said = me.types("homelab diff")
    assert "minio-users" in said
    assert "backup-target" in said
    assert "secret@far" not in said


def test_a_fork_follows_upstream(server: str, tmp_path: Path, homelab_on_path: str) -> None:
    """docs/upkeep.md: a file that is new upstream gets the fork's domain, and nothing else changes."""
    me = person(tmp_path, server, homelab_on_path)
    upstream = tmp_path / "upstream.git"
    me.types(f"git clone --quiet --bare {server} {upstream}")
    me.types("homelab init --yes --domain home.example.org && git add --all && git commit --quiet --message mine")
    new = "overlays/homelab/training/new.yaml"
    theirs = tmp_path / "theirs"
    me.types(f"git clone --quiet {upstream} {theirs}")
    (theirs / new).write_text("host: mlflow.homelab.example\n")
    me.types(f"cd {theirs} && git add --all && git commit --quiet --message new && git push --quiet")

    (block,) = re.findall(r"```sh\n(git remote add upstream.*?)```", (ROOT / "docs/upkeep.md").read_text(), re.DOTALL)
    said = me.types(block.replace("https://github.com/homelab-mlops/homelab-mlops.git", str(upstream)))

    assert "Changed 1 file;" in said
    assert me.types("git status --porcelain") == f" M {new}\n"
    assert (me.clone / new).read_text() == "host: mlflow.home.example.org\n"


def test_every_command_that_the_readme_names_is_run() -> None:
    assert readme.verbs() == HERE | AS_THEY_STAND | ELSEWHERE | ON_A_CLUSTER.keys()
    for verb, file in ON_A_CLUSTER.items():
        text = (ROOT / "tests/e2e" / file).read_text()
        assert "readme.commands(" in text, verb

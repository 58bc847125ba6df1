"""A private repository and a private registry get a sealed login, and the manifests that name it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
from pathlib import Path

import pytest
import yaml

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.check import check_repository
from homelab_mlops.gitops.init import Initialised, initialise
from homelab_mlops.gitops.private import PULLING
from homelab_mlops.gitops.render import render
from homelab_mlops.gitops.secrets.seal import set_secret
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import load_table, read_sealed
from tests.conftest import HOMELAB, ROOT, listing

ANSWERS = {"repository": "https://forge.home.arpa/me/homelab.git", "image_registry": "registry.home.arpa:5000/me"}
BOTH = frozenset({"repository", "registry"})


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / "fork" / folder)
    (tmp_path / "fork/.tools").symlink_to(ROOT / ".tools")
    return tmp_path / "fork"


def init(fork: Path, private: frozenset[str] = frozenset(), answers: dict[str, str] | None = None) -> Initialised:
    return initialise(fork, answers or {}, key_file=fork.parent / "key.pem", private=private)


def unsealed(fork: Path) -> dict[str, dict[str, str]]:
    key = find_sealing_key(fork, fork.parent / "key.pem")
    return {name: sealed.data for name, sealed in read_sealed(fork, load_table(fork), key).items()}


def test_both_logins_are_sealed_named_and_follow_the_settings(fork: Path) -> None:
    init(fork, BOTH, ANSWERS)
    password = 'a "quoted" \\ password'
    for name in sorted(BOTH):
        login = {"username": "me", "password": password}
        assert set_secret(fork, name, login, key_file=fork.parent / "key.pem")
    data = unsealed(fork)
    assert data["argo-cd/repository"] == {
        "type": "git",
        "url": ANSWERS["repository"],
        "username": "me",
        "password": password,
    }
    expected = {"auths": {"registry.home.arpa:5000": {"username": "me", "password": password}}}
    for namespace in PULLING:
        assert json.loads(data[f"{namespace}/registry"][".dockerconfigjson"]) == expected
        objects = render(fork / "overlays/homelab" / namespace)
        accounts = [item for item in objects if item["kind"] == "ServiceAccount"]
        assert accounts
        assert all(item["imagePullSecrets"] == [{"name": "registry"}] for item in accounts)
        (sealed,) = [i for i in objects if i["kind"] == "SealedSecret" and i["metadata"]["name"] == "registry"]
        assert sealed["spec"]["template"]["type"] == "kubernetes.io/dockerconfigjson"
    path = fork / "clusters/homelab/argo-cd"
    assert "sealed" in yaml.safe_load((path / "kustomization.yaml").read_text())["resources"]
    secret = yaml.safe_load((path / "sealed/repository.yaml").read_text())["spec"]["template"]
    assert secret["metadata"]["labels"]["argocd.argoproj.io/secret-type"] == "repository"
    assert [str(finding) for finding in check_repository(fork).findings] == []

    assert init(fork).changed == []
    init(fork, answers={"repository": "https://forge.home.arpa/me/moved.git", "image_registry": "docker.io/me"})
    data = unsealed(fork)
    assert data["argo-cd/repository"]["url"] == "https://forge.home.arpa/me/moved.git"
    assert data["argo-cd/repository"]["password"] == password
    assert list(json.loads(data["minio/registry"][".dockerconfigjson"])["auths"]) == ["https://index.docker.io/v1/"]


def test_init_asks_a_person(fork: Path) -> None:
    answers = ["https://forge.home.arpa/me/homelab.git", *[""] * 8, "y", "me", "a secret", "n"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(fork)
        os.environ["XDG_CONFIG_HOME"] = str(fork.parent / "config")
        os.execv(HOMELAB, ["homelab", "init", "--key-file", str(fork.parent / "key.pem")])  # noqa: S606
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(terminal, 4096):
            said += part
            # A question is whole with its last space: what is typed before that is lost where it is hidden.
            if answers and said.endswith(b": "):
                os.write(terminal, answers.pop(0).encode() + b"\n")
                said += b"\n"
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()
    assert b"a secret" not in said
    repository = unsealed(fork)["argo-cd/repository"]
    assert (repository["username"], repository["password"]) == ("me", "a secret")
    assert "minio/registry" not in unsealed(fork)


def test_nothing_of_it_is_there_unless_it_is_asked_for(fork: Path) -> None:
    init(fork, answers=ANSWERS)
    assert {"argo-cd/repository", "minio/registry"} & set(unsealed(fork)) == set()
    assert not (fork / "clusters/homelab/argo-cd/sealed/repository.yaml").exists()
    assert "imagePullSecrets" not in (fork / "clusters/homelab/images/kustomization.yaml").read_text()


def test_a_repository_by_ssh_is_refused_before_a_file_is_written(fork: Path) -> None:
    before = listing(fork / "clusters")
    with pytest.raises(RepositoryError, match="begins with https://"):
        init(fork, BOTH, {"repository": "git@forge.home.arpa:me/homelab.git"})
    assert listing(fork / "clusters") == before

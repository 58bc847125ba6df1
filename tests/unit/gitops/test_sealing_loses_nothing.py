"""Whatever is done with the sealed Secrets in whatever order: what could be opened still can, or was named as lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from homelab_mlops.errors import HomelabError
from homelab_mlops.gitops.init import Lost, initialise
from homelab_mlops.gitops.secrets import sealing_key
from homelab_mlops.gitops.secrets.encrypt import unseal
from homelab_mlops.gitops.secrets.seal import remove_keys, rotate, set_secret
from homelab_mlops.manifests import yaml_reader
from tests.conftest import ROOT

SEQUENCES, STEPS = 200, 8
NAMESPACES = ("minio", "mlflow", "training")
TABLE = """\
credentials:
  s3: {kind: s3-user}
  admin: {kind: password, username: admin}
secrets:
  - {name: users, namespace: minio, purpose: store, keys: {A: "${s3.accessKey}", S: "${s3.secretKey}"}}
  - {name: s3, namespace: mlflow, purpose: client, keys: {A: "${s3.accessKey}", S: "${s3.secretKey}"}}
  - {name: server, namespace: mlflow, purpose: server, keys: {URI: "db://${admin.username}:${admin.password}@x"}}
"""
Values = dict[tuple[str, str, str], bytes]


@pytest.fixture(scope="module")
def pool() -> list[rsa.RSAPrivateKey]:
    """Keys made once: RSA takes its time."""
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(12)]


@cache
def private_key(pem: bytes) -> rsa.RSAPrivateKey:
    private = load_pem_private_key(pem, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return private


class Fork:
    """A small repository, the private keys of its machine, and those that lie in the password manager only."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.root, self.keys, self.safe = folder / "fork", folder / "config/homelab-mlops/homelab", folder / "safe"
        self.draw, self.folder, self.snapshots = draw, folder, 0
        self.safe.mkdir(parents=True)
        clusters = self.root / "clusters/homelab"
        clusters.mkdir(parents=True)
        shutil.copy2(ROOT / "clusters/homelab/settings.yaml", clusters)
        for name in ("ingress", "argo-cd"):
            shutil.copytree(ROOT / "clusters/homelab" / name, clusters / name)
        (clusters / "secrets.yaml").write_text(TABLE)
        for namespace in NAMESPACES:
            (self.root / "overlays/homelab" / namespace).mkdir(parents=True)
            (self.root / f"overlays/homelab/{namespace}/kustomization.yaml").write_text("resources: []\n")

    def opened(self) -> Values:
        """Every value that a private key of this machine opens, read without the code that is tested."""
        privates = [private_key(path.read_bytes()) for path in sorted(self.keys.glob("*.pem"))]
        values: Values = {}
        for path in sorted(self.root.rglob("sealed/*.yaml")):
            document = yaml_reader.load(path.read_text())
            if document["kind"] != "SealedSecret":
                continue
            namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
            for key, text in document["spec"]["encryptedData"].items():
                for private in privates:
                    try:
                        values[namespace, name, key] = unseal(text, namespace=namespace, name=name, private=private)
                    except HomelabError:
                        continue
        return values

    def some_secret(self) -> tuple[str, str]:
        return self.draw.choice(NAMESPACES), self.draw.choice(["forge", "forge.example", "s3", "admin", "users"])

    def snapshot(self) -> Path:
        self.snapshots += 1
        return self.folder / f"commit-{self.snapshots}"


def at_of(value: Lost) -> tuple[str, str, str]:
    secret, _, key = value.secret.partition(" ")
    namespace, _, name = secret.partition("/")
    return namespace, name, key


Step = Callable[[Fork, list[Lost]], set[tuple[str, str, str]] | None]
"""Does one thing, and returns which values it was to change; None where all of them, by going to another commit."""


def asked(fork: Fork, lost: list[Lost]) -> Callable[[list[Lost]], bool]:
    """A person who reads what would be lost, and accepts it every other time."""

    def accept(named: list[Lost]) -> bool:
        lost.extend(named)
        return fork.draw.random() < 0.5

    return accept


def init(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    initialise(fork.root, {}, accept=asked(fork, lost))
    return set()


def new_key(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    by_option = fork.draw.random() < 0.5
    if not by_option:
        (fork.root / sealing_key.CERTIFICATE).unlink(missing_ok=True)
    path = fork.keys / f"mine-{fork.draw.randrange(10**9)}.pem" if fork.draw.random() < 0.5 else None
    initialise(fork.root, {}, key_file=path, new_key=by_option, accept=asked(fork, lost))
    return set()


def seal(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    del lost
    namespace, name = fork.some_secret()
    key = fork.draw.choice([*"ASXY", "a.b"])
    value = fork.draw.randbytes(fork.draw.randrange(40)).decode("utf-8", "surrogateescape")
    set_secret(fork.root, name, {key: value}, namespace=namespace)
    shared = {("minio", "users", key), ("mlflow", "s3", key)}
    return shared if (namespace, name, key) in shared else {(namespace, name, key)}


def remove(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    """Takes a key out of a Secret that was brought, where there is one."""
    del lost
    declared = yaml_reader.load((fork.root / "clusters/homelab/secrets.yaml").read_text())["secrets"]
    own = [spec for spec in declared if spec["purpose"].startswith("brought")]
    spec = fork.draw.choice(own or declared)
    key = fork.draw.choice(sorted(spec["keys"]))
    remove_keys(fork.root, spec["name"], [key], namespace=spec["namespace"])
    return {(spec["namespace"], spec["name"], key)}


def rotate_one(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    del lost
    credential = fork.draw.choice(["s3", "admin"])
    rotate(fork.root, credential)
    users = {(*secret, key) for secret in (("minio", "users"), ("mlflow", "s3")) for key in "AS"}
    return users if credential == "s3" else {("mlflow", "server", "URI")}


def lose_a_key(fork: Fork, lost: list[Lost]) -> None:
    """The machine breaks: a private key lies in the password manager only."""
    del lost
    for path in sorted(fork.keys.glob("*.pem")):
        if fork.draw.random() < 0.5:
            path.rename(fork.safe / f"{len(list(fork.safe.iterdir()))}.pem")


def restore_keys(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    del lost
    fork.keys.mkdir(parents=True, exist_ok=True)
    for path in sorted(fork.safe.iterdir()):
        target = fork.keys / f"restored-{path.name}"
        shutil.copy2(path, target)
    return set()


def commit(fork: Fork, lost: list[Lost]) -> set[tuple[str, str, str]]:
    del lost
    shutil.copytree(fork.root, fork.snapshot())
    return set()


def restore_a_commit(fork: Fork, lost: list[Lost]) -> None:
    """The whole tree, or the folder of one namespace, as an earlier commit had it."""
    del lost
    commits = sorted(fork.folder.glob("commit-*"))
    if commits:
        earlier = fork.draw.choice(commits)
        shutil.rmtree(fork.root)
        shutil.copytree(earlier, fork.root)


KINDS: list[Step] = [
    init,
    new_key,
    seal,
    seal,
    seal,
    remove,
    rotate_one,
    lose_a_key,
    restore_keys,
    commit,
    restore_a_commit,
]


@pytest.mark.parametrize("part", range(4))
def test_sequences(part: int, pool: list[rsa.RSAPrivateKey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: dict[str, int] = {}
    for number in range(part, SEQUENCES, 4):
        draw = random.Random(number)
        fork = Fork(tmp_path / str(number), draw)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(fork.folder / "config"))
        fresh = draw.sample(pool, len(pool))
        monkeypatch.setattr(rsa, "generate_private_key", lambda fresh=fresh, **_: fresh.pop())
        said = []
        for step in [init, *draw.choices(KINDS, k=STEPS)]:
            before, lost = fork.opened(), list[Lost]()
            said.append(step.__name__)
            try:
                meant = step(fork, lost)
            except HomelabError:
                # A refusal: nothing has changed.
                assert fork.opened() == before, (number, said)
                continue
            done[step.__name__] = done.get(step.__name__, 0) + 1
            after, named = fork.opened(), {at_of(value) for value in lost}
            assert not named & before.keys(), (number, said)
            assert all(after.get(at) == before[at] for at in before if meant is not None and at not in meant | named), (
                number,
                said,
            )
        shutil.rmtree(fork.folder)
    assert {step.__name__ for step in KINDS} == set(done)


def test_a_name_with_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a Secret with a hyphen in that place, nor a key that begins as its name ends, is meant."""
    fork = Fork(tmp_path, random.Random(0))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(fork.folder / "config"))
    initialise(fork.root, {})
    before = fork.opened()
    set_secret(fork.root, "minio/a", {"b.c": "1"})
    set_secret(fork.root, "minio/a-b", {"c": "2"})
    set_secret(fork.root, "minio/a.b", {"c": "3"})
    set_secret(fork.root, "a.b", {"d": "4"})
    brought = {("a", "b.c"): b"1", ("a-b", "c"): b"2", ("a.b", "c"): b"3", ("a.b", "d"): b"4"}
    assert fork.opened() == {**before, **{("minio", *at): value for at, value in brought.items()}}
    remove_keys(fork.root, "a.b", [])
    assert ("minio", "a.b", "c") not in fork.opened()

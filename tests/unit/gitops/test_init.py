"""A fork becomes one's own: keys and credentials are made once, sealed for each consumer, and never in plain text."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from homelab_mlops.gitops import tools
from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE, find_sealing_key
from homelab_mlops.gitops.secrets.table import load_table, read_sealed
from tests.conftest import HOMELAB, PATIENCE, ROOT, clean_environment, listing, refused

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    root = tmp_path / "fork"
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, root / folder)
    return root


@pytest.fixture
def run(fork: Path) -> Run:
    """The command line in the fork, of a user with an empty home and no program on PATH."""
    home = fork.parent / "home"
    empty = fork.parent / "bin"
    empty.mkdir()

    def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        env = {**clean_environment(), "HOME": str(home), "XDG_CONFIG_HOME": "", "PATH": str(empty)}
        return subprocess.run(
            [HOMELAB, *arguments],
            cwd=fork,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return command


def plain(fork: Path) -> dict[str, dict[str, str]]:
    """Every Secret as a cluster with the private key would hold it."""
    key = find_sealing_key(fork, fork.parent / "home/.config/homelab-mlops/homelab/sealing-key.pem")
    return {name: sealed.data for name, sealed in read_sealed(fork, load_table(fork), key).items()}


def test_a_fork_is_initialised_once(fork: Path, run: Run) -> None:
    first = run("init", "--yes", "--domain", "home.example.org")
    assert first.returncode == 0, first.stderr
    key_file = fork.parent / "home/.config/homelab-mlops/homelab/sealing-key.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert str(key_file) in first.stdout
    data = plain(fork)
    # Empty until there is one: what was valid before, and the login of a forge, which nobody can generate.
    generated = {name: secret for name, secret in data.items() if name != "training/git"}
    assert all(value for secret in generated.values() for key, value in secret.items() if "PREVIOUS" not in key)
    assert data["minio/minio-users"]["MLFLOW_SECRET_KEY"] == data["mlflow/mlflow-s3"]["AWS_SECRET_ACCESS_KEY"]
    secret = [value for entry in data.values() for key, value in entry.items() if len(value) >= 20]
    assert len(secret) > 15
    written = b"".join(listing(fork / "overlays").values()) + b"".join(listing(fork / "clusters").values())
    assert not any(value.encode() in written for value in secret)
    assert not any(value in first.stdout + first.stderr for value in secret)
    assert b"PRIVATE KEY" not in written

    again = run("init", "--yes")
    assert again.stdout.startswith("Nothing to do"), again.stdout
    assert b"".join(listing(fork / "overlays").values()) + b"".join(listing(fork / "clusters").values()) == written


def test_kubeseal_opens_what_init_and_seal_wrote(fork: Path, run: Run) -> None:
    run("init", "--yes")
    run("seal", "--rotate", "s3-mlflow")
    run("seal", "backup-target", "URL", "-n", "minio", stdin="URL=s3://me:secret@far/away\n")
    data = plain(fork)
    for spec in load_table(fork).secrets:
        key_file = fork.parent / "home/.config/homelab-mlops/homelab/sealing-key.pem"
        opened = subprocess.run(
            [tools.find("kubeseal", ROOT), "--recovery-unseal", "--recovery-private-key", key_file],
            input=(fork / spec.path).read_bytes(),
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        values = json.loads(opened.stdout)["data"]
        assert {key: base64.b64decode(value or "").decode() for key, value in values.items()} == data[spec.id]


def test_a_refused_answer_leaves_everything(fork: Path, run: Run) -> None:
    before = listing(fork / "clusters")
    refused(run("init", "--yes", "--domain", "localhost"), "--domain")
    assert listing(fork / "clusters") == before
    assert not (fork.parent / "home").exists()


def test_without_the_private_key_nothing_is_made_anew(fork: Path, run: Run) -> None:
    run("init", "--yes")
    (fork.parent / "home/.config/homelab-mlops/homelab/sealing-key.pem").rename(fork.parent / "key.pem")
    before = listing(fork / "overlays")
    refused(run("seal", "--rotate", "s3-mlflow"), "key")
    assert listing(fork / "overlays") == before
    assert run("seal", "--show", "s3-mlflow", "--key-file", str(fork.parent / "key.pem")).returncode == 0
    (fork / CERTIFICATE).unlink()
    assert run("init", "--yes").returncode == 0
    assert listing(fork / "overlays") != before


def test_a_rotated_user_keeps_the_old_key_until_the_next_time(fork: Path, run: Run) -> None:
    run("init", "--yes")
    before = plain(fork)
    rotated = run("seal", "--rotate", "s3-mlflow")
    assert rotated.returncode == 0, rotated.stderr
    after = plain(fork)
    assert {name for name in after if after[name] != before[name]} == {"minio/minio-users", "mlflow/mlflow-s3"}
    assert after["minio/minio-users"]["MLFLOW_PREVIOUS_ACCESS_KEY"] == before["mlflow/mlflow-s3"]["AWS_ACCESS_KEY_ID"]
    assert after["minio/minio-users"]["MLFLOW_ACCESS_KEY"] == after["mlflow/mlflow-s3"]["AWS_ACCESS_KEY_ID"]


def test_a_secret_is_brought_from_standard_input(fork: Path, run: Run) -> None:
    run("init", "--yes")
    brought = run("seal", "backup-target", "URL", "-n", "minio", stdin="URL=s3://me:secret@far/away\n")
    assert brought.returncode == 0, brought.stderr
    assert plain(fork)["minio/backup-target"] == {"URL": "s3://me:secret@far/away"}
    kustomization = yaml.safe_load((fork / "overlays/homelab/minio/sealed/kustomization.yaml").read_text())
    assert "backup-target.yaml" in kustomization["resources"]
    refused(run("seal", "backup-target", "URL=s3://me:secret@far/away"), "is not a key")
    refused(run("seal", "backup-targt", "URL", stdin="URL=x\n"), "did you mean 'backup-target'?")
    refused(run("seal", "backup-target", "URL", stdin="no assignment\n"), "standard input")

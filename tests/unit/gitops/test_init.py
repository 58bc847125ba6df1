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
from homelab_mlops.gitops.secrets.encrypt import seal
from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE, find_sealing_key
from homelab_mlops.gitops.secrets.table import load_table, read_sealed
from homelab_mlops.gitops.settings import load_settings
from tests import forks, readme
from tests.conftest import PATIENCE, ROOT, clean_environment, listing, refused

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
        return forks.run(arguments, env, fork, PATIENCE, stdin)

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


def test_the_readme_shows_what_init_prints(fork: Path, run: Run) -> None:
    answers = {"repository": "https://github.com/me/homelab.git", "domain": "home.arpa"}
    done = run("init", "--yes", *(word for name, answer in answers.items() for word in (f"--{name}", answer)))
    shown = readme.blocks("**1. Make the fork yours.**")[1]
    assert "Changed " in shown
    assert readme.first_missing(done.stdout, shown, {"~": str(fork.parent / "home")}) == ""


def open_with_kubeseal(fork: Path, file: str) -> dict[str, bytes]:
    """The values of a SealedSecret, as kubeseal opens it with every private key of the user."""
    keys = ",".join(map(str, sorted((fork.parent / "home/.config/homelab-mlops/homelab").glob("*.pem"))))
    opened = subprocess.run(
        [tools.find("kubeseal", ROOT), "--recovery-unseal", "--recovery-private-key", keys],
        input=(fork / file).read_bytes(),
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    return {key: base64.b64decode(value or "") for key, value in json.loads(opened.stdout)["data"].items()}


def test_kubeseal_opens_what_init_and_seal_wrote(fork: Path, run: Run) -> None:
    run("init", "--yes")
    run("seal", "--rotate", "s3-mlflow")
    run("seal", "backup-target", "URL", "-n", "minio", stdin="URL=s3://me:secret@far/away\n")
    data = plain(fork)
    for spec in load_table(fork).secrets:
        opened = open_with_kubeseal(fork, str(spec.path))
        assert {key: value.decode() for key, value in opened.items()} == data[spec.id]


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
    refused(run("init", "--yes"), "so nothing was written")
    assert listing(fork / "overlays") == before
    assert not list((fork.parent / "home").rglob("*.pem"))
    begun = run("init", "--yes", "--lose-values")
    assert begun.returncode == 0, begun.stderr
    assert "no key here opens mlflow/mlflow-s3 AWS_SECRET_ACCESS_KEY: it would be generated anew" in begun.stderr
    assert listing(fork / "overlays") != before


def test_a_new_key_keeps_every_value(fork: Path, run: Run) -> None:
    run("init", "--yes")
    run("seal", "backup-target", "-n", "minio", stdin="URL=s3://me:secret@far/away\n")
    before = plain(fork)
    (fork / CERTIFICATE).unlink()
    assert run("init", "--yes", "--key-file", str(fork.parent / "new.pem")).returncode == 0
    new = find_sealing_key(fork, fork.parent / "new.pem")
    after = {name: sealed.data for name, sealed in read_sealed(fork, load_table(fork), new).items()}
    assert after == before
    made = run("init", "--yes", "--new-key", "--old-key", str(fork.parent / "new.pem"))
    assert made.returncode == 0, made.stderr
    refused(run("seal", "--show", "minio/backup-target", "--key-file", str(fork.parent / "new.pem")), "does not belong")
    assert run("seal", "--show", "minio/backup-target", "URL").stdout == "s3://me:secret@far/away"


def test_two_forks_of_one_machine_have_two_keys(fork: Path, run: Run) -> None:
    run("init", "--yes")
    shown = run("seal", "--show", "mlflow-admin").stdout
    other = fork.parent / "other"
    shutil.copytree(fork, other)
    fork.rename(fork.parent / "first")
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, fork / folder)
    assert run("init", "--yes").returncode == 0
    keys = sorted(path.name for path in (fork.parent / "home").rglob("*.pem"))
    assert len(keys) == 2
    assert "sealing-key.pem" in keys
    second = run("seal", "--show", "mlflow-admin").stdout
    assert second not in ("", shown)
    fork.rename(fork.parent / "second")
    other.rename(fork)
    assert run("seal", "--show", "mlflow-admin").stdout == shown


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
    refused(run("seal", "other", "URL", "-n", "minoi"), "known: argo-cd, argo-workflows, minio")
    refused(run("seal", "Bad_Name", "URL", "-n", "minio"), "the capital letter 'B'")
    refused(run("seal", "kustomization", "URL", "-n", "minio"), "kustomization.yaml")
    refused(run("seal", "backup-targt", "URL", stdin="URL=x\n"), "did you mean 'backup-target'?")
    refused(run("seal", "backup-target", "URL", stdin="no assignment\n"), "standard input")


def test_a_secret_is_namespace_and_name(fork: Path, run: Run) -> None:
    run("init", "--yes")
    for namespace in ("mlflow", "minio", "argo-workflows"):
        sealed = run("seal", "forge", "-n", namespace, stdin=f"TOKEN={namespace}\n")
        assert sealed.returncode == 0, sealed.stderr
    run("seal", "mlflow-admin", "-n", "minio", stdin="password=mine\n")
    data = plain(fork)
    assert {name: data[name]["TOKEN"] for name in data if name.endswith("/forge")} == {
        "mlflow/forge": "mlflow",
        "minio/forge": "minio",
        "argo-workflows/forge": "argo-workflows",
    }
    assert data["mlflow/mlflow-server"]["MLFLOW_AUTH_ADMIN_PASSWORD"] != "mine"
    reached = yaml.safe_load((fork / "overlays/homelab/argo-workflows/kustomization.yaml").read_text())
    assert "sealed" in reached["resources"]
    for command in (["--show", "forge"], ["--rotate", "forge"], ["forge", "TOKEN"], ["--remove", "forge"]):
        refused(run("seal", *command, stdin="TOKEN=x\n"), "argo-workflows/forge or minio/forge or mlflow/forge")
    refused(run("seal", "--show", "mlflow-admin"), "minio/mlflow-admin or mlflow/mlflow-server")
    assert run("seal", "--show", "forge", "-n", "minio").stdout == "TOKEN=minio\n"
    assert run("seal", "--remove", "argo-workflows/forge").returncode == 0
    assert not (fork / "overlays/homelab/argo-workflows/sealed").is_dir() or not listing(
        fork / "overlays/homelab/argo-workflows/sealed"
    )
    assert plain(fork) == {name: values for name, values in data.items() if name != "argo-workflows/forge"}
    refused(run("seal", "--remove", "mlflow/mlflow-s3"), "belongs to the platform")


def test_secrets_that_an_older_version_made_one_are_parted(fork: Path, run: Run) -> None:
    run("init", "--yes")
    table = fork / "clusters/homelab/secrets.yaml"
    shared = "{TOKEN: '${forge.TOKEN}', USER: '${forge.USER}'}"
    rows = "".join(
        f"  - {{name: forge, namespace: {name}, purpose: brought, keys: {shared}}}\n" for name in ("mlflow", "minio")
    )
    text = table.read_text().replace("\nsecrets:\n", "\n  forge: {kind: given, fields: [TOKEN, USER]}\nsecrets:\n")
    table.write_text(text + rows)
    assert run("seal", "forge", stdin="TOKEN=first\nUSER=me\n").returncode == 0
    parted = run("seal", "forge", "-n", "minio", stdin="TOKEN=second\n")
    assert parted.returncode == 0, parted.stderr
    data = plain(fork)
    assert data["mlflow/forge"] == {"TOKEN": "first", "USER": "me"}
    assert data["minio/forge"] == {"TOKEN": "second", "USER": "me"}


def test_keys_are_added_byte_by_byte_from_files(fork: Path, run: Run) -> None:
    run("init", "--yes")
    run("seal", "forge", "-n", "mlflow", stdin="# of the bot\n\nTOKEN=a=b\n")
    pem = b"-----BEGIN OPENSSH PRIVATE KEY-----\nYWJj==\n-----END OPENSSH PRIVATE KEY-----\n"
    files = {"id_ed25519": pem, "store.p12": bytes(range(256)), "account.json": b'{"quoted": "a \\"b\\""}'}
    for name, content in files.items():
        (fork.parent / name).write_bytes(content)
        added = run("seal", "forge", "--from-file", f"{name}={fork.parent / name}")
        assert added.returncode == 0, added.stderr
    assert run("seal", "forge", "--from-file", "motd=-", stdin="two\nlines\n\n").returncode == 0
    secret = open_with_kubeseal(fork, "overlays/homelab/mlflow/sealed/forge.yaml")
    assert secret == {"TOKEN": b"a=b", "motd": b"two\nlines\n\n", **files}
    assert run("seal", "--remove", "forge", "motd").returncode == 0
    assert open_with_kubeseal(fork, "overlays/homelab/mlflow/sealed/forge.yaml") == {"TOKEN": b"a=b", **files}
    assert "256 bytes that are no text" in run("seal", "--show", "mlflow/forge").stdout
    assert run("seal", "--show", "forge", "id_ed25519").stdout.encode() == pem
    refused(run("seal", "training/git", "OTHER", stdin="OTHER=x\n"), "the keys of training/git are USERNAME, TOKEN")
    for wrong in ("TOKEN=a\nTOKEN=b\n", "TOKEN=-----BEGIN\nabc\n", "..=x\n"):
        refused(run("seal", "forge", stdin=wrong), "standard input:")


def test_what_somebody_sealed_beside_the_table_stays(fork: Path, run: Run) -> None:
    run("init", "--yes")
    folder = fork / "overlays/homelab/mlflow/sealed"
    forge = yaml.safe_load((folder / "mlflow-s3.yaml").read_text())
    public = find_sealing_key(fork, fork.parent / "home/.config/homelab-mlops/homelab/sealing-key.pem").public()
    text = seal(b"brought by hand", namespace="mlflow", name="mlflow-s3", public=public)
    forge["spec"]["encryptedData"]["EXTRA"] = text
    (folder / "mlflow-s3.yaml").write_text(yaml.safe_dump(forge))
    hand = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "hand", "namespace": "mlflow"},
        "spec": {"encryptedData": {"A": seal(b"b", namespace="mlflow", name="hand", public=public)}},
    }
    (folder / "hand.yaml").write_text(yaml.safe_dump(hand, width=4096))
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + "  - hand.yaml\n")
    for command in (["seal", "--rotate", "s3-mlflow"], ["init", "--yes", "--new-key"]):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert "hand.yaml" in yaml.safe_load(kustomization.read_text())["resources"]
        assert open_with_kubeseal(fork, "overlays/homelab/mlflow/sealed/hand.yaml") == {"A": b"b"}
        assert open_with_kubeseal(fork, "overlays/homelab/mlflow/sealed/mlflow-s3.yaml")["EXTRA"] == b"brought by hand"


def test_the_remote_origin_is_the_repository_of_a_new_fork(fork: Path, run: Run) -> None:
    git = shutil.which("git")
    assert git is not None
    (fork.parent / "bin/git").symlink_to(git)
    subprocess.run([git, "init", "--quiet", fork], check=True)
    subprocess.run([git, "-C", fork, "remote", "add", "origin", "git@git.example.net:bob/homelab.git"], check=True)
    assert run("init", "--yes").stdout.splitlines()[0] == (
        "The repository is https://git.example.net/bob/homelab.git, by the remote origin of this clone."
    )
    assert load_settings(fork).repository == "https://git.example.net/bob/homelab.git"
    subprocess.run([git, "-C", fork, "remote", "set-url", "origin", "https://git.example.net/eve/x"], check=True)
    assert "stays https://git.example.net/bob/homelab.git, though" in run("init", "--yes").stdout

"""Whatever is wrong with a target has a clear outcome by name, and the backups before it stay whole."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from homelab_mlops.backup import database
from homelab_mlops.errors import BackupError
from tests.conftest import PATIENCE, free_port
from tests.unit.backup.conftest import Platform

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
SOON = {"homelab_mlops.backup.restic.OPEN_SECONDS": 5.0}


def said(platform: Platform, *arguments: str, changed: dict[str, float] | None = None) -> tuple[int, str]:
    """The exit code of a command, and all that it says."""
    before = set(platform.folder.glob("*.log"))
    code = platform.started(*arguments, changed=changed).wait(PATIENCE)
    (log,) = set(platform.folder.glob("*.log")) - before
    text = log.read_text()
    assert "Traceback" not in text
    assert "of-the-tests" not in text
    return code, text


@pytest.fixture
def small_disk(platform: Platform) -> Iterator[Platform]:
    """The platform with a target on a disk of its own, of 8 MB."""
    folder = platform.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        other = platform.with_(str(folder / "target"))
        assert other.run("init").returncode == 0
        yield other
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_target_that_is_away(platform: Platform) -> None:
    code, text = said(platform.with_(f"rest:http://127.0.0.1:{free_port()}/"), "take", changed=SOON)

    assert (code, "[BACKUP_TARGET_AWAY]" in text, "connection refused" in text) == (75, True, True), text


def test_a_target_that_does_not_answer(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        code, text = said(platform.with_(f"rest:http://127.0.0.1:{port}/"), "take", changed=SOON)

    assert (code, "[BACKUP_TARGET_SLOW]" in text) == (75, True), text


def test_a_disk_that_is_not_mounted(platform: Platform) -> None:
    """Its folder is there and empty; a backup into it would fill the disk of the machine."""
    folder = platform.folder / "empty"
    folder.mkdir()
    code, text = said(platform.with_(str(folder)), "take")

    assert (code, "[BACKUP_TARGET_EMPTY]" in text) == (1, True), text
    assert list(folder.iterdir()) == []


def test_another_password(platform: Platform) -> None:
    code, text = said(platform.with_(BACKUP_PASSWORD="another"), "take")

    assert (code, "[BACKUP_WRONG_PASSWORD]" in text) == (1, True), text


@pytest.mark.parametrize(
    "setting", ["BACKUP_TARGET", "BACKUP_PASSWORD", "MLFLOW_AUTH_DATABASE_URI", "BACKUP_APPEND_ONLY"]
)
def test_a_setting_that_is_missing_or_wrong(platform: Platform, setting: str) -> None:
    wrong = {"BACKUP_TARGET": "ftp:host"}.get(setting, "" if "APPEND" not in setting else "perhaps")
    code, text = said(platform.with_(**{setting: wrong}), "take")

    assert (code, "[BACKUP_NOT_SET_UP]" in text) == (1, True), text


@pytest.mark.parametrize("name", ["", 'a"b', "a'b", "../a", "a" * 60])
def test_a_name_that_no_database_of_a_backup_can_have(name: str) -> None:
    with pytest.raises(BackupError, match="the address of a database"):
        database.postgres_of(f"postgresql://mlflow@postgresql:5432/{name}")


def test_both_databases_are_not_one() -> None:
    uri = "postgresql://mlflow@postgresql:5432/mlflow"
    with pytest.raises(BackupError, match="both databases are mlflow"):
        database.databases_of({"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_AUTH_DATABASE_URI": uri})


def test_a_target_that_is_full(small_disk: Platform) -> None:
    before = small_disk.json("take")["snapshot"]
    held = small_disk.backed_up(before)
    small_disk.put("mlflow", "large", secrets.token_bytes(12_000_000))
    code, text = said(small_disk, "take")

    assert (code, "[BACKUP_TARGET_FULL]" in text) == (1, True), text
    assert [item["snapshot"] for item in small_disk.json("list")] == [before]
    assert small_disk.backed_up(before) == held
    small_disk.store.client().delete_object(Bucket="mlflow", Key="large")
    subprocess.run(["mount", "-o", "remount,size=32m", str(Path(small_disk.target).parent)], check=True)
    assert small_disk.backed_up(small_disk.json("take")["snapshot"]) == small_disk.objects()


def test_a_target_that_is_read_only(small_disk: Platform) -> None:
    before = small_disk.json("take")["snapshot"]
    disk = str(Path(small_disk.target).parent)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, text = said(small_disk, "take")

    assert (code, "[BACKUP_TARGET_READ_ONLY]" in text) == (1, True), text
    assert [item["snapshot"] for item in small_disk.json("list")] == [before]


@pytest.fixture
def locking(platform: Platform) -> Iterator[subprocess.Popen[bytes]]:
    """A run that keeps the lock of the whole target, for minutes."""
    platform.json("take")
    env = {**platform.env, "RESTIC_REPOSITORY": platform.target, "RESTIC_PASSWORD": "of-the-tests"}
    checking = subprocess.Popen([platform.program, "check", "--read-data", "--limit-download", "1"], env=env)
    # While it is written, its name ends otherwise.
    while not any(len(path.name) == 64 for path in Path(platform.target, "locks").iterdir()):
        assert checking.poll() is None
    yield checking
    checking.kill()
    checking.wait()


def test_the_lock_of_a_dead_run_is_removed(platform: Platform, locking: subprocess.Popen[bytes]) -> None:
    locking.kill()
    locking.wait()
    assert list(Path(platform.target, "locks").iterdir())

    platform.json("take")

    assert list(Path(platform.target, "locks").iterdir()) == []


@pytest.mark.usefixtures("locking")
def test_a_run_that_lives_and_holds_the_lock(platform: Platform) -> None:
    # A constant that is a text; the command that a person runs waits for minutes.
    program = platform.started("take", changed={"homelab_mlops.backup.restic.LOCK_WAIT": "1s"})  # type: ignore[dict-item]

    assert program.wait(PATIENCE) == 75
    assert "[BACKUP_LOCKED]" in "".join(path.read_text() for path in platform.folder.glob("*.log"))


def test_a_database_that_is_away(platform: Platform) -> None:
    address = f"postgresql://mlflow@127.0.0.1:{free_port()}/mlflow"
    code, text = said(platform.with_(MLFLOW_BACKEND_STORE_URI=address), "take")

    assert (code, "[BACKUP_DATABASE]" in text, platform.json("list")) == (75, True, []), text


def test_a_database_that_is_not_there(platform: Platform) -> None:
    address = f"{platform.env['MLFLOW_BACKEND_STORE_URI']}_other"
    code, text = said(platform.with_(MLFLOW_BACKEND_STORE_URI=address), "take")

    assert (code, "[BACKUP_DATABASE]" in text, platform.json("list")) == (1, True, []), text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_dump_is_no_dump(platform: Platform, share: float) -> None:
    file = platform.folder / "dump"
    database.dump(platform.database(), file)
    database.hold_whole(file)
    os.truncate(file, int(file.stat().st_size * share))

    with pytest.raises(BackupError, match="the dump is not whole"):
        database.hold_whole(file)


def test_an_object_store_that_is_away(platform: Platform) -> None:
    code, text = said(platform.with_(AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{free_port()}"), "take")

    assert (code, "cannot be reached" in text, platform.json("list")) == (75, True, []), text


def test_a_clock_that_has_jumped(platform: Platform) -> None:
    """A backup of the future is not the newest for ever, and nothing is removed beside it."""
    first = platform.json("take")
    (platform.folder / "manifest.json").write_text(platform.restic("dump", first["snapshot"], "/manifest.json"))
    for year in ("2019", "2049"):
        tags = ["--host", "homelab", "--tag", "homelab,complete,sequence-1", "--time", f"{year}-01-01 00:00:00"]
        platform.restic("backup", *tags, "manifest.json")
    finished = platform.run("take", "--json")

    assert "is of the future; check the clocks" in finished.stderr
    taken = json.loads(finished.stdout)
    listed = platform.json("list")
    assert (len(listed), listed[0]["snapshot"], taken["sequence"]) == (4, taken["snapshot"], 2)
    assert platform.backed_up(taken["snapshot"]) == platform.objects()


@pytest.mark.skipif(SSHD is None, reason="sshd is not here: apt-get install openssh-server")
def test_another_host_key(platform: Platform) -> None:
    folder = platform.folder / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "other", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = free_port()
    shutil.copy(folder / "user.pub", folder / "authorized")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    try:
        remote = platform.with_(
            f"sftp://root@127.0.0.1:{port}/{platform.folder}/remote",
            BACKUP_SSH_KEY_FILE=str(folder / "user"),
            BACKUP_KNOWN_HOSTS_FILE=str(folder / "known"),
        )
        known = {name: " ".join((folder / f"{name}.pub").read_text().split()[:2]) for name in ("host", "other")}
        (folder / "known").write_text(f"[127.0.0.1]:{port} {known['host']}\n")
        while remote.run("init").returncode:
            assert server.poll() is None
        taken = remote.json("take")
        (folder / "known").write_text(f"[127.0.0.1]:{port} {known['other']}\n")
        code, text = said(remote, "take", changed=SOON)
    finally:
        server.kill()
        server.wait()

    assert taken["objects"] == 4
    assert (code, "[BACKUP_WRONG_HOST_KEY]" in text) == (1, True), text


def test_a_target_that_only_appends(platform: Platform) -> None:
    """What holds the target's credential cannot delete a backup, and a run that tries says so."""
    store = platform.store
    name = f"appended-{secrets.token_hex(4)}"
    store.client().create_bucket(Bucket=name)
    keep = ["s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "s3:PutObject"]
    places = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
    statements = [
        {"Effect": "Allow", "Action": keep, "Resource": places},
        {"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": [f"arn:aws:s3:::{name}/restic/locks/*"]},
    ]
    root = StaticProvider(store.access_key, store.secret_key)
    admin = MinioAdmin(endpoint=store.endpoint.removeprefix("http://"), credentials=root, secure=False)
    admin.policy_add(name, policy={"Version": "2012-10-17", "Statement": statements})
    admin.user_add(name, "the-secret-of-the-user")
    admin.policy_set(name, user=name)
    keys = {"BACKUP_ACCESS_KEY": name, "BACKUP_SECRET_KEY": "the-secret-of-the-user"}
    appending = platform.with_(f"s3:{store.endpoint}/{name}/restic", BACKUP_APPEND_ONLY="true", **keys)
    assert appending.run("init").returncode == 0
    for number in range(2):
        appending.put("mlflow", f"5/{number}", b"new")
        appending.json("take")
    code, text = said(appending.with_(BACKUP_APPEND_ONLY="false"), "take")

    assert (code, "[BACKUP_RETENTION]" in text, "the backup is whole" in text) == (1, True, True), text
    assert len(appending.json("list")) == 3

"""A restore brings everything back, can be stopped at any moment, and keeps what was there before."""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from homelab_mlops.backup.database import execute
from tests.conftest import PATIENCE
from tests.unit.backup.conftest import Finished, Platform, emptied


def rows(platform: Platform, number: int = 0, suffix: str = "") -> str:
    """All rows of a database's table."""
    table = ("runs", "users")[number]
    return execute(platform.server.named(platform.databases[number] + suffix), f"TABLE {table}")


def restored(platform: Platform, *arguments: str) -> Finished:
    return platform.run("restore", "--yes", *arguments)


def lose(platform: Platform) -> None:
    emptied(platform.store)
    for name in platform.databases:
        execute(platform.server, f"DROP DATABASE {name} WITH (FORCE)")


def test_what_was_lost_is_back(platform: Platform) -> None:
    objects, before = platform.objects(), [rows(platform, 0), rows(platform, 1)]
    platform.json("take")
    lose(platform)
    finished = restored(platform)

    assert finished.returncode == 0, finished.stderr
    assert platform.objects() == objects
    assert [rows(platform, 0), rows(platform, 1)] == before
    table = platform.store.client().head_object(Bucket="datasets", Key="churn/table ü.csv")
    assert table["Metadata"] == {"owner": "me"}
    assert platform.json("take")["fetched"] == 4


def test_a_living_platform_keeps_what_it_was(platform: Platform) -> None:
    objects, before = platform.objects(), rows(platform)
    platform.json("take")
    platform.put("mlflow", "1/models/m-1/artifacts/model.ubj", b"overwritten")
    platform.put("mlflow", "2/later", b"later")
    execute(platform.database(), "DELETE FROM runs WHERE id > 10")
    now = rows(platform)
    finished = restored(platform)

    assert finished.returncode == 0, finished.stderr
    assert platform.objects() == {**objects, "mlflow/2/later": b"later"}
    assert (rows(platform), rows(platform, suffix="_before")) == (before, now)
    kept = platform.store.client().list_objects_v2(Bucket="mlflow", Prefix=".homelab/")["Contents"]
    assert [item["Size"] for item in kept] == [len(b"overwritten")]


def test_only_a_part_comes_back(platform: Platform) -> None:
    platform.json("take")
    emptied(platform.store)
    execute(platform.database(), "DELETE FROM runs")
    now = rows(platform)
    finished = restored(platform, "--only", "datasets")

    assert finished.returncode == 0, finished.stderr
    assert [*platform.objects()] == ["datasets/churn/table ü.csv"]
    assert rows(platform) == now


def test_a_time_names_the_backup(platform: Platform) -> None:
    first = platform.json("take")
    platform.put("mlflow", "2/later", b"later")
    platform.json("take")
    emptied(platform.store)
    finished = restored(platform, "--at", first["time"], "--only", "models")

    assert finished.returncode == 0, finished.stderr
    assert "mlflow/2/later" not in platform.objects()
    assert "mlflow/1/empty" in platform.objects()
    finished = restored(platform, "--at", "2020-01-01")
    assert (finished.returncode, "[BACKUP_NONE]" in finished.stderr) == (1, True), finished.stderr


def test_nothing_is_switched_while_somebody_is_connected(platform: Platform) -> None:
    platform.json("take")
    execute(platform.database(), "DELETE FROM runs")
    now = rows(platform)
    connected = subprocess.Popen(
        ["psql", "-q", "-c", "SELECT pg_sleep(1000)"], env=platform.database().environment, stdout=subprocess.DEVNULL
    )
    while execute(platform.server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)'") == "0":
        assert connected.poll() is None
    finished = restored(platform)
    connected.kill()
    connected.wait()

    assert (finished.returncode, "[BACKUP_IN_USE]" in finished.stderr) == (1, True), finished.stderr
    assert rows(platform) == now


def test_a_restore_that_is_killed_at_any_moment_loses_nothing(platform: Platform) -> None:
    """After each kill either the old state or the new one is there, whole; the last call ends it."""
    for number in range(20):
        platform.put("mlflow", f"2/{number}", secrets.token_bytes(100_000))
    objects, before = platform.objects(), rows(platform)
    platform.json("take")
    platform.put("mlflow", "2/0", b"overwritten")
    platform.store.client().delete_object(Bucket="mlflow", Key="2/1")
    execute(platform.database(), "DELETE FROM runs WHERE id > 10")
    now = rows(platform)
    moments = random.Random(22)
    for _ in range(5):
        running = platform.started("restore", "--yes")
        time.sleep(moments.uniform(0, 8))
        running.kill()
        running.wait(PATIENCE)
        assert rows(platform) in (before, now)
        assert platform.objects()["mlflow/2/0"] in (objects["mlflow/2/0"], b"overwritten")
    finished = restored(platform)

    assert finished.returncode == 0, finished.stderr
    assert (platform.objects(), rows(platform)) == (objects, before)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_backup_changes_nothing(platform: Platform, damage: str) -> None:
    platform.json("take")
    packs = sorted(Path(platform.target, "data").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    content = bytearray(packs[-1].read_bytes())
    packs[-1].chmod(0o600)
    if damage == "missing":
        packs[-1].unlink()
    else:
        content[len(content) // 2] ^= 1
        packs[-1].write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    emptied(platform.store)
    platform.put("mlflow", "of now", b"")
    execute(platform.database(), "DELETE FROM runs")
    now = rows(platform)
    finished = restored(platform)

    assert (finished.returncode, "[BACKUP_DAMAGED]" in finished.stderr) == (1, True), finished.stderr
    assert ([*platform.objects()], rows(platform)) == (["mlflow/of now"], now)


def test_a_backup_without_a_database_is_refused(platform: Platform) -> None:
    taken = platform.json("take")
    manifest = platform.folder / "manifest.json"
    manifest.write_text(platform.restic("dump", taken["snapshot"], "/manifest.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "databases": []}))
    tags = ["--host", "homelab", "--tag", "homelab,complete,sequence-9"]
    platform.restic("backup", *tags, "manifest.json")
    finished = restored(platform)

    assert (finished.returncode, "[BACKUP_NO_DATABASE]" in finished.stderr) == (1, True), finished.stderr

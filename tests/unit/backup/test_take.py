"""A backup holds what is there, stores what is new once, and survives whatever stops it."""

from __future__ import annotations

import json
import random
import secrets
import time
from pathlib import Path

from homelab_mlops.backup.database import call, execute
from tests.conftest import PATIENCE
from tests.unit.backup.conftest import Platform


def test_a_backup_holds_both_databases_and_every_object_of_both_buckets(platform: Platform) -> None:
    taken = platform.json("take", "--commit", "abc123")

    assert platform.backed_up() == platform.objects()
    manifest = json.loads(platform.restic("dump", taken["snapshot"], "/manifest.json"))
    assert [item["name"] for item in manifest["databases"]] == list(platform.databases)
    assert (manifest["mlflow_schema"], manifest["commit"], manifest["sequence"]) == ("a1", "abc123", 1)
    table = next(item for item in manifest["objects"] if item["bucket"] == "datasets")
    assert (table["key"], table["metadata"]) == ("churn/table ü.csv", {"owner": "me"})
    assert list((platform.folder / "scratch").iterdir()) == [platform.folder / "scratch" / ".lock"]


def test_what_the_last_backup_has_is_not_fetched_again(platform: Platform) -> None:
    first = platform.json("take")
    platform.put("mlflow", "1/new", b"new")
    platform.put("mlflow", "1/empty", b"not empty any more")
    platform.put("mlflow", "1/copy", b"flavors: {}")
    platform.store.client().delete_object(Bucket="datasets", Key="churn/table ü.csv")
    second = platform.json("take")

    assert (first["fetched"], second["fetched"], second["sequence"]) == (4, 3, 2)
    assert platform.backed_up(second["snapshot"]) == platform.objects()
    assert "datasets/churn/table ü.csv" in platform.backed_up(first["snapshot"])


def test_more_than_the_scratch_folder_takes_passes_through_it_in_batches(platform: Platform) -> None:
    contents = [secrets.token_bytes(700_000) for _ in range(2)]
    for number in range(5):
        platform.put("mlflow", f"2/{number}", contents[number % 2])
    taken = platform.json("take", "--batch", "1")

    assert platform.backed_up(taken["snapshot"]) == platform.objects()
    assert [item["snapshot"] for item in platform.json("list")] == [taken["snapshot"]]
    assert len(json.loads(platform.restic("snapshots", "--json"))) == 1


def test_bytes_that_the_target_has_lost_are_stored_again(platform: Platform) -> None:
    """An empty file that only stands for what the target has must never pass for the object itself."""
    platform.json("take")
    packs = sorted(Path(platform.target, "data").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    packs[-1].unlink()
    platform.restic("repair", "index")
    taken = platform.json("take")

    assert taken["fetched"] == 4
    assert platform.backed_up(taken["snapshot"]) == platform.objects()


def test_a_backup_that_is_killed_at_any_moment_leaves_whole_ones_only(platform: Platform) -> None:
    moments = random.Random(22)
    whole = 0
    longest = 0.0
    for number in range(4):
        platform.put("mlflow", f"3/{number}", secrets.token_bytes(1_200_000))
        began = time.monotonic()
        running = platform.started("take", "--batch", "1")
        if number:
            time.sleep(moments.uniform(0, longest))
            running.kill()
        running.wait(PATIENCE)
        longest = max(longest, time.monotonic() - began)
        listed = platform.json("list")
        assert len(listed) >= whole
        whole = len(listed)
    taken = platform.json("take")

    assert platform.backed_up(taken["snapshot"]) == platform.objects()
    platform.restic("check", "--read-data")


def test_two_backups_at_once_are_both_whole(platform: Platform) -> None:
    other = Platform(**{**vars(platform), "folder": platform.folder / "other"})
    other.folder.mkdir()
    programs = [platform.started("take", "--batch", "1"), other.started("take", "--batch", "1")]

    assert [program.wait(PATIENCE) for program in programs] == [0, 0]
    both = platform.json("list")
    assert len(both) == 2
    for item in both:
        assert platform.backed_up(item["snapshot"]) == platform.objects()


def test_a_second_backup_in_the_same_folder_waits_for_the_first(platform: Platform) -> None:
    running = platform.started("take")
    lock = platform.folder / "scratch" / ".lock"
    while not lock.exists():
        assert running.poll() is None
    second = platform.run("take")

    assert running.wait(PATIENCE) == 0
    assert second.returncode in (0, 75), second.stderr
    assert second.returncode == 0 or "[BACKUP_LOCKED]" in second.stderr


def test_a_backup_while_mlflow_writes_has_every_object_that_its_dump_names(platform: Platform) -> None:
    """As MLflow does: first the object, then the row that names it."""
    execute(platform.database(), "CREATE TABLE named (key text)")
    running = platform.started("take")
    number = 0
    while running.poll() is None:
        platform.put("mlflow", f"4/{number}", b"%d" % number)
        execute(platform.database(), f"INSERT INTO named SELECT 'mlflow/4/{number}'")
        number += 1
    assert running.wait() == 0

    snapshot = platform.json("list")[0]["snapshot"]
    platform.restic("restore", snapshot, "--target", str(platform.folder / "all"))
    copy = f"{platform.databases[0]}_copy"
    execute(platform.server, f"CREATE DATABASE {copy}")
    file = platform.folder / "all" / "databases" / f"{platform.databases[0]}.dump"
    call("pg_restore", ["--dbname", copy, str(file)], platform.server.named(copy))
    named = set(execute(platform.server.named(copy), "SELECT key FROM named").split())

    assert named <= set(platform.backed_up(snapshot))

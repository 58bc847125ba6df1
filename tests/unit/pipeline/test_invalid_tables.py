"""No bad table gets past ingest and validate, and none leaves anything behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from homelab_mlops.cli import storage_error
from homelab_mlops.errors import HomelabError
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline.ingest import ingest
from homelab_mlops.pipeline.job import Folders, reported
from homelab_mlops.pipeline.sagemaker import train_from_channels
from homelab_mlops.pipeline.validate import validate
from homelab_mlops.tables.columns import declared
from homelab_mlops.tables.read import read
from tests.conftest import FIXTURES, Homelab, listing, refused

TABLES = FIXTURES / "tables"
INVALID = sorted(path for path in (TABLES / "invalid").iterdir() if path.suffix != ".expected")
SPEC = load_spec(str(TABLES / "model.yaml"))


def expected_message(path: Path) -> str:
    return path.with_name(f"{path.name}.expected").read_text().strip()


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_the_steps_refuse_it(path: Path, tmp_path: Path) -> None:
    with pytest.raises(HomelabError) as refusal:  # noqa: PT012 - one of the two refuses, whichever reads it
        ingest(SPEC, tmp_path, str(path))
        validate(SPEC, tmp_path)
    assert expected_message(path) in str(refusal.value)
    assert {name for name in listing(tmp_path) if not name.startswith(("ingest/", "validate/"))} == set()


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_the_file_way_refuses_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, model, output = tmp_path / "channel", tmp_path / "model", tmp_path / "output"
    channel.mkdir()
    name = path.name if path.suffix in (".csv", ".parquet") else f"{path.name}.csv"
    (channel / name).write_bytes(path.read_bytes())
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(channel))
    monkeypatch.setenv("SM_MODEL_DIR", str(model))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(output))
    with pytest.raises(HomelabError) as refusal, reported(["train"], os.environ):
        train_from_channels(SPEC, "files", {}, Folders.of(os.environ))
    assert expected_message(path) in str(refusal.value)
    assert listing(model) == {}
    assert list(listing(output)) == ["failure"]
    assert expected_message(path) in (output / "failure").read_text()


@pytest.mark.parametrize("name", ["empty.csv", "truncated.parquet", "infinity.csv"])
def test_the_command_line_says_it_in_one_error(name: str, homelab: Homelab, tmp_path: Path) -> None:
    source = TABLES / "invalid" / name
    finished = homelab("retrain", TABLES / "model.yaml", "--work", tmp_path, "--source", source, "--tracking", "files")
    refused(finished, expected_message(source))
    assert not (tmp_path / "train").exists()


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(10_000)]
    table = tmp_path / "wide.csv"
    table.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    with pytest.raises(HomelabError, match="10,000 columns; at most 2,000"):
        ingest(SPEC, tmp_path / "work", str(table))
    assert listing(tmp_path / "work") == {}


def test_a_path_that_does_not_exist(tmp_path: Path, homelab: Homelab) -> None:
    refused(homelab("ingest", TABLES / "model.yaml", "--work", tmp_path, "--source", "nowhere.csv"), "no such file")
    assert listing(tmp_path) == {}


def test_no_permission(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n")
    table.chmod(0)
    effective = os.geteuid()
    try:
        if effective == 0:  # root may read everything
            tmp_path.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(PermissionError) as refusal:
            read(str(table), tmp_path, declared(SPEC))
    finally:
        os.seteuid(effective)
    assert "no permission" in storage_error(refusal.value).what
    assert str(table) == storage_error(refusal.value).where


def test_an_earlier_output_survives_a_failed_step(tmp_path: Path) -> None:
    ingest(SPEC, tmp_path, str(TABLES / "valid" / "subscribers.csv"))
    before = listing(tmp_path)
    with pytest.raises(HomelabError):
        ingest(SPEC, tmp_path, str(TABLES / "invalid" / "truncated.parquet"))
    assert before == listing(tmp_path)


def test_the_same_content_has_the_same_hash_however_it_is_written(tmp_path: Path) -> None:
    manifests = [ingest(SPEC, tmp_path, str(path)) for path in sorted((TABLES / "valid").iterdir())]
    assert len(manifests) >= 4
    assert len({manifest["sha256"] for manifest in manifests}) == 1


def test_a_folder_of_tables_is_one_table(tmp_path: Path) -> None:
    whole = pq.read_table(TABLES / "valid" / "subscribers.parquet")
    folder = tmp_path / "monthly"
    folder.mkdir()
    pq.write_table(whole.slice(0, 90), folder / "2026-01.parquet")
    pq.write_table(whole.slice(90), folder / "2026-02.parquet")
    expected = ingest(SPEC, tmp_path / "a", str(TABLES / "valid" / "subscribers.parquet"))
    assert expected["sha256"] == ingest(SPEC, tmp_path / "b", str(folder))["sha256"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(tmp_path: Path, homelab: Homelab) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        refused(homelab("ingest", "churn", "--work", tmp_path, "--source", "demo"), "the disk is full")
        assert listing(tmp_path) == {}
    finally:
        subprocess.run(["umount", tmp_path], check=True)

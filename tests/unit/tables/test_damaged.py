"""A damaged file is refused, or read as a strict reader reads it."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from homelab_mlops.errors import HomelabError
from homelab_mlops.model.spec import parse_spec
from homelab_mlops.tables.columns import declared, typed
from homelab_mlops.tables.read import read
from tests.conftest import Homelab, refused
from tests.unit.tables import ways

SPEC = parse_spec(ways.MODEL, "forty-ways")
EACH = 400
KINDS = ("csv", "quoted", "gzip", "zstd", "parquet")


def written(rows: pa.Table, kind: str, folder: Path) -> bytes:
    if kind == "parquet":
        path = folder / "whole.parquet"
        pq.write_table(rows, path)
        return path.read_bytes()
    text = ways.csv_text(rows, quoting=1 if kind == "quoted" else 0).encode()
    if kind == "gzip":
        return gzip.compress(text, mtime=0)
    return pa.compress(text, "zstd", asbytes=True) if kind == "zstd" else text


def damaged(content: bytes, source: random.Random, times: int) -> Iterator[bytes]:
    """A byte changed, cut off, a piece doubled, two files joined; in turn."""
    for number in range(times):
        place, other = sorted(source.randrange(len(content)) for _ in range(2))
        yield (
            content[:place] + bytes([source.randrange(256)]) + content[place + 1 :],
            content[:place],
            content[:other] + content[place:],
            content[:other] + content[source.randrange(len(content)) :],
        )[number % 4]


def unpacked(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content)
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())
    return content


def by_arrow(content: bytes) -> pa.Table:
    if content.startswith(b"PAR1"):
        return pq.read_table(pa.BufferReader(content))
    text = unpacked(content)
    names = pacsv.open_csv(io.BytesIO(text), parse_options=pacsv.ParseOptions(newlines_in_values=True)).schema.names
    return pacsv.read_csv(
        io.BytesIO(text),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[]),
    )


def by_duckdb(content: bytes, folder: Path) -> pa.Table:
    path = folder / "strict.csv"
    path.write_bytes(unpacked(content))
    with duckdb.connect() as connection:
        query = "SELECT * FROM read_csv(?, header=true, all_varchar=true, delim=',', strict_mode=true, nullstr='\0')"
        return connection.sql(query, params=[str(path)]).to_arrow_table()


def is_what_a_strict_reader_sees(found: pa.Table, content: bytes, folder: Path) -> bool:
    for reader in (by_arrow, lambda content: by_duckdb(content, folder)):
        try:
            strict = reader(content)
            names = [name.strip().removeprefix("\ufeff") for name in strict.column_names]
            if typed(strict.rename_columns(names), declared(SPEC), "strict").equals(found):
                return True
        except (pa.ArrowException, OSError, ValueError, duckdb.Error, HomelabError):
            continue
    return False


def read_or_refused(path: Path) -> pa.Table | None:
    try:
        return read(str(path), path.parent, declared(SPEC), SPEC.data.csv, [SPEC.target.column, *SPEC.features]).table
    except HomelabError as refusal:
        if not refusal.fix:
            pytest.fail(f"it does not say what to do: {refusal}")
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_damaged_files(kind: str, tmp_path: Path) -> None:
    """Each is refused by a person's error, or its rows are those of a strict reader."""
    whole = written(ways.table().slice(0, 60), kind, tmp_path)
    read_on = 0
    for number, content in enumerate(damaged(whole, random.Random(f"{kind} 18"), EACH)):
        path = tmp_path / "damaged"
        path.write_bytes(content)
        found = read_or_refused(path)
        if found is None:
            continue
        read_on += 1
        assert is_what_a_strict_reader_sees(found, content, tmp_path), (number, content)
    assert 0 < read_on < EACH / 2


def test_the_command_refuses_in_one_error(homelab: Homelab, tmp_path: Path) -> None:
    model = tmp_path / "model.yaml"
    model.write_text(ways.MODEL)
    for number, content in enumerate(damaged(written(ways.table(), "gzip", tmp_path), random.Random(18), 4)):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(content)
        refused(homelab("ingest", model, "--work", tmp_path / "work", "--source", path), "the gzip file is")
    assert not (tmp_path / "work" / "ingest").exists()

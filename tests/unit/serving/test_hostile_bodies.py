"""Bodies that cost a reader far more than their bytes: without limits some take minutes, and others all the memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from homelab_mlops.model import values
from homelab_mlops.serving import protocol
from homelab_mlops.serving.encoding import RowsError, shown

SIZE = 4 * 2**20
NAMES = ("a", "b")
BODIES = {
    "empty objects": (protocol.JSON, b'{"dataframe_records":[' + b"{}," * (SIZE // 3 - 20) + b"{}]}"),
    "empty lists": (protocol.JSON, b'{"dataframe_split":{"columns":[],"data":[' + b"[]," * (SIZE // 3 - 20) + b"[]]}}"),
    "nested objects": (protocol.JSON, b'{"instances":[' + b'{"":{"":{"":{}}}},' * (SIZE // 17 - 20) + b"{}]}"),
    "lists of one": (protocol.JSON, b'{"inputs":{"a":[' + b"[1]," * (SIZE // 4 - 20) + b"1]}}"),
    "one name a million times": (protocol.CSV, b"c," * (SIZE // 2 - 4) + b"d\n"),
    "blank lines": (protocol.CSV, b"a,b" + b"\n" * (SIZE - 4)),
    "a million rows": (protocol.CSV, b"a\n" * (SIZE // 2)),
}


@pytest.mark.parametrize("what", BODIES)
def test_it_is_refused_and_takes_little_memory(what: str) -> None:
    media, body = BODIES[what]
    tracemalloc.start()
    try:
        with pytest.raises(RowsError):
            protocol.read_invocation(body, media, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 96 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("media", [protocol.JSON, protocol.CSV])
def test_a_hundred_thousand_rows_are_read(media: str) -> None:
    rows = [[number, 1] for number in range(100_000)]
    text = "a,b\n" + "".join(f"{one},{other}\n" for one, other in rows)
    body = text if media == protocol.CSV else json.dumps({"dataframe_split": {"columns": NAMES, "data": rows}})
    table = protocol.read_invocation(body.encode(), media, NAMES)
    assert table.rows == 100_000
    assert [int(value) for value in table.columns["a"]] == [*range(100_000)]


def test_columns_of_others_in_a_csv_are_left_out() -> None:
    table = protocol.read_invocation(b"a,x,b,x\n1,2,3,4\n\n5,6,7,8\n", protocol.CSV, NAMES)
    assert dict(table.columns) == {"a": ["1", "5"], "b": ["3", "7"]}
    with pytest.raises(RowsError, match="row 2 has 3 values; the header has 4"):
        protocol.read_invocation(b"a,x,b,x\n1,2,3,4\n5,6,7,8\n\n9,9,9\n", protocol.CSV, NAMES)
    with pytest.raises(RowsError, match="no rows"):
        protocol.read_invocation("\ufeff".encode(), protocol.CSV, NAMES)


@pytest.mark.parametrize("text", ["1" * 10**6 + "x", "-" + "1" * 10**6 + ".", "1." * 10**5, "1e" + "1" * 10**6 + "x"])
def test_a_text_that_is_nearly_a_number_is_read_at_once(text: str) -> None:
    assert values.is_number(text) == (text[0] == "-")


def test_a_deep_value_is_shown_in_a_message() -> None:
    assert shown(json.loads("[" * 900 + "]" * 900)) == "[[[[...]]]]"
    assert shown("x" * 10**6) == f"'{'x' * 59}..."

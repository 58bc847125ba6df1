"""The requests and answers of clients: MLflow's scoring protocol, and rows by name.

`/invocations` follows mlflow.pyfunc.scoring_server 3.17 for tables: the four JSON forms, CSV, `params`, and the answer
``{"predictions": ...}``. It refuses Parquet as unsupported, which would need Arrow in the image.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson

from homelab_mlops.serving.encoding import Column, RowsError, shown

JSON, CSV = "application/json", "text/csv"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "pipes"}
csv.field_size_limit(1 << 20)
# A list or an object takes up to 60 times the memory of its text, so their number is limited, too.
MAX_ROWS = 250_000
# So many lines are taken from a CSV at once.
CSV_LINES = 1_000


class Table(NamedTuple):
    """Columns by name, and how many rows they have."""

    columns: Mapping[str, Column]
    rows: int


class UnsupportedError(ValueError):
    """A content type that is not read."""


def content_type(header: str) -> str:
    """The media type of a request, ``application/json`` or ``text/csv``.

    Raises:
        UnsupportedError: it is another one, or not in UTF-8.
    """
    media, *parameters = (part.strip() for part in header.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.lower() == "charset" and value.strip('"').lower() != "utf-8":
            raise UnsupportedError("the scoring server only supports UTF-8")
        if key.lower() != "charset":
            raise UnsupportedError(f"unrecognized content type parameter: {key[:60]!r}")
    if media.lower() not in (JSON, CSV):
        raise UnsupportedError(f"the content type has to be {JSON} or {CSV}; it is {media[:60]!r}")
    return media.lower()


def read_invocation(body: bytes, media: str, names: Collection[str] | None = None) -> Table:
    """The table of a request to `/invocations`.

    Args:
        names: the model's inputs; a column of another name may stand in a CSV twice.

    Raises:
        RowsError: the body is not such a request.
    """
    if media == CSV:
        return _csv(body, names)
    content = _json(body)
    if not isinstance(content, dict):
        raise RowsError(f"the input has to be a JSON object with one of {', '.join(FORMS)}; it is {_kind(content)}")
    given = [form for form in FORMS if form in content]
    if len(given) != 1:
        raise RowsError(
            f"the input has to hold exactly one of {', '.join(FORMS)}; it holds {', '.join(map(shown, [*content][:8]))}"
        )
    if not isinstance(content.get("params") or {}, dict):
        raise RowsError("params has to be an object")
    form, value = given[0], content[given[0]]
    if form == "dataframe_split":
        return _split(value)
    if form == "inputs" and isinstance(value, dict):
        return _by_column(value)
    return _records(value, form)


def read_rows(body: bytes, names: Sequence[str]) -> tuple[Table, bool]:
    """The rows of a request to `/rows`, one object or a list of them; and whether it is one.

    Raises:
        RowsError: the body is not such a request, or a name is not one of ``names``.
    """
    content = _json(body)
    single = isinstance(content, dict)
    if not single and not isinstance(content, list):
        raise RowsError(f"a row is an object such as {{{names[0]!r}: ...}}; this is {_kind(content)}")
    records: list[Any] = [content] if single else content
    known = set(names)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise RowsError(f"row {number} is {_kind(record)}, not an object")
        if record.keys() != known:
            unknown, missing = sorted(record.keys() - known), [name for name in names if name not in record]
            if unknown:
                near = difflib.get_close_matches(unknown[0][:60], missing or names, n=1)
                hint = f": did you mean {near[0]!r}?" if near else f"; it takes {', '.join(names)}"
                raise RowsError(f"row {number}: the model has no input {unknown[0][:60]!r}{hint}")
            raise RowsError(f"row {number} lacks {', '.join(missing)}; a missing value is null")
    return _records(records, "rows"), single


def read_example(content: bytes) -> Table:
    """The table of an input example, as MLflow writes it: split, and with NaN for a missing value.

    Raises:
        ValueError: it is not one.
    """
    return _split(json.loads(content))


def predictions(predicted: Any, labels: Sequence[str]) -> Any:
    """Predictions as JSON values: numbers, or for several labels one object a row."""
    values = predicted.tolist()
    return [dict(zip(labels, row, strict=True)) for row in values] if predicted.ndim == 2 else values


def _json(body: bytes) -> Any:
    if not body:
        raise RowsError("the body is empty")
    if body.count(b"{") + body.count(b"[") > MAX_ROWS:
        raise _too_many()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; a missing value is null" if b"NaN" in body or b"Infinity" in body else ""
        raise RowsError(f"the body is not JSON: {str(error)[:200]}{hint}") from error


def _too_many() -> RowsError:
    return RowsError(f"more than {MAX_ROWS:,} rows, lists or objects; send the rows in several requests")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _split(value: Any) -> Table:
    if not isinstance(value, dict):
        raise RowsError(f"dataframe_split has to be an object; it is {_kind(value)}")
    if "data" not in value or value.keys() - {"columns", "data", "index"}:
        raise RowsError("dataframe_split has to hold 'data', and may hold 'columns' and 'index'")
    names, data = value.get("columns"), value["data"]
    if not isinstance(data, list) or not isinstance(names, list):
        raise RowsError("dataframe_split needs a list of 'columns' and a list of rows, 'data'")
    if not all(type(name) is str for name in names) or len(set(names)) != len(names):
        raise RowsError("the 'columns' of dataframe_split have to be different names")
    if data and set(map(type, data)) != {list}:
        raise RowsError("each row of dataframe_split's 'data' has to be a list")
    if data and set(map(len, data)) != {len(names)}:
        row = next(number for number, item in enumerate(data) if len(item) != len(names))
        raise RowsError(f"row {row} has {len(data[row])} values; there are {len(names)} columns")
    return _some(Table(dict(zip(names, zip(*data, strict=True), strict=True)) if data else {}, len(data)))


def _records(value: Any, form: str) -> Table:
    if not isinstance(value, list):
        raise RowsError(f"{form} has to be a list of objects; it is {_kind(value)}")
    if value and set(map(type, value)) != {dict}:
        raise RowsError(f"each row of {form} has to be an object, so that the values have names")
    names = dict.fromkeys(name for record in value for name in record)
    if len(names) * len(value) > 4 * sum(map(len, value)) + 1000:
        raise RowsError(f"the rows of {form} have different names")
    return _some(Table({name: [record.get(name) for record in value] for name in names}, len(value)))


def _by_column(value: dict[str, Any]) -> Table:
    if not any(isinstance(column, list) for column in value.values()):
        return _some(Table({name: [cell] for name, cell in value.items()}, 1 if value else 0))
    lengths = {len(column) if isinstance(column, list) else -1 for column in value.values()}
    if len(lengths) != 1:
        raise RowsError("the columns of inputs have to be lists of one length")
    return _some(Table(value, lengths.pop()))


def _csv(body: bytes, wanted: Collection[str] | None) -> Table:
    if not body.strip():
        raise RowsError("the body is empty")
    try:
        # Blank lines, and columns that the model does not have, take no memory.
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig")))
        names = [name.strip() for name in next(lines, [])]
        _check_header(names, wanted)
        columns: dict[int, list[str]] = {
            number: [] for number, name in enumerate(names) if wanted is None or name in wanted
        }
        rows = 0
        while some := list(islice((line for line in lines if line), CSV_LINES)):
            if set(map(len, some)) != {len(names)}:
                row, line = next((row, line) for row, line in enumerate(some, rows) if len(line) != len(names))
                raise RowsError(f"row {row} has {len(line)} values; the header has {len(names)}")
            for number, more in enumerate(zip(*some, strict=True)):
                if number in columns:
                    columns[number].extend(more)
            rows += len(some)
            if rows > MAX_ROWS:
                raise _too_many()
    except (UnicodeDecodeError, csv.Error) as error:
        raise RowsError(f"the body is not CSV in UTF-8: {str(error)[:120]}") from error
    # The encoder knows by the model's types what each text means.
    return _some(Table({names[number]: column for number, column in columns.items()}, rows))


def _check_header(names: list[str], wanted: Collection[str] | None) -> None:
    if len(names) == 1 and (mark := next((mark for mark in OTHER_DELIMITERS if mark in names[0]), "")):
        raise RowsError(f"the body is not CSV: {OTHER_DELIMITERS[mark]} stand between its values; write commas")
    counts = Counter(names)
    repeated = [name for name, count in counts.items() if count > 1 and (wanted is None or name in wanted)]
    if repeated:
        raise RowsError(f"the header of the CSV names the column {shown(repeated[0])} twice")


def _some(table: Table) -> Table:
    if not table.rows:
        raise RowsError("there are no rows")
    return table

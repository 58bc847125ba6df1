"""The one way from a source to a table."""

from __future__ import annotations

import csv as csv_module
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from homelab_mlops.console import counted
from homelab_mlops.errors import DataError
from homelab_mlops.model.spec import Csv
from homelab_mlops.tables import columns, content, csv_dialect, files
from homelab_mlops.tables.arrays import has_nan, is_any, strings
from homelab_mlops.tables.categories import Notes
from homelab_mlops.tables.cells import with_types_of
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.content import Content
from homelab_mlops.tables.csv_dialect import Dialect, Needed
from homelab_mlops.tables.fingerprint import content_sha256
from homelab_mlops.tables.identifiers import CELLS, ROWS, RowSplit
from homelab_mlops.tables.libsvm import is_index, read_libsvm, with_columns, with_same_columns
from homelab_mlops.tables.rounding import rounding_lines
from homelab_mlops.tables.spelling import PLAIN, Spelling

MAX_COLUMNS = 2000
# pandas writes an index without a name under such a one.
UNNAMED = "__index_level_"
BLOCK = 4 << 20
# So many rows of a file may be those of another by chance.
FEW = 20
# Bytes that take seconds to read, packed ones above all.
LARGE = 20 << 20


@dataclass(frozen=True)
class Reading:
    """A table and how it was read.

    ``spelling`` is how its texts are to be read, where they still are texts; ``said`` are lines for a person;
    ``weighted``: the column ``weight`` says how much a row counts, since libsvm's rows say so; ``untyped``: all files
    are CSV, which has no types.
    """

    table: pa.Table
    files: int
    size: int
    left_out: tuple[str, ...]
    spelling: Spelling
    said: tuple[str, ...]
    weighted: bool = False
    untyped: bool = False

    @classmethod
    def built_in(cls, table: pa.Table) -> Reading:
        """A table that no file held."""
        return cls(table, 0, 0, (), PLAIN, ())

    @property
    def counts(self) -> str:
        """``3 files, 7,043 rows, 977,501 bytes``."""
        plural = "" if self.files == 1 else "s"
        return f"{self.files:,} file{plural}, {self.table.num_rows:,} rows, {self.size:,} bytes"


@dataclass(frozen=True)
class _Part:
    """One file of a table, ready to be read."""

    content: Content
    names: tuple[str, ...]
    partition: dict[str, str | None]
    index: int


def read(
    source: str,
    folder: Path,
    declared: Sequence[Declared],
    csv: Csv | None = None,
    in_order: Sequence[str] = (),
    by_row: RowSplit | None = None,
) -> Reading:
    """The declared columns of ``source``, a file, a folder or ``s3://``, in their types.

    Args:
        folder: where a download may lie meanwhile.
        in_order: the columns of a table without a header.
        by_row: how the rows are split, where a line should warn of rows that belong together.

    Raises:
        DataError, StorageError: the table cannot be read, or is not one with these columns.
        OSError: a file cannot be opened.
    """
    needed = Needed(tuple(declared), tuple(in_order))
    notes = Notes()
    with files.opened(source, folder) as found:
        opening = _Opening(found, needed, csv or Csv(), source)
        tables = [
            columns.typed(opening.table(part, needed.names), declared, part.content.where, opening.spelling, notes)
            for part in opening.parts_in_turn()
        ]
        warnings = by_row.lines(opening.beginning()) if by_row else []
        table = columns.joined(tables)
    return opening.reading(table, [*opening.copies(tables), *notes.lines(), *rounding_lines(table), *warnings])


def read_as_it_is(source: str, folder: Path, needed: Needed, csv: Csv | None = None) -> Reading:
    """Every column of ``source`` as its file holds it; a CSV's are text, to be read as ``spelling`` says.

    Columns without a name are left out, which is said.

    Raises:
        DataError, StorageError: the table cannot be read, or lacks a column that is needed.
        OSError: a file cannot be opened.
    """
    return read_beside(source, folder, needed, csv, typed=False)[0]


def read_beside(
    source: str, folder: Path, needed: Needed, csv: Csv | None = None, *, typed: bool = True
) -> tuple[Reading, pa.Table]:
    """Like `read_as_it_is`; and beside it the needed columns in their types, as `read` gives them.

    Args:
        typed: whether the needed columns are wanted.
    """
    with files.opened(source, folder) as found:
        opening = _Opening(found, needed, csv or Csv(), source)
        tables = [opening.table(part, None) for part in opening.parts_in_turn()]
    declared = needed.columns if typed else ()
    wheres = [part.content.where for part in opening.parts]
    rows = [
        columns.typed(table, declared, where, opening.spelling) for table, where in zip(tables, wheres, strict=True)
    ]
    table, said = _as_one(tables, opening)
    return opening.reading(table, [*opening.copies(tables), *said]), columns.joined(rows)


def _as_one(tables: list[pa.Table], opening: _Opening) -> tuple[pa.Table, list[str]]:
    """The tables below each other, and a line on each column whose types do not fit together."""
    if all(part.content.format == "libsvm" for part in opening.parts):
        tables = with_same_columns(tables)
    names = tables[0].column_names
    for table, part in zip(tables, opening.parts, strict=True):
        if set(table.column_names) != set(names):
            odd = sorted(set(table.column_names) ^ set(names))
            raise DataError(
                f"the files of the table have different columns: {', '.join(map(repr, odd[:8]))}",
                where=part.content.where,
                fix=f"{opening.parts[0].content.where} has {', '.join(names[:8])}",
            )
    tables = _as_typed_ones([table.select(names) for table in tables], opening)
    try:
        return pa.concat_tables(tables, promote_options="permissive"), []
    except pa.ArrowException:
        texts, said = _as_texts(tables, opening.parts)
    try:
        return pa.concat_tables(texts, promote_options="permissive"), said
    except pa.ArrowException as error:
        what = f"the files of the table do not fit together: {_first_line(error)}"
        raise DataError(what, where=opening.source) from error


def _as_typed_ones(tables: list[pa.Table], opening: _Opening) -> list[pa.Table]:
    """The tables, of which each CSV has the types of the Parquet files beside it, where it has such values."""
    untyped = [part.content.format == "csv" for part in opening.parts]
    schemas = [table.schema for table, is_csv in zip(tables, untyped, strict=True) if not is_csv]
    if not schemas or not any(untyped):
        return tables
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException:
        return tables
    return [
        with_types_of(table, schema, opening.spelling) if is_csv else table
        for table, is_csv in zip(tables, untyped, strict=True)
    ]


def _as_texts(tables: Sequence[pa.Table], parts: Sequence[_Part]) -> tuple[list[pa.Table], list[str]]:
    """The tables with text in each column that one of them holds as text, and a line on each such column."""
    changed, said = list(tables), []
    for index, name in enumerate(tables[0].column_names):
        kinds = {table.schema.field(name).type: part.content.where for table, part in zip(tables, parts, strict=True)}
        if len(kinds) > 1 and any(map(columns.is_text, kinds)):
            said.append(
                f"column {name!r} becomes text, since its types do not fit together: "
                + ", ".join(f"{kind} in {where}" for kind, where in list(kinds.items())[:4])
            )
            changed = [table.set_column(index, name, columns.texts_of(table.column(name), name)) for table in changed]
    return changed, said


class _Opening:
    """The files of a source, looked into."""

    def __init__(self, found: files.Files, needed: Needed, csv: Csv, source: str) -> None:
        self.source = source
        looked = [(file, content.content_of(file.path, file.where, csv.encoding)) for file in found.files]
        self.size = sum(file.path.stat().st_size for file in found.files)
        empty = [file.where for file, held in looked if held.format == "empty"]
        held = [(file, held) for file, held in looked if held.format != "empty"]
        if not held:
            raise DataError("the file is empty", where=empty[0], fix="write the table again")
        self.left_out = (*found.left_out, *(f"{where} (empty)" for where in empty))
        texts = [held for _, held in held if held.format == "csv"]
        from_folders = [file.partition for file, held in held if held.format == "csv"]
        self.dialect = csv_dialect.decide(texts, needed, csv, from_folders) if texts else None
        self.needed = needed
        self.unnamed: set[str] = set()
        order = {id(item): number for number, item in enumerate(texts)}
        self.parts = [self._part(file, item, order.get(id(item), -1)) for file, item in held]

    def parts_in_turn(self) -> Iterable[_Part]:
        """The parts; where to read them takes long, a person sees how far it is."""
        if self.size < LARGE:
            return self.parts
        return counted(self.parts, f"read {self.size / 1e6:,.0f} MB of {self.source}", len(self.parts))

    @property
    def spelling(self) -> Spelling:
        return self.dialect.spelling if self.dialect else PLAIN

    @property
    def _numbers(self) -> set[str]:
        """The columns that Arrow may read as numbers: those of model.yaml, where the files write them plainly."""
        columns = self.needed.columns if self.spelling.is_plain else ()
        return {column.name for column in columns if column.kind == "number"}

    @property
    def said(self) -> list[str]:
        lines = [f"read as: {self.dialect.said}"] if self.dialect and self.dialect.said else []
        if self.left_out:
            names = ", ".join(self.left_out[:8])
            lines.append(
                f"left out: {names}" + (f" and {len(self.left_out) - 8:,} more" if len(self.left_out) > 8 else "")
            )
        lines += [f"a column without a name is left out: {name}" for name in sorted(self.unnamed)]
        return lines

    def reading(self, table: pa.Table, said: list[str]) -> Reading:
        if not table.num_rows:
            where = self.parts[0].content.where
            raise DataError(
                "the table has a header and no rows", where=where, fix="check the query or export that wrote it"
            )
        weighted = "weight" in table.column_names and all(part.content.format == "libsvm" for part in self.parts)
        reading = Reading(table, len(self.parts), self.size, self.left_out, self.spelling, (), weighted)
        untyped = all(part.content.format == "csv" for part in self.parts)
        return replace(reading, said=(*self.said, *said, f"read {reading.counts}"), untyped=untyped)

    def copies(self, tables: Sequence[pa.Table]) -> list[str]:
        """A line on each two files of equal rows, which may well be, if they are few.

        Raises:
            DataError: two files hold the same many rows: one is a copy, and its rows would count twice.
        """
        lines: list[str] = []
        known: dict[tuple[int, str], int] = {}
        for number, table in enumerate(tables):
            if len(tables) == 1 or not table.num_rows:
                continue
            flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
            begins = (table.num_rows, content_sha256(table.select(flat).slice(0, FEW)))
            other = known.setdefault(begins, number)
            if other == number or not table.equals(tables[other]):
                continue
            one, two = self.parts[other].content.where, self.parts[number].content.where
            if table.num_rows > FEW:
                raise DataError(
                    f"two files hold the same {table.num_rows:,} rows, which would count twice: {one}",
                    where=two,
                    fix="move the copy away, or let its name begin with _",
                )
            lines.append(f"two files hold the same rows: {one}, {two}")
        return lines

    def beginning(self) -> dict[str, list[str | None]]:
        """The first rows of the first file, with all its columns as text."""
        part = self.parts[0]
        names = [name for name, count in Counter(part.names).items() if count == 1 and name]
        rows = min(ROWS, CELLS // max(1, len(part.names)))
        if part.content.format == "csv" and self.dialect is not None:
            cells = csv_dialect.first_rows(part.content, self.dialect, rows)
            return {name: [row[part.names.index(name)] for row in cells] for name in names}
        if part.content.format != "parquet":
            return {}
        try:
            file = _parquet(part.content)
            names = [name for name in names if _may_identify(file.schema_arrow.field(name).type)]
            for batch in file.iter_batches(rows, columns=names):
                batch.validate(full=True)
                return {name: [_text(cell) for cell in batch.column(name).to_pylist()] for name in names}
        except (DataError, pa.ArrowException, OSError, ValueError):
            pass  # a column that the model does not need may be anything, and damaged too
        return {}

    def _part(self, file: files.File, held: Content, index: int) -> _Part:
        if held.format == "csv" and self.dialect is not None:
            names = self.dialect.names[index]
        elif held.format == "parquet":
            names = tuple(_parquet(held).schema_arrow.names)
        else:
            names = ()
        _refuse_wide(names, held.where)
        return _Part(held, names, file.partition, index)

    def table(self, part: _Part, wanted: list[str] | None) -> pa.Table:
        """The wanted columns of a file, or all that have a name, as the file holds them."""
        names = part.names
        if part.content.format == "libsvm":
            with content.unpacked(part.content.path, part.content.packing, part.content.where) as stream:
                table = read_libsvm(stream, part.content.where)
            if self.needed.in_order:
                table = _renamed(table, self.needed.in_order)
            table = with_columns(table, filter(is_index, self.needed.names))
            names = tuple(table.column_names)
            _refuse_wide(names, part.content.where)
        from_folders = {name: value for name, value in part.partition.items() if name not in names}
        if wanted is None:
            mine = [name for name in names if name and not name.startswith(UNNAMED)]
            self.unnamed |= {f"number {number + 1}" for number, name in enumerate(names) if name not in mine}
        else:
            mine = [name for name in wanted if name not in from_folders]
            unnamed = [name for name in names if (not name or name.startswith(UNNAMED)) and name not in mine]
            self.unnamed |= {f"number {names.index(name) + 1}" for name in unnamed}
        where = columns.positions(names, mine, part.content.where)
        if part.content.format == "csv":
            assert self.dialect is not None  # noqa: S101 - there is a CSV file
            numbers = set() if wanted is None else self._numbers
            table = _read_csv(part.content, self.dialect, len(names), where, mine, numbers)
        elif part.content.format == "parquet":
            table = _read_parquet(part.content, mine, self.needed.names if wanted is None else mine)
        else:
            table = table.select(mine)
        for name, value in from_folders.items():
            if wanted is None or name in wanted:
                table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
        return table


def _may_identify(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return columns.is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _text(cell: object) -> str | None:
    return None if cell is None else str(cell)


def _refuse_wide(names: Sequence[str], where: str) -> None:
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"the table has {len(names):,} columns; at most {MAX_COLUMNS:,} are read",
            where=where,
            fix="check that it is the right file; select the columns that the model needs",
        )


def _renamed(table: pa.Table, in_order: Sequence[str]) -> pa.Table:
    """Indices as the model's features: f0 is the first after the label."""
    named = {"label": in_order[0], **{f"f{number}": name for number, name in enumerate(in_order[1:])}}
    table = table.rename_columns([named.get(name, name) for name in table.column_names])
    for name in in_order:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
    return table


def _parquet(held: Content) -> pq.ParquetFile:
    try:
        if held.packing:
            with content.unpacked(held.path, held.packing, held.where) as stream:
                return pq.ParquetFile(pa.BufferReader(stream.read()), page_checksum_verification=True)
        return pq.ParquetFile(held.path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeError, ValueError) as error:
        raise _damaged_parquet(error, held.where) from error


def _read_parquet(held: Content, names: list[str], flat: list[str]) -> pa.Table:
    """The columns ``names``, of which those in ``flat`` may hold no lists or records."""
    try:
        file = _parquet(held)
        repeated = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1 and name in names]
        columns.positions(file.schema_arrow.names, repeated, held.where)
        for name in set(names) & set(flat):
            _refuse_nested(file.schema_arrow.field(name), held.where)
        table = file.read(columns=names).select(names)
        for column in table.columns:
            column.validate(full=True)
        return table
    except (pa.ArrowException, OSError, UnicodeError, ValueError) as error:
        raise _damaged_parquet(error, held.where) from error


def _refuse_nested(column: pa.Field, where: str) -> None:
    if pa.types.is_nested(column.type):
        raise DataError(
            f"the column {column.name!r} holds lists or records", where=where, fix="store one value per cell"
        )


def _damaged_parquet(error: Exception, where: str) -> DataError:
    return DataError(f"the Parquet file is damaged or cut off: {_first_line(error)}", where=where, fix="write it again")


def _read_csv(
    held: Content, dialect: Dialect, width: int, where: list[int], names: list[str], numbers: set[str]
) -> pa.Table:
    """The columns that stand at ``where``, as text; ``numbers`` as float64 where all cells of all of them are such."""
    if csv_dialect.is_header_only(held, dialect):
        return pa.table({name: pa.array([], pa.string()) for name in names})
    quotes = _quotes(held, dialect)
    texts = {str(index): pa.string() for index in where}
    floats = {str(index): pa.float64() for index, name in zip(where, names, strict=True) if name in numbers}
    table = _as_numbers(held, dialect, width, quotes, texts | floats) if floats else None
    if table is None:
        try:
            table = _by_arrow(held, dialect, width, quotes, texts)
        except (pa.ArrowException, OSError) as error:
            raise _irregular(held, dialect, error) from error
    if quotes % 2:
        _refuse_open_quote(held, dialect)
    table = table.rename_columns(names)
    if dialect.header:
        _refuse_header_again(table, held.where)
    return table


def _refuse_header_again(table: pa.Table, where: str) -> None:
    """Refuses a row of the columns' own names, as it stands where two files were put into one."""
    if any(kind != pa.string() for kind in table.schema.types):
        return  # a name is no number
    again: pa.ChunkedArray | None = None
    for name, column in zip(table.column_names, table.columns, strict=True):
        named = pc.equal(column, strings([name])[0])
        again = named if again is None else pc.and_(again, named)
        if not is_any(again):
            return
    if again is not None:
        row = pc.index(pc.fill_null(again, fill_value=False), value=True).as_py() + 1
        raise DataError(
            f"row {row:,} holds the names of the columns: files with headers were put into one",
            where=where,
            fix="leave the line out, or keep the files apart in one folder",
        )


def _as_numbers(
    held: Content, dialect: Dialect, width: int, quotes: int, types: dict[str, pa.DataType]
) -> pa.Table | None:
    """The table with its numbers as Arrow reads them; None where a cell has to be looked at as text."""
    try:
        table = _by_arrow(held, dialect, width, quotes, types)
    except (pa.ArrowException, OSError):
        return None
    return None if any(map(has_nan, table.columns)) else table


def _by_arrow(held: Content, dialect: Dialect, width: int, quotes: int, types: dict[str, pa.DataType]) -> pa.Table:
    with content.file_of(held, dialect.quote, dialect.comment) as file:
        return pacsv.read_csv(
            file,
            read_options=pacsv.ReadOptions(
                column_names=[str(number) for number in range(width)],
                skip_rows_after_names=csv_dialect.above_first_row(held, dialect),
                block_size=BLOCK,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote if quotes else False,
                newlines_in_values=bool(quotes),
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=sorted(dialect.spelling.missing)
            ),
        )


def _quotes(held: Content, dialect: Dialect) -> int:
    """How many quotation marks the file holds; without one, no line end can stand inside a value."""
    if not dialect.quote:
        return 0
    with content.text_of(held, dialect.quote, dialect.comment) as text:
        while text.read(content.CHUNK):
            pass
        if text.escaped:
            raise DataError(
                f"the file has quotation marks {dialect.quote} behind a backslash, which then end a value",
                where=held.where,
                fix='write a quotation mark inside a value twice (Spark: .option("escape", "\\""))',
            )
        return int(text.quotes)


def _refuse_open_quote(held: Content, dialect: Dialect) -> None:
    """Arrow takes the end of a file for the end of a quoted value."""
    with content.text_of(held, dialect.quote, dialect.comment) as text:
        lines = io.StringIO(text.read().decode("utf-8", errors="replace"), newline="")
    try:
        for _ in csv_module.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True):
            pass
    except csv_module.Error as error:
        if "unexpected end of data" in str(error):
            raise DataError(
                f"the file is not a regular CSV: a quotation mark {dialect.quote} is never closed",
                where=held.where,
                fix="write it, or copy it, again: it may be cut off",
            ) from error


def _irregular(held: Content, dialect: Dialect, error: Exception) -> DataError:
    what = _first_line(error)
    if "UTF8" in what or "utf-8" in what.lower():
        return content.not_text("utf-8", held.where)
    counts = re.search(r"Expected (\d+) columns, got (\d+): (.*)", str(error), re.DOTALL)
    if counts and int(counts[2]) < int(counts[1]) and _last_line(held, dialect) == counts[3].encode():
        what = f"it is cut off, its last line has {counts[2]} of {counts[1]} values"
        return DataError(f"the file is not a regular CSV: {what}", where=held.where, fix="write it, or copy it, again")
    return DataError(
        f"the file is not a regular CSV: {what}",
        where=held.where,
        fix="every line needs as many values as the header has names",
    )


def _last_line(held: Content, dialect: Dialect) -> bytes:
    """What follows the last end of a line."""
    end = b""
    with content.text_of(held, dialect.quote, dialect.comment) as text:
        while chunk := text.read(content.CHUNK):
            end = (end + chunk)[-4096:]
    return end.rpartition(b"\n")[2]


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

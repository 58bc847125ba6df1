"""How the CSV files of one table are written: one decision for all of them, by the options and by what is certain.

Where the beginning of the files leaves it open, the error says which option decides it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homelab_mlops.errors import DataError
from homelab_mlops.model import values
from homelab_mlops.tables.columns import Declared
from homelab_mlops.tables.content import Content, Text, not_text
from homelab_mlops.tables.spelling import Spelling

if TYPE_CHECKING:
    from homelab_mlops.model.spec import Csv

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
SAMPLE = 1000
# This many columns numbered 0, 1, 2, ... may be the names that pandas gives, or a row: nobody can tell.
NUMBERED = 4
# So many numbers like 1.234, and no other with a mark, may be thousands.
EITHER = 5
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)
_POINT = re.compile(r"[+-]?\d*\.\d*([eE][+-]?\d+)?", re.ASCII)

Rows = list[list[str]]


@dataclass(frozen=True)
class Needed:
    """The columns that a reader looks for; empty where it takes all.

    ``in_order`` names the columns of a table without a header; where it is empty they are label, f0, f1, ...
    ``by_position`` says that a table without a header may be one, for a reader who names its columns later.
    """

    columns: tuple[Declared, ...] = ()
    in_order: tuple[str, ...] = ()
    by_position: bool = False
    how_to_say: str = "`data.csv.header` in model.yaml, or --header"

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class Dialect:
    """How the files are written. ``names`` are each file's columns in order."""

    delimiter: str
    quote: str
    comment: str
    header: bool
    spelling: Spelling
    names: tuple[tuple[str, ...], ...]
    said: str


def decide(
    files: Sequence[Content], needed: Needed, given: Csv, from_folders: Sequence[Collection[str]] = ()
) -> Dialect:
    """The dialect of the files of one table.

    Args:
        from_folders: the columns that each file need not have, since its folders give them.

    Raises:
        DataError: the dialect is not certain, the files differ, or the first line is not CSV.
    """
    quote, comment = '"' if given.quote is None else given.quote, given.comment or ""
    starts = [_start(file, quote, comment) for file in files]
    names_in = [set(needed.names).difference(names) for names in from_folders or [()] * len(files)]
    delimiter = given.delimiter or _delimiter(starts[0], quote, names_in[0], files[0].where)
    samples = [_rows(start, delimiter, quote, file) for start, file in zip(starts, files, strict=True)]
    if given.delimiter is None:
        _refuse_other_delimiters(delimiter, starts, samples, files, quote, names_in)
    header = _has_header(samples, files, needed, given, names_in)
    names = [_names(rows, file, needed, given, header=header) for rows, file in zip(samples, files, strict=True)]
    bodies = [rows[1:] if header else rows for rows in samples]
    cells = _number_cells(names, bodies, needed)
    if delimiter == ";" and given.decimal is None and given.thousands is None:
        _refuse_either(cells, files[0].where)
    decimal, thousands = _marks(cells, given)
    missing = values.MISSING if given.missing is None else frozenset(given.missing)
    words = [] if delimiter == "," else [DELIMITERS.get(delimiter, repr(delimiter))]
    words += ["decimal comma"] if decimal == "," else []
    words += [f"{thousands!r} between thousands"] if thousands else []
    words += [file.encoding for file in files[:1] if file.encoding not in ("utf-8", "utf-8-sig")]
    words += [] if header else ["no header"]
    spelling = Spelling(decimal, thousands, missing)
    return Dialect(delimiter, quote, comment, header, spelling, tuple(names), ", ".join(words))


def first_rows(file: Content, dialect: Dialect, most: int) -> Rows:
    """Up to ``most`` of the first rows, as text; none that is cut off or has another number of values."""
    text = _start(file, dialect.quote, dialect.comment)
    rows = _parsed(text, dialect.delimiter, dialect.quote, most)
    rows = rows[int(dialect.header) : None if file.whole else -1]
    return [row for row in rows if len(row) == len(dialect.names[0])]


def is_header_only(file: Content, dialect: Dialect) -> bool:
    """Whether a header is all that the file holds, which Arrow refuses where no end of line follows it."""
    if not (dialect.header and file.whole):
        return False
    return len(_parsed(_start(file, dialect.quote, dialect.comment), dialect.delimiter, dialect.quote, 1)) <= 1


def above_first_row(file: Content, dialect: Dialect) -> int:
    """How many lines stand above the first row: the header, and empty ones above it."""
    if not dialect.header:
        return 0
    empty = re.match(r"[\r\n]*", _start(file, dialect.quote, dialect.comment))
    return 1 + len(re.findall(r"\r\n|\r|\n", empty[0] if empty else ""))


def _start(file: Content, quote: str, comment: str) -> str:
    start = file.start
    if re.match(rb"sep=.\r?\n", start, re.IGNORECASE):
        raise DataError(
            "the first line is for Excel only, and no part of the table",
            where=f"{file.where}:1",
            fix="delete the line `sep=`; `data.csv.delimiter` says the same",
        )
    if comment:
        start = b"".join(Text.without_comments(iter([start]), quote, comment))
    return start.decode("utf-8", errors="replace")


def _parsed(text: str, delimiter: str, quote: str, most: int = SAMPLE) -> Rows:
    if quote:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    rows: Rows = []
    for row in reader:
        if row:
            rows.append(row)
        if len(rows) > most:
            break
    return rows


def _rows(text: str, delimiter: str, quote: str, file: Content) -> Rows:
    """The first records of a file, without one that the sample cuts off."""
    try:
        rows = _parsed(text, delimiter, quote)
    except csv.Error as error:
        raise DataError(f"the first lines are not CSV: {error}", where=f"{file.where}:1") from error
    if not file.whole and 1 < len(rows) <= SAMPLE:
        rows.pop()
    spaced = quote and re.search(rf"(^|{re.escape(delimiter)})[ \t]+{re.escape(quote)}", text[:4096], re.MULTILINE)
    if spaced:
        raise DataError(
            f"a space stands before a quotation mark {quote}, which then quotes nothing",
            where=file.where,
            fix="write the table without spaces after its delimiter",
        )
    return rows


def _delimiter(text: str, quote: str, names: set[str], where: str) -> str:
    found: dict[str, Rows] = {}
    for mark in DELIMITERS:
        try:
            found[mark] = _parsed(text, mark, quote)[:-1] or _parsed(text, mark, quote)
        except csv.Error:
            continue
    wide = [mark for mark, rows in found.items() if rows and len(rows[0]) > 1]
    if names:
        fitting = [mark for mark in wide if names <= {name.strip() for name in found[mark][0]}]
        if len(fitting) == 1:
            return fitting[0]
    regular = [mark for mark in wide if len({len(row) for row in found[mark]}) == 1]
    if len(regular) > 1:
        clean = [mark for mark in regular if _is_clean(found[mark], [other for other in regular if other != mark])]
        if len(clean) != 1:
            marks = " and ".join(DELIMITERS[mark] for mark in regular)
            raise DataError(
                f"it cannot be told what separates the columns: {marks} both fit",
                where=f"{where}:1",
                fix="say it: `data.csv.delimiter`, or --delimiter",
            )
        return clean[0]
    if regular:
        return regular[0]
    return max(wide, key=lambda mark: len(found[mark][0]), default=",")


def _refuse_other_delimiters(
    delimiter: str,
    starts: Sequence[str],
    samples: Sequence[Rows],
    files: Sequence[Content],
    quote: str,
    names_in: Sequence[set[str]],
) -> None:
    for start, rows, file, names in zip(starts, samples, files, names_in, strict=True):
        if len(rows[0]) == len(samples[0][0]):
            continue
        own = _delimiter(start, quote, names, file.where)
        if own != delimiter and any(own in cell for cell in rows[0]):
            raise DataError(
                f"the files of the table have different delimiters: {DELIMITERS[delimiter]}, {DELIMITERS[own]} here",
                where=file.where,
                fix=f"write it again with the delimiter of {files[0].where}",
            )


def _is_clean(rows: Rows, others: list[str]) -> bool:
    return all(
        _COMMA.fullmatch(cell.strip()) or not any(other in cell for other in others) for row in rows for cell in row
    )


def _names(rows: Rows, file: Content, needed: Needed, given: Csv, *, header: bool) -> tuple[str, ...]:
    width = len(rows[0]) if rows else 0
    if isinstance(given.header, list):
        return _as_wide(tuple(given.header), width, file.where, "`data.csv.header` lists")
    if header:
        return tuple(name.strip() for name in rows[0])
    if needed.in_order:
        return _as_wide(needed.in_order, width, file.where, "the model has")
    return ("label", *(f"f{number}" for number in range(width - 1)))


def _as_wide(names: tuple[str, ...], width: int, where: str, whose: str) -> tuple[str, ...]:
    if len(names) != width:
        raise DataError(
            f"the table without a header has {width} columns; {whose} {len(names)}",
            where=where,
            fix="the label comes first, then the features in the order of model.yaml; or `data.csv.header` lists names",
        )
    return names


def _has_header(
    samples: Sequence[Rows], files: Sequence[Content], needed: Needed, given: Csv, names_in: Sequence[set[str]]
) -> bool:
    """Whether each file begins with the names of its columns; the same for all of them."""
    if given.header is not None:
        return given.header is True
    firsts = [rows[0] for rows in samples]
    if needed.names:
        cells = [{cell.strip() for cell in first} for first in firsts]
        named = [names <= first for names, first in zip(names_in, cells, strict=True)]
        if all(named):
            return True
        if any(named):
            has_some = [bool(names & first) for names, first in zip(names_in, cells, strict=True)]
            if all(has_some):
                return True  # one of them lacks a column, and the reader names it
            _refuse_mixed(has_some, files)
        if (needed.in_order or needed.by_position) and all(_is_value(first[0]) for first in firsts):
            return False
        if any(_is_value(cell) for first in firsts for cell in first):
            first, where = next(
                (first, file.where) for first, file in zip(firsts, files, strict=True) if any(map(_is_value, first))
            )
            if not set(needed.names) & {cell.strip() for cell in first}:
                _refuse_untold(first, where, "names none of the model's columns", needed)
        for first, file in zip(firsts, files, strict=True):
            if "\ufffd" in "".join(first):
                raise not_text(file.encoding, file.where)
        return True  # its columns are missing, and the reader names them
    bodies = [row for rows in samples for row in rows[1:]]
    decided = [_looks_like_header(first, bodies, firsts) for first in firsts]
    for verdict, first, file in zip(decided, firsts, files, strict=True):
        if verdict is None:
            _refuse_untold(first, file.where, "may be a header or a row", needed)
    headers = [bool(verdict) for verdict in decided]
    if len(set(headers)) > 1:
        _refuse_mixed(headers, files)
    if headers[0]:
        for first, file in zip(firsts, files, strict=True):
            if "\ufffd" in "".join(first):
                raise not_text(file.encoding, file.where)
    return headers[0]


def _refuse_mixed(headers: Sequence[bool], files: Sequence[Content]) -> None:
    with_header, without = files[list(headers).index(True)].where, files[list(headers).index(False)].where
    raise DataError(
        f"one file begins with the names of the columns, another does not: {without}",
        where=with_header,
        fix="write all files of a table with a header, or all without; `data.csv.header` says which",
    )


def _refuse_untold(first: list[str], where: str, why: str, needed: Needed) -> None:
    cells = ", ".join(repr(cell) for cell in first[:6]) + (", ..." if len(first) > 6 else "")
    raise DataError(
        f"it cannot be told whether the first line is a header: it {why}: {cells}",
        where=f"{where}:1",
        fix=f"say it: {needed.how_to_say}",
    )


def _looks_like_header(first: list[str], body: Rows, firsts: Sequence[list[str]]) -> bool | None:
    """Whether the first line of a file names its columns; None where that is not certain."""
    cells = [cell.strip() for cell in first]
    if len(cells) >= NUMBERED and cells == [str(number) for number in range(len(cells))]:
        return None
    # A header that stands there again, since files were put into one, is no row.
    rows = [row for row in body if row != first]
    columns = [[row[index].strip() for row in rows if index < len(row)] for index in range(len(cells))]
    over_numbers = [
        not _is_value(cell) and not values.is_missing(cell) and _is_numeric(column)
        for cell, column in zip(cells, columns, strict=True)
    ]
    values_in_it = [_is_value(cell) for cell in cells]
    if values_in_it[0] or (any(values_in_it) and not any(over_numbers)):
        return False
    if any(values_in_it):
        return None
    if any(over_numbers) or (len(firsts) > 1 and all(other == first for other in firsts)):
        return True
    if not cells[0] and all(cells[1:]) and len(set(cells)) == len(cells):
        return True  # a pandas index has no name
    return _differs(cells, columns)


def _differs(cells: list[str], columns: list[list[str]]) -> bool | None:
    """For columns of text: the words of a header occur nowhere below it, those of a row do."""
    again = [cell in column for cell, column in zip(cells, columns, strict=True)]
    repeating = [len(column) >= 2 * len(set(column)) for column in columns]
    if any(seen and repeats for seen, repeats in zip(again, repeating, strict=True)):
        return False
    return True if any(repeating) and not any(again) and len(set(cells)) == len(cells) else None


def _is_value(cell: str) -> bool:
    """Whether a cell is a number or a truth, which no column is named."""
    try:
        values.boolean(cell)
    except ValueError:
        try:
            values.number(cell.replace(",", "."))
        except ValueError:
            return False
    return True


def _is_numeric(column: Iterable[str]) -> bool:
    given = [cell for cell in column if not values.is_missing(cell)]
    return bool(given) and all(map(_is_value, given))


def _number_cells(names: Sequence[tuple[str, ...]], bodies: Sequence[Rows], needed: Needed) -> list[str]:
    """The cells of the sample that must be numbers: of declared numbers, or of columns of numbers alone."""
    declared = {column.name for column in needed.columns if column.kind in ("number", "integer")}
    cells: list[str] = []
    for columns, rows in zip(names, bodies, strict=True):
        for index, name in enumerate(columns):
            column = [row[index].strip() for row in rows if index < len(row) and not values.is_missing(row[index])]
            if name in declared or (not needed.columns and all(map(_is_value, column))):
                cells += column
    return cells


def _refuse_either(cells: list[str], where: str) -> None:
    """Refuses numbers that stand between semicolons and may have a fraction, or a mark between thousands."""
    marked = [cell for cell in cells if "." in cell or "," in cell]
    if len(marked) >= EITHER and all(_THOUSANDS.fullmatch(cell) for cell in marked):
        raise DataError(
            f"it cannot be told whether {marked[0]!r} has a fraction or stands for thousands",
            where=where,
            fix="say it: `data.csv.thousands` or `data.csv.decimal` in model.yaml; or --thousands, --decimal",
        )


def _marks(cells: list[str], given: Csv) -> tuple[str, str]:
    """The decimal mark and the mark between thousands, which is empty where there is none.

    A comma is a decimal mark where it cannot stand between thousands, as in `0,5` or `12,25`.
    """
    thousands = given.thousands or ""
    if given.decimal is not None or thousands:
        return given.decimal or ("," if thousands == "." else "."), thousands
    if any(_POINT.fullmatch(cell) and not _GROUPED.fullmatch(cell) for cell in cells):
        return ".", ""
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    certain = [cell for cell in commas if not re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell)]
    grouped = [cell for cell in cells if _GROUPED.fullmatch(cell)]
    if certain or any("," in cell for cell in grouped):
        return ",", "." if grouped else ""
    return ".", ""

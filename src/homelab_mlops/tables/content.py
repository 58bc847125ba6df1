"""Tells the format of a file by its content, not by its ending: Parquet, CSV or libsvm, packed or not."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import pyarrow as pa

from homelab_mlops.errors import DataError

Format = Literal["csv", "parquet", "libsvm", "empty"]
START = 1 << 18
CHUNK = 1 << 20

# Other formats that their first bytes reveal; none of them is read.
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"ARROW1": "an Arrow file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"SQLite format 3\0": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"PARE": "an encrypted Parquet file",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PAIR = rb"[ \t]+[0-9]+:[-+0-9.naifeE]+"
# A row of nothing but zeros is its label alone.
_LIBSVM = re.compile(rb"[+-]?[0-9.]+([eE][+-]?[0-9]+)?(:[0-9.]+)?([ \t]+qid:[0-9]+)?(" + _PAIR + rb")*[ \t]*(#.*)?\r?")


@dataclass(frozen=True)
class Content:
    """What one file holds. ``start`` is the beginning of its text, in UTF-8; ``whole`` says that this is the whole
    text.

    ``encoding`` is that of the file's mark, or the given one, or `utf-8`. ``quotes`` is None where nobody has counted.
    """

    path: Path
    where: str
    format: Format
    packing: str
    encoding: str
    start: bytes
    whole: bool


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


def content_of(path: Path, where: str, encoding: str | None = None) -> Content:
    """Looks into a file; ``encoding`` is that of a text without a mark.

    Raises:
        DataError: the file is cut off or damaged, or its format is not read; ``where`` names it.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        packing = _packing(file.read(8))
    with unpacked(path, packing, where) as stream:
        start = _filled(stream, START)
    whole = len(start) < START
    if not start:
        return Content(path, where, "empty", packing, "utf-8", start, whole)
    if start.startswith(b"PAR1"):
        return Content(path, where, "parquet", packing, "", b"", whole)
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            raise DataError(f"the file is {name}: it is binary", where=where, fix="export it as CSV or Parquet")
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if marked is None and encoding is None and b"\0" in start:
        half = start[1::2].count(0) if start[1::2].count(0) > start[::2].count(0) else start[::2].count(0)
        hint = "; UTF-16 without a mark is read with `data.csv.encoding: utf-16-le`" if half > len(start) // 5 else ""
        raise DataError(
            f"the file is neither CSV nor Parquet: it is binary{hint}", where=where, fix="export it as CSV or Parquet"
        )
    name = marked or encoding or "utf-8"
    text = _decoded_start(start, name, where, whole=whole)
    kind: Format = "libsvm" if _is_libsvm(text) else "csv"
    return Content(path, where, kind if text.strip() else "empty", packing, name, text, whole)


def _packing(magic: bytes) -> str:
    return next((name for mark, name in _PACKED.items() if magic.startswith(mark)), "")


def _filled(stream: Readable, size: int) -> bytes:
    parts, length = [], 0
    while length < size and (part := stream.read(size - length)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _is_libsvm(text: bytes) -> bool:
    lines = [line for line in text.split(b"\n")[:1000] if line.strip() and not line.startswith(b"#")]
    lines = lines[:-1] if len(lines) > 10 else lines
    return any(re.search(_PAIR, line) for line in lines) and all(_LIBSVM.fullmatch(line) for line in lines)


def _decoded_start(start: bytes, encoding: str, where: str, *, whole: bool) -> bytes:
    if encoding in ("utf-8", "utf-8-sig"):
        return start.removeprefix(codecs.BOM_UTF8)
    try:
        return codecs.getincrementaldecoder(encoding)().decode(start, final=whole).removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise _undecoded(error, encoding, where) from error


def _undecoded(error: UnicodeError, encoding: str, where: str) -> DataError:
    if "truncated" in str(error) or "unexpected end" in str(error):
        what = f"the file is cut off: its last character is not whole {encoding}"
        return DataError(what, where=where, fix="write it, or copy it, again")
    return not_text(encoding, where)


def not_text(encoding: str, where: str) -> DataError:
    name = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8"}.get(encoding, encoding)
    return DataError(
        f"the file is not {name} text",
        where=where,
        fix="convert it to UTF-8, or say what it is, such as `data.csv.encoding: cp1252`",
    )


@contextmanager
def unpacked(path: Path, packing: str, where: str) -> Iterator[Readable]:
    """The bytes inside a packed file, or those of the file itself.

    Raises:
        DataError: the packed content is cut off or damaged; the block, too, may raise it.
    """
    try:
        stream = _opened(path, packing)
    except pa.ArrowException as error:
        raise _damaged(packing, error, where) from error
    try:
        yield stream
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(packing, error, where) from error
    except OSError as error:
        # A disk that fails says so by number; a decompressor does not.
        if not packing or error.errno is not None:
            raise
        raise _damaged(packing, error, where) from error
    finally:
        stream.close()


def _opened(path: Path, packing: str) -> Readable:
    if packing == "gzip":
        return cast("Readable", gzip.open(path))
    if packing == "bzip2":
        return cast("Readable", bz2.open(path))
    if packing == "xz":
        return cast("Readable", lzma.open(path))
    if packing == "zstd":
        return cast("Readable", pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _damaged(packing: str, error: Exception, where: str) -> DataError:
    cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
    what = "is cut off: what it packs has no end" if cut else f"is damaged: {str(error).strip()[:120]}"
    return DataError(f"the {packing} file {what}", where=where, fix="write it, or copy it, again")


class Text:
    """The text of a CSV file as UTF-8 bytes, without its mark and without comments; a file for Arrow to read.

    ``quotes`` counts the quotation marks that went by, and ``escaped`` those behind a backslash that end no value.
    """

    closed = False

    def __init__(self, stream: Readable, content: Content, quote: str, comment: str) -> None:
        self._content = content
        self._chunks = (
            self.without_comments(self._decoded(stream), quote, comment) if comment else self._decoded(stream)
        )
        self._quote = quote.encode()
        self._escaped = re.compile(rb"\\" + re.escape(self._quote) + rb"[^,;|\t\r\n" + re.escape(self._quote) + rb"]")
        self.quotes = self.escaped = 0
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all where it is negative; none at the end."""
        parts, wanted = [self._rest], size if size >= 0 else 1 << 62
        length = len(self._rest)
        while length < wanted:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if self._quote and (found := chunk.count(self._quote)):
                self.quotes += found
                self.escaped += len(self._escaped.findall(chunk))
            parts.append(chunk)
            length += len(chunk)
        data = b"".join(parts)
        self._rest = data[wanted:]
        return data[:wanted]

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Does nothing: the one who opened the stream closes it."""
        self.closed = True

    def _decoded(self, stream: Readable) -> Iterator[bytes]:
        name = self._content.encoding
        if name in ("utf-8", "utf-8-sig"):
            first = True
            while chunk := stream.read(CHUNK):
                yield chunk.removeprefix(codecs.BOM_UTF8) if first else chunk
                first = False
            return
        decoder = codecs.getincrementaldecoder(name)()
        try:
            first = True
            while chunk := stream.read(CHUNK):
                text = decoder.decode(chunk)
                yield (text.removeprefix("\ufeff") if first else text).encode()
                first = False
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise _undecoded(error, name, self._content.where) from error

    @staticmethod
    def without_comments(chunks: Iterator[bytes], quote: str, comment: str) -> Iterator[bytes]:
        mark, quotation = comment.encode(), quote.encode()
        rest, is_open = b"", False
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            kept = []
            for line in lines:
                if is_open or not line.startswith(mark):
                    kept.append(line + b"\n")
                    is_open ^= bool(quotation) and line.count(quotation) % 2 == 1
            yield b"".join(kept)
        if rest and (is_open or not rest.startswith(mark)):
            yield rest


@contextmanager
def text_of(content: Content, quote: str, comment: str) -> Iterator[Any]:
    """The text of a CSV file for Arrow to read."""
    with unpacked(content.path, content.packing, content.where) as stream:
        yield Text(stream, content, quote, comment)


@contextmanager
def file_of(content: Content, quote: str, comment: str) -> Iterator[Any]:
    """Like `text_of`, but the file itself where its bytes are that text already: Arrow then reads it without Python."""
    if content.packing or comment or content.encoding not in ("utf-8", "utf-8-sig"):
        with text_of(content, quote, comment) as text:
            yield text
    else:
        with pa.OSFile(str(content.path)) as file:
            yield file

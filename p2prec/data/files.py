"""Reading text files that somebody else wrote: gzip or not, any newline, bounded lines, a limit on what inflates."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from p2prec.errors import DataError

MAX_LINE_BYTES = 16 << 10
"""A longer line is no record of ours; it is reported and skipped without being held in memory."""
_REPORT_EVERY_LINES = 500
OnBytes = Callable[[int], None]
"""Told now and then how many bytes of the file (as it lies on disk, so compressed) have been read: for a progress
bar."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file."""

    number: int
    """Starts at 1, as editors count."""
    text: str | None
    """Without its newline; None when it was longer than MAX_LINE_BYTES."""


def read_lines(path: Path, on_bytes: OnBytes | None = None) -> Iterator[Line]:
    """The lines of a text file, gzip-compressed or not (told by its first bytes, not its name).

    UTF-8 (with or without a byte-order mark), else Latin-1 line by line, as MovieLens' older files have it. Raises
    DataError when the file cannot be opened or its compression is damaged; lines before the damage have been yielded
    by then.
    """
    try:
        with path.open("rb") as raw, _inflated(raw) as file:
            for line in _lines(file):
                if on_bytes and line.number % _REPORT_EVERY_LINES == 0:
                    on_bytes(raw.tell())
                yield line
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: {reason}") from error


@contextmanager
def _inflated(raw: BufferedReader) -> Iterator[BufferedIOBase]:
    if raw.peek(2)[:2] != b"\x1f\x8b":
        yield raw
        return
    with gzip.GzipFile(fileobj=raw) as inflated:
        yield inflated


def _lines(file: BufferedIOBase) -> Iterator[Line]:
    number = 0
    while chunk := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            chunk = chunk.removeprefix(_BOM)
        if chunk.endswith(b"\n") or len(chunk) <= MAX_LINE_BYTES:
            yield Line(number, _decode(chunk.rstrip(b"\r\n")))
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield Line(number, None)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def find_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of `names` that exists in `folder`, plain or with `.gz` appended."""
    for name in names:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    return None

"""Telling what a table of text is: its delimiter, whether it has a header, and which column is what."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from p2prec.data.files import MAX_LINE_BYTES, Line, OnBytes, read_lines
from p2prec.errors import DataError

MAX_COLUMNS = 256
_MIN_HEADERLESS = 3
"""Fewer columns without names could be anything (two may be: a catalogue has no more)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table, by column name in lower case; columns without a name in a headerless file are numbered."""

    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that was skipped."""

    line: int
    """Line number in its file, from 1."""
    reason: str


def read_records(
    path: Path, headerless: tuple[str, ...], known: frozenset[str], on_bytes: OnBytes | None = None
) -> Iterator[Record | BadRow]:
    """The rows of a CSV, TSV, `::`- or `|`-separated or JSON-lines file.

    headerless: the column names to assume when the first line is no header (MovieLens' u.data, ratings.dat).
    known: lower-case names of which a header must have at least one; by them a header is recognized.
    Raises DataError when the file cannot be read or is empty.
    """
    lines = read_lines(path, on_bytes)
    first = next((line for line in lines if line.text is None or line.text.strip()), None)
    if first is None:
        raise DataError(f"{path}: the file is empty")
    if first.text is None:
        raise DataError(f"{path}: line {first.number} is longer than {MAX_LINE_BYTES} bytes, so not a table")
    if "\0" in first.text:
        raise DataError(f"{path}: not a text file", remedy="give a CSV or JSON-lines file, or a MovieLens folder")
    if first.text.lstrip().startswith("{"):
        yield from _json_records(chain([first], lines))
        return
    delimiter = _delimiter(first.text)
    try:
        names = tuple(cell.strip().lower() for cell in split(first.text, delimiter))
    except ValueError as error:
        raise DataError(f"{path}: line {first.number}: {error}") from error
    if known.isdisjoint(names):
        if len(names) < min(len(headerless), _MIN_HEADERLESS):
            raise DataError(
                f"{path}: line {first.number} is no header, and too short for a row of {','.join(headerless)}",
                remedy="name the columns in the first line, for example: item,rating,timestamp",
            )
        yield from _rows(chain([first], lines), delimiter, headerless)
    else:
        yield from _rows(lines, delimiter, names)


def split(text: str, delimiter: str) -> list[str]:
    """The cells of one line. Quoted as CSV is, but a record ends with its line; `::`, `|` and tab are never quoted around.

    Raises ValueError for quotes that do not close or do not stand around a whole cell.
    """
    if delimiter in (",", ";"):
        try:
            return next(csv.reader([text], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise ValueError(f"not valid CSV ({error})") from error
    return text.split(delimiter)


def _delimiter(text: str) -> str:
    for unmistakable in ("::", "\t"):
        if unmistakable in text:
            return unmistakable
    return max(",;|", key=text.count)


def _rows(lines: Iterator[Line] | chain[Line], delimiter: str, names: tuple[str, ...]) -> Iterator[Record | BadRow]:
    for line in lines:
        if line.text is None:
            yield BadRow(line.number, f"longer than {MAX_LINE_BYTES} bytes")
        elif line.text.strip():
            yield _row(line.number, line.text, delimiter, names)


def _row(number: int, text: str, delimiter: str, names: tuple[str, ...]) -> Record | BadRow:
    try:
        cells = split(text, delimiter)
    except ValueError as error:
        return BadRow(number, str(error))
    if len(cells) > MAX_COLUMNS:
        return BadRow(number, f"more than {MAX_COLUMNS} columns")
    return Record(number, dict(zip(names, cells, strict=False)))


def _json_records(lines: Iterator[Line] | chain[Line]) -> Iterator[Record | BadRow]:
    for line in lines:
        if line.text is None:
            yield BadRow(line.number, f"longer than {MAX_LINE_BYTES} bytes")
            continue
        if not line.text.strip():
            continue
        try:
            value = json.loads(line.text)
        except (ValueError, RecursionError):
            yield BadRow(line.number, "not valid JSON")
            continue
        if isinstance(value, dict):
            yield Record(line.number, {key.lower(): item for key, item in value.items()})
        else:
            yield BadRow(line.number, "not a JSON object")

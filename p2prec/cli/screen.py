"""What commands print for people: numbers with their units, and a console that colours on a terminal only.

Everything that another person may have written (titles, agents, warnings) passes `safe` first: a catalogue must not
be able to move the cursor or retitle the window of whoever lists it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

INDENT = 11
"""Columns before the text of a labelled line."""


def print_json(result: Any) -> None:
    """Print a result for programs: indented, keys in the order given, UTF-8."""
    print(json.dumps(result, indent=2, ensure_ascii=False))


def console() -> Console:
    """A console on stdout: colours and a width only on a terminal (NO_COLOR is honoured), plain and unwrapped
    otherwise."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 10_000
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def show(lines: Iterable[Text], *, hang: int | None = INDENT) -> None:
    """Print lines. On a terminal, what is too long is continued below, `hang` columns in, or cut if that is None."""
    out = console()
    for line in fitted(lines, out, hang) if out.is_terminal and hang is not None else lines:
        out.print(line, no_wrap=True, overflow="ellipsis", crop=out.is_terminal)


def fitted(lines: Iterable[Text], out: Console, hang: int = INDENT) -> list[Text]:
    """The same lines, those wider than the console broken between words and continued `hang` columns in."""
    from rich.text import Text

    fitting = []
    for line in lines:
        head, *tail = line.wrap(out, out.width)
        fitting.append(head)
        if tail:
            rest = line[len(line.plain) - len(line.plain[len(head.plain) :].lstrip()) :]
            fitting += [Text(" " * hang).append_text(part) for part in rest.wrap(out, max(1, out.width - hang))]
    return fitting


def text(*parts: str | tuple[str, str]) -> Text:
    """A line made of plain strings and of (string, style) pairs; control characters are replaced."""
    from rich.text import Text

    return Text.assemble(*(safe(part) if isinstance(part, str) else (safe(part[0]), part[1]) for part in parts))


def labelled(label: str, *parts: str | tuple[str, str]) -> Text:
    """A line that starts with a dim label in a column of its own."""
    return text((f"{label:<{INDENT}}", "dim"), *parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[Text]:
    """Lines in aligned columns, two spaces apart: the first `left` columns to the left, the others, numbers, to the
    right."""
    from rich.cells import cell_len

    cells = [[safe(cell) for cell in row] for row in (header, *rows)]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(cell))
            padded.append(cell + gap if column < left else gap + cell)
        return "  ".join(padded).rstrip()

    return [text((line(cells[0]), "dim")), *(text(line(row)) for row in cells[1:])]


def safe(value: str) -> str:
    """`value` with what does not print (escape sequences, what reorders text) shown as U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in value)


def bytes_text(n_bytes: float) -> str:
    """`1536` as `1.5 KiB`."""
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1023.95:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:,.1f} TiB"


def duration_text(seconds: float) -> str:
    """`7985` as `2 h 13 min`: the two largest units that matter."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400:,} d {whole % 86400 // 3600} h"


def counted(n: int, singular: str, plural: str = "") -> str:
    """`1 round`, `3,706 items`."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"

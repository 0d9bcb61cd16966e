"""`p2prec import`: take over a history from a file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.options import StateOption

if TYPE_CHECKING:
    from p2prec.data.delimited import BadRow
    from p2prec.data.files import OnBytes
    from p2prec.data.interactions import Interaction

EPILOG = """Examples:

p2prec import history.csv

p2prec import plays.jsonl.gz

p2prec import ml-latest-small/ --user 42
"""
_N_BAD_ROWS_SHOWN = 20


@app.command("import", epilog=EPILOG)
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV or JSON lines (gzip too), or a MovieLens file or folder.", show_default=False
        ),
    ],
    user: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Whose rows to take, from a file of several people.", show_default=False),
    ] = None,
    state: StateOption = None,
) -> None:
    """Import your history from a file.

    Columns are found by name (item, movieId, asin, ...; rating; event;
    timestamp), in any order; items are named by key or title. Rows that
    cannot be used are reported and skipped. All good rows are stored or,
    when interrupted, none. A file imported again adds only what is new.
    """
    from p2prec.cli.ask import state_directory
    from p2prec.cli.screen import counted
    from p2prec.data.readers import interactions_file, read_own_interactions

    directory = state_directory(state)
    catalogue = directory.catalogue()
    source = interactions_file(file)
    bad_rows = _BadRows(source)
    with _progress(source) as on_bytes, directory.open_store() as store:
        rows = read_own_interactions(file, catalogue, user, on_bytes)
        result = store.add_interactions(bad_rows.reported(rows))
    bad_rows.summarize()
    already = f"; {result.already_present:,} were there already" if result.already_present else ""
    typer.echo(f"Imported {counted(result.added, 'interaction')}{already}.")
    if not (result.added or result.already_present):
        raise typer.Exit(1)


class _BadRows:
    """Prints the first bad rows as they come, counts the others."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0

    def reported(self, rows: Iterator[Interaction | BadRow]) -> Iterator[Interaction]:
        """The good rows."""
        from p2prec.cli.screen import safe
        from p2prec.data.delimited import BadRow

        for row in rows:
            if not isinstance(row, BadRow):
                yield row
                continue
            self._count += 1
            if self._count <= _N_BAD_ROWS_SHOWN:
                print(f"{self._file}:{row.line}: skipped: {safe(row.reason)}", file=sys.stderr)

    def summarize(self) -> None:
        if self._count > _N_BAD_ROWS_SHOWN:
            print(f"{self._file}: and {self._count - _N_BAD_ROWS_SHOWN:,} more skipped", file=sys.stderr)


@contextlib.contextmanager
def _progress(file: Path) -> Iterator[OnBytes | None]:
    """A progress bar on stderr, if that is a terminal, that is gone when the block ends."""
    if not sys.stderr.isatty() or not file.is_file():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("import", total=file.stat().st_size)
        yield lambda n_bytes: progress.update(task, completed=n_bytes)

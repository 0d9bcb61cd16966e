"""The command line's root: the typer application that the command modules register on."""

from __future__ import annotations

import typer

from p2prec.cli.failure import exit_code

app = typer.Typer(
    name="p2prec",
    help="Private recommendations that devices learn together, without a server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> int:
    """Run the command line and return its exit code (`p2prec.cli.failure`)."""
    return exit_code(app)

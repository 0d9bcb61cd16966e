"""`p2prec identity`: who this device is to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption

if TYPE_CHECKING:
    from p2prec.identity import Identity
    from p2prec.storage.state import StateDirectory

identity_app = typer.Typer(help="Show or renew this device's identity.", no_args_is_help=True)
app.add_typer(identity_app, name="identity")

RENEW_EPILOG = """Example, on a device that was set up by copying another one's state directory:

p2prec identity renew
"""


@identity_app.command()
def show(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show this device's peer id and where its key lies."""
    from p2prec.cli.ask import state_directory
    from p2prec.cli.screen import print_json

    directory = state_directory(state)
    identity = _existing(directory)
    if as_json:
        print_json({"peer_id": identity.peer_id, "key_file": str(directory.identity_path)})
    else:
        typer.echo(identity.peer_id)
        typer.echo(f"  key file  {directory.identity_path}")


@identity_app.command(epilog=RENEW_EPILOG)
def renew(state: StateOption = None) -> None:
    """Give this device a new identity.

    Needed when another device runs with the same one, because its state
    directory was copied; on one of the two is enough. The old key is kept
    beside the new one. Interactions, swarm, model and privacy ledger stay.
    """
    from p2prec.cli.ask import state_directory

    directory = state_directory(state)
    old = _existing(directory)
    new, kept = directory.renew_identity()
    typer.echo(f"New identity  {new.peer_id}")
    typer.echo(f"  was         {old.peer_id}")
    typer.echo(f"  old key     {kept}")


def _existing(directory: StateDirectory) -> Identity:
    """The identity, never made here: showing one should not create one. Raises StateError."""
    from p2prec.errors import StateError

    if not directory.identity_path.exists():
        raise StateError(
            f"no identity yet in {directory.path}", remedy="joining a swarm makes it: p2prec swarm join FILE"
        )
    return directory.identity()

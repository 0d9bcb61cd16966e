"""`p2prec forget`: erase what was logged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.complete import complete_item
from p2prec.cli.options import StateOption

if TYPE_CHECKING:
    from p2prec.storage.state import StateDirectory
    from p2prec.storage.store import Store
    from p2prec.types import ItemKey

EPILOG = """Examples:

p2prec forget "Toy Story (1995)"

p2prec forget --all --yes
"""


@app.command(epilog=EPILOG)
def forget(
    item: Annotated[
        str | None,
        typer.Argument(
            metavar="[ITEM]", help="Key or title of what to forget.", autocompletion=complete_item, show_default=False
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget everything that was logged here.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state: StateOption = None,
) -> None:
    """Erase what was logged of an item, or everything.

    It is overwritten on disk, and this device's recommendations no longer
    use it. What the swarm has learned from contributions that were already
    sent cannot be recalled.
    """
    from p2prec.api.privacy import privacy_report
    from p2prec.cli.ask import state_directory
    from p2prec.cli.screen import counted, safe
    from p2prec.errors import UsageError

    if (item is not None) == everything:
        raise UsageError("say what to forget: an ITEM, or --all")
    directory = state_directory(state)
    directory.swarm()
    with directory.open_store() as store:
        if item is None:
            _confirm(store.count_interactions(), yes)
            erased, what = store.forget_all(), ""
        else:
            key, title = _find(directory, store, item)
            erased, what = store.forget(key), f" with {safe(title)}"
        swarm_id = directory.swarm().swarm_id
        contributions = max(store.ledger_contributions(swarm_id), directory.ledger_mark().contributions(swarm_id))
    if not erased:
        typer.echo(f"Nothing was logged{what}.")
        return
    typer.echo(f"Forgot {counted(erased, 'interaction')}{what}.")
    sums = privacy_report(directory)["sums"]
    if sums:
        _say_what_stays_in_sums(sums)
    elif contributions:
        typer.echo(
            f"This device had made {counted(contributions, 'contribution')} to the swarm: what was sent cannot be recalled."
            " What it can tell others: p2prec privacy"
        )


def _say_what_stays_in_sums(sums: list[dict[str, Any]]) -> None:
    given = [str(one["number"]) for one in sums if one["contributed"]]
    if given:
        typer.echo(
            f"This device had contributed to sum {' and '.join(given)} of the swarm. That cannot be recalled: what the swarm"
            " knows stays as it is, and says about you no more than was promised (p2prec privacy)."
        )
    if any(one["open"] for one in sums):
        typer.echo("What is forgotten now is in no sum that is still to come.")


def _find(directory: StateDirectory, store: Store, text: str) -> tuple[ItemKey, str]:
    """An item's key and title; also of items logged for an earlier swarm, by their exact key."""
    from p2prec.errors import DataError

    catalogue = directory.catalogue()
    try:
        key = catalogue.resolve(text)
    except DataError:
        logged = {interaction.item for interaction in store.interactions()}
        key = next((key for key in logged if key == text), None) or catalogue.resolve(text)
        return key, str(key)
    return key, catalogue.title_of(key)


def _confirm(count: int, yes: bool) -> None:
    from p2prec.cli.screen import counted
    from p2prec.errors import UsageError

    if yes or not count:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"--all would erase {counted(count, 'interaction')}", remedy="confirm with --yes")
    typer.confirm(f"Erase all {counted(count, 'interaction')} from this device?", abort=True)

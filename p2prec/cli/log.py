"""`p2prec log`: record one thing that the device's owner did."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.complete import complete_item
from p2prec.cli.options import StateOption

EPILOG = """Examples:

p2prec log "Toy Story (1995)"

p2prec log 318 --rating 4.5

p2prec log "Heat (1995)" --event watch --at 2026-11-23T21:15
"""
_FUTURE_S = 86400.0


@app.command(epilog=EPILOG)
def log(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ITEM", help="Key or title, as in the catalogue.", autocompletion=complete_item, show_default=False
        ),
    ],
    rating: Annotated[
        float | None, typer.Option(metavar="R", help="What you thought of it, a number.", show_default=False)
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="WORD", help="What you did with it.", show_default="play")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When: seconds since 1970, or like 2026-11-24T18:30.", show_default="now"),
    ] = None,
    state: StateOption = None,
) -> None:
    """Record that you played, bought, read or rated ITEM.

    It is on this device's disk when the command returns, and never leaves
    the device. A running daemon takes it into account within a round. ITEM
    is a key, a title, or a part of exactly one title.
    """
    from p2prec.cli.ask import state_directory
    from p2prec.data.interactions import RATING, Interaction, interaction_problem
    from p2prec.data.readers import DEFAULT_EVENT
    from p2prec.errors import UsageError

    if rating is not None and event not in (None, RATING):
        raise UsageError(f"--rating and --event {event} exclude each other", remedy="log them one after the other")
    directory = state_directory(state)
    manifest, catalogue = directory.swarm(), directory.catalogue()
    if rating is None and manifest.learning.objective == "explicit":
        raise UsageError(
            f"swarm {manifest.name!r} learns from ratings", remedy="say what you thought of it: --rating R"
        )
    what = RATING if rating is not None else DEFAULT_EVENT if event is None else event
    interaction = Interaction(catalogue.resolve(item), what, rating, _time_of(at))
    problem = interaction_problem(interaction)
    if problem:
        raise UsageError(problem)
    with directory.open_store() as store:
        is_new = store.add_interactions([interaction]).added
    title = catalogue.title_of(interaction.item)
    did = f"rating {rating:g}" if rating is not None else what
    typer.echo(f"Logged: {title}, {did}" if is_new else f"Was logged already: {title}, {did}")


def _time_of(text: str | None) -> float:
    from p2prec.data.readers import parse_time
    from p2prec.errors import UsageError

    now = time.time()
    if text is None:
        return now
    try:
        moment = parse_time(text, zone=None)
    except ValueError as error:
        raise UsageError(f"--at: {error}") from None
    if moment > now + _FUTURE_S:
        raise UsageError(f"--at {text}: more than a day in the future")
    return moment

"""`p2prec similar`: what resembles an item, as the swarm sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.complete import complete_item
from p2prec.cli.options import JsonOption, StateOption
from p2prec.cli.recommend import NumberOption, note_lines

if TYPE_CHECKING:
    from rich.text import Text

EPILOG = """Examples:

p2prec similar "Toy Story (1995)"

p2prec similar 1 -n 5 --json
"""


@app.command(epilog=EPILOG)
def similar(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ITEM", help="Key or title, as in the catalogue.", autocompletion=complete_item, show_default=False
        ),
    ],
    number: NumberOption = 10,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show the items most like ITEM.

    Alike is what the same people of the swarm do things with. ITEM is a key, a title, or a part of exactly one title.
    """
    from p2prec.api.offline import offline_similar
    from p2prec.cli.ask import ask
    from p2prec.cli.screen import print_json, show

    answer = ask(state, "similar", lambda directory: offline_similar(directory, item, number), item=item, n=number)
    if as_json:
        print_json(answer)
    else:
        show(_lines(answer), hang=8)
        show(note_lines(answer), hang=0)


def _lines(answer: dict[str, Any]) -> list[Text]:
    from p2prec.cli.screen import text

    lines = [text("Like ", (answer["title"], "bold"), ":")]
    for found in answer["similar"]:
        lines.append(text((f"{found['similarity']:>6.2f}  ", "dim"), found["title"]))
    return lines

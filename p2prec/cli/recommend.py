"""`p2prec recommend`: what to look at next, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption

if TYPE_CHECKING:
    from rich.text import Text

NumberOption = Annotated[int, typer.Option("-n", "--number", min=1, max=100, metavar="N", help="How many.")]

EPILOG = """Examples:

p2prec recommend

p2prec recommend -n 3 --json | jq -r '.recommendations[].title'
"""


@app.command(epilog=EPILOG)
def recommend(number: NumberOption = 10, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Recommend items that you have not had, each with its reason.

    Works with the daemon running or stopped. Nothing that you ask or see here leaves this device.
    """
    from p2prec.api.offline import offline_recommend
    from p2prec.cli.ask import ask
    from p2prec.cli.screen import print_json, show

    answer = ask(state, "recommend", lambda directory: offline_recommend(directory, number), n=number)
    if as_json:
        print_json(answer)
    else:
        show(_lines(answer), hang=5)
        show(note_lines(answer), hang=0)


def _lines(answer: dict[str, Any]) -> list[Text]:
    from p2prec.cli.screen import text

    lines = []
    for position, found in enumerate(answer["recommendations"], start=1):
        lines.append(text(f"{position:>3}  ", (found["title"], "bold"), (f"  {found['score']:.2f}", "dim")))
        lines.append(text("     ", (found["reason"], "italic")))
    return lines


def note_lines(answer: dict[str, Any]) -> list[Text]:
    """What is to be said about the answer as a whole, apart from it."""
    from p2prec.cli.screen import text

    if not answer["note"]:
        return []
    note = text((answer["note"], "yellow"))
    return [text(), note] if answer.get("recommendations") or answer.get("similar") else [note]

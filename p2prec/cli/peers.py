"""`p2prec peers`: who this peer knows, and what passed between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption

if TYPE_CHECKING:
    from rich.text import Text

EPILOG = """Examples:

p2prec peers

p2prec peers --json | jq -r '.peers[] | select(.state == "connected") | .peer_id'
"""

ID_CHARACTERS = 12
"""The end of a peer id is what tells peers apart: all begin alike."""


@app.command(epilog=EPILOG)
def peers(as_json: JsonOption = False, state: StateOption = None) -> None:
    """List the peers that this one knows.

    Where they listen, when they were last heard, how many exchanges there were and what they cost. Peer ids are cut to their
    last characters; --json has them whole.
    """
    from p2prec.api.offline import offline_peers
    from p2prec.cli.ask import ask
    from p2prec.cli.screen import print_json, show

    answer = ask(state, "peers", offline_peers)
    if as_json:
        print_json(answer)
    else:
        show(_lines(answer["peers"]), hang=None)


def _lines(peers: list[dict[str, Any]]) -> list[Text]:
    from p2prec.cli.screen import bytes_text, duration_text, table, text

    if not peers:
        return [text("No other peer has been met yet. If that lasts, ask: p2prec doctor")]
    header = ("peer", "address", "state", "seen", "exchanges", "in", "out")
    rows = [
        (
            "\u2026" + peer["peer_id"][-ID_CHARACTERS:] if peer["peer_id"] else "?",
            _address(peer),
            _state(peer),
            "-" if peer["last_seen_s"] is None else duration_text(peer["last_seen_s"]),
            f"{peer['exchanges']:,}",
            bytes_text(peer["bytes_in"]),
            bytes_text(peer["bytes_out"]),
        )
        for peer in peers
    ]
    return table(header, rows, left=3)


def _address(peer: dict[str, Any]) -> str:
    if not peer["host"]:
        return "-"
    return f"[{peer['host']}]:{peer['port']}" if ":" in peer["host"] else f"{peer['host']}:{peer['port']}"


def _state(peer: dict[str, Any]) -> str:
    return f"{peer['state']} ({peer['direction']})" if peer["direction"] else str(peer["state"])

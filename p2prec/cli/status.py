"""`p2prec status`: is it running, with whom, what has it cost, and is it any good."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption

if TYPE_CHECKING:
    from rich.text import Text

    from p2prec.storage.state import StateDirectory

EPILOG = """Examples:

p2prec status

p2prec status --watch

p2prec status --json | jq .quality
"""

WATCH_INTERVAL_S = 1.0
MEANINGFUL_EPSILON = 20.0
"""Above this the guarantee is too weak to be called one."""


@app.command(epilog=EPILOG)
def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Redraw every second until Ctrl-C; with --json, a line each time.")
    ] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show how this peer is doing.

    Its neighbours, learning, traffic, privacy spent, and quality, which is measured on a part of your own interactions that is
    never trained on, against the swarm's most popular items and against learning alone.
    """
    from p2prec.cli.screen import print_json, show

    if watch:
        # An interrupt is how a watch ends, so it is no error.
        with contextlib.suppress(KeyboardInterrupt):
            _watch_json(state) if as_json else _watch(state)
    elif as_json:
        print_json(_ask_status(state))
    else:
        show(status_lines(_ask_status(state)))


def _ask_status(state: Path | None) -> dict[str, Any]:
    from p2prec.cli.ask import ask

    return ask(state, "status", _offline_status)


def _offline_status(directory: StateDirectory) -> dict[str, Any]:
    # Its numpy is not loaded while the daemon answers.
    from p2prec.api.offline import offline_status

    return offline_status(directory)


def _watch(state: Path | None) -> None:
    """Redraw in place on a terminal; print again and again into anything else."""
    from rich.live import Live
    from rich.text import Text

    from p2prec.cli.screen import console, fitted, show

    out = console()

    def drawn() -> Text:
        return Text("\n", no_wrap=True, overflow="ellipsis").join(fitted(status_lines(_ask_status(state)), out))

    if not out.is_terminal:
        while True:
            show(status_lines(_ask_status(state)))
            sys.stdout.flush()
            time.sleep(WATCH_INTERVAL_S)
    with Live(drawn(), console=out, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_INTERVAL_S)
            live.update(drawn(), refresh=True)


def _watch_json(state: Path | None) -> None:
    """One line of JSON a second."""
    while True:
        print(json.dumps(_ask_status(state), ensure_ascii=False), flush=True)
        time.sleep(WATCH_INTERVAL_S)


def status_lines(answer: dict[str, Any]) -> list[Text]:
    """The status as lines for a person; `answer` is the dict of `status --json`."""
    from p2prec.cli.screen import bytes_text, counted, labelled

    refused = counted(answer["messages_refused"], "message") + " refused"
    return [
        labelled(
            "Swarm", (answer["swarm"], "bold"), f"  {answer['swarm_id'][:16]}, {counted(answer['items'], 'item')}"
        ),
        labelled("Peer", answer["peer_id"]),
        labelled("State", *_state(answer)),
        labelled("Peers", f"{counted(answer['neighbours'], 'neighbour')}, {answer['peers_seen']:,} seen"),
        *_promise_lines(answer["promise"]),
        labelled("Learning", _learning(answer)),
        labelled(
            "Traffic",
            f"{bytes_text(answer['bytes_in'])} in, {bytes_text(answer['bytes_out'])} out; ",
            (refused + _by_reason(answer["refused_by_reason"]), "yellow" if answer["messages_refused"] else ""),
        ),
        *([labelled("Memory", bytes_text(answer["rss_bytes"]))] if answer["rss_bytes"] else []),
        labelled("Privacy", *privacy_text(answer["privacy"], answer["contributions"])),
        *_quality_lines(answer["quality"]),
        *(labelled("Warning" if i == 0 else "", (warning, "yellow")) for i, warning in enumerate(answer["warnings"])),
    ]


def _learning(answer: dict[str, Any]) -> str:
    from p2prec.cli.screen import counted

    yours = f"{counted(answer['contributions'], 'contribution')} from {counted(answer['interactions'], 'interaction')} of yours"
    return yours if answer["promise"] is not None else f"{counted(answer['rounds'], 'round')}, {yours}"


def _promise_lines(promise: dict[str, Any] | None) -> list[Text]:
    """Where the swarm's two sums stand, and why this device sat one out."""
    from p2prec.cli.screen import labelled

    if promise is None:
        return []
    lines = [labelled("Promise", promise["text"])]
    for number, note in promise["sums"].items():
        if note["sat_out"] and note["sat_out"] not in promise["text"]:
            lines.append(labelled("", (f"sat out sum {number}: {note['sat_out']}", "yellow")))
    return lines


def _state(answer: dict[str, Any]) -> list[str | tuple[str, str]]:
    from p2prec.cli.screen import duration_text

    up = f" for {duration_text(answer['uptime_s'])}" + (
        f", listening on {answer['listen']} ({answer['transport']})" if answer["listen"] else ""
    )
    match answer["state"]:
        case "running":
            return [("running", "green"), up]
        case "searching":
            return [("searching", "yellow"), " for other peers; running", up]
        case "conflict":
            return [("conflict", "red"), ": the same identity runs on two machines; running", up]
        case "stopped":
            return [("stopped", "red"), "; start it with: p2prec start"]
        case other:
            return [(other, "yellow")]


def _by_reason(refused: dict[str, int]) -> str:
    return (
        f" ({', '.join(f'{reason} {n:,}' for reason, n in sorted(refused.items()) if n)})"
        if any(refused.values())
        else ""
    )


def privacy_text(privacy: dict[str, Any], contributions: int) -> list[str | tuple[str, str]]:
    """What has been given away so far, in plain words. An epsilon of null means that no noise was added."""
    spent, budget = privacy["epsilon_spent"], privacy["epsilon_budget"]
    if not contributions:
        return ["nothing of yours has been sent yet"]
    if spent is None:
        return [("no formal guarantee: this swarm adds no noise", "yellow")]
    of_budget = f" of {budget:g}" if budget is not None else ""
    figures = f"epsilon {spent:.3g}{of_budget} spent (delta {privacy['delta']:g})"
    if spent > MEANINGFUL_EPSILON:
        return [(f"{figures}: no formal guarantee at this noise", "yellow")]
    if budget is None:
        return [f"{figures}, no budget set"]
    return [figures]


def _quality_lines(quality: dict[str, Any]) -> list[Text]:
    from p2prec.cli.screen import counted, labelled, table, text

    if not quality.get("held_out") or quality["ndcg_at_10"] is None:
        return [labelled("Quality", "not measured yet: it takes some more interactions of yours, and a few rounds")]
    rows = [
        (name, *(_figure(quality.get(prefix + metric)) for metric in ("ndcg_at_10", "hr_at_10", "auc")))
        for name, prefix in (("swarm", ""), ("popularity", "popularity_"), ("alone", "alone_"))
    ]
    return [
        labelled(
            "Quality", f"on {counted(quality['held_out'], 'interaction')} of yours, never trained on; all items ranked"
        ),
        *(text(" " * 11).append_text(line) for line in table(("", "NDCG@10", "HR@10", "AUC"), rows)),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

"""`p2prec doctor`: what is wrong on this device, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption, TransportOption

EPILOG = """Examples:

p2prec doctor

p2prec doctor --listen 0.0.0.0:4001

p2prec doctor --json | jq '.findings[] | select(.level != "ok")'
"""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command(epilog=EPILOG)
def doctor(
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Address that `p2prec start` is to listen on, as given there."
        ),
    ] = "0.0.0.0:0",
    transport: TransportOption = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Look for what keeps this peer from working.

    Software, disk, keys, swarm, store, daemon, port, transport, multicast and
    clock, each finding with its remedy. Nothing is changed. The exit code is 1
    when something has to be mended, 0 when there are warnings at most.
    """
    from dataclasses import asdict

    from p2prec.cli.ask import state_directory
    from p2prec.cli.checks import examine
    from p2prec.cli.screen import labelled, print_json, show, text
    from p2prec.cli.start import parse_address, transport_kind
    from p2prec.config import TransportKind

    kind = TransportKind.TLS if transport is None else transport_kind(transport)
    findings = examine(state_directory(state), parse_address(listen, "--listen"), kind)
    ok = all(finding.level != "fail" for finding in findings)
    if as_json:
        print_json({"ok": ok, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = (f"{finding.level:<5}", _STYLES[finding.level])
            lines = [labelled(finding.check, mark, finding.message)]
            if finding.remedy:
                lines.append(text(" " * 16, (f"-> {finding.remedy}", "dim" if finding.level == "ok" else "")))
            show(lines, hang=16)
    if not ok:
        raise typer.Exit(1)

"""`p2prec start`: run this device's peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.options import StateOption, TransportOption
from p2prec.errors import UsageError

if TYPE_CHECKING:
    from p2prec.config import TransportKind

EPILOG = """Examples:

p2prec start --swarm films.toml

p2prec start

p2prec start --listen 0.0.0.0:4001 --peer 192.168.1.20:4001
"""


@app.command(epilog=EPILOG)
def start(
    swarm: Annotated[
        Path | None,
        typer.Option(
            "--swarm", metavar="FILE", help="Manifest or invitation of the swarm to join, at the first start."
        ),
    ] = None,
    state: StateOption = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Address to accept peers on; port 0 picks a free one.")
    ] = "0.0.0.0:0",
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Address of a peer to dial. Can be given several times."),
    ] = None,
    mdns: Annotated[
        bool, typer.Option("--mdns/--no-mdns", help="Find peers on the local network, and be found.")
    ] = True,
    transport: TransportOption = None,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="Log lines for people or machines.")
    ] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log every exchange and failed dial.")] = False,
) -> None:
    """Run this device's peer until it is stopped (Ctrl-C or SIGTERM).

    It finds other peers of the swarm, learns with them from interactions
    that never leave the device, and answers the other commands. The first
    start makes the device's identity, and joins the swarm that --swarm names
    (its manifest, or an invitation); later starts remember it.
    """
    from p2prec.cli.serve import ServeSettings, replace_process
    from p2prec.config import DaemonSettings

    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format is text or json, not {log_format!r}")
    host, port = parse_address(listen, "--listen")
    settings = DaemonSettings(
        listen_host=host,
        listen_port=port,
        static_peers=tuple(parse_address(text, "--peer") for text in peer or []),
        mdns=mdns,
        **({} if transport is None else {"transport": transport_kind(transport)}),
    )
    for static_host, static_port in settings.static_peers:
        if not static_port:
            raise UsageError(f"--peer {static_host}:0: a peer's port is 1 to 65535")
    replace_process(
        ServeSettings(
            state=str(state) if state else None,
            swarm=str(swarm) if swarm else None,
            log_format=log_format,
            verbose=verbose,
            daemon=settings,
        )
    )


def transport_kind(text: str) -> TransportKind:
    """Raises UsageError."""
    from p2prec.config import TransportKind

    if text not in set(TransportKind):
        raise UsageError(f"--transport is {' or '.join(TransportKind)}, not {text!r}")
    return TransportKind(text)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{option} {text!r}: expected HOST:PORT, like 192.168.1.20:4001 or [fe80::1]:4001")
    return host, int(port)

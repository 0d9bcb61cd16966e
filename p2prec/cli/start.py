"""`p2prec start`: run this device's peer."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.options import StateOption, TransportOption
from p2prec.errors import UsageError

if TYPE_CHECKING:
    from p2prec.config import TransportKind

LOOPBACK = "127.0.0.1"
EPILOG = """Examples:

p2prec start --swarm films.toml

p2prec start

p2prec start --listen 0.0.0.0:4001 --peer 192.168.1.20:4001

p2prec start --metrics 9464

p2prec start --settings /etc/p2prec.toml
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
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Address to accept peers on; port 0 picks a free one.",
            show_default="0.0.0.0:0",
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Address of a peer to dial. Can be given several times."),
    ] = None,
    mdns: Annotated[
        bool | None,
        typer.Option("--mdns/--no-mdns", help="Find peers on the local network, and be found.", show_default="mdns"),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="TOML file of this device's settings; the options above win over it."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="[HOST:]PORT",
            envvar="P2PREC_METRICS",
            help="Serve /metrics for Prometheus there; without HOST for this machine only.",
            show_default="off",
        ),
    ] = None,
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
    import msgspec

    from p2prec.cli.serve import ServeSettings, replace_process
    from p2prec.config import DaemonSettings, load_settings

    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format is text or json, not {log_format!r}")
    chosen: dict[str, Any] = {}
    if listen is not None:
        chosen["listen_host"], chosen["listen_port"] = parse_address(listen, "--listen")
    if mdns is not None:
        chosen["mdns"] = mdns
    if transport is not None:
        chosen["transport"] = transport_kind(transport)
    if metrics is not None:
        chosen["metrics"] = metrics_address(metrics) if metrics else None
    settings = DaemonSettings() if settings_file is None else load_settings(settings_file)
    chosen["static_peers"] = (*settings.static_peers, *(parse_address(text, "--peer") for text in peer or []))
    settings = msgspec.structs.replace(settings, **chosen)
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


def metrics_address(text: str) -> tuple[str, int]:
    """HOST:PORT, or PORT on loopback. HOST is an address: a name could mean more than its owner intends. Raises UsageError."""
    host, port = parse_address(f"{LOOPBACK}:{text}" if text.isdecimal() else text, "--metrics")
    try:
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise UsageError(
            f"--metrics {text!r}: {host} is not an address",
            remedy=f"this machine: {LOOPBACK}:{port}; all: 0.0.0.0:{port}",
        ) from None


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

"""`p2prec start`: run this device's peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.options import StateOption
from p2prec.errors import UsageError

if TYPE_CHECKING:
    from p2prec.config import DaemonSettings
    from p2prec.daemon.daemon import Loaded

EXAMPLES = """
Examples:

  p2prec start --swarm films.toml           join the open swarm that the file describes, and run

  p2prec start                              run again, in the swarm that was joined before

  p2prec start --peer 192.168.1.20:4001     also meet a peer that multicast does not reach

  p2prec start --listen 0.0.0.0:4001        listen on a port that a router can forward
"""


@app.command(epilog=EXAMPLES)
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
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="Log lines for people or machines.")
    ] = "text",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log every exchange and failed dial.")] = False,
) -> None:
    """Run this device's peer until it is stopped (Ctrl-C or SIGTERM).

    It finds other peers of the swarm, learns with them from interactions that never leave the device, and answers the other
    commands. The first start makes the device's identity.
    """
    from p2prec.config import DaemonSettings

    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format is text or json, not {log_format!r}")
    host, port = parse_address(listen, "--listen")
    settings = DaemonSettings(
        listen_host=host,
        listen_port=port,
        static_peers=tuple(parse_address(text, "--peer") for text in peer or []),
        mdns=mdns,
    )
    for static_host, static_port in settings.static_peers:
        if not static_port:
            raise UsageError(f"--peer {static_host}:0: a peer's port is 1 to 65535")
    _run(swarm, state, settings, log_format, verbose)


def parse_address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{option} {text!r}: expected HOST:PORT, like 192.168.1.20:4001 or [fe80::1]:4001")
    return host, int(port)


def _run(swarm: Path | None, state: Path | None, settings: DaemonSettings, log_format: str, verbose: bool) -> None:
    import asyncio

    from p2prec.daemon import log
    from p2prec.daemon.daemon import load
    from p2prec.storage import invitation
    from p2prec.storage.state import StateDirectory

    log.set_up(log_format, verbose=verbose)
    directory = StateDirectory.open(state)
    if swarm is not None:
        directory.join(invitation.load(swarm))
    with directory.lock():
        loaded = load(directory)
        with loaded.store:
            asyncio.run(_serve(loaded, settings))


async def _serve(loaded: Loaded, settings: DaemonSettings) -> None:
    """The daemon with its control socket and discovery, until a signal."""
    import asyncio
    import signal

    from p2prec.api.control import ControlServer
    from p2prec.api.live import LiveAnswers
    from p2prec.daemon.daemon import open_daemon
    from p2prec.discovery.base import Trouble

    discovery = None
    if settings.mdns:
        from p2prec.discovery.mdns import MdnsDiscovery

        def on_trouble(trouble: Trouble | None) -> None:
            daemon.on_discovery_trouble(trouble)

        discovery = MdnsDiscovery(interfaces=settings.mdns_interfaces, on_trouble=on_trouble)
    daemon = open_daemon(loaded, settings, discovery)
    control = ControlServer(loaded.directory.prepare_control_socket(), LiveAnswers(daemon))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    await control.start()
    try:
        if discovery is not None:
            await discovery.start()
        await daemon.run()
    finally:
        if discovery is not None:
            await discovery.close()
        await control.close()

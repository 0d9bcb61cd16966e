"""The daemon's process. `p2prec start` replaces itself by it, so that a device does not carry the command line's memory for ever.

`python -m p2prec.cli.serve SETTINGS`, with `ServeSettings` as JSON.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from p2prec.cli import lean
from p2prec.config import DaemonSettings

if TYPE_CHECKING:
    from p2prec.daemon.daemon import Loaded


class ServeSettings(msgspec.Struct, frozen=True):
    """What the command line decided."""

    state: str | None
    swarm: str | None
    log_format: str
    verbose: bool
    daemon: DaemonSettings


def replace_process(settings: ServeSettings) -> NoReturn:
    """Become the daemon: same process id, same open files, a fresh and small interpreter."""
    sys.stdout.flush()
    options, environment = lean.interpreter()
    arguments = [sys.executable, *options, "-m", "p2prec.cli.serve", msgspec.json.encode(settings).decode()]
    os.execve(sys.executable, arguments, environment)


def serve(settings: ServeSettings) -> None:
    """Join if asked to, lock, load and run until a signal. Raises what `p2prec.errors` has for that."""
    from p2prec.daemon import log
    from p2prec.daemon.daemon import load
    from p2prec.storage import invitation
    from p2prec.storage.state import StateDirectory

    log.set_up(settings.log_format, verbose=settings.verbose)
    directory = StateDirectory.open(Path(settings.state) if settings.state else None)
    if settings.swarm is not None:
        directory.join(invitation.load(Path(settings.swarm)))
    with directory.lock():
        loaded = load(directory)
        with loaded.store:
            asyncio.run(_run(loaded, settings.daemon))


async def _run(loaded: Loaded, settings: DaemonSettings) -> None:
    """The daemon with its control socket and discovery."""
    from p2prec.api.control import ControlServer
    from p2prec.api.live import LiveAnswers
    from p2prec.daemon.daemon import open_daemon

    discovery = None
    if settings.mdns:
        from p2prec.discovery.mdns import MdnsDiscovery

        discovery = MdnsDiscovery(
            interfaces=settings.mdns_interfaces, on_trouble=lambda trouble: daemon.on_discovery_trouble(trouble)
        )
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


def main() -> None:
    from p2prec.cli.failure import exit_code

    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    sys.exit(exit_code(lambda: serve(settings)))


if __name__ == "__main__":
    main()

"""The daemon's process. `p2prec start` replaces itself by it, so that a device does not carry the command line's memory for ever.

`python -m p2prec.cli.serve SETTINGS`, with `ServeSettings` as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from p2prec.cli import lean
from p2prec.config import DaemonSettings

if TYPE_CHECKING:
    from p2prec.daemon.daemon import Daemon, Loaded, OnEvent
    from p2prec.peer.events import Event


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
    from p2prec.api.status_file import StatusFile
    from p2prec.daemon.daemon import open_daemon
    from p2prec.daemon.log import log_event

    discovery = None
    if settings.mdns:
        from p2prec.discovery.mdns import MdnsDiscovery

        discovery = MdnsDiscovery(
            interfaces=settings.mdns_interfaces, on_trouble=lambda trouble: daemon.on_discovery_trouble(trouble)
        )
    on_events: list[OnEvent] = [log_event]
    daemon = open_daemon(loaded, settings, discovery, lambda event: _tell_all(on_events, event))
    answers = LiveAnswers(daemon)
    control = ControlServer(loaded.directory.prepare_control_socket(), answers)
    status_file = None
    if settings.status_file is not None:
        status_file = StatusFile(Path(settings.status_file), settings.status_every_s, answers.status, daemon.pump)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    await control.start()
    writing: asyncio.Task[None] | None = None
    try:
        if discovery is not None:
            await discovery.start()
        if status_file is not None:
            writing = asyncio.create_task(status_file.run())
        async with _metrics(daemon, on_events), _supervised(daemon):
            await daemon.run()
    finally:
        if writing is not None:
            writing.cancel()
        if discovery is not None:
            await discovery.close()
        await control.close()


def _tell_all(listeners: list[OnEvent], event: Event) -> None:
    for tell in listeners:
        tell(event)


@contextlib.asynccontextmanager
async def _metrics(daemon: Daemon, on_events: list[OnEvent]) -> AsyncIterator[None]:
    """Serve `/metrics` meanwhile, if that was asked for; otherwise its library is not even loaded. Raises TransportFailure."""
    if daemon.settings.metrics is None:
        yield
        return
    from p2prec.api.exposition import Exposition
    from p2prec.api.http_server import HttpServer
    from p2prec.daemon.log import logger

    exposition = Exposition()
    exposition.watch(daemon)
    on_events.append(exposition.observe)
    server = HttpServer(exposition.pages)
    await server.start(*daemon.settings.metrics)
    logger.info("metrics at http://%s/metrics", server.address)
    try:
        yield
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def _supervised(daemon: Daemon) -> AsyncIterator[None]:
    """Keep the service manager informed meanwhile, if one asked for it."""
    from p2prec.daemon.log import count
    from p2prec.daemon.supervisor import supervisor

    manager = supervisor()
    if not manager.listens:
        yield
        return

    async def follow() -> None:
        await daemon.listening.wait()
        await manager.follow(
            lambda: f"{daemon.state}, {count(len(daemon.peer.neighbours), 'neighbour')}, round {daemon.peer.rounds}"
        )

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        manager.tell("STOPPING=1")


def main() -> None:
    from p2prec.cli.failure import exit_code

    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    sys.exit(exit_code(lambda: serve(settings)))


if __name__ == "__main__":
    main()

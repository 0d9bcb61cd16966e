"""Drives one `Endpoint` over a transport: feeds it what arrives and the time, carries out what it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from p2prec.config import DaemonSettings
from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.peer.events import Dial, Disconnect, Event
from p2prec.transport.base import Connection, Transport
from p2prec.types import PeerId
from p2prec.wire.endpoint import Endpoint, FrameAction, SendFrame

logger = logging.getLogger("p2prec")

MAX_QUEUED_FRAMES = 32
"""Frames that wait for one slow neighbour. An honest peer never has ten; at the limit the neighbour is let go."""

SHORTEST_WAIT_S = 1e-3
"""Between ticks. A loop's timers may go off a nanosecond early: a tick that finds nothing due yet would be repeated at once, and
for ever by a clock that stands still while there is work to do."""


@dataclass(slots=True, eq=False)
class _Link:
    """One connection and what waits to be sent on it; None in the queue closes it."""

    number: int
    connection: Connection
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED_FRAMES + 1))


class Pump:
    """Owns the tasks of one peer. `run` ends when `stop` is called, after the goodbyes have left or the deadline has passed."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        settings: DaemonSettings,
        on_event: Callable[[Event], None],
    ) -> None:
        self.endpoint = endpoint
        self.bytes_in = 0
        self.bytes_out = 0
        self.internal_errors = 0
        """Bugs met so far: each is logged and costs at most one connection or one tick, never the daemon."""
        self.on_round: Callable[[float], None] | None = None
        """Told the seconds for which the beginning of each round kept the event loop."""
        self._transport = transport
        self._settings = settings
        self._on_event = on_event
        self._links: dict[int, _Link] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        """Ends the wait for the next tick."""
        self._ticks_at = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def now(self) -> float:
        """Monotonic seconds: the core's time."""
        return self._loop.time()

    @property
    def traffic(self) -> tuple[int, int]:
        """(bytes in, bytes out) over all connections, live ones included."""
        live_in = sum(link.connection.bytes_in for link in self._links.values())
        live_out = sum(link.connection.bytes_out for link in self._links.values())
        return self.bytes_in + live_in, self.bytes_out + live_out

    @property
    def queued_frames(self) -> list[int]:
        """Frames that wait to be sent, for each open connection: 0 to MAX_QUEUED_FRAMES + 1."""
        return [link.queue.qsize() for link in self._links.values()]

    def link_traffic(self, number: int) -> tuple[int, int]:
        link = self._links.get(number)
        return (link.connection.bytes_in, link.connection.bytes_out) if link else (0, 0)

    async def run(self) -> None:
        """Tick until stopped."""
        while not self._stop.is_set():
            self._wake.clear()
            self._ticks_at = self._tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(SHORTEST_WAIT_S, self._ticks_at - self.now))
        await self._shut_down()

    def _tick(self) -> float:
        """Returns when the next one is due."""
        began, rounds = self.now, self.endpoint.peer.rounds
        try:
            self.endpoint.peer.tick(began)
            self.carry_out()
            if self.on_round is not None and self.endpoint.peer.rounds != rounds:
                self.on_round(self.now - began)
            return self.endpoint.peer.next_deadline()
        except Exception:
            self._internal_error("while looking after the neighbours")
            return self.now + self._settings.peer.tick_interval_s

    def stop(self) -> None:
        """End `run`; safe to call from a signal handler of the loop, and twice."""
        self._stop.set()
        self._wake.set()

    async def accept(self, connection: Connection) -> None:
        """The transport's callback for an inbound connection."""
        await self._serve(connection, outbound=False, host=connection.remote_host, port=0)

    def sighted(self, peer_id: PeerId, instance: bytes | None, host: str, port: int, source: str) -> None:
        self.endpoint.peer.sighted(peer_id, instance, host, port, source, self.now)
        self.carry_out()

    def carry_out(self) -> None:
        """Do what the core asks for, in order. Call after every input."""
        for action in self._take_actions():
            match action:
                case SendFrame(number, frame):
                    self._enqueue(number, frame)
                case Disconnect(number):
                    self._enqueue(number, None)
                case Dial(host, port, _):
                    self._spawn(self._dial(host, port))
        for event in self.endpoint.take_events():
            try:
                self._on_event(event)
            except Exception:
                self._internal_error(f"reporting {type(event).__name__}")
        if self.endpoint.peer.next_deadline() < self._ticks_at:
            self._wake.set()

    def _take_actions(self) -> list[FrameAction]:
        while True:
            try:
                return self.endpoint.take_actions()
            except ValueError:
                self._internal_error("with a message to send")

    def _enqueue(self, number: int, frame: bytes | None) -> None:
        link = self._links.get(number)
        if link is None:
            return
        try:
            link.queue.put_nowait(frame)
        except asyncio.QueueFull:
            # It does not read. Cutting it off keeps our memory bounded; what it missed it may ask for again.
            self._spawn(link.connection.close())

    async def _dial(self, host: str, port: int) -> None:
        try:
            connection = await self._transport.dial(host, port, deadline_s=self._settings.dial_deadline_s)
        except Exception as error:
            if not isinstance(error, TransportFailure):
                self._internal_error(f"dialling {host}:{port}")
            self.endpoint.peer.dial_failed(host, port, str(error), self.now)
            self.carry_out()
            return
        try:
            await self._serve(connection, outbound=True, host=host, port=port)
        finally:
            await connection.close()

    async def _serve(self, connection: Connection, *, outbound: bool, host: str, port: int) -> None:
        """Read one connection until it ends. Inbound ones are closed by the transport when this returns."""
        link = _Link(next(self._numbers), connection)
        self._links[link.number] = link
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        writer = asyncio.create_task(self._write(link))
        reason = "closed"
        try:
            self.endpoint.opened(link.number, connection.remote_id, host, outbound=outbound, port=port, now=self.now)
            self.carry_out()
            await self._read(link)
        except TransportFailure as error:
            reason = str(error)
        except Exception:
            reason = "internal error"
            self._internal_error(f"serving {host}")
        finally:
            await self._part(link, writer, reason)

    async def _read(self, link: _Link) -> None:
        peer = self._settings.peer
        silence_s = 2 * (peer.ping_after_s + peer.ping_deadline_s)  # the core's pings notice the dead long before
        while True:
            try:
                frame = await link.connection.receive(deadline_s=silence_s)
            except RemoteMisbehaviour as error:
                self.endpoint.refused(link.number, error, self.now)
                self.carry_out()
                return
            self.endpoint.frame_received(link.number, frame, self.now)
            self.carry_out()
            if link.queue.qsize() > MAX_QUEUED_FRAMES // 2:
                await asyncio.sleep(0)  # a burst may be read at once; answers to it leave before the rest is answered

    async def _write(self, link: _Link) -> None:
        try:
            while (frame := await link.queue.get()) is not None:
                await link.connection.send(frame, deadline_s=self._settings.send_deadline_s)
        except TransportFailure:
            return  # the reader sees the broken connection too, after what there is still to read: a goodbye, perhaps
        await link.connection.close()

    async def _part(self, link: _Link, writer: asyncio.Task[None], reason: str) -> None:
        """Tell the core, let the goodbye leave, and forget the link, whatever else goes wrong."""
        try:
            self.endpoint.closed(link.number, reason, self.now)
            self.carry_out()
            self._enqueue(link.number, None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(writer, self._settings.stop_deadline_s)
        except Exception:
            self._internal_error("parting from a neighbour")
        finally:
            writer.cancel()
            self._links.pop(link.number, None)
            self.bytes_in += link.connection.bytes_in
            self.bytes_out += link.connection.bytes_out
            await link.connection.close()

    def _internal_error(self, when: str) -> None:
        """A bug must show, and must not take the daemon down. Call from an `except` block."""
        self.internal_errors += 1
        logger.exception("internal error %s; please report it", when)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shut_down(self) -> None:
        self.endpoint.peer.leave(self.now)
        self.carry_out()
        if self._serving:
            await asyncio.wait(self._serving, timeout=self._settings.stop_deadline_s)
        await self._transport.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

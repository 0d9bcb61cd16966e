"""A network inside one process, for tests and simulations: the transport interface without sockets, keys or chance.

Frames move when the receiver asks for them and never reorder; a full pipe holds the sender back, as TCP does. Time is the
event loop's, so a loop with a virtual clock makes deadlines virtual too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.transport.base import MAX_FRAME_BYTES, Accept
from p2prec.types import PeerId, SwarmId

DEFAULT_CAPACITY_BYTES = 2 * MAX_FRAME_BYTES
_FIRST_PORT = 40000


class MemoryNetwork:
    """The wires between the transports that it makes. Hosts are names; ports count up from 40000."""

    def __init__(self, *, capacity_bytes: int = DEFAULT_CAPACITY_BYTES) -> None:
        """capacity_bytes: what one direction of a connection holds before `send` has to wait."""
        self._capacity_bytes = capacity_bytes
        self._listeners: dict[tuple[str, int], tuple[MemoryTransport, Accept]] = {}
        self._next_port = _FIRST_PORT

    def transport(self, peer_id: PeerId, swarm_id: SwarmId, *, host: str = "memory") -> MemoryTransport:
        """A transport for one peer on one (simulated) machine."""
        return MemoryTransport(self, peer_id, swarm_id, host)

    def _bind(self, transport: MemoryTransport, host: str, port: int, accept: Accept) -> int:
        if port == 0:
            port = self._next_port
            self._next_port += 1
        if (host, port) in self._listeners:
            raise TransportFailure(f"cannot listen on {host}:{port}: address already in use")
        self._listeners[host, port] = (transport, accept)
        return port

    def _unbind(self, host: str, port: int) -> None:
        self._listeners.pop((host, port), None)

    def _connect(self, dialler: MemoryTransport, host: str, port: int) -> MemoryConnection:
        if (host, port) not in self._listeners:
            raise TransportFailure(f"{host}:{port}: connection refused")
        listener, accept = self._listeners[host, port]
        if listener.swarm_id != dialler.swarm_id:
            raise TransportFailure(f"{host}:{port}: the other side is not of this swarm")
        there, back = _Pipe(self._capacity_bytes), _Pipe(self._capacity_bytes)
        near = MemoryConnection(listener.peer_id, host, outbound=True, incoming=back, outgoing=there)
        far = MemoryConnection(dialler.peer_id, dialler.host, outbound=False, incoming=there, outgoing=back)
        listener._serve(far, accept)
        return near


class MemoryTransport:
    """Implements `p2prec.transport.base.Transport`. Made by `MemoryNetwork.transport`."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId, swarm_id: SwarmId, host: str) -> None:
        self.peer_id, self.swarm_id, self.host = peer_id, swarm_id, host
        self._network = network
        self._port = 0
        self._listen_host = host
        self._connections: list[MemoryConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listen_port(self) -> int:
        return self._port

    async def listen(self, host: str, port: int, accept: Accept) -> None:
        """See `Transport.listen`. May be called once."""
        if self._port:
            raise RuntimeError("already listening")
        self._listen_host, self._port = host, self._network._bind(self, host, port, accept)

    async def dial(self, host: str, port: int, *, deadline_s: float) -> MemoryConnection:
        """See `Transport.dial`."""
        connection = self._network._connect(self, host, port)
        self._keep(connection)
        return connection

    async def close(self) -> None:
        """See `Transport.close`."""
        self._network._unbind(self._listen_host, self._port)
        self._port = 0
        for connection in self._connections:
            await connection.close()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _serve(self, connection: MemoryConnection, accept: Accept) -> None:
        self._keep(connection)
        task = asyncio.get_running_loop().create_task(_run(connection, accept))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep(self, connection: MemoryConnection) -> None:
        self._connections = [kept for kept in self._connections if not kept.closed]
        self._connections.append(connection)


class MemoryConnection:
    """Implements `p2prec.transport.base.Connection`."""

    def __init__(
        self, remote_id: PeerId, remote_host: str, *, outbound: bool, incoming: _Pipe, outgoing: _Pipe
    ) -> None:
        self._remote_id, self._remote_host, self._outbound = remote_id, remote_host, outbound
        self._incoming, self._outgoing = incoming, outgoing
        self._bytes_in = self._bytes_out = 0
        self.closed = False

    @property
    def remote_id(self) -> PeerId:
        return self._remote_id

    @property
    def remote_host(self) -> str:
        return self._remote_host

    @property
    def outbound(self) -> bool:
        return self._outbound

    @property
    def bytes_in(self) -> int:
        """Bytes of the frames received."""
        return self._bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes of the frames sent."""
        return self._bytes_out

    async def send(self, frame: bytes, *, deadline_s: float) -> None:
        """See `Connection.send`."""
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES}")
        try:
            async with asyncio.timeout(deadline_s):
                await self._outgoing.put(bytes(frame))
        except TransportFailure:
            raise  # closed by the other side: what it sent before can still be received
        except TimeoutError:
            await self.close()
            raise TransportFailure(f"a frame of {len(frame)} bytes was not taken within {deadline_s:g} s") from None
        except BaseException:
            await self.close()
            raise
        self._bytes_out += len(frame)

    async def receive(self, *, deadline_s: float) -> bytes:
        """See `Connection.receive`. After a missed deadline, or when cancelled, the next call goes on where this ended."""
        try:
            async with asyncio.timeout(deadline_s):
                frame = await self._incoming.get()
        except TimeoutError:
            raise TransportFailure(f"no frame within {deadline_s:g} s") from None
        self._bytes_in += len(frame)
        return frame

    async def close(self) -> None:
        """See `Connection.close`. Frames already sent can still be received by the other side."""
        self.closed = True
        self._incoming.break_off()
        self._outgoing.end()


class _Pipe:
    """One direction of a connection: frames in order, bounded in bytes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._frames: deque[bytes] = deque()
        self._held_bytes = 0
        self._ended = False
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def put(self, frame: bytes) -> None:
        """Wait for room. A frame larger than the capacity enters an empty pipe."""
        while not self._ended and self._frames and self._held_bytes + len(frame) > self._capacity_bytes:
            await self._change()
        if self._ended:
            raise TransportFailure("the connection is closed")
        self._frames.append(frame)
        self._held_bytes += len(frame)
        self._notify()

    async def get(self) -> bytes:
        while not self._frames:
            if self._ended:
                raise TransportFailure("the connection is closed")
            await self._change()
        frame = self._frames.popleft()
        self._held_bytes -= len(frame)
        self._notify()
        return frame

    def end(self) -> None:
        """No more frames; those inside can still be taken out."""
        self._ended = True
        self._notify()

    def break_off(self) -> None:
        """Nobody takes frames out any more."""
        self._frames.clear()
        self._held_bytes = 0
        self.end()

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _notify(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


async def _run(connection: MemoryConnection, accept: Accept) -> None:
    try:
        with contextlib.suppress(TransportFailure, RemoteMisbehaviour):
            await accept(connection)
    finally:
        await connection.close()

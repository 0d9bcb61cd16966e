"""One framed libp2p connection as the asyncio loop sees it: each call starts an operation in the trio thread and waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.transport.base import MAX_FRAME_BYTES
from p2prec.transport.libp2p.session import Credentials, Session
from p2prec.transport.libp2p.thread import TrioThread
from p2prec.transport.socket_connection import SocketConnection


class Libp2pConnection(SocketConnection):
    """Implements `p2prec.transport.base.Connection`. Made by `Libp2pTransport`; of use once `handshake` has returned."""

    def __init__(
        self,
        thread: TrioThread,
        sock: socket.socket,
        credentials: Credentials,
        *,
        remote_host: str,
        outbound: bool,
        on_close: Callable[[Libp2pConnection], None],
    ) -> None:
        """sock: connected and non-blocking; owned by this object from here on."""
        super().__init__(sock, remote_host=remote_host, outbound=outbound)
        self._thread = thread
        self._session = Session(sock, credentials, outbound=outbound)
        self._life: asyncio.Future[None] | None = None
        self._next_frame: asyncio.Future[bytes] | None = None
        """The frame that is being received; it outlives a `receive` that was given up."""
        self._on_close = on_close

    @property
    def bytes_in(self) -> int:
        """Bytes received from the socket: frames with the overhead of yamux and Noise, and the handshake."""
        return self._session.traffic[0]

    @property
    def bytes_out(self) -> int:
        """Bytes given to the socket, likewise."""
        return self._session.traffic[1]

    async def handshake(self, *, deadline_s: float) -> None:
        """Authenticate both sides. Raises TransportFailure, and closes, when that fails."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._thread.start()
                self._life = self._thread.submit(self._session.run)
                self._remote_id = await self._thread.submit(self._session.opened)
        except TimeoutError:
            raise TransportFailure(f"no libp2p handshake within {deadline_s:g} s") from None
        finally:
            if self._remote_id is None:
                await self.close()

    async def send(self, frame: bytes, *, deadline_s: float) -> None:
        """See `Connection.send`. One frame at a time: concurrent calls wait for each other within their deadlines."""
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES}")
        sent = False
        try:
            async with asyncio.timeout(deadline_s), self._sending:
                self._check_open()
                await self._thread.submit(self._session.send, frame)
            sent = True
        except TimeoutError:
            raise TransportFailure(f"a frame of {len(frame)} bytes was not taken within {deadline_s:g} s") from None
        finally:
            if not sent:  # a cancelled call included: half a frame cannot be mended
                await self.close()

    async def receive(self, *, deadline_s: float) -> bytes:
        """See `Connection.receive`. After a missed deadline, or when cancelled, the next call goes on where this ended."""
        try:
            async with asyncio.timeout(deadline_s), self._receiving:
                self._check_open()
                if self._next_frame is None:
                    self._next_frame = self._thread.submit(self._session.next_frame)
                frame = await asyncio.shield(self._next_frame)
                self._next_frame = None
                return frame
        except TimeoutError:
            raise TransportFailure(f"no frame within {deadline_s:g} s") from None
        except (TransportFailure, RemoteMisbehaviour):
            await self.close()
            raise

    async def close(self) -> None:
        """See `Connection.close`. The other side gets what was sent before; that is seen to in the trio thread."""
        if self._closed:
            return
        self._closed = True
        if self._life is None or not self._thread.tell(self._session.close):
            self._socket.close()
        self._on_close(self)

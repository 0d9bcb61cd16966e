"""What py-libp2p reads from and writes to, bounded: the socket below Noise, the session between Noise and yamux, the stream.

py-libp2p 0.8 trusts the other side with memory: multistream-select takes a message of any length, yamux a frame of up to 16 MB,
and a receive window that is exceeded only earns a warning. It also opens a window that grows to 16 MB. Here the bounds are held
from outside: nothing is read from the socket while more than `MAX_UNREAD_BYTES` wait for their reader, so that TCP itself holds
the other side back.
"""

from __future__ import annotations

import trio
from libp2p.abc import ISecureConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, HEADER_SIZE, Yamux, YamuxStream

from p2prec.config import TransportKind
from p2prec.errors import RemoteMisbehaviour
from p2prec.peer.messages import Refusal
from p2prec.transport.mismatch import TransportMismatch, spoken_by

PREFIX_BYTES = 4
MAX_HANDSHAKE_BYTES = 32 << 10
"""What the other side may send before it is known to be of this swarm. An honest one sends less than 3 KB."""
MAX_UNREAD_BYTES = DEFAULT_WINDOW_SIZE
"""Of one connection, waiting to be received; plus one yamux frame of at most as much."""
_READ_BYTES = 64 << 10
_WRITE_BYTES = MAX_PLAINTEXT_LENGTH - HEADER_SIZE
"""A yamux frame of this size fills one Noise message; one byte more would make a second message of it."""
_WINDOW_POLL_S = 0.005
BURST_READS, READS_PER_S, BYTES_PER_READ = 4096, 200, 4096
"""How often yamux may read: so often at first, so often a second on top, and once more for so many bytes that crossed the socket.
An honest connection takes two reads for a frame, of data or of credit for it, and stays far below; pings and empty frames without
end would keep this interpreter busy for nothing."""


class BufferedSocket(ReadWriteCloser):
    """The socket: reads ahead (py-libp2p asks for single bytes), counts, and ends a handshake that takes too much."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.bytes_in = self.bytes_out = 0
        self.in_handshake = True
        self._stream = stream
        self._buffer = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes (None: what there is, at least one), fewer only at the end of the stream.

        py-libp2p gives a read up after a hundred pieces; this way it gets one.
        """
        while len(self._buffer) < (1 if n is None else n) and await self._fill():
            pass
        length = len(self._buffer) if n is None else n
        data = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return data

    async def _fill(self) -> bool:
        try:
            data = await self._stream.receive_some(_READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke") from error
        if not self.bytes_in and spoken_by(data) is TransportKind.TLS:
            raise TransportMismatch(TransportKind.LIBP2P, TransportKind.TLS)
        self.bytes_in += len(data)
        if self.in_handshake and self.bytes_in > MAX_HANDSHAKE_BYTES:
            raise IOException(f"a handshake of more than {MAX_HANDSHAKE_BYTES} bytes")
        self._buffer += data
        return bool(data)

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke") from error
        self.bytes_out += len(data)

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        return None  # the asyncio side knows it


class BoundedSession(SecureSession):
    """Noise below yamux: hands yamux no frame beyond the window, and nothing while enough is unread."""

    muxed: Yamux | None = None
    """What reads from here, once it is made."""

    def __init__(self, secured: SecureSession, raw: BufferedSocket) -> None:
        super().__init__(
            local_peer=secured.local_peer,
            local_private_key=secured.local_private_key,
            remote_peer=secured.remote_peer,
            remote_permanent_pubkey=secured.remote_permanent_pubkey,
            is_initiator=secured.is_initiator,
            conn=secured.conn,
        )
        self._raw = raw
        self._readers = trio.lowlevel.ParkingLot()
        self._n_reads, self._began = 0, trio.current_time()
        self.violation: RemoteMisbehaviour | None = None
        """What the other side did that no honest one does."""

    async def read(self, n: int | None = None) -> bytes:
        self._n_reads += 1
        if n is not None and n > DEFAULT_WINDOW_SIZE:
            self.violation = RemoteMisbehaviour(Refusal.OVERSIZED, f"a yamux frame of {n} bytes", fatal=True)
        elif self._n_reads > self._reads_allowed():
            self.violation = RemoteMisbehaviour(Refusal.UNEXPECTED, "a flood of yamux frames", fatal=True)
        if self.violation is not None:  # for good: yamux would go on in the middle of the frame
            raise ConnectionClosedError(str(self.violation))
        while self._unread_bytes() > MAX_UNREAD_BYTES:
            await self._readers.park()
        return await super().read(n)

    def was_read(self) -> None:
        """Tell that a stream has been read, so that there may be room again."""
        self._readers.unpark_all()

    def _reads_allowed(self) -> float:
        crossed = self._raw.bytes_in + self._raw.bytes_out
        return BURST_READS + READS_PER_S * (trio.current_time() - self._began) + crossed / BYTES_PER_READ

    def _unread_bytes(self) -> int:
        return 0 if self.muxed is None else sum(map(len, self.muxed.stream_buffers.values()))


class FrameStream(ReadWriteCloser):
    """One yamux stream, as bytes for multistream-select and as frames with a length in front for the rest."""

    def __init__(self, stream: YamuxStream, session: BoundedSession) -> None:
        self._stream, self._session = stream, session
        self._buffer = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes. Raises py-libp2p's errors at the end of the stream."""
        assert n is not None
        await self._fill(n)
        return self._take(n)

    async def receive(self, max_bytes: int) -> bytes:
        """The next frame. Raises RemoteMisbehaviour ("oversized", fatal) when it announces more than `max_bytes`."""
        await self._fill(PREFIX_BYTES)
        n_bytes = int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        if n_bytes > max_bytes:
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"a frame of {n_bytes} bytes", fatal=True)
        await self._fill(PREFIX_BYTES + n_bytes)
        self._take(PREFIX_BYTES)
        return self._take(n_bytes)

    async def send(self, frame: bytes) -> None:
        await self.write(len(frame).to_bytes(PREFIX_BYTES, "big") + frame)

    async def write(self, data: bytes) -> None:
        """Waits for the other side's window as long as it takes, where py-libp2p gives up after five seconds."""
        for start in range(0, len(data), _WRITE_BYTES):
            piece = data[start : start + _WRITE_BYTES]
            while self._stream.send_window < len(piece) and not self._stream.closed:  # noqa: ASYNC110  yamux has no event
                await trio.sleep(_WINDOW_POLL_S)
            await self._stream.write(piece)

    async def close(self) -> None:
        """Say that nothing more is sent, then read what the other side still says, until it says the same."""
        await self._stream.close()
        while await self._stream.read(_READ_BYTES):
            self._session.was_read()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None

    async def _fill(self, n_bytes: int) -> None:
        """Until the buffer holds `n_bytes`; it grows with what has arrived, not with what was announced."""
        while len(self._buffer) < n_bytes:
            try:
                self._buffer += await self._stream.read(_READ_BYTES)
            except MuxedStreamError as error:
                if self._session.violation is not None:
                    raise self._session.violation from error
                raise
            self._session.was_read()

    def _take(self, n_bytes: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:n_bytes])
        del self._buffer[:n_bytes]
        return data


def bounded(secured: ISecureConn, raw: BufferedSocket) -> BoundedSession:
    """What the Noise handshake made over `raw`, with bounds."""
    assert isinstance(secured, SecureSession)
    return BoundedSession(secured, raw)

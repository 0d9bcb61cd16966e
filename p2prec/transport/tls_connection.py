"""One framed connection over TLS 1.3: a non-blocking socket, an `ssl.SSLObject` between memory buffers, and deadlines.

Not asyncio's streams: those reserve 256 KB a TLS connection, read ahead whether or not anybody receives, and report a
failed inbound handshake to a log instead of to us. Here nothing is read until `receive` is called, so a slow receiver
holds the sender back through TCP itself, and an idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import NoReturn

from p2prec.config import TransportKind
from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.peer.messages import Refusal
from p2prec.transport.certificates import ALPN, remote_peer_id
from p2prec.transport.mismatch import NO_TLS_HERE, TransportMismatch, spoken_by
from p2prec.transport.patience import Patience
from p2prec.transport.socket_connection import SocketConnection
from p2prec.transport.tcp import configure
from p2prec.wire.limits import MAX_FRAME_BYTES

PREFIX_BYTES = 4
_CHUNK_BYTES = 64 << 10
_MAX_UNSENT_REPLIES_BYTES = 64 << 10
"""TLS's own replies (key updates) wait for the next frame to go out with; more than this is an abuse of them."""
_DRAIN_READS = 16


class TlsConnection(SocketConnection):
    """Implements `p2prec.transport.base.Connection`. Made by `TlsTransport`; of use once `handshake` has returned."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        remote_host: str,
        outbound: bool,
        on_close: Callable[[TlsConnection], None],
    ) -> None:
        """sock: connected and non-blocking; owned by this object from here on."""
        self._loop = asyncio.get_running_loop()
        super().__init__(sock, remote_host=remote_host, outbound=outbound)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=not outbound)
        self._buffer = bytearray()
        self._descriptor = sock.fileno()
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        """What a call of `receive`, and one of `send`, waits for; None while nobody does."""
        self._patience = Patience(self._loop, self._too_late)
        """How long a call of `receive`, or the handshake, waits."""
        self._listening = False
        """Whether the loop watches for what arrives: between two calls as well, since registering costs more than reading."""
        self._on_close = on_close
        self._bytes_in = self._bytes_out = 0
        configure(sock)

    @property
    def bytes_in(self) -> int:
        """Bytes received from the socket: frames with TLS's overhead and the handshake."""
        return self._bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes given to the socket, likewise."""
        return self._bytes_out

    async def handshake(self, *, deadline_s: float) -> None:
        """Authenticate both sides. Raises TransportFailure, and closes, when that fails."""
        try:
            await self._negotiate(self._loop.time() + deadline_s)
            if self._tls.selected_alpn_protocol() != ALPN:
                raise TransportFailure(f"the other side does not speak {ALPN}")
            self._remote_id = remote_peer_id(self._tls.getpeercert(binary_form=True))
        except TimeoutError:
            raise TransportFailure(f"no TLS handshake within {deadline_s:g} s") from None
        except OSError as error:
            raise TransportFailure(f"TLS handshake: {_reason(error)}") from error
        finally:
            if self._remote_id is None:
                await self.close()

    async def send(self, frame: bytes, *, deadline_s: float) -> None:
        """See `Connection.send`. One frame at a time: concurrent calls wait for each other within their deadlines."""
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES}")
        sent, ends_at = False, self._loop.time() + deadline_s
        try:
            await _take(self._sending, ends_at)
            try:
                self._check_open()
                self._encrypt(len(frame).to_bytes(PREFIX_BYTES, "big") + frame)
                await self._flush(ends_at)
            finally:
                self._sending.release()
            sent = True
        except TimeoutError:
            raise TransportFailure(f"a frame of {len(frame)} bytes was not taken within {deadline_s:g} s") from None
        except OSError as error:
            raise TransportFailure(f"sending failed: {_reason(error)}") from error
        finally:
            if not sent:  # a cancelled call included: half a frame cannot be mended
                await self.close()

    async def receive(self, *, deadline_s: float) -> bytes:
        """See `Connection.receive`. After a missed deadline, or when cancelled, the next call goes on where this ended."""
        ends_at = self._loop.time() + deadline_s
        try:
            await _take(self._receiving, ends_at)
            try:
                return await self._next_frame(ends_at)
            finally:
                self._receiving.release()
        except TimeoutError:
            raise TransportFailure(f"no frame within {deadline_s:g} s") from None
        except OSError as error:
            await self.close()
            raise TransportFailure(f"receiving failed: {_reason(error)}") from error

    async def _next_frame(self, ends_at: float) -> bytes:
        await self._fill_buffer(PREFIX_BYTES, ends_at)
        n_bytes = int.from_bytes(self._buffer[:PREFIX_BYTES], "big")
        if n_bytes > MAX_FRAME_BYTES:
            await self.close()
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"a frame of {n_bytes} bytes", fatal=True)
        await self._fill_buffer(PREFIX_BYTES + n_bytes, ends_at)
        frame = bytes(memoryview(self._buffer)[PREFIX_BYTES : PREFIX_BYTES + n_bytes])
        del self._buffer[: PREFIX_BYTES + n_bytes]
        return frame

    async def close(self) -> None:
        """See `Connection.close`. Tells the other side, if that can be done without waiting."""
        if self._closed:
            return
        self._closed = True
        for waiter in (self._arrival, self._room):
            if waiter is not None:
                _wake(waiter)
        self._patience.close()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        with contextlib.suppress(OSError, ValueError):
            if not self._sending.locked():
                self._say_goodbye()
        self._socket.close()
        self._buffer.clear()
        self._on_close(self)

    async def _negotiate(self, ends_at: float) -> None:
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            finally:
                await self._flush(ends_at)  # the next flight, or the alert that says why there is none
            if not done:
                await self._fill(ends_at)

    async def _fill_buffer(self, n_bytes: int, ends_at: float) -> None:
        """Read until the buffer holds `n_bytes`; it grows with what has arrived, not with what was announced."""
        while len(self._buffer) < n_bytes:
            self._check_open()
            if not self._received.pending and not self._tls.pending():  # as SSLWantReadError would say, at some cost
                await self._fill(ends_at)
            try:
                data = self._tls.read(_CHUNK_BYTES)
            except ssl.SSLWantReadError:
                await self._fill(ends_at)
                continue
            if not data:
                raise ConnectionResetError("the other side closed the connection")
            self._buffer += data

    async def _fill(self, ends_at: float) -> None:
        """Wait until more is in `_received`. A cancellation loses no byte: what arrives is there for the next call."""
        self._check_open()
        self._arrival = self._loop.create_future()
        if not self._listening:
            self._loop.add_reader(self._descriptor, self._on_readable)
            self._listening = True
        self._patience.begin(ends_at)
        try:
            await self._arrival
        finally:
            self._patience.end()
            self._arrival = None
        self._check_open()

    def _too_late(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(TimeoutError())

    def _on_readable(self) -> None:
        waiter = self._arrival
        if waiter is None or waiter.done():
            # Nobody wants it yet: it stays with the kernel, which holds the sender back.
            self._loop.remove_reader(self._descriptor)
            self._listening = False
            return
        try:
            self._accept(self._socket.recv(_CHUNK_BYTES))
        except BlockingIOError:
            return
        except (OSError, TransportFailure) as error:
            waiter.set_exception(error)
        else:
            waiter.set_result(None)

    def _accept(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the other side closed the connection")
        if not self._bytes_in and spoken_by(data) is TransportKind.LIBP2P:
            self._refuse_libp2p()
        if self._to_send.pending > _MAX_UNSENT_REPLIES_BYTES:
            raise ConnectionAbortedError("too many TLS key updates")
        self._bytes_in += len(data)
        self._received.write(data)

    def _refuse_libp2p(self) -> NoReturn:
        with contextlib.suppress(OSError):
            self._socket.send(NO_TLS_HERE)
        raise TransportMismatch(TransportKind.TLS, TransportKind.LIBP2P)

    def _encrypt(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    async def _flush(self, ends_at: float) -> None:
        view = memoryview(self._to_send.read())
        while view:
            self._check_open()
            try:
                n_bytes = self._socket.send(view)
            except BlockingIOError:
                async with asyncio.timeout_at(ends_at):
                    await self._until_writable()
                continue
            self._bytes_out += n_bytes
            view = view[n_bytes:]

    async def _until_writable(self) -> None:
        self._room = self._loop.create_future()
        self._loop.add_writer(self._descriptor, _wake, self._room)
        try:
            await self._room
        finally:
            self._room = None
            if not self._closed:
                self._loop.remove_writer(self._descriptor)

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        if self._to_send.pending:
            self._bytes_out += self._socket.send(self._to_send.read())
        self._socket.shutdown(socket.SHUT_WR)
        # Closing a socket with unread data resets the connection, and takes what we sent last along.
        for _ in range(_DRAIN_READS):
            if not self._socket.recv(_CHUNK_BYTES):
                return


async def _take(turn: asyncio.Lock, ends_at: float) -> None:
    """Wait for one's turn. Raises TimeoutError."""
    if turn.locked():
        async with asyncio.timeout_at(ends_at):
            await turn.acquire()
    else:
        await turn.acquire()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other side's certificate is not of this swarm ({error.verify_message})"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__

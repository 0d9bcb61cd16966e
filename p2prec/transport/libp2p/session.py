"""One libp2p connection from socket to frames, in the trio thread.

    TCP > multistream-select > Noise (who is it?) > multistream-select > yamux > one stream > certificates (of this swarm?)

py-libp2p's pieces are put together here instead of taking its `Host`, which opens its port to other processes (SO_REUSEPORT),
accepts before anything is counted, dials on its own, and speaks protocols that nobody asked for. The side that dialled opens
the one stream of a connection; it lives as long as the connection.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import trio
from cryptography import x509
from libp2p.abc import ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from p2prec.errors import RemoteMisbehaviour, TransportFailure
from p2prec.identity import public_bytes_of
from p2prec.transport.base import MAX_FRAME_BYTES
from p2prec.transport.certificates import ALPN, require_member
from p2prec.transport.libp2p.streams import BoundedSession, BufferedSocket, FrameStream, bounded
from p2prec.types import PeerId

T = TypeVar("T")

PROTOCOL = TProtocol(f"/p2prec/exchange/{ALPN.removeprefix('p2prec/')}")
"""Of the one stream of a connection: `/p2prec/exchange/2`, the version being the wire protocol's, as in TLS's ALPN."""
MAX_CERTIFICATE_BYTES = 4096
"""Ours take 400."""
MAX_STREAMS_TRIED = 8
"""How many streams for other protocols a dialler may open before the right one (general hosts ask who we are first)."""
PART_DEADLINE_S = 1.0
"""How long a closed connection waits for the other side to have read everything: py-libp2p's yamux throws away what was received
and not yet read when the connection under it ends."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one peer shows and demands, the same on all its connections."""

    security: SecurityMultistream
    """Noise with the identity's key, and nothing else."""
    muxers: MuxerMultistream
    """yamux, and nothing else."""
    certificate: bytes
    """DER: membership of the own key."""
    authority: x509.Certificate
    """Whose signature the other side's certificate has to bear."""


class Session:
    """`run` is its life; the others are of use while that runs. All but the constructor belong to the trio thread."""

    def __init__(self, sock: socket.socket, credentials: Credentials, *, outbound: bool) -> None:
        """sock: connected and non-blocking; owned by this object from here on."""
        self._socket = sock
        self._credentials = credentials
        self._outbound = outbound
        self._raw: BufferedSocket | None = None
        self._frames: FrameStream | None = None
        self._remote_id: PeerId | None = None
        self._failure: TransportFailure | None = None
        self._is_open, self._closing = trio.Event(), trio.Event()
        self._scope = trio.CancelScope()
        self._waits: set[trio.CancelScope] = set()
        self._sending = False

    async def run(self) -> None:
        """From the handshake until the socket is closed. Raises nothing: `opened`, `send` and `next_frame` tell what happened."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    with self._noting_failure():
                        await self._open(nursery)
                        self._is_open.set()
                        await self._closing.wait()
                        await self._part()
                    nursery.cancel_scope.cancel()
        finally:
            self._failure = self._failure or TransportFailure("the connection is closed")
            self._is_open.set()
            self._cancel_waits()
            self._socket.close() if self._raw is None else await self._raw.close()

    async def opened(self) -> PeerId:
        """Who is at the other end, when that has been shown. Raises TransportFailure."""
        await self._is_open.wait()
        if self._failure is not None:
            raise self._failure
        assert self._remote_id is not None
        return self._remote_id

    async def send(self, frame: bytes) -> None:
        """Raises TransportFailure. One at a time."""
        self._sending = True
        try:
            await self._while_open(lambda frames: frames.send(frame))
        finally:
            self._sending = False

    async def next_frame(self) -> bytes:
        """Raises TransportFailure, RemoteMisbehaviour. One at a time."""
        return await self._while_open(lambda frames: frames.receive(MAX_FRAME_BYTES))

    def close(self) -> None:
        """Part from the other side within `PART_DEADLINE_S`; at once where there is nothing to part from, or half a frame."""
        self._cancel_waits()
        if self._frames is None or self._sending:
            self._scope.cancel()
        else:
            self._closing.set()

    @property
    def traffic(self) -> tuple[int, int]:
        """(bytes in, bytes out) of the socket. May be read from any thread."""
        return (0, 0) if self._raw is None else (self._raw.bytes_in, self._raw.bytes_out)

    # --- the handshake ---

    async def _open(self, nursery: trio.Nursery) -> None:
        self._raw = BufferedSocket(trio.SocketStream(trio.socket.from_stdlib_socket(self._socket)))
        session = bounded(await self._secured(RawConnection(self._raw, self._outbound)), self._raw)
        peer_id = PeerId(session.get_remote_peer().to_base58())
        try:
            public_bytes_of(peer_id)
        except ValueError as error:
            raise TransportFailure("the other side has no Ed25519 key") from error
        muxed = cast(Yamux, await self._credentials.muxers.new_conn(session, session.get_remote_peer()))
        session.muxed = muxed
        nursery.start_soon(_multiplex, muxed)
        await muxed.event_started.wait()
        frames = await (_ask(muxed, session) if self._outbound else _answer(muxed, session))
        await self._exchange_certificates(frames, peer_id)
        self._raw.in_handshake = False
        self._remote_id, self._frames = peer_id, frames
        nursery.start_soon(_refuse_streams, muxed)

    async def _secured(self, connection: RawConnection) -> ISecureConn:
        security = self._credentials.security
        if self._outbound:
            # Nobody is expected: who answers is proven by Noise all the same, and its caller decides what to think of it.
            return await security.secure_outbound(connection, None)  # type: ignore[arg-type]
        return await security.secure_inbound(connection)

    async def _exchange_certificates(self, frames: FrameStream, peer_id: PeerId) -> None:
        """Noise has proven the other side's key; a certificate for that very key proves membership."""
        own = self._credentials.certificate
        if self._outbound:
            await frames.send(own)
        require_member(await frames.receive(MAX_CERTIFICATE_BYTES), self._credentials.authority, peer_id)
        if not self._outbound:
            await frames.send(own)

    # --- life and death ---

    async def _while_open(self, work: Callable[[FrameStream], Awaitable[T]]) -> T:
        """Do something that the end of this session interrupts."""
        if self._frames is None or self._closing.is_set() or self._failure is not None:
            raise self._failure or TransportFailure("the connection is closed")
        with trio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                return await work(self._frames)
            except (TransportFailure, RemoteMisbehaviour):
                raise
            except Exception as error:  # py-libp2p raises nearly anything
                raise TransportFailure(_words(error)) from error
            finally:
                self._waits.discard(scope)
        raise self._failure or TransportFailure("the connection is closed")

    def _cancel_waits(self) -> None:
        for scope in self._waits:
            scope.cancel()

    async def _part(self) -> None:
        assert self._frames is not None
        with trio.move_on_after(PART_DEADLINE_S), contextlib.suppress(Exception):  # whatever it is, this is the end
            await self._frames.close()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except TransportFailure as failure:
            self._failure = failure
        except Exception as error:
            self._failure = TransportFailure(f"libp2p handshake: {_words(error)}")


async def _multiplex(muxed: Yamux) -> None:
    with contextlib.suppress(Exception):  # the streams see the end, and tell it
        await muxed.start()


async def _ask(muxed: Yamux, session: BoundedSession) -> FrameStream:
    """Open the stream of this connection."""
    frames = FrameStream(await muxed.open_stream(), session)
    await MultiselectClient().select_one_of([PROTOCOL], MultiselectCommunicator(frames))
    return frames


async def _answer(muxed: Yamux, session: BoundedSession) -> FrameStream:
    """Wait for the stream of this connection; others are turned away."""
    for _ in range(MAX_STREAMS_TRIED):
        stream = cast(YamuxStream, await muxed.accept_stream())
        frames = FrameStream(stream, session)
        with contextlib.suppress(Exception):
            await Multiselect({PROTOCOL: None}).negotiate(MultiselectCommunicator(frames))
            return frames
        await stream.reset()
    raise TransportFailure(f"the other side does not speak {PROTOCOL}")


async def _refuse_streams(muxed: Yamux) -> None:
    with contextlib.suppress(Exception):  # the connection has ended
        while True:
            await cast(YamuxStream, await muxed.accept_stream()).reset()


def _words(error: BaseException) -> str:
    """What to tell people of an error of py-libp2p's: the innermost, whose words are the most specific."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MuxedConnError | MuxedStreamError | IncompleteReadError):
        return "the other side closed the connection"
    return str(error) or type(error).__name__

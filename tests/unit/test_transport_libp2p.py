"""What only the libp2p transport has to do: who gets in, and what strangers and members may cost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from guarded import HOST, LONG_S, GuardedListener

pytest.importorskip("libp2p", reason="needs p2prec[libp2p]: make test-libp2p")

import trio
import trio.lowlevel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_key_pair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from p2prec.config import TransportKind
from p2prec.errors import RemoteMisbehaviour, TransportFailure, UsageError
from p2prec.identity import Identity
from p2prec.manifest import CatalogueReference, Manifest
from p2prec.peer.messages import Refusal
from p2prec.storage.invitation import membership_key_of
from p2prec.transport import certificates
from p2prec.transport.base import MAX_FRAME_BYTES, Connection
from p2prec.transport.libp2p import session as sessions
from p2prec.transport.libp2p import streams
from p2prec.transport.libp2p.connection import Libp2pConnection
from p2prec.transport.libp2p.streams import MAX_HANDSHAKE_BYTES, MAX_UNREAD_BYTES, PREFIX_BYTES, BufferedSocket
from p2prec.transport.libp2p.thread import TrioThread
from p2prec.transport.libp2p.transport import Libp2pTransport
from p2prec.transport.tcp import InboundLimits, InboundRefusal, TcpTransport
from p2prec.transport.tls import TlsTransport

SECRET, OTHER_SECRET = bytes(range(32)), bytes(32)


def manifest(secret: bytes | None = None) -> Manifest:
    key = None if secret is None else membership_key_of(secret)
    catalogue = CatalogueReference(digest="00" * 32, n_items=1, data="")
    return Manifest(name="test", catalogue=catalogue, seed=f"{0:064x}", membership_key=key)


def peer(secret: bytes | None = None) -> Libp2pTransport:
    return Libp2pTransport(Identity.generate(), manifest(secret), secret)


@pytest.fixture(autouse=True)
def short_partings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PART_DEADLINE_S", 0.2)


class Guarded(GuardedListener):
    """Over libp2p, unless another kind is asked for."""

    def __init__(
        self,
        secret: bytes | None = None,
        limits: InboundLimits | None = None,
        kind: type[TcpTransport[Any]] | None = None,
    ) -> None:
        super().__init__(kind or Libp2pTransport, manifest(secret), secret, limits)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that may leave neither a task nor a thread nor an open descriptor nor an unretrieved exception behind."""

    async def guarded() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        before = _n_open_descriptors(), threading.active_count()
        async with asyncio.timeout(6 * LONG_S):
            await test()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert unhandled == []
        after = _n_open_descriptors(), threading.active_count()
        assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)

    asyncio.run(guarded())


def _n_open_descriptors() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0


# Who gets in


def test_a_private_swarm_needs_its_secret() -> None:
    async def test() -> None:
        with pytest.raises(UsageError, match="no invitation"):
            Libp2pTransport(Identity.generate(), manifest(SECRET), None)
        with pytest.raises(UsageError, match="another swarm"):
            Libp2pTransport(Identity.generate(), manifest(SECRET), OTHER_SECRET)

    run(test)


def test_members_of_a_private_swarm_meet() -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            member = peer(SECRET)
            near = await listener.dial(member)
            far = await listener.connection()
            await near.send(b"hello", deadline_s=LONG_S)
            assert await far.receive(deadline_s=LONG_S) == b"hello"
            assert near.remote_id == listener.identity.peer_id
            await member.close()

    run(test)


def _impostor(monkeypatch: pytest.MonkeyPatch) -> Libp2pTransport:
    """A stranger that has the manifest of a private swarm and makes up the secret."""
    with monkeypatch.context() as patched:
        patched.setattr("p2prec.transport.libp2p.transport.authority_key", lambda *_: Ed25519PrivateKey.generate())
        return Libp2pTransport(Identity.generate(), manifest(SECRET), None)


def _show(transport: Libp2pTransport, certificate: bytes) -> None:
    """Make a transport show this certificate, and take any."""
    transport._credentials = dataclasses.replace(transport._credentials, certificate=certificate)


def test_a_stranger_is_refused_by_a_private_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            stranger = _impostor(monkeypatch)
            with pytest.raises(TransportFailure, match="closed"):
                await listener.dial(stranger)
            host, reason, detail = await listener.refusal()
            assert (host, reason) == (HOST, InboundRefusal.HANDSHAKE_FAILED)
            assert "not of this swarm" in detail
            assert listener.accepted.empty()
            await stranger.close()

    run(test)


def test_a_stranger_cannot_pose_as_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        met: list[Connection] = []

        async def accept(connection: Connection) -> None:
            met.append(connection)

        stranger = _impostor(monkeypatch)
        await stranger.listen(HOST, 0, accept)
        with monkeypatch.context() as gullible:  # it takes anybody
            real = certificates.require_member
            gullible.setattr(
                sessions,
                "require_member",
                lambda der, authority, peer_id: (
                    real(der, authority, peer_id) if authority is not stranger._credentials.authority else None
                ),
            )
            member = peer(SECRET)
            with pytest.raises(TransportFailure, match="not of this swarm"):
                await member.dial(HOST, stranger.listen_port, deadline_s=LONG_S)
        await member.close()
        await stranger.close()

    run(test)


def test_another_members_certificate_proves_nothing() -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            honest, thief = peer(SECRET), peer(SECRET)
            _show(thief, honest._credentials.certificate)
            with pytest.raises(TransportFailure):
                await listener.dial(thief)
            assert "another peer's" in (await listener.refusal())[2]
            for transport in (honest, thief):
                await transport.close()

    run(test)


@pytest.mark.parametrize("certificate", [b"", b"\x30\x03\x02\x01\x01", bytes(sessions.MAX_CERTIFICATE_BYTES + 1)])
def test_a_damaged_certificate_is_refused(certificate: bytes) -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = peer()
            _show(client, certificate)
            with pytest.raises(TransportFailure):
                await listener.dial(client)
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED
            await client.close()

    run(test)


def test_the_certificate_is_held_to_key_and_authority() -> None:
    key = certificates.authority_key(manifest(SECRET), SECRET)
    authority = certificates.authority_certificate(manifest(SECRET).swarm_id, key)
    own, other = Identity.generate(), Identity.generate()
    der = certificates.peer_certificate(manifest(SECRET).swarm_id, key, own).public_bytes(Encoding.DER)
    certificates.require_member(der, authority, own.peer_id)
    with pytest.raises(TransportFailure, match="another peer's"):
        certificates.require_member(der, authority, other.peer_id)
    other_authority = certificates.authority_certificate(
        manifest().swarm_id, certificates.authority_key(manifest(), None)
    )
    with pytest.raises(TransportFailure, match="not of this swarm"):
        certificates.require_member(der, other_authority, own.peer_id)
    with pytest.raises(TransportFailure, match="not of this swarm"):
        certificates.require_member(der[:-1] + bytes([der[-1] ^ 1]), authority, own.peer_id)


def test_plaintext_is_not_spoken() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = peer()
            insecure = SecurityMultistream({PLAINTEXT_PROTOCOL_ID: InsecureTransport(create_new_key_pair())})
            client._credentials = dataclasses.replace(client._credentials, security=insecure)
            with pytest.raises(TransportFailure, match="not supported"):
                await listener.dial(client)
            await listener.refusal()
            await client.close()

    run(test)


def test_a_peer_needs_an_ed25519_key() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = peer()
            noise = Transport(create_rsa_key_pair(), X25519PrivateKey.new())
            client._credentials = dataclasses.replace(
                client._credentials, security=SecurityMultistream({PROTOCOL_ID: noise})
            )
            with pytest.raises(TransportFailure):
                await listener.dial(client)
            assert "no Ed25519 key" in (await listener.refusal())[2]
            await client.close()

    run(test)


# Other transports


def test_tls_and_libp2p_tell_each_other_apart() -> None:
    async def test() -> None:
        for listening, dialling in ((Libp2pTransport, TlsTransport), (TlsTransport, Libp2pTransport)):
            met: list[tuple[str, int, TransportKind]] = []
            own, other = (TransportKind.TLS, TransportKind.LIBP2P)
            if listening is Libp2pTransport:
                own, other = other, own
            async with Guarded(kind=listening) as listener:
                dialler = dialling(Identity.generate(), manifest(), on_mismatch=lambda *args, met=met: met.append(args))
                with pytest.raises(TransportFailure, match=f"speaks {own}, this peer {other}"):
                    await listener.dial(dialler)
                assert met == [(HOST, listener.transport.listen_port, own)]
                _, reason, detail = await listener.refusal()
                assert reason == InboundRefusal.HANDSHAKE_FAILED
                assert f"speaks {other}" in detail
                assert listener.mismatches == [(HOST, 0, other)]
                await dialler.close()

    run(test)


# What strangers cost


def test_a_connection_that_says_nothing_loses_its_place() -> None:
    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=0.2)) as listener:
            reader, writer = await listener.open_socket()
            assert "0.2 s" in (await listener.refusal())[2]
            assert (await reader.read()).startswith(b"\x13/multistream")
            writer.close()

    run(test)


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"\x13/multistream/1.0.0\n" + b"\x07/noise\n" + bytes(100), id="not Noise"),
        pytest.param(b"\x13/multistream/1.0.0\n" + b"\xff" * 20, id="endless length"),
    ],
)
def test_noise_instead_of_a_handshake_is_refused(noise: bytes) -> None:
    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=0.5)) as listener:
            _, writer = await listener.open_socket()
            writer.write(noise)
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED
            writer.close()

    run(test)


@pytest.mark.parametrize("n_bytes", [MAX_HANDSHAKE_BYTES - 100, MAX_HANDSHAKE_BYTES + 100])
def test_a_handshake_may_take_so_much_and_no_more(n_bytes: int) -> None:
    """multistream-select would take a first message of any announced length."""

    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=0.5)) as listener:
            _, writer = await listener.open_socket()
            writer.write(b"\xff\xff\xff\x7f" + bytes(n_bytes - 4))
            detail = (await listener.refusal())[2]
            assert ("a handshake of more than" in detail) == (n_bytes > MAX_HANDSHAKE_BYTES)
            writer.close()

    run(test)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_inside_noise_is_refused(seed: int) -> None:
    """Whoever has a key gets through Noise; what follows is read before anybody knows whether it is a member."""

    class Garbler:
        """In the place of yamux."""

        async def new_conn(self, secured: Any, _: Any) -> None:
            await secured.write(random.Random(seed).randbytes(20_000))
            await trio.sleep_forever()

    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=1.0)) as listener:
            client = peer()
            garbler: Any = Garbler()
            client._credentials = dataclasses.replace(client._credentials, muxers=garbler)
            with pytest.raises(TransportFailure):
                await client.dial(HOST, listener.transport.listen_port, deadline_s=2.0)
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED
            await client.close()

    run(test)


def test_inbound_connections_are_capped() -> None:
    async def test() -> None:
        async with Guarded(limits=InboundLimits(connections=2, per_own_address=2)) as listener:
            client = peer()
            for _ in range(2):
                await listener.dial(client)
                await listener.connection()
            with pytest.raises(TransportFailure):
                await listener.dial(client)
            assert (await listener.refusal())[1] == InboundRefusal.TOO_MANY
            await client.close()

    run(test)


def test_streams_beside_the_one_are_turned_away() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = peer()
            near = await listener.dial(client)
            far = await listener.connection()
            muxed = _muxed(near)

            async def crowd() -> None:
                opened = [await muxed.open_stream() for _ in range(40)]
                for stream in opened:
                    with pytest.raises(MuxedStreamError):
                        await stream.read(1)

            await client._thread.submit(crowd)
            async with asyncio.timeout(LONG_S):
                while len(_muxed(far).streams) > 1:  # noqa: ASYNC110  forgotten after the other side was told, in another thread
                    await asyncio.sleep(0.01)
            assert len(_muxed(far).streams) == 1
            await near.send(b"still here", deadline_s=LONG_S)
            assert await far.receive(deadline_s=LONG_S) == b"still here"
            await client.close()

    run(test)


# What a member may cost


def _muxed(connection: Any) -> yamux.Yamux:
    assert isinstance(connection, Libp2pConnection)
    frames = connection._session._frames
    assert frames is not None
    assert frames._session.muxed is not None
    return frames._session.muxed


def _raw_test(body: Callable[[Libp2pTransport, Libp2pConnection, Any], Coroutine[Any, Any, None]]) -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = peer()
            near = await listener.dial(client)
            await body(client, near, await listener.connection())
            await client.close()

    run(test)


@pytest.mark.parametrize("n_bytes", [MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_an_oversized_prefix_ends_the_connection_before_anything_is_allocated(n_bytes: int) -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        assert near._session._frames is not None
        await client._thread.submit(near._session._frames.write, n_bytes.to_bytes(4, "big") + bytes(100))
        with pytest.raises(RemoteMisbehaviour) as refusal:
            await far.receive(deadline_s=LONG_S)
        assert refusal.value.reason == Refusal.OVERSIZED
        assert refusal.value.fatal
        with pytest.raises(TransportFailure):
            await near.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_a_yamux_frame_beyond_the_window_is_misbehaviour() -> None:
    """py-libp2p itself takes 16 MB at once."""

    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        muxed = _muxed(near)
        header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, 1, MAX_UNREAD_BYTES + 1)
        await client._thread.submit(muxed._write_frame, header)
        with pytest.raises(RemoteMisbehaviour, match="yamux frame"):
            await far.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_a_flood_of_frames_that_carry_nothing_is_misbehaviour() -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        muxed = _muxed(near)
        ping = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, 0, 0, 0)  # neither a question nor an answer

        async def flood() -> None:
            with contextlib.suppress(Exception):  # cut off while still sending
                for _ in range(100):
                    await muxed._write_frame(ping * 200)

        await near.send(b"first", deadline_s=LONG_S)
        assert await far.receive(deadline_s=LONG_S) == b"first"
        flooding = client._thread.submit(flood)
        with pytest.raises(RemoteMisbehaviour, match="flood") as refusal:
            await far.receive(deadline_s=LONG_S)
        assert refusal.value.reason == Refusal.UNEXPECTED
        await flooding

    _raw_test(body)


def test_honest_traffic_is_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many small frames nor a few large ones, with next to no credit to begin with."""
    monkeypatch.setattr(streams, "BURST_READS", 100)
    monkeypatch.setattr(streams, "READS_PER_S", 0)

    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        for frame in [bytes(MAX_FRAME_BYTES)] * 20 + [bytes(10_000)] * 100:
            for one, other in ((near, far), (far, near)):
                sending = asyncio.create_task(one.send(frame, deadline_s=LONG_S))
                assert await other.receive(deadline_s=LONG_S) == frame
                await sending

    _raw_test(body)


def test_a_side_that_ignores_the_window_fills_no_memory() -> None:
    """It sends as if it had been given credit without end. What is not received stays in the kernel's buffers, and its own."""

    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        muxed = _muxed(near)
        (stream,) = muxed.streams.values()
        stream.send_window = 1 << 30
        sending = asyncio.create_task(near.send(bytes(MAX_FRAME_BYTES), deadline_s=LONG_S))
        frame = await far.receive(deadline_s=LONG_S)
        await sending
        assert frame == bytes(MAX_FRAME_BYTES)
        held: list[int] = []

        async def flood() -> None:
            for _ in range(64):
                await near.send(bytes(MAX_FRAME_BYTES), deadline_s=1.0)
                held.append(sum(map(len, _muxed(far).stream_buffers.values())))

        with pytest.raises(TransportFailure):
            await flood()
        held.append(sum(map(len, _muxed(far).stream_buffers.values())))
        assert 0 < max(held) <= 2 * MAX_UNREAD_BYTES
        assert len(held) < 32

    _raw_test(body)


@pytest.mark.parametrize("start", [b"", b"\0\0", b"\0\0\0\x05abc"])
def test_a_stream_that_ends_inside_a_frame_is_a_failure(start: bytes) -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        assert near._session._frames is not None
        await client._thread.submit(near._session._frames.write, start)
        await near.close()
        with pytest.raises(TransportFailure, match="closed"):
            await far.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_a_connection_that_is_cut_is_a_failure() -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        near._socket.shutdown(socket.SHUT_RDWR)
        for side in (near, far):
            with pytest.raises(TransportFailure):
                await side.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_bytes_are_counted_as_they_cross_the_socket() -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        before = near.bytes_out, far.bytes_in
        await near.send(bytes(100_000), deadline_s=LONG_S)
        await far.receive(deadline_s=LONG_S)
        for after, start in ((near.bytes_out, before[0]), (far.bytes_in, before[1])):
            assert 100_000 < after - start < 102_000

    _raw_test(body)


def test_the_window_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """py-libp2p gives up after five seconds without one; our deadlines decide."""
    polled: list[float] = []
    sleep = trio.sleep

    async def noted(seconds: float) -> None:
        polled.append(seconds)
        await sleep(seconds)

    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        (stream,) = _muxed(near).streams.values()
        stream.send_window = 0
        monkeypatch.setattr(trio, "sleep", noted)
        sending = asyncio.create_task(near.send(b"patience", deadline_s=LONG_S))
        while not polled:  # noqa: ASYNC110  it happens in another thread
            await asyncio.sleep(0.01)
        stream.send_window = yamux.DEFAULT_WINDOW_SIZE
        assert await far.receive(deadline_s=LONG_S) == b"patience"
        await sending

    _raw_test(body)


def test_many_small_pieces_make_one_message() -> None:
    """py-libp2p itself gives up after a hundred."""

    class Trickle:
        """A socket from which single bytes come."""

        async def receive_some(self, _: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return b"x"

    async def read() -> bytes:
        trickle: Any = Trickle()
        return await BufferedSocket(trickle).read(1000)

    assert trio.run(read) == b"x" * 1000


@pytest.mark.parametrize(("excess", "n_messages"), [(0, 1), (1, 2)])
def test_a_yamux_frame_is_one_noise_message(excess: int, n_messages: int) -> None:
    async def body(client: Libp2pTransport, near: Libp2pConnection, far: Any) -> None:
        secured: Any = _muxed(near).secured_conn
        packets, written = secured.conn.read_writer, []
        write = packets.write_msg

        async def noted(message: bytes) -> None:
            written.append(len(message))
            await write(message)

        packets.write_msg = noted
        largest = MAX_PLAINTEXT_LENGTH - yamux.HEADER_SIZE - PREFIX_BYTES
        await near.send(bytes(largest + excess), deadline_s=LONG_S)
        await far.receive(deadline_s=LONG_S)
        assert len(written) == n_messages

    _raw_test(body)


# The thread


def test_an_error_in_the_thread_comes_out_and_the_thread_lives_on() -> None:
    async def test() -> None:
        thread = TrioThread("test")
        await thread.start()

        async def fail() -> None:
            raise ZeroDivisionError

        async def succeed(value: int) -> int:
            await trio.lowlevel.checkpoint()
            return value

        with pytest.raises(ZeroDivisionError):
            await thread.submit(fail)
        assert await thread.submit(succeed, 7) == 7
        await thread.close(patience_s=1.0)

    run(test)


def test_closing_the_thread_ends_what_runs_and_refuses_what_comes() -> None:
    async def test() -> None:
        thread = TrioThread("test")
        await thread.start()
        forever = thread.submit(trio.sleep_forever)
        await thread.close(patience_s=0.05)
        for outcome in (forever, thread.submit(trio.sleep, 0)):
            with pytest.raises(TransportFailure, match="closed"):
                await outcome
        with pytest.raises(TransportFailure, match="closed"):
            await thread.start()
        await thread.close(patience_s=0.05)

    run(test)


def test_a_thread_that_never_started_can_be_closed() -> None:
    async def test() -> None:
        thread = TrioThread("test")
        await thread.close(patience_s=1.0)
        with pytest.raises(TransportFailure):
            await thread.start()

    run(test)


def test_strangers_do_not_make_it_write_to_stderr() -> None:
    """py-libp2p logs as warnings what any stranger can cause."""
    program = (
        "import logging; import p2prec.transport.libp2p.transport\n"
        "logging.getLogger('libp2p.stream_muxer').error('noise')\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "LIBP2P_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=clean, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")

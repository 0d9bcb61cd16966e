"""What only the TLS transport has to do: who gets in, what strangers cost, and what comes off a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from guarded import HOST, LONG_S, GuardedListener

from p2prec.errors import RemoteMisbehaviour, TransportFailure, UsageError
from p2prec.identity import Identity
from p2prec.manifest import CatalogueReference, Manifest
from p2prec.peer.messages import Refusal
from p2prec.transport import certificates
from p2prec.transport.base import MAX_FRAME_BYTES, Connection
from p2prec.transport.certificates import authority_certificate, authority_key, remote_peer_id, tls_contexts
from p2prec.transport.tcp import InboundLimits, InboundRefusal
from p2prec.transport.tls import TlsTransport
from p2prec.transport.tls_connection import TlsConnection

SECRET = bytes(range(32))


def manifest(secret: bytes | None = None, seed: int = 0) -> Manifest:
    key = None
    if secret is not None:
        public_key = Ed25519PrivateKey.from_private_bytes(secret).public_key()
        key = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    catalogue = CatalogueReference(digest="00" * 32, n_items=1, data="")
    return Manifest(name="test", catalogue=catalogue, seed=f"{seed:064x}", membership_key=key)


class Guarded(GuardedListener):
    """Over TLS."""

    def __init__(self, secret: bytes | None = None, limits: InboundLimits | None = None, host: str = HOST) -> None:
        super().__init__(TlsTransport, manifest(secret), secret, limits, host)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that may leave neither a task nor an open descriptor nor an unretrieved exception behind."""

    async def guarded() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        before = _n_open_descriptors()
        async with asyncio.timeout(6 * LONG_S):
            await test()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert unhandled == []
        assert _n_open_descriptors() == before

    asyncio.run(guarded())


def _n_open_descriptors() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0


def _peer(secret: bytes | None = None, seed: int = 0) -> TlsTransport:
    return TlsTransport(Identity.generate(), manifest(secret, seed), secret)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


# Who gets in


def test_the_authority_of_an_open_swarm_is_the_same_for_everyone() -> None:
    one, other = (manifest(), manifest())
    swarm_id = one.swarm_id
    certificates_ = {
        authority_certificate(swarm_id, authority_key(m, None)).public_bytes(Encoding.DER) for m in (one, other)
    }
    assert len(certificates_) == 1


def test_the_authority_key_is_bound_to_the_swarm() -> None:
    keys = {authority_key(manifest(seed=seed), None).private_bytes_raw() for seed in range(3)}
    assert len(keys) == 3


def test_a_membership_secret_has_to_fit_the_manifest() -> None:
    assert authority_key(manifest(SECRET), SECRET).private_bytes_raw() == SECRET
    with pytest.raises(UsageError, match="no invitation"):
        authority_key(manifest(SECRET), None)
    with pytest.raises(UsageError, match="another swarm"):
        authority_key(manifest(SECRET), bytes(32))
    with pytest.raises(UsageError, match="32 bytes"):
        authority_key(manifest(SECRET), SECRET[:-1])
    with pytest.raises(UsageError, match="open swarm"):
        authority_key(manifest(), SECRET)


def test_members_of_a_private_swarm_connect() -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            member = _peer(SECRET)
            connection = await listener.dial(member)
            assert connection.remote_id == listener.identity.peer_id
            await listener.connection()
            await member.close()

    run(test)


def _impostor(monkeypatch: pytest.MonkeyPatch) -> TlsTransport:
    """Knows the manifest of the private swarm, but made up its secret."""
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "authority_key", lambda *_: Ed25519PrivateKey.generate())
        return TlsTransport(Identity.generate(), manifest(SECRET), None)


def test_a_stranger_is_refused_by_a_private_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            stranger = _impostor(monkeypatch)
            with pytest.raises(TransportFailure, match="not of this swarm"):  # and the other way round
                await listener.dial(stranger)
            host, reason, _ = await listener.refusal()
            assert (host, reason) == (HOST, InboundRefusal.HANDSHAKE_FAILED)
            assert listener.accepted.empty()
            await stranger.close()

    run(test)


def test_a_stranger_that_trusts_anybody_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Guarded(SECRET) as listener:
            stranger = _impostor(monkeypatch)
            stranger._client_context.verify_mode = ssl.CERT_NONE
            connection = await listener.dial(stranger)  # TLS 1.3: a refused client learns of it at its first read
            with pytest.raises(TransportFailure, match="alert"):
                await connection.receive(deadline_s=LONG_S)
            _, reason, detail = await listener.refusal()
            assert reason == InboundRefusal.HANDSHAKE_FAILED
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
        stranger._server_context.verify_mode = ssl.CERT_NONE
        await stranger.listen(HOST, 0, accept)
        member = _peer(SECRET)
        with pytest.raises(TransportFailure, match="not of this swarm"):
            await member.dial(HOST, stranger.listen_port, deadline_s=LONG_S)
        assert met == []
        await member.close()
        await stranger.close()

    run(test)


def _client_context(change: Callable[[ssl.SSLContext], None]) -> ssl.SSLContext:
    client, _ = tls_contexts(manifest(), None, Identity.generate())
    change(client)
    return client


def _older_tls(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_older_tls, id="TLS 1.2"),
        pytest.param(lambda c: c.set_alpn_protocols(["h2"]), id="another protocol"),
    ],
)
def test_what_does_not_speak_this_protocol_is_refused(change: Callable[[ssl.SSLContext], None]) -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = _peer()
            client._client_context = _client_context(change)
            with pytest.raises(TransportFailure):
                await listener.dial(client)
            _, reason, _ = await listener.refusal()
            assert reason == InboundRefusal.HANDSHAKE_FAILED
            await client.close()

    run(test)


def test_a_client_without_a_certificate_is_refused() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            client = _peer()
            bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
            bare.set_alpn_protocols([certificates.ALPN])
            client._client_context = bare
            connection = await listener.dial(client)
            with pytest.raises(TransportFailure):
                await connection.receive(deadline_s=LONG_S)
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED
            await client.close()

    run(test)


def test_a_peer_id_needs_an_ed25519_certificate() -> None:
    swarm_id, key = manifest().swarm_id, authority_key(manifest(), None)
    name = certificates._authority_name(swarm_id)
    other_kind: Any = generate_private_key(SECP256R1()).public_key()
    certificate = certificates._certificate(name, name, other_kind, serial_number=3).sign(key, None)
    with pytest.raises(TransportFailure, match="no Ed25519 key"):
        remote_peer_id(certificate.public_bytes(Encoding.DER))
    for damaged in (None, b"", b"\x30\x03\x02\x01\x01"):
        with pytest.raises(TransportFailure, match="cannot be read"):
            remote_peer_id(damaged)


def test_no_private_key_touches_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def noted(self: ssl.SSLContext, certfile: str, keyfile: str) -> None:
        opened.extend((certfile, keyfile))
        load(self, certfile, keyfile)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noted)
    before = _n_open_descriptors()
    tls_contexts(manifest(), None, Identity.generate())
    assert opened and all(path.startswith("/dev/fd/") for path in opened)
    assert _n_open_descriptors() == before


# What strangers cost


def test_a_connection_that_says_nothing_loses_its_place() -> None:
    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=0.05)) as listener:
            reader, writer = await listener.open_socket()
            _, reason, detail = await listener.refusal()
            assert reason == InboundRefusal.HANDSHAKE_FAILED
            assert "0.05 s" in detail
            assert await reader.read() == b""
            await _close(writer)
            assert listener.transport.refused == {InboundRefusal.HANDSHAKE_FAILED: 1}

    run(test)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(100)])
def test_noise_instead_of_a_handshake_is_refused(noise: bytes) -> None:
    async def test() -> None:
        async with Guarded(limits=InboundLimits(handshake_deadline_s=0.2)) as listener:
            _, writer = await listener.open_socket()
            writer.write(noise)
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED
            await _close(writer)

    run(test)


def test_a_connection_that_is_reset_in_its_handshake_is_only_counted() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            sock = socket.create_connection((HOST, listener.transport.listen_port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close sends a reset
            sock.close()
            assert (await listener.refusal())[1] == InboundRefusal.HANDSHAKE_FAILED

    run(test)


async def _expect_cap(limits: InboundLimits, n_allowed: int, reason: InboundRefusal, *, finish: bool) -> None:
    """`n_allowed` connections get in, one more does not, and does once another has gone."""
    async with Guarded(limits=limits) as listener:
        peer, raw = _peer(), []
        for _ in range(n_allowed):
            if finish:
                await listener.dial(peer)
                last = await listener.connection()
            else:
                raw.append(await listener.open_socket())
        refused = await listener.open_socket()
        assert (await listener.refusal())[:2] == (HOST, reason)
        assert await refused[0].read() == b""
        if finish:
            await last.close()
            for task in list(listener.transport._tasks)[:1]:  # the handler of a test waits for ever: end one
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        else:
            await _close(raw.pop()[1])
            await listener.refusal()
        await listener.dial(peer)
        for _, writer in (*raw, refused):
            await _close(writer)
        await peer.close()


def test_inbound_connections_are_capped() -> None:
    limits = InboundLimits(connections=3)
    run(lambda: _expect_cap(limits, 3, InboundRefusal.TOO_MANY, finish=True))


def test_inbound_connections_of_one_address_are_capped() -> None:
    limits = InboundLimits(per_own_address=2)
    run(lambda: _expect_cap(limits, 2, InboundRefusal.TOO_MANY_FROM_ADDRESS, finish=True))


def test_unfinished_handshakes_are_capped() -> None:
    limits = InboundLimits(pending_handshakes=2)
    run(lambda: _expect_cap(limits, 2, InboundRefusal.TOO_MANY_HANDSHAKES, finish=False))


def test_running_out_of_descriptors_pauses_accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        def __init__(self, listener: socket.socket) -> None:
            self.fileno = listener.fileno

        def accept(self) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def test() -> None:
        monkeypatch.setattr("p2prec.transport.tcp._ACCEPT_PAUSE_S", 0.01)
        async with Guarded() as listener:
            assert listener.transport._listener is not None
            exhausted: Any = Exhausted(listener.transport._listener)
            listener.transport._accept_waiting(exhausted, listener._accept)
            _, reason, detail = await listener.refusal()
            assert reason == InboundRefusal.TOO_MANY
            assert "open files" in detail
            peer = _peer()
            await listener.dial(peer)  # accepted after the pause
            await listener.connection()
            await peer.close()

    run(test)


# What comes off the socket


def _raw_test(body: Callable[[TlsConnection, Connection], Awaitable[None]]) -> None:
    async def test() -> None:
        async with Guarded() as listener:
            peer = _peer()
            near = await listener.dial(peer)
            await body(near, await listener.connection())
            await peer.close()

    run(test)


async def _send_raw(connection: TlsConnection, data: bytes) -> None:
    connection._encrypt(data)
    await connection._flush(connection._loop.time() + LONG_S)


@pytest.mark.parametrize("n_bytes", [MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_an_oversized_prefix_ends_the_connection_before_anything_is_allocated(n_bytes: int) -> None:
    async def body(near: TlsConnection, far: Connection) -> None:
        await _send_raw(near, n_bytes.to_bytes(4, "big") + bytes(100))
        with pytest.raises(RemoteMisbehaviour) as refusal:
            await far.receive(deadline_s=LONG_S)
        assert refusal.value.reason == Refusal.OVERSIZED
        assert refusal.value.fatal
        with pytest.raises(TransportFailure):
            await near.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_an_announced_frame_takes_only_the_memory_that_has_arrived() -> None:
    async def body(near: TlsConnection, far: Connection) -> None:
        await _send_raw(near, MAX_FRAME_BYTES.to_bytes(4, "big") + bytes(10))
        with pytest.raises(TransportFailure):
            await far.receive(deadline_s=0.05)
        assert isinstance(far, TlsConnection)
        assert len(far._buffer) == 14
        await _send_raw(near, bytes(MAX_FRAME_BYTES - 10))
        assert await far.receive(deadline_s=LONG_S) == bytes(MAX_FRAME_BYTES)

    _raw_test(body)


@pytest.mark.parametrize("start", [b"", b"\0\0", b"\0\0\0\x05abc"])
def test_a_stream_that_ends_inside_a_frame_is_a_failure(start: bytes) -> None:
    async def body(near: TlsConnection, far: Connection) -> None:
        await _send_raw(near, start)
        await near.close()
        with pytest.raises(TransportFailure, match="closed"):
            await far.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_a_stream_that_is_cut_without_goodbye_is_a_failure() -> None:
    async def body(near: TlsConnection, far: Connection) -> None:
        near._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(TransportFailure):
            await far.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_bytes_that_are_not_tls_end_the_connection() -> None:
    async def body(near: TlsConnection, far: Connection) -> None:
        near._socket.send(bytes(100))
        with pytest.raises(TransportFailure):
            await far.receive(deadline_s=LONG_S)
        with pytest.raises(TransportFailure, match="closed"):
            await far.receive(deadline_s=LONG_S)

    _raw_test(body)


def test_the_remote_id_is_unknown_before_the_handshake() -> None:
    async def test() -> None:
        client, _ = tls_contexts(manifest(), None, Identity.generate())
        listening = socket.create_server((HOST, 0))
        sock = socket.create_connection(listening.getsockname())
        sock.setblocking(False)
        connection = TlsConnection(sock, client, remote_host=HOST, outbound=True, on_close=lambda _: None)
        with pytest.raises(TransportFailure):
            _ = connection.remote_id
        with pytest.raises(TransportFailure, match="within"):
            await connection.handshake(deadline_s=0.05)
        listening.close()

    run(test)


# Addresses


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_of_both_families() -> None:
    async def test() -> None:
        async with Guarded(host="::") as listener:
            peer = _peer()
            connection = await listener.dial(peer)
            assert (await listener.connection()).remote_host == HOST  # not ::ffff:127.0.0.1
            await connection.close()
            await peer.dial("::1", listener.transport.listen_port, deadline_s=LONG_S)
            assert (await listener.connection()).remote_host == "::1"
            await peer.close()

    run(test)


def test_a_name_is_resolved() -> None:
    async def test() -> None:
        async with Guarded() as listener:
            peer = _peer()
            connection = await peer.dial("localhost", listener.transport.listen_port, deadline_s=LONG_S)
            assert connection.remote_host == HOST
            await peer.close()

    run(test)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "a..b"])
def test_an_unknown_name_is_a_failure(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def test() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        peer = _peer()
        with pytest.raises(TransportFailure, match="no such host"):
            await peer.dial(host, 1, deadline_s=LONG_S)
        await peer.close()

    run(test)


def test_a_listener_that_does_not_answer_misses_the_deadline() -> None:
    async def test() -> None:
        silent = socket.create_server((HOST, 0))  # accepts in the kernel, says nothing
        peer = _peer()
        with pytest.raises(TransportFailure, match="within"):
            await peer.dial(HOST, silent.getsockname()[1], deadline_s=0.05)
        silent.close()
        await peer.close()

    run(test)

"""A general libp2p host, with nothing of ours in it but the certificate, meets a peer: what we speak is libp2p."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from devices import make_manifest

pytest.importorskip("libp2p", reason="needs p2prec[libp2p]: make test-libp2p")

import multiaddr
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from libp2p import new_host
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID, Transport

from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.transport.base import Connection
from p2prec.transport.certificates import authority_key, peer_certificate
from p2prec.transport.libp2p.session import PROTOCOL
from p2prec.transport.libp2p.thread import TrioThread
from p2prec.transport.libp2p.transport import Libp2pTransport

HOST = "127.0.0.1"
DEADLINE_S = 30.0
SIZES = (0, 1, 1000, 300_000)


class GeneralHost:
    """py-libp2p's `Host`, put together as its own documentation does."""

    def __init__(self, manifest: Manifest) -> None:
        self.identity = Identity.generate()
        key = authority_key(manifest, None)
        self.certificate = peer_certificate(manifest.swarm_id, key, self.identity).public_bytes(Encoding.DER)
        private_key = Ed25519PrivateKey.from_bytes(self.identity.private_key.private_bytes_raw())
        keys = KeyPair(private_key, private_key.get_public_key())
        self.host = new_host(key_pair=keys, sec_opt={PROTOCOL_ID: Transport(keys, X25519PrivateKey.new())})

    async def call(self, port: int, peer_id: str) -> list[int]:
        """Dial the peer, and have frames echoed."""
        async with self.host.run(listen_addrs=[]):
            address = multiaddr.Multiaddr(f"/ip4/{HOST}/tcp/{port}/p2p/{peer_id}")
            await self.host.connect(info_from_p2p_addr(address))
            stream = await self.host.new_stream(info_from_p2p_addr(address).peer_id, [PROTOCOL])
            await _send(stream, self.certificate)
            await _receive(stream)
            lengths = []
            for size in SIZES:
                await _send(stream, bytes(size))
                lengths.append(len(await _receive(stream)))
            return lengths

    async def answer(self, listening: Callable[[int], None], until: trio.Event) -> None:
        """Listen, and echo frames."""

        async def echo(stream: Any) -> None:
            await _receive(stream)
            await _send(stream, self.certificate)
            for _ in SIZES:
                await _send(stream, await _receive(stream))

        self.host.set_stream_handler(PROTOCOL, echo)
        async with self.host.run(listen_addrs=[multiaddr.Multiaddr(f"/ip4/{HOST}/tcp/0")]):
            listening(int(self.host.get_addrs()[0].value_for_protocol("tcp")))
            await until.wait()


async def _send(stream: Any, frame: bytes) -> None:
    await stream.write(len(frame).to_bytes(4, "big") + frame)


async def _receive(stream: Any) -> bytes:
    return await _exactly(stream, int.from_bytes(await _exactly(stream, 4), "big"))


async def _exactly(stream: Any, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes:
        data += await stream.read(n_bytes - len(data))
    return data


def _run(test: Callable[[TrioThread], Awaitable[None]]) -> None:
    async def guarded() -> None:
        thread = TrioThread("general host")
        await thread.start()
        async with asyncio.timeout(2 * DEADLINE_S):
            await test(thread)
        await thread.close(patience_s=1.0)

    asyncio.run(guarded())


def test_a_general_host_dials_a_peer() -> None:
    manifest = make_manifest()

    async def echo(connection: Connection) -> None:
        while True:
            await connection.send(await connection.receive(deadline_s=DEADLINE_S), deadline_s=DEADLINE_S)

    async def test(thread: TrioThread) -> None:
        identity = Identity.generate()
        transport = Libp2pTransport(identity, manifest)
        await transport.listen(HOST, 0, echo)
        host = GeneralHost(manifest)
        assert await thread.submit(host.call, transport.listen_port, identity.peer_id) == list(SIZES)
        await transport.close()

    _run(test)


def test_a_peer_dials_a_general_host() -> None:
    manifest = make_manifest()

    async def test(thread: TrioThread) -> None:
        loop, host, done = asyncio.get_running_loop(), GeneralHost(manifest), trio.Event()
        listening: asyncio.Future[int] = loop.create_future()
        ended = thread.submit(host.answer, lambda port: loop.call_soon_threadsafe(listening.set_result, port), done)
        transport = Libp2pTransport(Identity.generate(), manifest)
        connection = await transport.dial(HOST, await listening, deadline_s=DEADLINE_S)
        assert connection.remote_id == host.identity.peer_id
        for size in SIZES:
            await connection.send(bytes(size), deadline_s=DEADLINE_S)
            assert await connection.receive(deadline_s=DEADLINE_S) == bytes(size)
        await transport.close()
        thread.tell(done.set)
        await ended

    _run(test)

"""Hostile clients on the daemon's real socket: refused, counted, cut off, while it serves everybody else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from devices import DEADLINE_S, N_ITEMS, QUICK, Device, MakeDevice, both_transports, make_manifest

from p2prec.config import TransportKind
from p2prec.errors import P2PRecError
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.model.quantize import quantize_state
from p2prec.model.state import initial_state
from p2prec.peer.messages import Message, Offer, Ping
from p2prec.transport.base import Connection
from p2prec.transport.choice import make_transport
from p2prec.transport.mismatch import FIRST_WORDS
from p2prec.transport.tls_connection import TlsConnection
from p2prec.wire.codec import Codec
from p2prec.wire.envelope import Envelope, pack, signature_input, unpack
from p2prec.wire.limits import MAX_FRAME_BYTES
from p2prec.wire.session import Session

pytestmark = both_transports

BEGINNINGS = {TransportKind.TLS: b"\x16\x03\x01", TransportKind.LIBP2P: FIRST_WORDS}
"""How a handshake begins."""


class Villain:
    """A member of the open swarm that keeps to no rule: a real connection, a real session, and bytes of its own."""

    def __init__(self, manifest: Manifest, identity: Identity, connection: Connection, swarm_id: Any = None) -> None:
        self.manifest, self.identity, self.connection = manifest, identity, connection
        self.session = Session(
            identity,
            swarm_id or manifest.swarm_id,
            connection.remote_id,
            Codec(manifest.learning, N_ITEMS),
            session_nonce=os.urandom(16),
            instance=bytes(16),
        )

    async def greet(self) -> None:
        await self.send(self.hello())
        self.session.decode(await self.connection.receive(deadline_s=DEADLINE_S))

    def hello(self) -> bytes:
        return self.encode(self.session.hello(listen_port=0, age_rounds=0, agent="villain"))

    def encode(self, message: Message) -> bytes:
        return self.session.encode(message)

    async def send(self, frame: bytes) -> None:
        await self.connection.send(frame, deadline_s=DEADLINE_S)

    async def cut_off(self) -> None:
        """Read until the daemon closes the connection."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                while True:
                    await self.connection.receive(deadline_s=DEADLINE_S)
            except P2PRecError:
                return


@pytest.fixture
def served(make_device: MakeDevice) -> tuple[Device, Device]:
    """The victim, and an honest neighbour that it must go on serving."""
    victim, neighbour = make_device("victim"), make_device("neighbour")
    victim.serve()
    neighbour.serve(victim)
    victim.until(lambda s: s["exchanges"] > 0, "exchanges")
    return victim, neighbour


@asynccontextmanager
async def villain(victim: Device, manifest: Manifest, identity: Identity | None = None) -> AsyncIterator[Villain]:
    identity = identity or Identity.generate()
    transport = make_transport(victim.transport, identity, manifest, None)
    try:
        host, port = victim.address
        yield Villain(manifest, identity, await transport.dial(host, port, deadline_s=DEADLINE_S))
    finally:
        await transport.close()


def still_serves(victim: Device) -> dict[str, Any]:
    exchanges = victim.status()["exchanges"]
    status = victim.until(lambda s: s["exchanges"] > exchanges, "goes on exchanging with its neighbour")
    assert status["neighbours"] == 1
    assert status["warnings"] == []
    return status


def test_bytes_that_are_no_handshake_are_counted_and_ignored(served: tuple[Device, Device]) -> None:
    victim, _ = served
    rng = np.random.default_rng(0)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", rng.bytes(5000), BEGINNINGS[victim.transport] + b"\xff\xff", b""):
        with socket.create_connection(victim.address, timeout=DEADLINE_S) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    silent = [socket.create_connection(victim.address) for _ in range(20)]  # and these say nothing at all
    status = victim.until(lambda s: s["connections_refused"] >= 4, "has counted them")
    assert status["messages_refused"] == 0
    still_serves(victim)
    for connection in silent:
        connection.close()


def test_a_connection_without_hello_is_closed(served: tuple[Device, Device], manifest: Manifest) -> None:
    victim, _ = served

    async def attack() -> None:
        async with villain(victim, manifest) as member:
            await member.connection.receive(deadline_s=DEADLINE_S)  # its HELLO; ours never comes
            await member.cut_off()

    asyncio.run(attack())
    assert still_serves(victim)["messages_refused"] == 0


async def malformed(member: Villain) -> None:
    await member.greet()
    for garbage in (b"", b"\xc1", b"\x95\x01", os.urandom(300), member.encode(Ping(b"12345678"))[:-1]):
        await member.send(garbage)


async def forged(member: Villain) -> None:
    await member.greet()
    frame = member.encode(Ping(b"12345678"))
    for position in (1, 2, 3, 4, 5):
        await member.send(frame[:-position] + bytes([frame[-position] ^ 1]) + frame[len(frame) - position + 1 :])


async def replayed(member: Villain) -> None:
    await member.greet()
    frame = member.encode(Ping(b"12345678"))
    for _ in range(6):  # the first one is good
        await member.send(frame)


async def spliced(member: Villain) -> None:
    await member.greet()
    member.encode(Ping(b"withheld"))
    for _ in range(5):
        await member.send(member.encode(Ping(b"12345678")))


async def oversized(member: Villain) -> None:
    await member.greet()
    start = (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(1000)
    if isinstance(member.connection, TlsConnection):
        member.connection._encrypt(start)
        await member.connection._flush(member.connection._loop.time() + 10.0)
    else:
        connection: Any = member.connection
        await connection._thread.submit(connection._session._frames.write, start)


async def beyond_bounds(member: Villain) -> None:
    """Rightly signed offers whose scales are larger than any honest peer's."""
    await member.greet()
    learning = member.manifest.learning
    state = initial_state(learning, bytes.fromhex(member.manifest.seed), [f"i{n}" for n in range(N_ITEMS)])
    tables = quantize_state(learning, state, 0, np.random.default_rng(0))
    codes = tables.item_factors.codes.tobytes()
    for number in range(5):
        honest = unpack(member.encode(Offer(number.to_bytes(16, "big"), 0, tables)))
        payload = honest.payload.replace(codes, b"\xff" * len(codes))
        assert payload != honest.payload
        assert member.session._session is not None
        signed = signature_input(
            swarm_id=member.manifest.swarm_id,
            sender=member.identity.public_bytes,
            receiver=member.session._remote.public_bytes,
            session=member.session._session,
            kind=honest.kind,
            sequence=honest.sequence,
            payload=payload,
        )
        await member.send(pack(Envelope(honest.kind, honest.sequence, payload, member.identity.sign(signed))))


async def flood(member: Villain) -> None:
    await member.greet()
    for _ in range(1000):
        try:
            await member.send(member.encode(Ping(b"12345678")))
        except P2PRecError:
            return  # cut off while still sending


ATTACKS = [
    (malformed, "malformed", 5),
    (forged, "forged", 5),
    (replayed, "replayed", 5),
    (spliced, "spliced", 5),
    (oversized, "oversized", 1),
    (beyond_bounds, "malformed", 5),
    (flood, "unexpected", 5),
]
"""What is done, and how many refusals of which reason it takes to be cut off."""


def test_members_that_break_the_protocol_are_refused_counted_and_banned(
    served: tuple[Device, Device], manifest: Manifest
) -> None:
    victim, neighbour = served

    async def attack(how: Callable[[Villain], Coroutine[Any, Any, None]]) -> None:
        identity = Identity.generate()
        async with villain(victim, manifest, identity) as member:
            await how(member)
            await member.cut_off()
        async with villain(victim, manifest, identity) as again:  # it is not let in a second time
            with pytest.raises(P2PRecError):
                await again.connection.receive(deadline_s=DEADLINE_S)
                await again.greet()
                await again.send(again.encode(Ping(b"12345678")))
                await again.connection.receive(deadline_s=DEADLINE_S)

    expected: Counter[str] = Counter()
    for how, reason, n_refused in ATTACKS:
        asyncio.run(attack(how))
        expected[reason] += n_refused
        status = victim.status()
        assert status["refused_by_reason"] == expected, how.__name__
        assert status["messages_refused"] == sum(expected.values())
    assert len(victim.events("PeerBanned")) == len(ATTACKS)
    still_serves(victim)
    assert neighbour.status()["messages_refused"] == 0
    assert victim.terminate() == 0
    assert victim.json("status")["refused_by_reason"] == expected  # and it is still counted


def test_a_hello_of_another_swarm_ends_the_connection(served: tuple[Device, Device], manifest: Manifest) -> None:
    """Inside this swarm's connections, whose key is public."""
    victim, _ = served

    async def attack() -> None:
        identity = Identity.generate()
        transport = make_transport(victim.transport, identity, manifest, None)
        connection = await transport.dial(*victim.address, deadline_s=DEADLINE_S)
        member = Villain(manifest, identity, connection, make_manifest("books", seed="08").swarm_id)
        await member.send(member.hello())
        await member.cut_off()
        await transport.close()

    asyncio.run(attack())
    assert victim.status()["refused_by_reason"] == {"wrong-swarm": 1}
    still_serves(victim)


def test_a_crowd_of_members_that_only_say_hello_does_not_stop_the_others(
    served: tuple[Device, Device], manifest: Manifest
) -> None:
    """They fill the view and never answer an offer; whoever was in it before stays, and goes on exchanging."""
    victim, neighbour = served

    async def crowd() -> None:
        host, port = victim.address
        identities = [Identity.generate() for _ in range(QUICK.max_neighbours + 20)]
        transports = [make_transport(victim.transport, identity, manifest, None) for identity in identities]
        for identity, transport in zip(identities, transports, strict=True):
            member = Villain(manifest, identity, await transport.dial(host, port, deadline_s=DEADLINE_S))
            await member.greet()
        assert (await asyncio.to_thread(victim.status))["neighbours"] == QUICK.max_neighbours
        exchanges = victim.status()["exchanges"]
        await asyncio.to_thread(victim.until, lambda s: s["exchanges"] > exchanges, "goes on exchanging")
        for transport in transports:
            await transport.close()

    asyncio.run(crowd())
    still_serves(victim)
    assert neighbour.status()["messages_refused"] == 0

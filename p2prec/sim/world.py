"""A swarm of production peers in the simulated network. One seed: the same seed replays to the byte."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.errors import StoreError
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.model.pairs import pair_statistic, popularity_statistic
from p2prec.model.state import initial_state
from p2prec.peer.events import Dial, Disconnect, Event
from p2prec.peer.learner import Learner
from p2prec.peer.pace import Pace
from p2prec.peer.peer import Peer
from p2prec.peer.private_peer import PrivatePeer, sizes_of
from p2prec.privacy.stream import KEY_BYTES, NoiseStream
from p2prec.sim.network import Clock, Network
from p2prec.types import DoubleArray, FloatArray, IndexArray, PeerId
from p2prec.wire.codec import Codec
from p2prec.wire.endpoint import Endpoint, SendFrame
from p2prec.wire.seal import Seal
from p2prec.wire.signatures import Signatures, StandIns
from p2prec.wire.sum_codec import SumCodec

PORT = 4001


class MemoryLedger:
    """A ledger without a disk; `fail` stands for a full one."""

    def __init__(self) -> None:
        self.contributions = 0
        self.sums: list[int] = []
        """Private sums that were written down."""
        self.limit: int | None = None
        self.fail = False

    @property
    def epsilon_spent(self) -> float:
        return float(self.contributions)

    @property
    def may_contribute(self) -> bool:
        return self.limit is None or self.contributions < self.limit

    def record(self) -> int:
        if self.fail:
            raise StoreError("disk full")
        self.contributions += 1
        return self.contributions

    def record_sum(self, number: int) -> None:
        if self.fail or number in self.sums:
            raise StoreError("disk full" if self.fail else "written already")
        self.sums.append(number)


class SimulatedPeer:
    """One machine: endpoint, clock and network joined."""

    def __init__(
        self,
        world: World,
        name: str,
        seed: bytes,
        settings: PeerSettings,
        learning_rng: np.random.Generator | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.events: list[tuple[float, Event]] = []
        self.ledger = MemoryLedger()
        self.alive = True
        self.items: IndexArray = np.zeros(0, np.int64)
        """What the person has, for private sums."""
        started = world.starts.get(name, 0)
        world.starts[name] = started + 1
        again = str(started).encode() if started else b""  # a restarted daemon draws anew
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(seed + name.encode() + again).digest(), np.uint32))
        identity = Identity.from_seed(hashlib.sha256(b"identity" + seed).digest())
        manifest = world.manifest
        self.learner = world.new_learner()
        sums = world.sum_codec
        seal = Seal(identity, manifest.swarm_id, sums, world.signatures) if sums is not None else None
        peer = Peer(
            peer_id=identity.peer_id,
            instance=rng.bytes(16),
            manifest=manifest,
            learner=self.learner,
            ledger=self.ledger,
            settings=settings,
            rng=rng,
            learning_rng=learning_rng or rng.spawn(1)[0],
            random_bytes=rng.bytes,
            now=world.clock.now,
            pace=pace,
            swarm_size=world.swarm_size,
            private=None if seal is None else self._private(identity.peer_id, seal, rng),
        )
        peer.listen_port = PORT
        codec = Codec(manifest.learning, len(world.catalogue.keys), sums)
        self.endpoint = Endpoint(peer, identity, manifest.swarm_id, codec, rng.bytes, world.stand_ins)
        world.network.attach(name, self)
        self._arm(world.clock.now)

    def _private(self, own_id: PeerId, seal: Seal, rng: np.random.Generator) -> PrivatePeer:
        world, n_items = self.world, len(self.world.catalogue.keys)
        assert world.manifest.promise is not None
        return PrivatePeer(
            own_id=own_id,
            swarm_id=world.manifest.swarm_id,
            promise=world.manifest.promise,
            n_items=n_items,
            popularity_statistic=lambda: popularity_statistic(self.items, n_items),
            pair_statistic=lambda selected, expected: pair_statistic(self.items, selected, expected, n_items),
            record=lambda number: self.ledger.record_sum(number),
            sealer=seal,
            rng=rng.spawn(1)[0],
            random_bytes=rng.bytes,
            now=world.clock.now,
            noise=lambda: NoiseStream(rng.bytes(KEY_BYTES)),
        )

    @property
    def private(self) -> PrivatePeer:
        """In a swarm with a promise."""
        assert self.peer.private is not None
        return self.peer.private

    @property
    def peer(self) -> Peer:
        return self.endpoint.peer

    @property
    def peer_id(self) -> PeerId:
        return self.peer.peer_id

    def opened(self, link: int, remote_id: PeerId, host: str, *, outbound: bool, port: int) -> None:
        self.endpoint.opened(link, remote_id, host, outbound=outbound, port=port, now=self.world.clock.now)
        self._react()

    def frame_received(self, link: int, frame: bytes) -> None:
        self.endpoint.frame_received(link, frame, self.world.clock.now)
        self._react()

    def closed(self, link: int, reason: str) -> None:
        self.endpoint.closed(link, reason, self.world.clock.now)
        self._react()

    def _react(self) -> None:
        self.carry_out()
        if self.peer.private is not None:  # of others nothing that happens brings the next tick forward
            due = self.peer.next_deadline()
            if due < self._armed_for:
                self._arm(due)

    def dial_failed(self, host: str, port: int, reason: str) -> None:
        self.peer.dial_failed(host, port, reason, self.world.clock.now)
        self.carry_out()

    def sighted(self, other: SimulatedPeer) -> None:
        """As mDNS would report it."""
        self.peer.sighted(other.peer_id, other.peer.instance, other.name, PORT, "mdns", self.world.clock.now)
        self.carry_out()

    def carry_out(self) -> None:
        network = self.world.network
        for action in self.endpoint.take_actions():
            match action:
                case SendFrame(link, frame):
                    network.send(self.name, link, frame)
                case Dial(host, port, _):
                    network.dial(self.name, host, port)
                case Disconnect(link):
                    network.close(self.name, link)
        self.events.extend((self.world.clock.now, event) for event in self.endpoint.take_events())

    def _arm(self, time: float) -> None:
        self._armed_for = time

        def tick() -> None:
            if self.alive and time == self._armed_for:
                self.peer.tick(self.world.clock.now)
                self.carry_out()
                self._arm(self.peer.next_deadline())

        self.world.clock.at(time, tick)


@dataclass
class World:
    """The whole simulated swarm. In one with a promise the clock counts seconds since 1970, and only the keys of masks, which are
    the operating system's, differ from one run to the next.
    """

    manifest: Manifest
    catalogue: Catalogue
    seed: int = 0
    settings: PeerSettings = field(default_factory=PeerSettings)
    swarm_size: int | None = None
    """What every peer is told of it. None: each counts whom it has heard of."""
    peers: dict[str, SimulatedPeer] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    """How often each peer was started."""

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, np.random.default_rng([self.seed, 1]))
        self.signatures = Signatures()
        """Of relayed messages."""
        self.stand_ins = StandIns(hashlib.sha256(f"{self.seed}/frames".encode()).digest())
        """For signatures of frames, which would be most of a simulation's time."""
        n_items, promise = len(self.catalogue.keys), self.manifest.promise
        self.sum_codec = None if promise is None else SumCodec(*sizes_of(promise, n_items), n_items)
        self._start = initial_state(self.manifest.learning, bytes.fromhex(self.manifest.seed), self.catalogue.keys)

    def new_learner(self) -> Learner:
        """At the swarm's common start, which is worked out once for all."""
        manifest = self.manifest
        seed = bytes.fromhex(manifest.seed)
        return Learner(manifest.learning, manifest.privacy, self.catalogue.keys, seed, self._start.copy())

    def add(
        self,
        name: str,
        items: IndexArray | None = None,
        values: FloatArray | None = None,
        times: DoubleArray | None = None,
        *,
        identity_of: str | None = None,
    ) -> SimulatedPeer:
        """Start a peer that discovers all others (and is discovered) as by mDNS. `identity_of`: a copied identity."""
        known = list(self.peers.values())
        peer = self.add_unseen(name, items, values, times, identity_of=identity_of)
        for other in known:
            other.sighted(peer)
            peer.sighted(other)
        return peer

    def add_unseen(
        self,
        name: str,
        items: IndexArray | None = None,
        values: FloatArray | None = None,
        times: DoubleArray | None = None,
        *,
        identity_of: str | None = None,
        learning_rng: np.random.Generator | None = None,
        pace: Pace | None = None,
    ) -> SimulatedPeer:
        """Start a peer that nobody hears of, and that hears of nobody: `connect` it. learning_rng, pace: as of `Peer`."""
        key = hashlib.sha256(f"{self.seed}/{identity_of or name}".encode()).digest()
        peer = SimulatedPeer(self, name, key, self.settings, learning_rng, pace)
        if items is not None:
            peer.items = items
        if items is not None and values is not None:
            peer.learner.set_interactions(items, values, times)
        self.peers[name] = peer
        return peer

    def connect(self, name: str, other: str) -> None:
        """Have one peer dial another, now."""
        self.network.dial(name, other, PORT)

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def crash(self, name: str) -> SimulatedPeer:
        """Kill a peer without a goodbye; returns its remains."""
        peer = self.peers.pop(name)
        peer.alive = False
        self.network.crash(name)
        return peer

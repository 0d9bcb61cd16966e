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
from p2prec.model.state import initial_state
from p2prec.peer.events import Dial, Disconnect, Event
from p2prec.peer.learner import Learner
from p2prec.peer.pace import Pace
from p2prec.peer.peer import Peer
from p2prec.sim.network import Clock, Network
from p2prec.types import DoubleArray, FloatArray, IndexArray, PeerId
from p2prec.wire.codec import Codec
from p2prec.wire.endpoint import Endpoint, SendFrame

PORT = 4001


class MemoryLedger:
    """A ledger without a disk; `fail` stands for a full one."""

    def __init__(self) -> None:
        self.contributions = 0
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
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(seed + name.encode()).digest(), np.uint32))
        identity = Identity.from_seed(hashlib.sha256(b"identity" + seed).digest())
        manifest = world.manifest
        self.learner = world.new_learner()
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
        )
        peer.listen_port = PORT
        codec = Codec(manifest.learning, len(world.catalogue.keys))
        self.endpoint = Endpoint(peer, identity, manifest.swarm_id, codec, rng.bytes)
        world.network.attach(name, self)
        self._arm(world.clock.now)

    @property
    def peer(self) -> Peer:
        return self.endpoint.peer

    @property
    def peer_id(self) -> PeerId:
        return self.peer.peer_id

    def opened(self, link: int, remote_id: PeerId, host: str, *, outbound: bool, port: int) -> None:
        self.endpoint.opened(link, remote_id, host, outbound=outbound, port=port, now=self.world.clock.now)
        self.carry_out()

    def frame_received(self, link: int, frame: bytes) -> None:
        self.endpoint.frame_received(link, frame, self.world.clock.now)
        self.carry_out()

    def closed(self, link: int, reason: str) -> None:
        self.endpoint.closed(link, reason, self.world.clock.now)
        self.carry_out()

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
        def tick() -> None:
            if self.alive:
                self.peer.tick(self.world.clock.now)
                self.carry_out()
                self._arm(self.peer.next_deadline())

        self.world.clock.at(time, tick)


@dataclass
class World:
    """The whole simulated swarm."""

    manifest: Manifest
    catalogue: Catalogue
    seed: int = 0
    settings: PeerSettings = field(default_factory=PeerSettings)
    swarm_size: int | None = None
    """What every peer is told of it. None: each counts whom it has heard of."""
    peers: dict[str, SimulatedPeer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, np.random.default_rng([self.seed, 1]))
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

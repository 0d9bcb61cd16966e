"""One production peer alone on a bench: the test says who connects, what they say and what time it is."""

from __future__ import annotations

import itertools
from typing import TypeVar

import msgspec
import numpy as np

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.errors import RemoteMisbehaviour
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters, reference_catalogue
from p2prec.peer.events import Action, Dial, Disconnect, Event, Send
from p2prec.peer.learner import Learner
from p2prec.peer.messages import Close, CloseReason, Hello, Message, Offer, Pong
from p2prec.peer.peer import Peer
from p2prec.sim.world import MemoryLedger
from p2prec.types import ItemKey, PeerId

ME = PeerId("12D3me")
MY_INSTANCE = bytes(16)
N_ITEMS = 5
M = TypeVar("M")

HOLDOUT_SECRET = bytes([2]) * 16
"""Of "0" to "4" it holds out "0" and "3" at a half. A device's own is random: one in thirty-two holds out none of five."""
CATALOGUE = Catalogue(tuple(ItemKey(str(i)) for i in range(N_ITEMS)), tuple(f"Film {i}" for i in range(N_ITEMS)))
MANIFEST = Manifest(
    name="bench",
    catalogue=reference_catalogue(CATALOGUE.canonical_csv(), N_ITEMS),
    seed="07" * 32,
    learning=LearningParameters(n_factors=2, round_interval_s=10.0, contribute_every_exchanges=1),
    privacy=PrivacyParameters(),
)


class PeerRig:
    """`now` is the time of every call. Actions and events pile up until a test takes them."""

    def __init__(
        self,
        settings: PeerSettings | None = None,
        *,
        learning: LearningParameters = MANIFEST.learning,
        seed: int = 0,
    ) -> None:
        manifest = msgspec.structs.replace(MANIFEST, learning=learning)
        self.now = 1000.0
        self.settings = settings or PeerSettings()
        self.ledger = MemoryLedger()
        rng = np.random.default_rng(seed)
        self.learner = Learner(learning, manifest.privacy, CATALOGUE.keys, bytes.fromhex(manifest.seed))
        self.peer = Peer(
            peer_id=ME,
            instance=MY_INSTANCE,
            manifest=manifest,
            learner=self.learner,
            ledger=self.ledger,
            settings=self.settings,
            rng=rng,
            learning_rng=rng,
            random_bytes=rng.bytes,
            now=self.now,
        )
        self.peer.listen_port = 4001
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.alive: set[int] = set()
        """Links whose other side shows signs of life while the test waits."""
        self._numbers = itertools.count(1)

    # --- the outside world ---

    def open(self, remote: str, *, outbound: bool = False, host: str = "10.0.0.9", port: int = 4001) -> int:
        """A connection whose HELLO has not arrived; returns its number."""
        number = next(self._numbers)
        self.peer.opened(
            number,
            PeerId(remote),
            host,
            outbound=outbound,
            port=port if outbound else 0,
            session_nonce=bytes(16),
            now=self.now,
        )
        self._collect()
        return number

    def hello(self, number: int, *, instance: bytes = b"i" * 16, listen_port: int = 4001) -> None:
        self.receive(number, Hello(MANIFEST.swarm_id, instance, b"n" * 16, listen_port, 3, "test"))

    def connect(self, remote: str, *, instance: bytes = b"i" * 16, listen_port: int = 4001, **how: object) -> int:
        """A neighbour, unless the peer has reasons not to have it."""
        number = self.open(remote, **how)  # type: ignore[arg-type]
        self.hello(number, instance=instance, listen_port=listen_port)
        return number

    def receive(self, number: int, message: Message) -> None:
        self.peer.received(number, message, self.now)
        self._collect()

    def refuse(self, number: int, error: RemoteMisbehaviour) -> None:
        self.peer.refused(number, error, self.now)
        self._collect()

    def sight(self, remote: str, host: str, *, port: int = 4001, instance: bytes | None = None) -> None:
        self.peer.sighted(PeerId(remote), instance, host, port, "mdns", self.now)
        self._collect()

    def wait(self, seconds: float, *, step_s: float = 0.5) -> None:
        """Let time pass as a driver does, with a tick every `step_s`."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step_s)
            for number in self.alive:
                self.receive(number, Pong(b"12345678"))
            self.tick()

    def tick(self) -> None:
        self.peer.tick(self.now)
        self._collect()

    def _collect(self) -> None:
        self.actions += self.peer.take_actions()
        self.events += self.peer.take_events()

    # --- what came of it ---

    def take(self) -> list[Action]:
        actions, self.actions = self.actions, []
        return actions

    def sent(self, kind: type[M], number: int | None = None) -> list[M]:
        """Messages of a kind that were sent (on a link), not yet taken."""
        return [
            a.message
            for a in self.actions
            if isinstance(a, Send) and isinstance(a.message, kind) and number in (None, a.link)
        ]

    def dials(self) -> list[Dial]:
        return [a for a in self.actions if isinstance(a, Dial)]

    def closed_with(self, number: int) -> CloseReason | None:
        """The reason given on a link that this peer has closed, None when it closed without a word. Fails if it is open."""
        assert Disconnect(number) in self.actions, f"link {number} is open"
        said = self.sent(Close, number)
        return said[-1].reason if said else None

    def is_open(self, number: int) -> bool:
        return number in self.peer.view.links

    def events_of(self, kind: type[M]) -> list[M]:
        return [event for event in self.events if isinstance(event, kind)]

    def offer(self, number: int, *, part: int = 0) -> Offer:
        """An offer that this peer can take: its own tables."""
        return Offer(number.to_bytes(16, "big"), 3, self.learner.outgoing(part, np.random.default_rng(0)))

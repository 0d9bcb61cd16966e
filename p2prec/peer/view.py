"""The view: the links that are open, and which of them are neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2prec.peer.messages import Hello
from p2prec.types import PeerId


@dataclass(slots=True)
class Allowance:
    """A token bucket: `burst` at once, and `per_second` on average."""

    burst: float
    per_second: float
    at: float
    """When `left` was right."""
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.burst

    def take(self, now: float) -> bool:
        """Use one up. Returns False when there is none."""
        self.left = min(self.burst, self.left + self.per_second * (now - self.at))
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass(slots=True)
class Link:
    """One connection, from the handshake of the transport to its end."""

    number: int
    """The driver's name for it."""
    remote_id: PeerId
    """Proven by the transport."""
    host: str
    outbound: bool
    opened_at: float
    last_heard: float
    offers: Allowance
    """Against floods of offers, each of which costs an answer of a few hundred kilobytes."""
    messages: Allowance
    """Against floods of anything else."""
    dialled_port: int = 0
    """Where this peer dialled; may differ from what the other side says of itself (a forwarded port). 0: it dialled us."""
    hello: Hello | None = None
    """None until the other side's HELLO: not a neighbour before."""
    ping_sent_at: float | None = None
    superseded: bool = False
    """A newer instance of the same identity has connected; this link lives only if it answers, which proves two machines."""
    refusals: int = 0
    exchanges: int = 0
    peers_served_at: float = float("-inf")
    peers_requested: bool = False
    """Whether an answer to PeersRequest is due."""

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where the other side accepts connections, as far as is known here; port 0: nowhere."""
        return self.host, self.dialled_port or (self.hello.listen_port if self.hello else 0)

    def dialler(self, own_id: PeerId) -> PeerId:
        return own_id if self.outbound else self.remote_id


@dataclass
class View:
    """Open links by number, neighbours by identity (one link each)."""

    own_id: PeerId
    links: dict[int, Link] = field(default_factory=dict)
    neighbours: dict[PeerId, Link] = field(default_factory=dict)

    def admit(self, link: Link) -> Link | None:
        """Make a link with HELLO done the neighbour's one link. Returns the link that loses, possibly `link` itself.

        When both sides dialled at once, the connection dialled by the smaller peer id stays: both sides see the same two
        connections and choose the same one. When one side dialled twice, its older connection is dead to it, so the newer stays.
        """
        rival = self.neighbours.get(link.remote_id)
        if rival is None or rival is link:
            self.neighbours[link.remote_id] = link
            return None
        diallers = (rival.dialler(self.own_id), link.dialler(self.own_id))
        if diallers[0] != diallers[1] and diallers[0] == min(diallers):
            return link
        self.neighbours[link.remote_id] = link
        return rival

    def remove(self, link: Link) -> bool:
        """Forget a link. Returns True when it was a neighbour's."""
        self.links.pop(link.number, None)
        if self.neighbours.get(link.remote_id) is link:
            del self.neighbours[link.remote_id]
            return True
        return False

    def random_neighbour(self, rng: np.random.Generator, *, exclude: frozenset[PeerId] = frozenset()) -> Link | None:
        choices = [link for peer_id, link in self.neighbours.items() if peer_id not in exclude]
        return choices[int(rng.integers(len(choices)))] if choices else None

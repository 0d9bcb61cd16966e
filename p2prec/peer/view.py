"""The view: the links that are open, and which of them are neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2prec.peer.messages import Hello
from p2prec.types import PeerId


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
    hello: Hello | None = None
    """None until the other side's HELLO: not a neighbour before."""
    ping_sent_at: float | None = None
    superseded: bool = False
    """A newer instance of the same identity has connected; this link lives only if it answers, which proves two machines."""
    refusals: int = 0
    exchanges: int = 0
    offer_allowance: float = 0.0
    """Token bucket against floods of offers."""
    offer_allowance_at: float = 0.0
    peers_served_at: float = float("-inf")

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

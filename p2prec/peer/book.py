"""The address book: which peers are known, where, and when it makes sense to dial them again."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from p2prec.config import PeerSettings
from p2prec.types import PeerId

MAX_ADDRESSES_PER_PEER = 4


@dataclass(slots=True)
class KnownPeer:
    """One peer that was heard of, connected or not."""

    peer_id: PeerId
    addresses: list[tuple[str, int]]
    """Most recently confirmed first; at most MAX_ADDRESSES_PER_PEER."""
    source: str
    last_seen: float
    failures: int = 0
    dial_after: float = 0.0
    banned_until: float = 0.0


@dataclass(slots=True)
class StaticAddress:
    """An address that the user gave, without knowing who is there."""

    host: str
    port: int
    failures: int = 0
    dial_after: float = 0.0
    peer_id: PeerId | None = None
    """Who was met there, once known."""


@dataclass
class AddressBook:
    """Bounded memory of peers. The driver of time and chance is the caller."""

    own_id: PeerId
    settings: PeerSettings
    peers: dict[PeerId, KnownPeer] = field(default_factory=dict)
    static: list[StaticAddress] = field(default_factory=list)
    peers_seen: int = 0
    """Distinct peers ever heard of (an estimate once the book has had to forget some)."""
    missed: dict[PeerId, None] = field(default_factory=dict)
    """Neighbours whose links broke without a goodbye, the latest last, until they are met again: as many as a view has places."""

    def sight(self, peer_id: PeerId, host: str, port: int, source: str, now: float) -> bool:
        """Note that a peer is said to listen at an address. Returns True the first time the peer is heard of.

        First-hand sources (mDNS, a connection) put the address first; hearsay ("exchange") never displaces those.
        """
        if peer_id == self.own_id or not 0 < port < 65536:
            return False
        known = self.peers.get(peer_id)
        if known is None:
            self._make_room(now)
            self.peers[peer_id] = KnownPeer(peer_id, [(host, port)], source, now)
            self.peers_seen += 1
            return True
        address = (host, port)
        if source == "exchange":
            if address not in known.addresses and len(known.addresses) < MAX_ADDRESSES_PER_PEER:
                known.addresses.append(address)
            return False
        if not known.addresses or known.addresses[0] != address:
            known.addresses = [address, *(a for a in known.addresses if a != address)][:MAX_ADDRESSES_PER_PEER]
            known.failures, known.dial_after = 0, 0.0
        known.source, known.last_seen = source, now
        return False

    def _make_room(self, now: float) -> None:
        """Forget somebody: hearsay first, then the longest unseen.

        Neither a flood of invented peers nor one of identities made to be banned gets rid of the others: bans outlive the
        former, and hold at most half of the book.
        """
        if len(self.peers) < self.settings.max_known_peers:
            return
        banned = [p for p in self.peers.values() if p.banned_until > now]
        if 2 * len(banned) > self.settings.max_known_peers:
            forgotten = min(banned, key=lambda p: p.banned_until)
        else:
            free = (p for p in self.peers.values() if p.banned_until <= now)
            forgotten = min(free, key=lambda p: (p.source != "exchange", p.last_seen))
        del self.peers[forgotten.peer_id]
        self.missed.pop(forgotten.peer_id, None)

    def add_static(self, host: str, port: int) -> None:
        if not any((s.host, s.port) == (host, port) for s in self.static):
            self.static.append(StaticAddress(host, port))

    def dial_failed(self, host: str, port: int, peer_id: PeerId | None, now: float) -> float:
        """Back off from an address; returns the seconds until it is tried again."""
        entries: list[KnownPeer | StaticAddress] = [s for s in self.static if (s.host, s.port) == (host, port)]
        if peer_id in self.peers:
            known = self.peers[peer_id]
            known.addresses = [*known.addresses[1:], *known.addresses[:1]]  # the next address gets its chance
            entries.append(known)
        retry_s = self.settings.dial_retry_s
        for entry in entries:
            entry.failures += 1
            retry_s = min(self.settings.dial_retry_s * 2.0 ** (entry.failures - 1), self.settings.dial_retry_max_s)
            entry.dial_after = now + retry_s
        return retry_s

    def met(self, peer_id: PeerId, host: str, port: int, now: float) -> None:
        """HELLO was exchanged with this peer; `port`: where we reached it, or where it says it listens (0: nowhere)."""
        self.sight(peer_id, host, port, "met", now)
        known = self.peers.get(peer_id)
        if known is not None:
            known.failures, known.dial_after, known.last_seen = 0, 0.0, now
        if peer_id in self.missed:
            del self.missed[peer_id]
            for other in self.missed:  # the way to one is open again, so that to the others may be
                self.peers[other].failures, self.peers[other].dial_after = 0, 0.0
        for static in self.static:
            if (static.host, static.port) == (host, port):
                static.peer_id, static.failures, static.dial_after = peer_id, 0, 0.0

    def hold_off(self, peer_id: PeerId, until: float) -> None:
        """Do not dial this peer before `until` (it is full, leaving, or was rotated out)."""
        if peer_id in self.peers:
            self.peers[peer_id].dial_after = max(self.peers[peer_id].dial_after, until)

    def miss(self, peer_id: PeerId) -> None:
        """Note that a neighbour's link broke."""
        if peer_id in self.peers:
            self.missed.pop(peer_id, None)
            self.missed[peer_id] = None
            if len(self.missed) > self.settings.max_neighbours:
                del self.missed[next(iter(self.missed))]

    def ban(self, peer_id: PeerId, until: float, now: float) -> None:
        known = self.peers.get(peer_id)
        if known is None:
            self._make_room(now)
            known = self.peers[peer_id] = KnownPeer(peer_id, [], "met", now)
        known.banned_until = until

    def may_dial(self, peer_id: PeerId, now: float) -> bool:
        """Whether nothing speaks against dialling this peer now."""
        known = self.peers.get(peer_id)
        return known is None or max(known.dial_after, known.banned_until) <= now

    def is_banned(self, peer_id: PeerId, now: float) -> bool:
        known = self.peers.get(peer_id)
        return known is not None and known.banned_until > now

    def candidates(self, now: float, exclude: Collection[PeerId]) -> Iterator[KnownPeer]:
        """Peers that may be dialled now."""
        return self._dialable(self.peers.values(), now, exclude)

    def _dialable(self, peers: Iterable[KnownPeer], now: float, exclude: Collection[PeerId]) -> Iterator[KnownPeer]:
        for known in peers:
            if known.addresses and known.peer_id not in exclude and self.may_dial(known.peer_id, now):
                yield known

    def missing(self, now: float, exclude: Collection[PeerId], count: int) -> list[KnownPeer]:
        """Up to `count` of the missed that may be dialled now, the latest first."""
        latest = (self.peers[peer_id] for peer_id in reversed(self.missed))
        return list(itertools.islice(self._dialable(latest, now, exclude), max(0, count)))

    def choose(self, now: float, exclude: Collection[PeerId], count: int, rng: np.random.Generator) -> list[KnownPeer]:
        """Up to `count` random candidates; those that failed least come first, so that the dead do not crowd out the living."""
        if count <= 0:
            return []
        candidates = list(self.candidates(now, exclude))
        keys = rng.random(len(candidates))
        ranked = sorted(range(len(candidates)), key=lambda i: (candidates[i].failures, keys[i]))
        return [candidates[i] for i in ranked[:count]]

"""Peers that speak another transport than this one: listed and told, never dialled. A swarm chooses one transport."""

from __future__ import annotations

from dataclasses import dataclass

from p2prec.config import TransportKind
from p2prec.types import PeerId

MAX_LISTED = 256
"""The longest unheard are forgotten first: anybody on the network can announce anything."""
FORGET_AFTER_S = 900.0
"""How long somebody counts who was met and not announced: nothing tells when it is gone."""
MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class OtherPeer:
    """Somebody of another transport."""

    kind: TransportKind
    host: str
    port: int
    """0: unknown, because it dialled us."""
    peer_id: PeerId | None
    """As announced for this swarm; None when it was only met, so that it may be of any swarm, or none."""
    last_seen: float


class OtherTransports:
    """What a peer knows of those that it cannot meet. Time is the core's."""

    def __init__(self, own: TransportKind) -> None:
        self._own = own
        self._others: dict[tuple[PeerId | None, str, int], OtherPeer] = {}

    def announced(self, kind: TransportKind, peer_id: PeerId, host: str, port: int, now: float) -> None:
        """Discovery shows a peer of this swarm, until `gone`."""
        self._list(OtherPeer(kind, host, port, peer_id, now))

    def gone(self, peer_id: PeerId) -> None:
        self._others = {key: other for key, other in self._others.items() if other.peer_id != peer_id}

    def met(self, kind: TransportKind, host: str, port: int, now: float) -> None:
        """Somebody was dialled, or dialled us (port 0), and began as the other transport does."""
        self._list(OtherPeer(kind, host, port, None, now))

    def listed(self, now: float) -> list[OtherPeer]:
        """Those of late, the last first."""
        recent = [o for o in self._others.values() if o.peer_id is not None or now - o.last_seen < FORGET_AFTER_S]
        return sorted(recent, key=lambda other: -other.last_seen)

    def warning(self, now: float) -> str | None:
        """What to tell the owner; None when there is nothing to tell."""
        others = self.listed(now)
        if not others:
            return None
        members = [other for other in others if other.peer_id is not None]
        who = f"{len(members)} {'peer' if len(members) == 1 else 'peers'} of this swarm" if members else "somebody"
        hosts = list(dict.fromkeys(other.host for other in members or others))
        where = ", ".join(hosts[:MAX_NAMED]) + (", ..." if len(hosts) > MAX_NAMED else "")
        speaks = "speak" if len(members) > 1 else "speaks"
        kinds = " and ".join(sorted({other.kind for other in members or others}))
        return (
            f"{who} at {where} {speaks} {kinds}, and this peer {self._own}: they never meet; start all peers of a swarm with "
            "the same --transport"
        )

    def _list(self, other: OtherPeer) -> None:
        key = (other.peer_id, other.host, other.port)
        self._others.pop(key, None)
        if len(self._others) >= MAX_LISTED:
            del self._others[next(iter(self._others))]
        self._others[key] = other

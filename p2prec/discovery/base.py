"""The discovery interface: how the daemon learns where other peers of its swarm listen.

Discovery is a hint, never proof: anyone on the network can announce anything and can say goodbye for anybody. Who is
really there shows in the transport's handshake, and who is gone shows in missed pings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from p2prec.config import TransportKind
from p2prec.types import PeerId, SwarmId


@dataclass(frozen=True, slots=True)
class Announcement:
    """One peer of this process, as others should find it."""

    swarm_id: SwarmId
    peer_id: PeerId
    instance: bytes
    """16 random bytes of this start of the daemon, as in HELLO."""
    port: int
    """TCP port on which the peer accepts connections, 1 to 65535."""
    host: str = "0.0.0.0"
    """IP literal on which it listens. An unspecified address (0.0.0.0, ::) stands for all addresses of the machine."""
    transport: TransportKind = TransportKind.TLS
    """What it speaks."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Another peer of the same swarm was announced at this address."""

    peer_id: PeerId
    instance: bytes
    """16 bytes. The own peer id with another instance means that this identity was copied and runs twice."""
    host: str
    """IP literal, the one most likely to be reachable from here when several were announced."""
    port: int
    transport: TransportKind = TransportKind.TLS
    """What it speaks. One that speaks another transport than this peer cannot be dialled."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why discovery does not work at present. It goes on trying."""

    message: str
    remedy: str


OnSighting: TypeAlias = Callable[[Sighting], None]
"""Called in the event loop; again for a known peer when its address changed and after a change of the own network."""

OnGone: TypeAlias = Callable[[Sighting], None]
"""Called in the event loop with the last sighting of a peer that said goodbye or was not renewed for over an hour."""

OnTrouble: TypeAlias = Callable[[Trouble | None], None]
"""Called in the event loop when discovery stops working, and with None when it works again."""


class Discovery(Protocol):
    """Announces peers of this process and reports others. Never fatal: what goes wrong is told to `OnTrouble`."""

    async def start(self) -> None:
        """Begin in the background; returns at once, also when no network is up."""
        ...

    def announce(self, announcement: Announcement, on_sighting: OnSighting, on_gone: OnGone) -> None:
        """Announce a peer, and report to it others of its swarm (at once those already known). Raises UsageError when
        the announcement is not valid."""
        ...

    async def withdraw(self, announcement: Announcement) -> None:
        """Say goodbye for one peer. No-op when it is not announced."""
        ...

    async def close(self, *, deadline_s: float = 1.0) -> None:
        """Say goodbye for all and stop. Idempotent; done by the deadline in any case."""
        ...

"""A peer with its wire, still sans I/O: frames in, frames out. The daemon and the simulator are thin drivers of this."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.peer.events import Action, Dial, Disconnect, Event, Send
from p2prec.peer.peer import Peer
from p2prec.types import PeerId, SwarmId
from p2prec.wire.codec import Codec
from p2prec.wire.session import Session
from p2prec.wire.signatures import StandIns


class SendFrame(Struct, frozen=True):
    """Send these bytes as one frame on this link."""

    link: int
    frame: bytes


FrameAction: TypeAlias = SendFrame | Dial | Disconnect


class Endpoint:
    """Joins one `Peer` to one `Session` per link. Call it as `Peer` is called, with frames instead of messages."""

    def __init__(
        self,
        peer: Peer,
        identity: Identity,
        swarm_id: SwarmId,
        codec: Codec,
        random_bytes: Callable[[int], bytes],
        stand_ins: StandIns | None = None,
    ) -> None:
        """stand_ins: as of `Session`."""
        self.peer = peer
        self._identity = identity
        self._swarm_id = swarm_id
        self._codec = codec
        self._random_bytes = random_bytes
        self._stand_ins = stand_ins
        self._sessions: dict[int, Session] = {}
        self._pending: deque[Action] = deque()
        self._ready: list[FrameAction] = []

    def opened(self, link: int, remote_id: PeerId, host: str, *, outbound: bool, port: int, now: float) -> None:
        """A connection exists and the transport has proven who is at its other end."""
        nonce = self._random_bytes(16)
        self._sessions[link] = Session(
            self._identity,
            self._swarm_id,
            remote_id,
            self._codec,
            session_nonce=nonce,
            instance=self.peer.instance,
            stand_ins=self._stand_ins,
        )
        self.peer.opened(link, remote_id, host, outbound=outbound, port=port, session_nonce=nonce, now=now)

    def frame_received(self, link: int, frame: bytes, now: float) -> None:
        session = self._sessions.get(link)
        if session is None:
            return  # it crossed our goodbye
        try:
            message = session.decode(frame)
        except RemoteMisbehaviour as error:
            self.peer.refused(link, error, now)
        else:
            self.peer.received(link, message, now)

    def refused(self, link: int, error: RemoteMisbehaviour, now: float) -> None:
        """The transport refused what came on this link (an oversized frame)."""
        self.peer.refused(link, error, now)

    def closed(self, link: int, reason: str, now: float) -> None:
        if self._sessions.pop(link, None) is not None:
            self.peer.closed(link, reason, now)

    def take_actions(self) -> list[FrameAction]:
        """What to do, in order. Messages are signed here, so their sequence is the order of sending.

        Raises ValueError for a message that cannot be sent, which is a bug of the core. That message alone is lost: the next
        call returns the other actions.
        """
        self._pending.extend(self.peer.take_actions())
        while self._pending:
            action = self._pending.popleft()
            match action:
                case Send(link, message):
                    session = self._sessions.get(link)
                    if session is not None:
                        self._ready.append(SendFrame(link, session.encode(message)))
                case Disconnect(link):
                    if self._sessions.pop(link, None) is not None:
                        self._ready.append(action)
                case Dial():
                    self._ready.append(action)
        actions, self._ready = self._ready, []
        return actions

    def take_events(self) -> list[Event]:
        return self.peer.take_events()

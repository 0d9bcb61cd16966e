"""Signing, ordering and checking of the messages of one connection. No input or output: bytes in, messages out.

The driver makes one `Session` per connection, sends `encode(hello)` first, feeds every received frame to `decode`, and
counts each RemoteMisbehaviour that it raises against the remote peer; a `fatal` one ends the connection at once.
"""

from __future__ import annotations

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity, Verifier
from p2prec.peer.messages import Hello, Message, Refusal
from p2prec.types import PeerId, SwarmId
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.envelope import NO_SESSION, NO_SIGNATURE, Envelope, pack, session_id, signature_input, unpack
from p2prec.wire.peer_keys import key_of
from p2prec.wire.signatures import StandIns


class Session:
    """Both directions of one connection between two peers of one swarm.

    What is checked, cheapest first: size and form, place in the order, signature, content. A message that is not
    authentic changes nothing; one that is uses up its sequence number, whatever its content.
    """

    def __init__(
        self,
        identity: Identity,
        swarm_id: SwarmId,
        remote_id: PeerId,
        codec: Codec,
        *,
        session_nonce: bytes,
        instance: bytes,
        stand_ins: StandIns | None = None,
    ) -> None:
        """
        remote_id: the other end, as the transport's handshake has proven it.
        session_nonce: 16 random bytes, fresh for this connection: what makes a recording of it worthless later.
        instance: 16 random bytes, drawn once at each start of the daemon.
        stand_ins: of all peers of one process (a simulation), instead of its signatures; a true signature is good all the same.
        """
        self._identity = identity
        self._swarm_id = swarm_id
        self._remote = Verifier(key_of(remote_id))
        self._stand_ins = stand_ins
        self._codec = codec
        self._nonce = session_nonce
        self._instance = instance
        self._session: bytes | None = None
        self._sent = 0
        self._received = 0

    @property
    def established(self) -> bool:
        """Whether both HELLOs are through: only now does the peer count as connected, and may anything else be sent."""
        return self._sent > 0 and self._session is not None

    def hello(self, *, listen_port: int, age_rounds: int, agent: str) -> Hello:
        """This side's HELLO, to be passed to `encode` before anything else."""
        return Hello(self._swarm_id, self._instance, self._nonce, listen_port, age_rounds, agent)

    def encode(self, message: Message) -> bytes:
        """The frame of the next message to send. Frames must be sent in the order in which they were encoded.

        Raises ValueError for a message out of turn, or one that the other side would have to refuse.
        """
        if isinstance(message, Hello):
            if self._sent > 0:
                raise ValueError("HELLO is sent once, as the first message")
            if (message.swarm_id, message.session_nonce) != (self._swarm_id, self._nonce):
                raise ValueError("this HELLO belongs to another session")
            session = NO_SESSION
        elif self._sent == 0 or self._session is None:
            raise ValueError("only HELLO may be sent before both sides have said it")
        else:
            session = self._session
        kind, payload = self._codec.encode(message)
        signature = NO_SIGNATURE if kind is MessageType.RELAYS else self._sign(kind, payload, session)
        frame = pack(Envelope(kind, self._sent, payload, signature))
        self._sent += 1
        return frame

    def _sign(self, kind: MessageType, payload: bytes, session: bytes) -> bytes:
        signed = signature_input(
            swarm_id=self._swarm_id,
            sender=self._identity.public_bytes,
            receiver=self._remote.public_bytes,
            session=session,
            kind=kind,
            sequence=self._sent,
            payload=payload,
        )
        return self._identity.sign(signed) if self._stand_ins is None else self._stand_ins.sign(signed)

    def decode(self, frame: bytes) -> Message:
        """The message of a received frame. Raises RemoteMisbehaviour with one of `Refusal`'s reasons."""
        envelope = unpack(frame)
        self._codec.check_size(envelope.kind, envelope.payload)
        if self._session is None and envelope.kind is not MessageType.HELLO:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, f"{envelope.kind.name} before HELLO")
        self._check_order(envelope.sequence)
        if self._session is None:
            return self._decode_hello(envelope)
        if envelope.kind is not MessageType.RELAYS:
            self._check_signature(envelope, self._swarm_id, self._session)
        self._received += 1
        if envelope.kind is MessageType.HELLO:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "a second HELLO")
        return self._codec.decode(envelope.kind, envelope.payload)

    def _decode_hello(self, envelope: Envelope) -> Message:
        hello = self._codec.decode(MessageType.HELLO, envelope.payload)
        assert isinstance(hello, Hello)
        # Signed for the swarm that it names: a peer of another swarm is told from a forger.
        self._check_signature(envelope, hello.swarm_id, NO_SESSION)
        if hello.swarm_id != self._swarm_id:
            detail = f"the sender is of swarm {hello.swarm_id.hex()[:16]}, this peer of {self._swarm_id.hex()[:16]}"
            raise RemoteMisbehaviour(Refusal.WRONG_SWARM, detail, fatal=True)
        if hello.session_nonce == self._nonce:
            raise RemoteMisbehaviour(Refusal.REPLAYED, "the session nonce is this side's own", fatal=True)
        self._session = session_id(self._nonce, hello.session_nonce)
        self._received += 1
        return hello

    def _check_order(self, sequence: int) -> None:
        if sequence < self._received:
            raise RemoteMisbehaviour(Refusal.REPLAYED, f"message {sequence} again")
        if sequence > self._received:
            raise RemoteMisbehaviour(Refusal.SPLICED, f"message {sequence} instead of {self._received}")

    def _check_signature(self, envelope: Envelope, swarm_id: bytes, session: bytes) -> None:
        signed = signature_input(
            swarm_id=swarm_id,
            sender=self._remote.public_bytes,
            receiver=self._identity.public_bytes,
            session=session,
            kind=envelope.kind,
            sequence=envelope.sequence,
            payload=envelope.payload,
        )
        if self._stand_ins is not None and self._stand_ins.is_valid(envelope.signature, signed):
            return
        if not self._remote.is_valid(envelope.signature, signed):
            raise RemoteMisbehaviour(Refusal.FORGED, f"the signature of {envelope.kind.name} is not the sender's")

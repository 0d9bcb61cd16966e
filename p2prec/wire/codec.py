"""Messages to payloads and back: msgpack arrays, every field checked here (`fields`, `tables`) and only here.

Layouts and limits: protocols/wire-v3.md, "Messages". The sizes of all tables follow from the manifest, so a payload of
another size is refused before its content is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import msgpack

from p2prec.errors import RemoteMisbehaviour, UsageError
from p2prec.identity import PEER_ID_CHARACTERS, public_bytes_of
from p2prec.manifest import LearningParameters
from p2prec.model.quantize import QuantizedTables
from p2prec.peer.messages import (
    Answer,
    Close,
    CloseReason,
    Commit,
    Decline,
    DeclineReason,
    Hello,
    Message,
    Offer,
    PeerAddress,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Refusal,
    Resolution,
    Resolve,
    is_host_literal,
)
from p2prec.peer.sum_messages import InSum, Relays
from p2prec.wire.fields import binary, exactly, malformed, text, uint, unpack_array
from p2prec.wire.limits import (
    ENVELOPE_BYTES,
    EXCHANGE_ID_BYTES,
    INSTANCE_BYTES,
    MAX_ADDRESSES,
    MAX_AGENT_CHARACTERS,
    MAX_CONTROL_PAYLOAD_BYTES,
    MAX_DETAIL_CHARACTERS,
    MAX_FRAME_BYTES,
    MAX_HOST_CHARACTERS,
    MAX_PEERS_PAYLOAD_BYTES,
    MAX_RELAYS_PAYLOAD_BYTES,
    MAX_ROUNDS,
    NONCE_BYTES,
    SWARM_ID_BYTES,
    TOKEN_BYTES,
)
from p2prec.wire.tables import TABLES_FIELDS, TablesLayout

if TYPE_CHECKING:  # only swarms with a promise carry it
    from p2prec.wire.sum_codec import SumCodec


class MessageType(IntEnum):
    """The second element of an envelope."""

    HELLO = 1
    OFFER = 2
    ANSWER = 3
    COMMIT = 4
    DECLINE = 5
    RESOLVE = 6
    RESOLUTION = 7
    PING = 8
    PONG = 9
    PEERS_REQUEST = 10
    PEERS = 11
    CLOSE = 12
    IN_SUM = 13
    """This and the next: in swarms with a promise alone (protocols/privacy-v8.md)."""
    RELAYS = 14


_TYPE_OF: Final[dict[type, MessageType]] = {
    Hello: MessageType.HELLO,
    Offer: MessageType.OFFER,
    Answer: MessageType.ANSWER,
    Commit: MessageType.COMMIT,
    Decline: MessageType.DECLINE,
    Resolve: MessageType.RESOLVE,
    Resolution: MessageType.RESOLUTION,
    Ping: MessageType.PING,
    Pong: MessageType.PONG,
    PeersRequest: MessageType.PEERS_REQUEST,
    Peers: MessageType.PEERS,
    Close: MessageType.CLOSE,
    InSum: MessageType.IN_SUM,
    Relays: MessageType.RELAYS,
}
_OF_SUMS: Final = (MessageType.IN_SUM, MessageType.RELAYS)
_NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")
_TABLE_HEADERS_BYTES = 128
"""More than msgpack adds to a table message: the array, eleven bin headers, the exchange id, the age and the part."""


class Codec:
    """Encodes and decodes the payloads of one swarm. Holds no state but the sizes."""

    def __init__(self, parameters: LearningParameters, n_items: int, sums: SumCodec | None = None) -> None:
        """sums: of a swarm with a promise. Raises UsageError when the tables, or sums, of this swarm do not fit into a frame."""
        self._layout = TablesLayout(parameters, n_items)
        self._sums = sums
        self._max_tables_payload_bytes = self._layout.max_bytes + _TABLE_HEADERS_BYTES
        largest = max(self._max_tables_payload_bytes, sums.max_payload_bytes if sums is not None else 0)
        if largest + ENVELOPE_BYTES > MAX_FRAME_BYTES:
            raise UsageError(
                f"one message of this swarm would take {largest + ENVELOPE_BYTES:,} bytes; "
                f"the limit is {MAX_FRAME_BYTES:,}",
                remedy="choose more parts, fewer factors or a smaller catalogue",
            )

    def check_size(self, kind: MessageType, payload: bytes) -> None:
        """Raises RemoteMisbehaviour: "oversized" when no message of this type is that large, "malformed" when this swarm has no
        such messages.
        """
        if self._sums is None and kind in _OF_SUMS:
            raise malformed("unknown message type")
        limit = self._max_payload_bytes(kind)
        if len(payload) > limit:
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"{len(payload)} bytes of {kind.name}, at most {limit}")

    def encode(self, message: Message) -> tuple[MessageType, bytes]:
        """The type and payload of a message. Raises ValueError for one that the other side would have to refuse."""
        kind = _TYPE_OF[type(message)]
        payload = self._payload(message)
        if isinstance(message, Relays):
            return kind, payload  # others' messages, each of which was checked when it came in
        try:
            self.decode(kind, payload)
        except RemoteMisbehaviour as refusal:
            raise ValueError(f"not a valid {kind.name}: {refusal}") from refusal
        return kind, payload

    def decode(self, kind: MessageType, payload: bytes) -> Message:
        """The message of a payload. Raises RemoteMisbehaviour ("oversized" or "malformed").

        The tables of an offer or answer are read-only.
        """
        self.check_size(kind, payload)
        if self._sums is not None and kind in _OF_SUMS:
            in_sum = kind is MessageType.IN_SUM
            return self._sums.decode_in_sum(payload) if in_sum else self._sums.decode_relays(payload)
        return self._message(kind, unpack_array(payload, max_items=MAX_ADDRESSES))

    def _payload(self, message: Message) -> bytes:
        if isinstance(message, (InSum, Relays)):
            if self._sums is None:
                raise ValueError("this swarm has no private sums")
            if isinstance(message, InSum):
                return self._sums.encode_in_sum(message)
            return self._sums.encode_relays(message)
        payload: bytes = msgpack.packb(self._fields(message), use_bin_type=True)
        return payload

    def _max_payload_bytes(self, kind: MessageType) -> int:
        if kind is MessageType.RELAYS:
            return MAX_RELAYS_PAYLOAD_BYTES
        if kind is MessageType.IN_SUM and self._sums is not None:
            return self._sums.max_payload_bytes
        if kind in (MessageType.OFFER, MessageType.ANSWER):
            return self._max_tables_payload_bytes
        return MAX_PEERS_PAYLOAD_BYTES if kind is MessageType.PEERS else MAX_CONTROL_PAYLOAD_BYTES

    def _fields(self, message: Message) -> list[Any]:
        match message:
            case Hello(swarm_id, instance, session_nonce, listen_port, age_rounds, agent):
                return [swarm_id, instance, session_nonce, listen_port, age_rounds, agent]
            case Offer(exchange_id, age_rounds, tables) | Answer(exchange_id, age_rounds, tables):
                return [exchange_id, age_rounds, *self._layout.fields(tables)]
            case Commit(exchange_id) | Resolve(exchange_id):
                return [exchange_id]
            case Decline(exchange_id, reason):
                return [exchange_id, int(reason)]
            case Resolution(exchange_id, applied):
                return [exchange_id, applied]
            case Ping(token) | Pong(token):
                return [token]
            case PeersRequest(limit):
                return [limit]
            case Peers(addresses):
                return [[address.peer_id, address.host, address.port] for address in addresses]
            case Close(reason, detail):
                return [int(reason), _for_people(detail)]
        raise ValueError(f"no fields for {type(message).__name__}")

    def _message(self, kind: MessageType, fields: Sequence[Any]) -> Message:
        match kind:
            case MessageType.HELLO:
                return _hello(fields)
            case MessageType.OFFER:
                return Offer(*self._exchange(fields))
            case MessageType.ANSWER:
                return Answer(*self._exchange(fields))
            case MessageType.COMMIT:
                return Commit(_exchange_id(exactly(fields, 1)[0]))
            case MessageType.DECLINE:
                exchange_id, reason = exactly(fields, 2)
                known = uint(reason, "reason", min(DeclineReason), max(DeclineReason))
                return Decline(_exchange_id(exchange_id), DeclineReason(known))
            case MessageType.RESOLVE:
                return Resolve(_exchange_id(exactly(fields, 1)[0]))
            case MessageType.RESOLUTION:
                exchange_id, applied = exactly(fields, 2)
                if not isinstance(applied, bool):
                    raise malformed("applied is not a boolean")
                return Resolution(_exchange_id(exchange_id), applied)
            case MessageType.PING:
                return Ping(binary(exactly(fields, 1)[0], "token", TOKEN_BYTES))
            case MessageType.PONG:
                return Pong(binary(exactly(fields, 1)[0], "token", TOKEN_BYTES))
            case MessageType.PEERS_REQUEST:
                return PeersRequest(uint(exactly(fields, 1)[0], "limit", 1, MAX_ADDRESSES))
            case MessageType.PEERS:
                return Peers(tuple(_address(entry) for entry in fields))
            case MessageType.CLOSE:
                reason, detail = exactly(fields, 2)
                known = uint(reason, "reason", min(CloseReason), max(CloseReason))
                return Close(CloseReason(known), text(detail, "detail", MAX_DETAIL_CHARACTERS))
            case MessageType.IN_SUM | MessageType.RELAYS:
                raise malformed("unknown message type")

    def _exchange(self, fields: Sequence[Any]) -> tuple[bytes, int, QuantizedTables]:
        exchange_id, age_rounds, *tables = exactly(fields, 2 + TABLES_FIELDS)
        return _exchange_id(exchange_id), uint(age_rounds, "age_rounds", 0, MAX_ROUNDS), self._layout.read(tables)


def _hello(fields: Sequence[Any]) -> Hello:
    swarm_id, instance, session_nonce, listen_port, age_rounds, agent = exactly(fields, 6)
    return Hello(
        swarm_id=binary(swarm_id, "swarm_id", SWARM_ID_BYTES),
        instance=binary(instance, "instance", INSTANCE_BYTES),
        session_nonce=binary(session_nonce, "session_nonce", NONCE_BYTES),
        listen_port=uint(listen_port, "listen_port", 0, 65535),
        age_rounds=uint(age_rounds, "age_rounds", 0, MAX_ROUNDS),
        agent=text(agent, "agent", MAX_AGENT_CHARACTERS),
    )


def _address(entry: Any) -> PeerAddress:
    if not isinstance(entry, tuple):
        raise malformed("an address is not an array")
    peer_id, host, port = exactly(entry, 3)
    try:
        public_bytes_of(text(peer_id, "peer_id", PEER_ID_CHARACTERS))
    except ValueError as error:
        raise malformed("an address has no valid peer id") from error
    if not is_host_literal(text(host, "host", MAX_HOST_CHARACTERS)):
        raise malformed("an address has no IP literal of one host")
    return PeerAddress(peer_id, host, uint(port, "port", 1, 65535))


def _exchange_id(value: Any) -> bytes:
    return binary(value, "exchange_id", EXCHANGE_ID_BYTES)


def _for_people(detail: str) -> str:
    """Any text, made fit to send: a goodbye must not fail because of a file name in it."""
    return _NOT_PRINTABLE_ASCII.sub("?", detail)[:MAX_DETAIL_CHARACTERS]

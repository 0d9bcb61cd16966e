"""Messages to payloads and back: msgpack arrays, tables as raw little-endian bytes, every field checked here and only here.

Layouts and limits: protocols/wire-v1.md, "Messages". The sizes of all tables follow from the manifest, so a payload of
another size is refused before its content is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

import msgpack
import numpy as np

from p2prec.errors import RemoteMisbehaviour, UsageError
from p2prec.identity import PEER_ID_CHARACTERS, public_bytes_of
from p2prec.model.quantize import QuantizedTable, QuantizedTables, TableShapes, within_bounds
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
    MAX_ROUNDS,
    NONCE_BYTES,
    SWARM_ID_BYTES,
    TOKEN_BYTES,
)


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
}
_SCALE = np.dtype("<f2")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
_NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")
_TABLE_HEADERS_BYTES = 128
"""More than msgpack adds to a table message: the array and nine bin headers, the exchange id and the age."""


class Codec:
    """Encodes and decodes the payloads of one swarm. Holds no state but the sizes."""

    def __init__(self, shapes: TableShapes) -> None:
        """Raises UsageError when the tables of this swarm do not fit into a frame."""
        self._shapes = (shapes.item_factors, shapes.gradient, shapes.evidence, shapes.gram)
        self._n_items = shapes.item_factors[0]
        self._max_tables_payload_bytes = shapes.payload_bytes + _TABLE_HEADERS_BYTES
        if self._max_tables_payload_bytes + ENVELOPE_BYTES > MAX_FRAME_BYTES:
            raise UsageError(
                f"one message of this swarm would take {self._max_tables_payload_bytes + ENVELOPE_BYTES:,} bytes; "
                f"the limit is {MAX_FRAME_BYTES:,}",
                remedy="choose fewer factors or a smaller catalogue",
            )

    def check_size(self, kind: MessageType, payload: bytes) -> None:
        """Raises RemoteMisbehaviour ("oversized") when no message of this type is that large."""
        limit = self._max_payload_bytes(kind)
        if len(payload) > limit:
            raise RemoteMisbehaviour(Refusal.OVERSIZED, f"{len(payload)} bytes of {kind.name}, at most {limit}")

    def encode(self, message: Message) -> tuple[MessageType, bytes]:
        """The type and payload of a message. Raises ValueError for one that the other side would have to refuse."""
        kind = _TYPE_OF[type(message)]
        payload: bytes = msgpack.packb(self._fields(message), use_bin_type=True)
        try:
            self.decode(kind, payload)
        except RemoteMisbehaviour as refusal:
            raise ValueError(f"not a valid {kind.name}: {refusal}") from refusal
        return kind, payload

    def decode(self, kind: MessageType, payload: bytes) -> Message:
        """The message of a payload. Raises RemoteMisbehaviour ("oversized", "malformed" or "non-finite").

        The tables of an offer or answer are read-only views of the payload.
        """
        self.check_size(kind, payload)
        return self._message(kind, unpack_array(payload, max_items=MAX_ADDRESSES))

    def _max_payload_bytes(self, kind: MessageType) -> int:
        if kind in (MessageType.OFFER, MessageType.ANSWER):
            return self._max_tables_payload_bytes
        return MAX_PEERS_PAYLOAD_BYTES if kind is MessageType.PEERS else MAX_CONTROL_PAYLOAD_BYTES

    def _fields(self, message: Message) -> list[Any]:
        match message:
            case Hello(swarm_id, instance, session_nonce, listen_port, age_rounds, agent):
                return [swarm_id, instance, session_nonce, listen_port, age_rounds, agent]
            case Offer(exchange_id, age_rounds, tables) | Answer(exchange_id, age_rounds, tables):
                return [exchange_id, age_rounds, *self._table_fields(tables)]
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

    def _message(self, kind: MessageType, fields: Sequence[Any]) -> Message:
        match kind:
            case MessageType.HELLO:
                return _hello(fields)
            case MessageType.OFFER:
                return Offer(*self._exchange(fields))
            case MessageType.ANSWER:
                return Answer(*self._exchange(fields))
            case MessageType.COMMIT:
                return Commit(_exchange_id(_exactly(fields, 1)[0]))
            case MessageType.DECLINE:
                exchange_id, reason = _exactly(fields, 2)
                known = _uint(reason, "reason", min(DeclineReason), max(DeclineReason))
                return Decline(_exchange_id(exchange_id), DeclineReason(known))
            case MessageType.RESOLVE:
                return Resolve(_exchange_id(_exactly(fields, 1)[0]))
            case MessageType.RESOLUTION:
                exchange_id, applied = _exactly(fields, 2)
                if not isinstance(applied, bool):
                    raise _malformed("applied is not a boolean")
                return Resolution(_exchange_id(exchange_id), applied)
            case MessageType.PING:
                return Ping(_binary(_exactly(fields, 1)[0], "token", TOKEN_BYTES))
            case MessageType.PONG:
                return Pong(_binary(_exactly(fields, 1)[0], "token", TOKEN_BYTES))
            case MessageType.PEERS_REQUEST:
                return PeersRequest(_uint(_exactly(fields, 1)[0], "limit", 1, MAX_ADDRESSES))
            case MessageType.PEERS:
                return Peers(tuple(_address(entry) for entry in fields))
            case MessageType.CLOSE:
                reason, detail = _exactly(fields, 2)
                known = _uint(reason, "reason", min(CloseReason), max(CloseReason))
                return Close(CloseReason(known), _text(detail, "detail", MAX_DETAIL_CHARACTERS))

    def _table_fields(self, tables: QuantizedTables) -> list[bytes]:
        fields: list[bytes] = []
        for table, shape in zip(_in_order(tables), self._shapes, strict=True):
            if table.values.shape != shape or table.scales.shape != shape[:1]:
                raise ValueError(f"a table of shape {table.values.shape}, where this swarm has {shape}")
            if table.values.dtype != np.int8 or table.scales.dtype != np.float16:
                raise ValueError(f"a table of {table.values.dtype} and {table.scales.dtype}")
            fields.append(table.scales.astype(_SCALE, copy=False).tobytes())
            fields.append(table.values.tobytes())
        return fields

    def _exchange(self, fields: Sequence[Any]) -> tuple[bytes, int, QuantizedTables]:
        exchange_id, age_rounds, *arrays = _exactly(fields, 2 + 2 * len(self._shapes))
        tables = [
            _table(scales, values, shape)
            for scales, values, shape in zip(arrays[::2], arrays[1::2], self._shapes, strict=True)
        ]
        padding = tables[2].values.reshape(-1)[self._n_items :]
        if padding.any():
            raise _malformed("evidence of items that the catalogue does not have")
        return _exchange_id(exchange_id), _uint(age_rounds, "age_rounds", 0, MAX_ROUNDS), QuantizedTables(*tables)


def unpack_array(data: bytes, *, max_items: int) -> Sequence[Any]:
    """Read one msgpack array of at most `max_items`, and nothing after it. Raises RemoteMisbehaviour ("malformed").

    No allocation exceeds a small multiple of `len(data)`: nothing inside may claim more than is there.
    """
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            max_str_len=min(len(data), MAX_DETAIL_CHARACTERS),
            max_bin_len=len(data),
            max_array_len=max_items,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise _malformed(f"not the expected msgpack ({type(error).__name__})") from error
    if not isinstance(value, tuple):
        raise _malformed("not a msgpack array")
    return value


def _hello(fields: Sequence[Any]) -> Hello:
    swarm_id, instance, session_nonce, listen_port, age_rounds, agent = _exactly(fields, 6)
    return Hello(
        swarm_id=_binary(swarm_id, "swarm_id", SWARM_ID_BYTES),
        instance=_binary(instance, "instance", INSTANCE_BYTES),
        session_nonce=_binary(session_nonce, "session_nonce", NONCE_BYTES),
        listen_port=_uint(listen_port, "listen_port", 0, 65535),
        age_rounds=_uint(age_rounds, "age_rounds", 0, MAX_ROUNDS),
        agent=_text(agent, "agent", MAX_AGENT_CHARACTERS),
    )


def _in_order(tables: QuantizedTables) -> tuple[QuantizedTable, ...]:
    return (tables.item_factors, tables.gradient, tables.evidence, tables.gram)


def _table(scales: Any, values: Any, shape: tuple[int, int]) -> QuantizedTable:
    n_rows, n_columns = shape
    table = QuantizedTable(
        scales=np.frombuffer(_binary(scales, "scales", 2 * n_rows), dtype=_SCALE),
        values=np.frombuffer(_binary(values, "values", n_rows * n_columns), dtype=np.int8).reshape(shape),
    )
    if not np.isfinite(table.scales).all():
        raise RemoteMisbehaviour(Refusal.NON_FINITE, "a scale is infinite or not a number")
    if not within_bounds(table):
        raise _malformed("a scale or a value is out of range")
    return table


def _address(entry: Any) -> PeerAddress:
    if not isinstance(entry, tuple):
        raise _malformed("an address is not an array")
    peer_id, host, port = _exactly(entry, 3)
    try:
        public_bytes_of(_text(peer_id, "peer_id", PEER_ID_CHARACTERS))
    except ValueError as error:
        raise _malformed("an address has no valid peer id") from error
    if not is_host_literal(_text(host, "host", MAX_HOST_CHARACTERS)):
        raise _malformed("an address has no IP literal of one host")
    return PeerAddress(peer_id, host, _uint(port, "port", 1, 65535))


def _exactly(fields: Sequence[Any], count: int) -> Sequence[Any]:
    if len(fields) != count:
        raise _malformed(f"{len(fields)} fields instead of {count}")
    return fields


def _exchange_id(value: Any) -> bytes:
    return _binary(value, "exchange_id", EXCHANGE_ID_BYTES)


def _binary(value: Any, name: str, n_bytes: int) -> bytes:
    if not isinstance(value, bytes):
        raise _malformed(f"{name} is not binary")
    if len(value) != n_bytes:
        raise _malformed(f"{name} has {len(value)} bytes instead of {n_bytes}")
    return value


def _uint(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int:  # a bool is an int to isinstance
        raise _malformed(f"{name} is not an integer")
    if not low <= value <= high:
        raise _malformed(f"{name} is not within {low} to {high}")
    return value


def _text(value: Any, name: str, max_characters: int) -> str:
    # Printable ASCII alone: these texts end up in logs and terminals.
    if not isinstance(value, str) or not _PRINTABLE_ASCII.fullmatch(value):
        raise _malformed(f"{name} is not printable ASCII text")
    if len(value) > max_characters:
        raise _malformed(f"{name} has more than {max_characters} characters")
    return value


def _for_people(text: str) -> str:
    """Any text, made fit to send: a goodbye must not fail because of a file name in it."""
    return _NOT_PRINTABLE_ASCII.sub("?", text)[:MAX_DETAIL_CHARACTERS]


def _malformed(detail: str) -> RemoteMisbehaviour:
    return RemoteMisbehaviour(Refusal.MALFORMED, detail)

"""Messages of private sums to msgpack and back (protocols/privacy-v8.md, "Messages"), every field checked.

The length of each sum's vector follows from the manifest, so a share of another size is refused before its content is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgpack
import numpy as np

from p2prec.identity import PUBLIC_KEY_BYTES
from p2prec.model.nearest import ROW, Levels, from_bytes, n_rows, to_bytes
from p2prec.peer.escrow_box import CONTRIBUTION_OVERHEAD_BYTES, MAX_BOX_BYTES
from p2prec.peer.inheritance import Trace
from p2prec.peer.private_sum import MAX_FINE, MAX_WEIGHT, WEIGHT_STEP, Share, is_acceptable
from p2prec.peer.roll import MAX_ENROLLED
from p2prec.peer.sum_messages import (
    DIRECT,
    FLOODED,
    MAX_SEEN,
    ROUTED,
    UNPROVEN,
    Alive,
    Claimed,
    Deposit,
    Gone,
    HandedOver,
    HandOver,
    Inherited,
    InSum,
    Masked,
    MaskNoted,
    NotMasked,
    Opened,
    Pair,
    Relayed,
    Relays,
    Result,
    ResultRequest,
    Returned,
    Sealed,
    Seen,
    Selection,
    SumAnswer,
    SumCommit,
    SumDecline,
    SumMessage,
    SumOffer,
    SumResolution,
    SumResolve,
    Suspected,
    TakenOut,
    Voided,
    Withdrawn,
    Witnessed,
)
from p2prec.peer.sum_roster import MOST_PARTNERS
from p2prec.privacy.escrow import MAX_SHARES
from p2prec.privacy.plan import PAIRS
from p2prec.privacy.stream import KEY_BYTES
from p2prec.types import IndexArray, PeerId
from p2prec.wire.fields import binary, exactly, malformed, uint, unpack_array
from p2prec.wire.limits import EXCHANGE_ID_BYTES
from p2prec.wire.peer_keys import key_of, peer_of
from p2prec.wire.relay_codec import RelayCodec
from p2prec.wire.sum_kinds import SumKind, kind_of

MAX_CHANGES = 2**31 - 1
MAX_INCARNATION = 2**16 - 1
_SHARE_FIELDS = 5
_SHARE_OVERHEAD_BYTES = 128
"""More than msgpack, weight, trace and exchange id add to scales and levels."""
_MAX_WEIGHT_STEPS = int(MAX_WEIGHT / WEIGHT_STEP)


_KIND_OF: Final[dict[type, SumKind]] = {
    Pair: SumKind.PAIR,
    Masked: SumKind.MASKED,
    MaskNoted: SumKind.MASK_NOTED,
    NotMasked: SumKind.NOT_MASKED,
    Deposit: SumKind.DEPOSIT,
    SumOffer: SumKind.OFFER,
    SumAnswer: SumKind.ANSWER,
    SumDecline: SumKind.DECLINE,
    SumCommit: SumKind.COMMIT,
    SumResolve: SumKind.RESOLVE,
    SumResolution: SumKind.RESOLUTION,
    Claimed: SumKind.CLAIMED,
    Inherited: SumKind.INHERITED,
    HandOver: SumKind.HAND_OVER,
    HandedOver: SumKind.HANDED_OVER,
    Seen: SumKind.SEEN,
    Returned: SumKind.RETURNED,
    Suspected: SumKind.SUSPECTED,
    Alive: SumKind.ALIVE,
    Gone: SumKind.GONE,
    Selection: SumKind.SELECTION,
    Voided: SumKind.VOIDED,
    ResultRequest: SumKind.RESULT_REQUEST,
    Result: SumKind.RESULT,
    Sealed: SumKind.SEALED,
    Opened: SumKind.OPENED,
    TakenOut: SumKind.TAKEN_OUT,
    Withdrawn: SumKind.WITHDRAWN,
    Witnessed: SumKind.WITNESSED,
}
_TYPE_OF: Final[dict[int, type]] = {int(kind): one for one, kind in _KIND_OF.items()}


def _kinds(types: Iterable[type]) -> frozenset[SumKind]:
    return frozenset(_KIND_OF[one] for one in types)


_FLOODED, _ROUTED, _WORDS = _kinds(FLOODED), _kinds(ROUTED), _kinds(UNPROVEN)


_BY_NAME: Final[dict[SumKind, type]] = {
    SumKind.PAIR: Pair,
    SumKind.MASK_NOTED: MaskNoted,
    SumKind.NOT_MASKED: NotMasked,
    SumKind.GONE: Gone,
    SumKind.WITHDRAWN: Withdrawn,
    SumKind.VOIDED: Voided,
    SumKind.RESULT_REQUEST: ResultRequest,
}
"""Messages without content."""


class SumCodec:
    """The messages of one swarm's two sums. Holds no state but the sizes, and a bounded memory of what was checked before."""

    def __init__(self, counts: Mapping[int, int], n_selected: int, n_items: int) -> None:
        """counts: the values of each sum, 1 and 2; n_selected: items counted in pairs, of the n_items of the catalogue."""
        self._counts, self._n_items, self._n_selected = dict(counts), n_items, n_selected
        largest = max(_widest_bytes(count) for count in counts.values())
        self.max_payload_bytes = largest + 5 * n_selected + _SHARE_OVERHEAD_BYTES
        """Of a message to a neighbour: the largest share, and the list of items."""
        largest_body = max(MAX_BOX_BYTES, 2 * MAX_SEEN * PUBLIC_KEY_BYTES, 4 * n_selected) + 64
        self._relays = RelayCodec(largest_body, _FLOODED, _ROUTED)

    # --- on a link ---

    def encode_in_sum(self, message: InSum) -> bytes:
        """The payload of a message to a neighbour."""
        kind = _KIND_OF[type(message.message)]
        payload: bytes = msgpack.packb([message.number, int(kind), *self._fields(message.message)], use_bin_type=True)
        return payload

    def decode_in_sum(self, payload: bytes) -> InSum:
        """Raises RemoteMisbehaviour ("malformed"). Arrays are read-only."""
        fields = unpack_array(payload, max_items=16)
        if len(fields) < 2:
            raise malformed("no sum and no kind")
        number, kind = uint(fields[0], "sum", 1, PAIRS), kind_of(fields[1])
        if _TYPE_OF[kind] not in DIRECT:
            raise malformed(f"{kind.name} is not for a neighbour alone")
        return InSum(number, self._message(kind, fields[2:], number))

    def encode_relays(self, relays: Relays) -> bytes:
        """The payload of messages that are passed on, and of entries of the roll."""
        return self._relays.encode(relays)

    def decode_relays(self, payload: bytes) -> Relays:
        """Their envelopes, checked; what is inside is opened when it is new (`p2prec.wire.seal`). Raises RemoteMisbehaviour."""
        return self._relays.decode(payload)

    def is_verified(self, relayed: Relayed) -> bool:
        """Whether its signature is known to be its origin's: peers of one process share a codec."""
        known = self._relays.known(relayed)
        return known is not None and known.is_verified

    def note_verified(self, relayed: Relayed) -> None:
        """Its signature is its origin's."""
        known = self._relays.known(relayed)
        if known is not None:
            known.is_verified = True

    # --- what is signed by its origin ---

    def encode_body(self, message: SumMessage) -> tuple[int, bytes]:
        """Kind and body of a message that is passed on."""
        body: bytes = msgpack.packb(self._fields(message), use_bin_type=True)
        return int(_KIND_OF[type(message)]), body

    def decode_body(self, relayed: Relayed) -> SumMessage:
        """Raises RemoteMisbehaviour ("malformed") also for a message that does not travel so."""
        known = self._relays.known(relayed)
        if known is not None and known.message is not None:
            return known.message
        kind = kind_of(relayed.kind)
        if kind not in (_FLOODED if relayed.to is None else _ROUTED):
            raise malformed(f"{kind.name} does not travel so")
        fields = unpack_array(relayed.body, max_items=16)
        message = self._word(kind, fields) if kind in _WORDS else self._message(kind, fields, relayed.number)
        if known is not None:
            known.message = message
        return message

    # --- fields ---

    def _fields(self, message: SumMessage) -> list[Any]:
        match message:
            case Masked(escrow):
                return [escrow]
            case Deposit(share) | HandOver(share):
                return _share_fields(share)
            case SumOffer(exchange, share) | SumAnswer(exchange, share):
                return [exchange, *_share_fields(share)]
            case Witnessed(peer, direct, share):
                return [key_of(peer), direct, *_share_fields(share)]
            case SumDecline(exchange) | SumCommit(exchange) | SumResolve(exchange):
                return [exchange]
            case SumResolution(exchange, applied):
                return [exchange, applied]
            case Sealed(box, threshold):
                return [box, threshold]
            case Opened(owner, number, share):
                return [key_of(owner), number, share]
            case TakenOut(owner, absent, changes):
                return [key_of(owner), key_of(absent), changes]
            case Claimed(dead, changes, direct):
                return [key_of(dead), changes, direct]
            case Inherited(dead, changes):
                return [key_of(dead), changes]
            case HandedOver(peer):
                return [key_of(peer)]
            case Seen(peers, silent):
                return [_join(peers), _join(silent)]
            case Returned(owner, absent, number, share):
                return [key_of(owner), key_of(absent), number, share]
            case Suspected(peer, incarnation):
                return [key_of(peer), incarnation]
            case Alive(incarnation):
                return [incarnation]
            case Selection(items):
                return [items.astype("<u4").tobytes()]
            case Result(share, people, items):
                return [*_share_fields(share), people, b"" if items is None else items.astype("<u4").tobytes()]
        return []

    def _message(self, kind: SumKind, fields: Sequence[Any], number: int) -> SumMessage:
        if kind in _BY_NAME:
            exactly(fields, 0)
            empty: SumMessage = _BY_NAME[kind]()
            return empty
        match kind:
            case SumKind.MASKED:
                return Masked(_at_most(exactly(fields, 1)[0], "escrow", MAX_BOX_BYTES))
            case SumKind.DEPOSIT:
                return Deposit(self._share(fields, number))
            case SumKind.HAND_OVER:
                return HandOver(self._share(fields, number))
            case SumKind.WITNESSED:
                peer, direct, *share = exactly(fields, _SHARE_FIELDS + 2)
                return Witnessed(peer_of(peer), _boolean(direct, "direct"), self._share(share, number))
            case SumKind.OFFER:
                return SumOffer(_exchange(fields[:1]), self._share(fields[1:], number))
            case SumKind.ANSWER:
                return SumAnswer(_exchange(fields[:1]), self._share(fields[1:], number))
            case SumKind.DECLINE:
                return SumDecline(_exchange(fields))
            case SumKind.COMMIT:
                return SumCommit(_exchange(fields))
            case SumKind.RESOLVE:
                return SumResolve(_exchange(fields))
            case SumKind.RESOLUTION:
                exchange, applied = exactly(fields, 2)
                return SumResolution(_exchange([exchange]), _boolean(applied, "applied"))
            case SumKind.SEALED:
                box, threshold = exactly(fields, 2)
                largest = _widest_bytes(self._counts[number]) + CONTRIBUTION_OVERHEAD_BYTES
                return Sealed(_at_most(box, "box", largest), uint(threshold, "threshold", 1, MAX_SHARES))
            case SumKind.RESULT:
                *share, people, items = exactly(fields, _SHARE_FIELDS + 2)
                value = self._share(share, number)
                if value.weight == 0:
                    raise malformed("a result of nobody")
                listed = None if items == b"" else self._items(items)
                if (listed is None) == (number == PAIRS):
                    raise malformed("a list of items belongs to the second sum")
                return Result(value, uint(people, "people", 1, MAX_ENROLLED + 1), listed)
        return self._word(kind, fields)

    def _word(self, kind: SumKind, fields: Sequence[Any]) -> SumMessage:
        """What is flooded about the dead and the living."""
        match kind:
            case SumKind.CLAIMED:
                dead, changes, direct = exactly(fields, 3)
                return Claimed(peer_of(dead), _changes(changes), _boolean(direct, "direct"))
            case SumKind.INHERITED:
                dead, changes = exactly(fields, 2)
                return Inherited(peer_of(dead), _changes(changes))
            case SumKind.HANDED_OVER:
                return HandedOver(peer_of(exactly(fields, 1)[0]))
            case SumKind.SEEN:
                peers, silent = exactly(fields, 2)
                return Seen(_split(peers, MAX_SEEN), _split(silent, MOST_PARTNERS))
            case SumKind.RETURNED:
                owner, absent, held, share = exactly(fields, 4)
                numbered = uint(held, "share number", 1, MAX_SHARES)
                return Returned(peer_of(owner), peer_of(absent), numbered, binary(share, "share", KEY_BYTES))
            case SumKind.OPENED:
                owner, held, share = exactly(fields, 3)
                numbered = uint(held, "share number", 1, MAX_SHARES)
                return Opened(peer_of(owner), numbered, binary(share, "share", KEY_BYTES))
            case SumKind.TAKEN_OUT:
                owner, absent, changes = exactly(fields, 3)
                return TakenOut(peer_of(owner), peer_of(absent), _changes(changes))
            case SumKind.SUSPECTED:
                peer, incarnation = exactly(fields, 2)
                return Suspected(peer_of(peer), uint(incarnation, "incarnation", 0, MAX_INCARNATION))
            case SumKind.ALIVE:
                return Alive(uint(exactly(fields, 1)[0], "incarnation", 0, MAX_INCARNATION))
            case SumKind.SELECTION:
                return Selection(self._items(exactly(fields, 1)[0]))
        raise malformed(f"no reader for {kind.name}")

    def _share(self, fields: Sequence[Any], number: int) -> Share:
        count = self._counts[number]
        scales, levels, weight, previous, changes = exactly(fields, _SHARE_FIELDS)
        value = _levels(scales, levels, count)
        if not isinstance(changes, tuple):
            raise malformed("a trace is not an array")
        own, others = exactly(changes, 2)
        share = Share(
            value,
            uint(weight, "weight", 0, _MAX_WEIGHT_STEPS) * WEIGHT_STEP,
            Trace(_changes(own), None if previous == b"" else peer_of(previous), _changes(others)),
        )
        if not is_acceptable(share, count) or value.levels.reshape(-1)[count:].any():
            raise malformed("a scale or a level is out of range")
        return share

    def _items(self, data: Any) -> IndexArray:
        items: IndexArray = np.frombuffer(binary(data, "items", 4 * self._n_selected), "<u4").astype(np.int64)
        if items.max() >= self._n_items or len(np.unique(items)) != len(items):
            raise malformed("a list of items that are none, or one of them twice")
        return items


def _share_fields(share: Share) -> list[Any]:
    trace = share.trace
    return [
        *to_bytes(share.value),
        round(share.weight / WEIGHT_STEP),
        b"" if trace.previous is None else key_of(trace.previous),
        [trace.changes, trace.previous_changes],
    ]


def _widest(count: int) -> int:
    """Bytes of a level, at most, in a sum of so many values."""
    return 2 if count <= MAX_FINE else 1


def _widest_bytes(count: int) -> int:
    """Of scales and levels of so many values, at most."""
    return n_rows(count) * (ROW * _widest(count) + 2)


def _levels(scales: Any, levels: Any, count: int) -> Levels:
    """`count` values of eight bits or, in twice as many bytes, of sixteen."""
    rows = n_rows(count)
    scales, levels = binary(scales, "scales", 2 * rows), _at_most(levels, "levels", _widest(count) * ROW * rows)
    try:
        return from_bytes(scales, levels, count)
    except ValueError as error:
        raise malformed(str(error)) from error


def _changes(value: Any) -> int:
    return uint(value, "changes", 0, MAX_CHANGES)


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise malformed(f"{name} is not a boolean")
    return value


def _exchange(fields: Sequence[Any]) -> bytes:
    return binary(exactly(fields, 1)[0], "exchange id", EXCHANGE_ID_BYTES)


def _at_most(value: Any, name: str, n_bytes: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > n_bytes:
        raise malformed(f"{name} is not binary of at most {n_bytes} bytes")
    return value


def _join(peers: frozenset[PeerId]) -> bytes:
    return b"".join(sorted(key_of(peer) for peer in peers))


def _split(data: Any, most: int) -> frozenset[PeerId]:
    keys = _at_most(data, "peers", most * PUBLIC_KEY_BYTES)
    if len(keys) % PUBLIC_KEY_BYTES:
        raise malformed("half a peer")
    starts = range(0, len(keys), PUBLIC_KEY_BYTES)
    return frozenset(peer_of(keys[start : start + PUBLIC_KEY_BYTES]) for start in starts)

"""Messages of private sums on a link: the largest ones fit, and each field is checked on both sides of its bound.

The vectors (tests/unit/test_wire_vectors.py) have every kind; here is what they have not.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import numpy as np
import pytest

from p2prec.errors import RemoteMisbehaviour, UsageError
from p2prec.identity import Identity
from p2prec.manifest import LearningParameters, Promise
from p2prec.model.nearest import MAX_MAGNITUDE, encode
from p2prec.peer.inheritance import Trace
from p2prec.peer.messages import Refusal
from p2prec.peer.private_peer import sizes_of
from p2prec.peer.private_sum import MAX_FINE, MAX_WEIGHT, WEIGHT_STEP, Share, on_the_wire
from p2prec.peer.roll import PART_ENTRIES
from p2prec.peer.sum_messages import Enrolled, Enrolment, InSum, Relayed, Relays, Result, SumOffer
from p2prec.privacy.plan import PAIRS, POPULARITY
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.limits import MAX_FRAME_BYTES, MAX_RELAYS_PAYLOAD_BYTES
from p2prec.wire.sum_codec import MAX_CHANGES, SumCodec, SumKind

PEER = Identity.from_seed(bytes(32))
ID16 = bytes(range(16))
N_ITEMS, COUNT, N_SELECTED = 70, 70, 4
SUMS = SumCodec({POPULARITY: COUNT, PAIRS: 10}, N_SELECTED, N_ITEMS)
CODEC = Codec(LearningParameters(n_factors=2), N_ITEMS, SUMS)


def promise(n_people: int) -> Promise:
    return Promise(
        epsilon=8.0,
        n_people=n_people,
        start=0,
        second_after_s=1200.0,
        enrol_s=60.0,
        contribute_s=120.0,
        recover_s=300.0,
        end_s=600.0,
    )


def share(count: int = COUNT, weight: float = 1.0, changes: int = 1, *, fine: bool = False) -> Share:
    values = np.random.default_rng(1).normal(0, 5, count).astype(np.float32)
    return Share(encode(values, fine=fine), weight, Trace(changes, PEER.peer_id, changes))


def offer_fields(count: int = COUNT) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(SUMS.encode_in_sum(InSum(POPULARITY, SumOffer(ID16, share(count)))))
    return fields


SUM, KIND, EXCHANGE, SCALES, LEVELS, WEIGHT, PREVIOUS, CHANGES = range(8)


def refused(fields: list[Any]) -> str:
    with pytest.raises(RemoteMisbehaviour) as refusal:
        CODEC.decode(MessageType.IN_SUM, msgpack.packb(fields))
    return refusal.value.reason


@pytest.mark.parametrize("fine", [False, True])
def test_a_share_survives_the_way(fine: bool) -> None:
    message = InSum(POPULARITY, SumOffer(ID16, share(weight=on_the_wire(1 / 3), changes=MAX_CHANGES, fine=fine)))
    kind, payload = CODEC.encode(message)
    back = CODEC.decode(kind, payload)
    assert isinstance(back, InSum)
    assert isinstance(back.message, SumOffer)
    assert isinstance(message.message, SumOffer)
    sent, got = message.message.share, back.message.share
    assert np.array_equal(sent.value.scales, got.value.scales)
    assert np.array_equal(sent.value.levels, got.value.levels)
    assert got.value.levels.dtype == sent.value.levels.dtype
    assert (sent.weight, sent.trace) == (got.weight, got.trace)


@pytest.mark.parametrize(("n_items", "n_people"), [(10_000, 900), (3_883, 50_000), (1_000_000, 60)])
def test_the_largest_sums_fit_into_a_frame(n_items: int, n_people: int) -> None:
    counts, selected = sizes_of(promise(n_people), n_items)
    learning = LearningParameters(n_factors=2, n_parts=64)
    codec = Codec(learning, n_items, SumCodec(counts, selected, n_items))
    for number, count in counts.items():
        items = None if number == POPULARITY else np.arange(selected)
        largest = share(count, fine=count <= MAX_FINE)
        kind, payload = codec.encode(InSum(number, Result(largest, 5, items)))
        codec.check_size(kind, payload)
        assert len(payload) < MAX_FRAME_BYTES - 100
    if n_people == 50_000:
        assert counts[PAIRS] == 80_200


def test_sixteen_bits_are_for_sums_that_fit() -> None:
    for count in (MAX_FINE, MAX_FINE + 1):
        sums = SumCodec({POPULARITY: count, PAIRS: 10}, N_SELECTED, count)
        payload = sums.encode_in_sum(InSum(POPULARITY, SumOffer(ID16, share(count, fine=True))))
        if count <= MAX_FINE:
            sums.decode_in_sum(payload)
        else:
            with pytest.raises(RemoteMisbehaviour, match="malformed"):
                sums.decode_in_sum(payload)


def test_a_sum_that_fits_into_no_frame_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="the limit is"):
        Codec(LearningParameters(n_factors=2, n_parts=64), 100, SumCodec({1: 1_020_000, 2: 3}, 2, 1_020_000))


def test_oversized() -> None:
    largest = SUMS.max_payload_bytes
    CODEC.check_size(MessageType.IN_SUM, bytes(largest))
    CODEC.check_size(MessageType.RELAYS, bytes(MAX_RELAYS_PAYLOAD_BYTES))
    for kind, limit in ((MessageType.IN_SUM, largest), (MessageType.RELAYS, MAX_RELAYS_PAYLOAD_BYTES)):
        with pytest.raises(RemoteMisbehaviour) as refusal:
            CODEC.check_size(kind, bytes(limit + 1))
        assert refusal.value.reason == Refusal.OVERSIZED


def test_bounds_are_accepted() -> None:
    for position, value in (
        (WEIGHT, 0),
        (WEIGHT, int(MAX_WEIGHT / WEIGHT_STEP)),
        (PREVIOUS, b""),
        (CHANGES, [0, 0]),
        (CHANGES, [MAX_CHANGES, MAX_CHANGES]),
    ):
        fields = offer_fields()
        fields[position] = value
        CODEC.decode(MessageType.IN_SUM, msgpack.packb(fields))


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (SUM, 0),
        (SUM, 3),
        (SUM, True),
        (KIND, 0),
        (KIND, len(SumKind) + 1),
        (KIND, int(SumKind.PAIR)),
        (KIND, int(SumKind.CLAIMED)),
        (EXCHANGE, ID16[:-1]),
        (SCALES, bytes(2)),
        (SCALES, np.full(2, np.nan, "<f2").tobytes()),
        (SCALES, np.full(2, -1, "<f2").tobytes()),
        (SCALES, np.full(2, MAX_MAGNITUDE / 127 * 1.01, "<f2").tobytes()),
        (LEVELS, bytes(127)),
        (LEVELS, bytes(129)),
        (LEVELS, b"\x80" + bytes(127)),
        (LEVELS, bytes(255)),
        (LEVELS, bytes(257)),
        (LEVELS, b"\x00\x80" + bytes(254)),
        (LEVELS, bytes(127) + b"\1"),
        (WEIGHT, -1),
        (WEIGHT, int(MAX_WEIGHT / WEIGHT_STEP) + 1),
        (WEIGHT, 1.0),
        (PREVIOUS, bytes(31)),
        (CHANGES, [1]),
        (CHANGES, 1),
        (CHANGES, [-1, 0]),
        (CHANGES, [0, MAX_CHANGES + 1]),
    ],
)
def test_what_is_out_of_bounds_is_malformed(position: int, value: object) -> None:
    fields = offer_fields()
    fields[position] = value
    assert refused(fields) == Refusal.MALFORMED


def test_a_share_of_the_other_sum_is_malformed() -> None:
    fields = offer_fields()
    assert refused([PAIRS, *fields[1:]]) == Refusal.MALFORMED
    assert refused(fields[:-1]) == Refusal.MALFORMED
    assert refused([*fields, 0]) == Refusal.MALFORMED
    assert refused([]) == Refusal.MALFORMED


def test_a_result_of_nobody_or_with_the_wrong_list_is_malformed() -> None:
    items = np.arange(N_SELECTED)
    good = SUMS.encode_in_sum(InSum(PAIRS, Result(share(10), 60, items)))
    SUMS.decode_in_sum(good)
    for number, result in (
        (POPULARITY, Result(share(), 60, items)),
        (PAIRS, Result(share(10), 60, None)),
        (PAIRS, Result(share(10, weight=0.0), 60, items)),
        (PAIRS, Result(share(10), 0, items)),
        (PAIRS, Result(share(10), 60, items + N_ITEMS)),
        (PAIRS, Result(share(10), 60, items * 0)),
    ):
        with pytest.raises(RemoteMisbehaviour, match="malformed"):
            SUMS.decode_in_sum(SUMS.encode_in_sum(InSum(number, result)))


KEY = PEER.public_bytes


def relayed(
    hops: int = 32,
    number: int = 1,
    kind: int = SumKind.GONE,
    token: bytes = bytes(8),
    to: bytes = b"",
    body: bytes = b"\x90",
    signature: bytes = bytes(64),
) -> bytes:
    return bytes((hops,)) + signature + bytes((number, kind)) + token + KEY + to + body


RELAYED = relayed()


def test_envelopes_of_relayed_messages_are_checked() -> None:
    def read(entry: object) -> Relays:
        message = CODEC.decode(MessageType.RELAYS, msgpack.packb([False, [], [entry]]))
        assert isinstance(message, Relays)
        return message

    (flood,) = read(RELAYED).relays
    assert (flood.origin, flood.to, flood.body) == (PEER.peer_id, None, b"\x90")
    (letter,) = read(relayed(kind=SumKind.PAIR, to=KEY)).relays
    assert (letter.origin, letter.to, letter.body) == (PEER.peer_id, PEER.peer_id, b"\x90")
    for wrong in (
        *(relayed(hops=33), relayed(number=0), relayed(number=3), RELAYED[:106], b"", RELAYED.hex(), [RELAYED], 1),
        *(relayed(kind=kind) for kind in (0, SumKind.OFFER, SumKind.DEPOSIT, 99)),
        *(relayed(kind=SumKind.PAIR), relayed(kind=SumKind.PAIR, to=KEY[:-2])),
    ):
        with pytest.raises(RemoteMisbehaviour, match="malformed"):
            read(wrong)
    with pytest.raises(RemoteMisbehaviour, match="oversized"):
        read(relayed(body=bytes(200_000)))


def test_what_comes_again_is_known_whatever_its_hops_and_nothing_else_is() -> None:
    def read(*entries: bytes) -> tuple[Relayed, ...]:
        message = CODEC.decode(MessageType.RELAYS, msgpack.packb([False, [], entries]))
        assert isinstance(message, Relays)
        return message.relays

    first, again, nearer = read(RELAYED, RELAYED, relayed(hops=3))
    assert first is again
    assert nearer == first.with_hops(3)
    changes: tuple[dict[str, Any], ...] = (
        {"number": 2},
        {"kind": SumKind.VOIDED},
        {"token": b"another "},
        {"body": b"\x91\x01"},
    )
    for change in changes:
        (other,) = read(relayed(**change))
        assert other != first
        assert read(RELAYED) == (first,)


def test_what_is_passed_on_is_as_it_came() -> None:
    long = relayed(kind=SumKind.MASKED, to=KEY, body=bytes(2000), signature=bytes(range(64)))
    rows = [[1, ENROLLED + ENROLLED[:-1] + b"\0", CONTRIBUTED, False], [1, b"", CONTRIBUTED, True]]
    for _ in range(2):
        payload = msgpack.packb([True, rows, [RELAYED, long, relayed(hops=3)]])
        assert CODEC.encode(CODEC.decode(MessageType.RELAYS, payload)) == (MessageType.RELAYS, payload)


ENROLLED, CONTRIBUTED = KEY + bytes(range(128)) + b"\7", KEY + bytes(range(32))


def test_parts_of_the_roll_are_checked() -> None:
    def read(*roll: object) -> Relays:
        message = CODEC.decode(MessageType.RELAYS, msgpack.packb([True, roll, []]))
        assert isinstance(message, Relays)
        return message

    assert read().is_eager
    (part,) = read([2, ENROLLED, CONTRIBUTED * 2, False]).roll
    assert part.number == 2
    assert part.enrolled == (
        Enrolled(Enrolment(PEER.peer_id, bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 128))), distance=7),
    )
    assert part.contributed == ((PEER.peer_id, bytes(range(32))),) * 2
    assert (
        read([1, ENROLLED * PART_ENTRIES, CONTRIBUTED * PART_ENTRIES, False], [2, b"", b"", True]).roll[0].number == 1
    )
    for wrong in (
        *([0, b"", b"", False], [3, b"", b"", False], [True, b"", b"", False], [1, "", b"", False], [1, b"", 0, False]),
        *([1, b"", b""], [1, b"", b"", False, False], 1, [1, b"", b"", 0]),
        *(
            [1, ENROLLED[:-1], b"", False],
            [1, ENROLLED + b"\1", b"", False],
            [1, ENROLLED[:-1] + b"\x21", b"", False],
            [1, b"", CONTRIBUTED[1:], False],
        ),
        *([1, ENROLLED * (PART_ENTRIES + 1), b"", False], [1, b"", CONTRIBUTED * (PART_ENTRIES + 1), False]),
    ):
        with pytest.raises(RemoteMisbehaviour, match="malformed"):
            read(wrong)
    for payload in ([False, []], [False, [], [], []], [False, 1, []], [False, [], b""], [0, [], []], [[], [], []], {}):
        with pytest.raises(RemoteMisbehaviour, match="malformed"):
            CODEC.decode(MessageType.RELAYS, msgpack.packb(payload))


def test_a_frame_of_too_many_relayed_messages_is_malformed() -> None:
    with pytest.raises(RemoteMisbehaviour, match="malformed"):
        CODEC.decode(MessageType.RELAYS, msgpack.packb([False, [], [RELAYED] * 1025]))


def test_random_bytes_are_malformed_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    payload = SUMS.encode_in_sum(InSum(POPULARITY, SumOffer(ID16, share())))
    relays = msgpack.packb([True, [[1, ENROLLED * 2, CONTRIBUTED, True]], [RELAYED, RELAYED]])
    for kind, good in ((MessageType.IN_SUM, payload), (MessageType.RELAYS, relays)):
        for _ in range(400):
            changed = bytearray(good)
            for position in rng.integers(len(good), size=rng.integers(1, 4)):
                changed[position] = rng.integers(256)
            with contextlib.suppress(RemoteMisbehaviour):
                CODEC.decode(kind, bytes(changed[: rng.integers(1, len(good) + 1)]))

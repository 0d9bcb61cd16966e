"""The exchange's bookkeeping: what is in flight, in doubt, vouched for, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.errors import RemoteMisbehaviour
from p2prec.model.quantize import QuantizedTables
from p2prec.model.rounding import QuantizedTable
from p2prec.peer.exchange import MAX_IN_DOUBT, MAX_REMEMBERED, Exchanger
from p2prec.peer.messages import (
    Answer,
    Commit,
    Decline,
    DeclineReason,
    Offer,
    Refusal,
    Resolution,
    Resolve,
)
from p2prec.types import PeerId

SETTINGS = PeerSettings(exchange_deadline_s=10.0, in_doubt_deadline_s=900.0)
A, B = PeerId("a"), PeerId("b")
RNG = np.random.default_rng(0)


def rows(value: int, n: int, k: int) -> QuantizedTable:
    return QuantizedTable(np.full(n, 150, np.uint8), np.full((n, k), value, np.uint8))


def tables(value: int, part: int = 0) -> QuantizedTables:
    return QuantizedTables(part, 0, *(rows(value, n, k) for n, k in ((3, 2), (3, 2), (3, 16))))


WILD = 255
"""What no honest peer sends, to `Model`."""


@dataclass
class Model:
    """Notes what is applied to it instead of learning."""

    age: int = 7
    sent: int = 0
    applied: list[tuple[QuantizedTables, QuantizedTables, float]] = field(default_factory=list)

    def outgoing(self, part: int, rng: np.random.Generator) -> QuantizedTables:
        self.sent += 1
        return tables(self.sent % 100, part)

    def accepts(self, tables: QuantizedTables) -> bool:
        return tables.gradient.values[0, 0] != WILD

    def apply(self, sent: QuantizedTables, received: QuantizedTables, other_age: float) -> None:
        self.applied.append((sent, received, other_age))


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def exchanger(model: Model) -> Exchanger:
    return Exchanger(model, SETTINGS)


def exchange_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def offer(number: int, age: int = 3, part: int = 0) -> Offer:
    return Offer(exchange_id(number), age, tables(50, part))


def answered(exchanger: Exchanger, peer: PeerId, number: int, now: float) -> Answer:
    reply = exchanger.on_offer(peer, offer(number), now, RNG)
    assert isinstance(reply, Answer)
    return reply


def declined(exchanger: Exchanger, peer: PeerId, number: int, now: float) -> DeclineReason:
    reply = exchanger.on_offer(peer, offer(number), now, RNG)
    assert isinstance(reply, Decline)
    assert reply.exchange_id == exchange_id(number)
    return reply.reason


# --- as initiator ---


def test_answer_is_applied_with_what_was_sent_and_committed(exchanger: Exchanger, model: Model) -> None:
    sent = exchanger.begin(A, exchange_id(1), 0, 0.0, RNG)
    assert exchanger.initiating
    assert sent.age_rounds == 7
    reply, outcome = exchanger.on_answer(A, Answer(exchange_id(1), 4, tables(9)))
    assert reply == Commit(exchange_id(1))
    assert outcome is not None
    assert outcome.applied
    assert outcome.initiated
    assert not exchanger.initiating
    ((own, other, age),) = model.applied
    assert own is sent.tables
    assert other.gradient.values[0, 0] == 9
    assert age == 4


def test_answer_to_nothing_is_told_that_nothing_was_applied(exchanger: Exchanger, model: Model) -> None:
    late = Answer(exchange_id(1), 4, tables(9))
    assert exchanger.on_answer(A, late) == (Resolution(exchange_id(1), applied=False), None)
    exchanger.begin(A, exchange_id(2), 0, 0.0, RNG)
    assert exchanger.on_answer(A, late)[0] == Resolution(exchange_id(1), applied=False)
    assert exchanger.on_answer(B, Answer(exchange_id(2), 4, tables(9)))[0] == Resolution(exchange_id(2), applied=False)
    assert exchanger.initiating
    assert not model.applied


@pytest.mark.parametrize(("age_s", "expired"), [(9.99, False), (10.0, True)])
def test_offer_without_answer_is_given_up_at_its_deadline(
    exchanger: Exchanger, model: Model, age_s: float, expired: bool
) -> None:
    exchanger.begin(A, exchange_id(1), 0, 100.0, RNG)
    outcomes = exchanger.expire(100.0 + age_s)
    assert [(o.applied, o.initiated, o.reason) for o in outcomes] == ([(False, True, "no answer")] if expired else [])
    reply, _ = exchanger.on_answer(A, Answer(exchange_id(1), 4, tables(9)))
    assert reply == (Resolution(exchange_id(1), applied=False) if expired else Commit(exchange_id(1)))
    assert len(model.applied) == (0 if expired else 1)


def test_decline_and_lost_connection_end_the_own_offer_only(exchanger: Exchanger) -> None:
    exchanger.begin(A, exchange_id(1), 0, 0.0, RNG)
    assert exchanger.on_decline(B, Decline(exchange_id(1), DeclineReason.BUSY)) is None
    assert exchanger.on_decline(A, Decline(exchange_id(2), DeclineReason.BUSY)) is None
    assert exchanger.lost(B) is None
    assert exchanger.initiating
    outcome = exchanger.on_decline(A, Decline(exchange_id(1), DeclineReason.QUARANTINED))
    assert outcome is not None
    assert (outcome.applied, outcome.reason) == (False, "quarantined")
    exchanger.begin(A, exchange_id(3), 0, 0.0, RNG)
    lost = exchanger.lost(A)
    assert lost is not None
    assert (lost.applied, lost.reason) == (False, "connection lost")
    assert not exchanger.initiating


def test_tables_that_nobody_can_send_are_refused_and_end_the_exchange(exchanger: Exchanger, model: Model) -> None:
    exchanger.begin(A, exchange_id(1), 0, 0.0, RNG)
    wild = tables(WILD)
    with pytest.raises(RemoteMisbehaviour) as caught:
        exchanger.on_answer(A, Answer(exchange_id(1), 4, wild))
    assert caught.value.reason == Refusal.MALFORMED
    with pytest.raises(RemoteMisbehaviour):
        exchanger.on_offer(A, Offer(exchange_id(2), 4, wild), 0.0, RNG)
    assert not model.applied
    assert not exchanger.initiating
    assert exchanger.on_resolve(A, Resolve(exchange_id(1))) == Resolution(exchange_id(1), applied=False)


def test_initiator_vouches_for_its_last_exchanges_and_for_nobody_elses(exchanger: Exchanger) -> None:
    for number in range(MAX_REMEMBERED + 1):
        exchanger.begin(A, exchange_id(number), 0, 0.0, RNG)
        exchanger.on_answer(A, Answer(exchange_id(number), 4, tables(9)))
    assert exchanger.on_resolve(A, Resolve(exchange_id(MAX_REMEMBERED))).applied
    assert exchanger.on_resolve(A, Resolve(exchange_id(1))).applied
    assert not exchanger.on_resolve(A, Resolve(exchange_id(0))).applied
    assert not exchanger.on_resolve(B, Resolve(exchange_id(1))).applied


def test_an_answer_is_about_the_part_that_was_offered(exchanger: Exchanger, model: Model) -> None:
    sent = exchanger.begin(A, exchange_id(1), 2, 0.0, RNG)
    assert sent.tables.part == 2
    with pytest.raises(RemoteMisbehaviour) as caught:
        exchanger.on_answer(A, Answer(exchange_id(1), 4, tables(9, part=1)))
    assert caught.value.reason == Refusal.UNEXPECTED
    assert not model.applied
    assert not exchanger.initiating
    exchanger.begin(A, exchange_id(2), 2, 0.0, RNG)
    assert exchanger.on_answer(A, Answer(exchange_id(2), 4, tables(9, part=2)))[0] == Commit(exchange_id(2))


# --- as responder ---


def test_an_offer_is_answered_with_the_same_part(exchanger: Exchanger) -> None:
    reply = exchanger.on_offer(A, offer(1, part=3), 0.0, RNG)
    assert isinstance(reply, Answer)
    assert reply.tables.part == 3


def test_commit_applies_once(exchanger: Exchanger, model: Model) -> None:
    answer = answered(exchanger, A, 1, 0.0)
    assert exchanger.in_doubt == 1
    assert not model.applied
    with pytest.raises(RemoteMisbehaviour):
        exchanger.on_commit(B, exchange_id(1))
    assert exchanger.on_commit(A, exchange_id(1)).applied
    ((own, other, age),) = model.applied
    assert own is answer.tables
    assert other.gradient.values[0, 0] == 50
    assert age == 3
    with pytest.raises(RemoteMisbehaviour) as caught:
        exchanger.on_commit(A, exchange_id(1))
    assert caught.value.reason == Refusal.UNEXPECTED
    assert exchanger.in_doubt == 0


def test_one_offer_at_a_time_is_answered(exchanger: Exchanger) -> None:
    answered(exchanger, A, 1, 0.0)
    assert declined(exchanger, B, 2, 9.99) is DeclineReason.BUSY
    answered(exchanger, B, 3, 10.0)  # the first one's initiator has given up by now


def test_exchange_id_cannot_be_used_twice(exchanger: Exchanger) -> None:
    answered(exchanger, A, 1, 0.0)
    with pytest.raises(RemoteMisbehaviour) as caught:
        exchanger.on_offer(B, offer(1), 20.0, RNG)
    assert caught.value.reason == Refusal.UNEXPECTED


def test_a_peer_that_does_not_commit_gets_no_second_answer(exchanger: Exchanger) -> None:
    """Or one neighbour could keep this peer from answering anybody else, ten seconds at a time."""
    answered(exchanger, A, 1, 0.0)
    assert declined(exchanger, A, 2, 500.0) is DeclineReason.BUSY
    answered(exchanger, B, 3, 500.0)
    exchanger.on_commit(B, exchange_id(3))
    exchanger.on_resolution(A, Resolution(exchange_id(1), applied=False))
    answered(exchanger, A, 4, 500.0)


def test_the_oldest_doubt_gives_way_to_a_new_offer(exchanger: Exchanger, model: Model) -> None:
    """Peers that never commit do not stop this one from answering honest ones."""
    peers = [PeerId(f"p{i}") for i in range(MAX_IN_DOUBT + 1)]
    for i, peer in enumerate(peers):
        answered(exchanger, peer, i, 10.0 * i)
    assert exchanger.in_doubt == MAX_IN_DOUBT
    assert exchanger.questions_for(peers[0]) == []
    assert exchanger.questions_for(peers[1]) == [Resolve(exchange_id(1))]
    (outcome,) = exchanger.expire(10.0 * MAX_IN_DOUBT)
    assert (outcome.peer_id, outcome.applied, outcome.initiated) == (peers[0], False, False)
    assert exchanger.expire(10.0 * MAX_IN_DOUBT) == []
    assert exchanger.on_resolution(peers[0], Resolution(exchange_id(0), applied=True)) is None
    assert not model.applied


@pytest.mark.parametrize("applied", [True, False])
def test_doubt_is_settled_by_the_initiators_word(exchanger: Exchanger, model: Model, applied: bool) -> None:
    answered(exchanger, A, 1, 0.0)
    assert exchanger.lost(A) is None  # a broken connection settles nothing
    assert exchanger.questions_for(A) == [Resolve(exchange_id(1))]
    assert exchanger.questions_for(B) == []
    assert exchanger.on_resolution(B, Resolution(exchange_id(1), applied=applied)) is None
    outcome = exchanger.on_resolution(A, Resolution(exchange_id(1), applied=applied))
    assert outcome is not None
    assert outcome.applied is applied
    assert len(model.applied) == applied
    assert exchanger.on_resolution(A, Resolution(exchange_id(1), applied=applied)) is None


@pytest.mark.parametrize(("age_s", "expired"), [(899.9, False), (900.0, True)])
def test_doubt_ends_unapplied_at_its_deadline(exchanger: Exchanger, model: Model, age_s: float, expired: bool) -> None:
    answered(exchanger, A, 1, 0.0)
    outcomes = exchanger.expire(age_s)
    assert [(o.applied, o.initiated) for o in outcomes] == ([(False, False)] if expired else [])
    assert exchanger.in_doubt == (0 if expired else 1)
    assert not model.applied

"""The sans-I/O peer at its bounds: connections, liveness, floods, doubles. Time is what the test says."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from peer_rig import MANIFEST, ME, MY_INSTANCE, PeerRig

from p2prec.config import PeerSettings
from p2prec.errors import RemoteMisbehaviour
from p2prec.peer.contributor import Contributor
from p2prec.peer.events import (
    Contributed,
    DialFailed,
    Disconnect,
    ExchangeFailed,
    IdentityConflict,
    IdentityConflictOver,
    LedgerFailed,
    MessageRefused,
    NeighbourDown,
    NeighbourUp,
    PeerBanned,
)
from p2prec.peer.messages import (
    Answer,
    Close,
    CloseReason,
    Commit,
    Decline,
    DeclineReason,
    Hello,
    Offer,
    PeerAddress,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Refusal,
    Resolution,
    Resolve,
)
from p2prec.peer.neighbourhood import MESSAGE_BURST, OFFER_BURST, PEERS_SERVED_EVERY_S
from p2prec.types import PeerId

# --- hello ---


def test_connected_means_after_hello() -> None:
    rig = PeerRig()
    number = rig.open("a")
    assert len(rig.sent(Hello, number)) == 1
    assert not rig.peer.neighbours
    rig.hello(number)
    assert [link.remote_id for link in rig.peer.neighbours] == ["a"]
    assert len(rig.events_of(NeighbourUp)) == 1


@pytest.mark.parametrize(("seconds", "open_"), [(9.0, True), (10.5, False)])
def test_a_connection_without_hello_is_closed_at_its_deadline(seconds: float, open_: bool) -> None:
    rig = PeerRig(PeerSettings(hello_deadline_s=10.0))
    number = rig.open("a")
    rig.wait(seconds)
    assert rig.is_open(number) is open_
    if not open_:
        assert rig.closed_with(number) is None  # nothing can be signed before both hellos


def test_anything_before_hello_ends_the_connection_at_once() -> None:
    rig = PeerRig()
    number = rig.open("a")
    rig.receive(number, Ping(b"12345678"))
    assert not rig.is_open(number)
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    assert rig.events_of(PeerBanned)


def test_a_second_hello_is_refused() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    rig.hello(number)
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    assert rig.is_open(number)


# --- how many ---


def test_a_full_view_turns_newcomers_away_but_not_its_neighbours() -> None:
    rig = PeerRig(PeerSettings(max_neighbours=3))
    numbers = [rig.connect(f"p{i}") for i in range(3)]
    assert all(rig.is_open(n) for n in numbers)
    one_more = rig.connect("p3")
    assert rig.closed_with(one_more) is CloseReason.TOO_MANY
    (told,) = rig.sent(Peers, one_more)  # where else it may try
    assert sorted(address.peer_id for address in told.addresses) == ["p0", "p1", "p2"]
    assert len(rig.peer.neighbours) == 3
    again = rig.connect("p0")  # one that is a neighbour already and has lost its connection
    assert rig.is_open(again)
    assert len(rig.peer.neighbours) == 3


def test_a_full_peer_that_dialled_tells_nothing_unasked() -> None:
    rig = PeerRig(PeerSettings(max_neighbours=1))
    rig.connect("p0")
    one_more = rig.connect("p1", outbound=True)
    assert rig.closed_with(one_more) is CloseReason.TOO_MANY
    assert not rig.sent(Peers, one_more)


def test_addresses_from_a_full_peer_are_taken_once_and_only_from_one_that_was_dialled() -> None:
    rig = PeerRig()
    elsewhere = Peers((PeerAddress("c", "10.0.0.7", 4001),))
    dialled, dialling = rig.connect("a", outbound=True), rig.connect("b")
    rig.receive(dialled, elsewhere)
    assert "c" in rig.peer.book.peers
    assert rig.peer.refusals == {}
    rig.receive(dialled, elsewhere)
    rig.receive(dialling, elsewhere)
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 2}


def test_whoever_is_full_is_left_alone_until_places_come_free() -> None:
    rig = PeerRig()
    number = rig.connect("a", outbound=True)
    rig.receive(number, Close(CloseReason.TOO_MANY))
    assert not rig.is_open(number)
    rig.wait(299.0)
    assert not rig.dials()
    rig.wait(2.0)
    assert [(d.host, d.port, d.peer_id) for d in rig.dials()] == [("10.0.0.9", 4001, "a")]


def test_a_peer_dials_until_it_has_enough_neighbours() -> None:
    rig = PeerRig(PeerSettings(target_neighbours=4, dials_per_tick=2))
    for i in range(9):
        rig.sight(f"p{i}", f"10.0.1.{i}")
    rig.tick()
    assert len(rig.dials()) == 2
    rig.wait(1.0)
    assert len(rig.dials()) == 4
    rig.wait(3.0)
    assert len(rig.dials()) == 4  # under way


# --- dialling ---


def test_an_address_that_the_user_gave_is_dialled_once_though_its_owner_names_another_port() -> None:
    """Behind a forwarded port HELLO names the inner one: that must not look like a peer still to be found."""
    rig = PeerRig()
    rig.peer.book.add_static("example.net", 14001)
    rig.tick()
    assert [(d.host, d.port) for d in rig.dials()] == [("example.net", 14001)]
    number = rig.connect("a", outbound=True, host="example.net", port=14001, listen_port=4001)
    rig.alive = {number}
    rig.take()
    rig.wait(60.0)
    assert not rig.dials()
    assert rig.is_open(number)
    assert rig.peer.book.peers[PeerId("a")].addresses[0] == ("example.net", 14001)


def test_a_user_given_peer_that_asks_for_patience_gets_it() -> None:
    rig = PeerRig()
    rig.peer.book.add_static("10.0.0.9", 4001)
    rig.tick()
    number = rig.connect("a", outbound=True)
    rig.receive(number, Close(CloseReason.MISBEHAVIOUR))
    rig.take()
    rig.wait(599.0)
    assert not rig.dials()
    rig.wait(2.0)
    assert rig.dials()


def test_a_peer_that_refuses_us_at_tls_is_tried_ever_more_seldom() -> None:
    """TLS 1.3 tells a refused client only after it believes to be connected."""
    rig = PeerRig(PeerSettings(dial_retry_s=5.0, dial_retry_max_s=600.0))
    rig.peer.book.add_static("10.0.0.9", 4001)
    dialled_at: list[float] = []
    for _ in range(600):
        rig.wait(1.0)
        for dial in rig.dials():
            dialled_at.append(rig.now)
            number = rig.open("a", outbound=True, host=dial.host, port=dial.port)
            rig.peer.closed(number, "the other side closed the connection", rig.now)
        rig.take()
    waits = [later - earlier for earlier, later in itertools.pairwise(dialled_at)]
    assert len(dialled_at) <= 8
    assert waits == sorted(waits)
    rig.tick()
    assert len(rig.events_of(DialFailed)) == len(dialled_at)


def test_the_own_address_in_the_users_list_is_not_dialled_for_ever() -> None:
    rig = PeerRig(PeerSettings(dial_retry_s=5.0))
    rig.peer.book.add_static("10.0.0.1", 4001)
    n_dials = 0
    for _ in range(300):
        rig.wait(1.0)
        for dial in rig.dials():
            n_dials += 1
            number = rig.open(ME, outbound=True, host=dial.host, port=dial.port)
            rig.hello(number, instance=MY_INSTANCE)
            assert not rig.is_open(number)
        rig.take()
    assert 2 <= n_dials <= 8
    assert rig.peer.conflict_host is None


def test_somebody_else_at_a_known_address_is_welcome() -> None:
    rig = PeerRig()
    rig.sight("a", "10.0.0.9")
    rig.tick()
    assert rig.dials()
    rig.connect("b", outbound=True)
    assert [link.remote_id for link in rig.peer.neighbours] == ["b"]
    assert rig.peer.book.peers[PeerId("a")].failures == 1


# --- misbehaviour ---


def test_repeated_refusals_cost_the_connection_and_a_while() -> None:
    rig = PeerRig(PeerSettings(refusals_before_ban=5, ban_s=600.0))
    number = rig.connect("a")
    for _ in range(4):
        rig.refuse(number, RemoteMisbehaviour(Refusal.FORGED))
    assert rig.is_open(number)
    rig.refuse(number, RemoteMisbehaviour(Refusal.REPLAYED))
    assert rig.closed_with(number) is CloseReason.MISBEHAVIOUR
    assert rig.peer.refusals == {Refusal.FORGED: 4, Refusal.REPLAYED: 1}
    assert len(rig.events_of(MessageRefused)) == 5
    rig.now += 599.0
    assert not rig.is_open(rig.open("a"))
    rig.now += 1.0
    assert rig.is_open(rig.open("a"))


def test_a_fatal_refusal_costs_the_connection_at_once() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    rig.refuse(number, RemoteMisbehaviour(Refusal.OVERSIZED, fatal=True))
    assert not rig.is_open(number)


@pytest.mark.parametrize("n_parts", [1, 2])
def test_a_flood_of_offers_is_refused_after_its_burst(n_parts: int) -> None:
    rig = PeerRig(learning=msgspec.structs.replace(MANIFEST.learning, n_parts=n_parts))
    number = rig.connect("a")
    burst = int(OFFER_BURST) * n_parts
    for i in range(burst):
        rig.receive(number, rig.offer(i))
    assert not rig.peer.refusals
    rig.receive(number, rig.offer(burst))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    assert len(rig.sent(Answer)) == 1
    assert {d.reason for d in rig.sent(Decline)} == {DeclineReason.BUSY}
    rig.now += 2.5 / n_parts  # a quarter of a round interval for each part: one more
    rig.receive(number, rig.offer(burst + 1))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    rig.receive(number, rig.offer(burst + 2))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 2}


@pytest.mark.parametrize("n_parts", [1, 2])
def test_a_flood_of_messages_is_refused_after_its_burst(n_parts: int) -> None:
    rig = PeerRig(learning=msgspec.structs.replace(MANIFEST.learning, n_parts=n_parts))
    number = rig.connect("a")  # its hello was the first
    burst = int(MESSAGE_BURST) * n_parts
    for _ in range(burst - 1):
        rig.receive(number, Ping(b"12345678"))
    assert not rig.peer.refusals
    assert len(rig.sent(Pong)) == burst - 1
    for _ in range(rig.settings.refusals_before_ban):
        rig.receive(number, Ping(b"12345678"))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: rig.settings.refusals_before_ban}
    assert rig.closed_with(number) is CloseReason.MISBEHAVIOUR


def test_a_commit_to_nothing_is_refused() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    rig.receive(number, Commit(bytes(16)))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}


# --- liveness ---


@pytest.mark.parametrize("answers", [True, False])
def test_a_silent_neighbour_is_pinged_and_dropped_unless_it_answers(answers: bool) -> None:
    rig = PeerRig(PeerSettings(ping_after_s=15.0, ping_deadline_s=10.0))
    number = rig.connect("a")
    rig.take()
    rig.peer._next_round = 1e9  # no offers: they would be answered
    rig.wait(14.5)
    assert not rig.sent(Ping)
    rig.wait(1.0)
    (ping,) = rig.sent(Ping)
    rig.wait(9.0)
    assert rig.is_open(number)
    if answers:
        rig.receive(number, Pong(ping.token))
    rig.wait(2.0)
    assert rig.is_open(number) is answers
    assert len(rig.events_of(NeighbourDown)) == (0 if answers else 1)


def test_time_in_which_this_peer_stood_still_is_nobody_elses_silence() -> None:
    """A laptop that slept for an hour asks its neighbours whether they live before it gives them up."""
    rig = PeerRig()
    greeted, waiting = rig.connect("a"), rig.open("b")
    rig.now += 3600.0
    rig.tick()
    assert rig.is_open(greeted)
    assert rig.is_open(waiting)
    assert len(rig.sent(Ping, greeted)) == 1
    rig.receive(greeted, Pong(b"12345678"))
    rig.hello(waiting)
    rig.wait(12.0)
    assert rig.is_open(greeted)
    assert rig.is_open(waiting)


def test_a_ping_under_way_when_this_peer_was_suspended_is_still_awaited() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    rig.peer._next_round = 1e9
    rig.wait(16.0)
    assert rig.sent(Ping, number)
    rig.now += 3600.0
    rig.tick()
    assert rig.is_open(number)
    rig.wait(11.0)
    assert not rig.is_open(number)


def test_missed_rounds_are_not_caught_up_with() -> None:
    rig = PeerRig()
    rig.connect("a")
    rig.wait(25.0)
    rounds = rig.peer.rounds
    rig.now += 3600.0
    rig.tick()
    rig.tick()
    assert rig.peer.rounds <= rounds + 1


# --- exchanges ---


def begin_round(rig: PeerRig) -> None:
    rig.now = rig.peer._next_round
    rig.tick()


def test_a_late_answer_is_told_that_nothing_was_applied() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    begin_round(rig)
    (offer,) = rig.sent(Offer, number)
    before = rig.learner.state.gradient.copy()
    rig.wait(10.5)
    assert [e.reason for e in rig.events_of(ExchangeFailed)] == ["no answer"]
    rig.take()
    rig.receive(number, Answer(offer.exchange_id, 50, rig.offer(1).tables))
    assert rig.sent(Resolution) == [Resolution(offer.exchange_id, applied=False)]
    assert not rig.sent(Commit)
    assert rig.peer.exchanges == 0
    assert before.shape == rig.learner.state.gradient.shape


def test_a_declined_offer_is_made_to_others_but_not_to_all() -> None:
    rig = PeerRig()
    for i in range(6):
        rig.connect(f"p{i}")
    begin_round(rig)
    asked = set()
    for _ in range(6):
        offers = [a for a in rig.take() if isinstance(getattr(a, "message", None), Offer)]
        for action in offers:
            asked.add(action.link)  # type: ignore[union-attr]
            rig.receive(action.link, Decline(action.message.exchange_id, DeclineReason.BUSY))  # type: ignore[union-attr]
    assert len(asked) == 3


def test_a_round_exchanges_every_part_one_after_the_other() -> None:
    rig = PeerRig(learning=msgspec.structs.replace(MANIFEST.learning, n_parts=3))
    number = rig.connect("a")
    begin_round(rig)
    for part in range(3):
        (offer,) = rig.sent(Offer, number)
        assert offer.tables.part == part
        rig.take()
        rig.receive(number, Answer(offer.exchange_id, 3, rig.offer(0, part=part).tables))
        assert rig.sent(Commit, number) == [Commit(offer.exchange_id)]
    assert not rig.sent(Offer)
    assert rig.peer.exchanges == 3
    begin_round(rig)
    assert [offer.tables.part for offer in rig.sent(Offer)] == [0]


def test_an_answer_about_another_part_is_refused_and_ends_the_exchange() -> None:
    rig = PeerRig(learning=msgspec.structs.replace(MANIFEST.learning, n_parts=2))
    number = rig.connect("a")
    begin_round(rig)
    (offer,) = rig.sent(Offer, number)
    rig.receive(number, Answer(offer.exchange_id, 3, rig.offer(0, part=1).tables))
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    assert rig.peer.exchanges == 0
    assert not rig.sent(Commit)
    rig.receive(number, Resolve(offer.exchange_id))
    assert rig.sent(Resolution) == [Resolution(offer.exchange_id, applied=False)]


def test_a_broken_connection_voids_the_own_offer_and_keeps_the_doubt() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    begin_round(rig)
    rig.receive(number, rig.offer(1))
    assert rig.peer.in_doubt == 1
    rig.peer.closed(number, "reset", rig.now)
    rig.tick()
    assert [e.reason for e in rig.events_of(ExchangeFailed)] == ["connection lost"]
    assert rig.peer.in_doubt == 1
    again = rig.connect("a")
    assert rig.sent(Resolve, again) == [Resolve((1).to_bytes(16, "big"))]
    rig.receive(again, Resolution((1).to_bytes(16, "big"), applied=True))
    assert rig.peer.in_doubt == 0
    assert rig.peer.exchanges == 1


def test_a_ledger_that_cannot_be_written_is_told_once_and_pays_for_nothing() -> None:
    rig = PeerRig()
    rig.connect("a")
    rig.ledger.fail = True
    before = rig.learner.state.evidence.copy()
    for _ in range(3):
        begin_round(rig)
    assert rig.peer.rounds == 3
    assert len(rig.events_of(LedgerFailed)) == 1
    assert (rig.learner.state.evidence == before).all()
    rig.ledger.fail = False
    begin_round(rig)
    assert [e.contribution for e in rig.events_of(Contributed)] == [1]
    rig.ledger.fail = True
    rig.learner.exchanged()
    begin_round(rig)
    assert len(rig.events_of(LedgerFailed)) == 2


# --- peer exchange ---


def test_addresses_are_given_at_most_every_ten_seconds_and_at_first_hand() -> None:
    rig = PeerRig()
    number = rig.connect("a", host="10.0.0.1")
    rig.connect("b", host="10.0.0.2", listen_port=4002)
    rig.connect("c", host="10.0.0.3", listen_port=0)  # listens nowhere
    rig.sight("d", "10.0.0.4")  # not connected: hearsay
    for _ in range(3):
        rig.receive(number, PeersRequest(32))
    assert rig.sent(Peers) == [Peers((PeerAddress(PeerId("b"), "10.0.0.2", 4002),))]
    rig.now += PEERS_SERVED_EVERY_S
    rig.receive(number, PeersRequest(32))
    assert len(rig.sent(Peers)) == 2
    assert not rig.peer.refusals


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_addresses_are_given_than_asked_for(limit: int) -> None:
    rig = PeerRig()
    number = rig.connect("a", host="10.0.0.1")
    for i in range(2, 6):
        rig.connect(f"p{i}", host=f"10.0.0.{i}")
    rig.receive(number, PeersRequest(limit))
    (peers,) = rig.sent(Peers)
    assert len(peers.addresses) == min(limit, 4)


def test_addresses_that_nobody_asked_for_are_refused() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    gift = Peers((PeerAddress(PeerId("x"), "10.0.0.5", 4001),))
    rig.receive(number, gift)
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 1}
    assert PeerId("x") not in rig.peer.book.peers
    rig.wait(2.0)
    assert rig.sent(PeersRequest, number)
    rig.receive(number, gift)
    assert PeerId("x") in rig.peer.book.peers
    rig.receive(number, gift)  # one answer a question
    assert rig.peer.refusals == {Refusal.UNEXPECTED: 2}


# --- rotation ---


def test_now_and_then_one_neighbour_makes_room_for_another() -> None:
    rig = PeerRig(PeerSettings(target_neighbours=2, rotate_every_s=300.0))
    numbers = [rig.connect(f"p{i}", outbound=True, host=f"10.0.0.{i}") for i in (1, 2)]
    rig.alive = set(numbers)
    rig.wait(600.0)
    assert all(rig.is_open(n) for n in numbers)  # nobody else is known
    rig.sight("c", "10.0.0.3")
    rig.take()
    waited_s = 0
    while all(rig.is_open(n) for n in numbers) and waited_s < 450:
        rig.wait(1.0)
        waited_s += 1
    (gone,) = [n for n in numbers if not rig.is_open(n)]
    assert rig.closed_with(gone) is CloseReason.ROTATED
    rig.wait(2.0)
    assert [d.peer_id for d in rig.dials()] == ["c"]


def test_neighbours_that_dialled_us_are_not_rotated_out() -> None:
    rig = PeerRig(PeerSettings(target_neighbours=1, rotate_every_s=10.0))
    number = rig.connect("a", outbound=False)
    rig.sight("c", "10.0.0.3")
    rig.alive = {number}
    rig.wait(60.0)
    assert rig.is_open(number)


# --- one identity on two machines ---


@pytest.mark.parametrize("outbound", [True, False])
def test_meeting_the_own_identity_stops_exchanges_until_it_is_gone(outbound: bool) -> None:
    rig = PeerRig(PeerSettings(conflict_s=120.0))
    neighbour = rig.connect("a")
    rig.connect(ME, instance=b"other instance!!", outbound=outbound, host="10.0.0.66", listen_port=4066, port=4066)
    assert [(e.host, e.proven) for e in rig.events_of(IdentityConflict)] == [("10.0.0.66", True)]
    assert rig.peer.conflict_host == "10.0.0.66"
    rounds = rig.peer.rounds
    rig.receive(neighbour, rig.offer(1))
    assert [d.reason for d in rig.sent(Decline)] == [DeclineReason.QUARANTINED]
    rig.alive = {neighbour}
    rig.take()
    looked = 0
    for _ in range(119):
        rig.wait(1.0)
        looks = [d for d in rig.dials() if d.peer_id == ME]
        assert all((d.host, d.port) == ("10.0.0.66", 4066) for d in looks)
        for dial in looks:
            rig.peer.dial_failed(dial.host, dial.port, "refused", rig.now)
        looked += len(looks)
        rig.take()
    assert looked in (3, 4)
    assert rig.peer.rounds == rounds
    rig.wait(2.0)
    assert rig.peer.conflict_host is None
    assert len(rig.events_of(IdentityConflictOver)) == 1
    begin_round(rig)
    assert rig.peer.rounds == rounds + 1


def test_a_double_that_is_still_there_keeps_exchanges_stopped() -> None:
    rig = PeerRig(PeerSettings(conflict_s=120.0))
    neighbour = rig.connect("a")
    rig.connect(ME, instance=b"other instance!!", host="10.0.0.66", listen_port=4066)
    rig.alive = {neighbour}
    for _ in range(600):
        rig.wait(1.0)
        for dial in rig.dials():
            number = rig.open(ME, outbound=True, host=dial.host, port=dial.port)
            rig.hello(number, instance=b"other instance!!", listen_port=4066)
        rig.take()
    assert rig.peer.rounds == 0
    assert len(rig.events_of(IdentityConflict)) == 1
    assert not rig.events_of(IdentityConflictOver)


def test_a_neighbour_that_runs_twice_is_told_where_its_double_is() -> None:
    rig = PeerRig()
    old = rig.connect("a", instance=b"1" * 16, host="10.0.0.1", listen_port=4001)
    new = rig.connect("a", instance=b"2" * 16, host="10.0.0.2", listen_port=4002)
    (ping,) = rig.sent(Ping, old)
    rig.receive(old, Pong(ping.token))
    assert rig.closed_with(old) is rig.closed_with(new) is CloseReason.DUPLICATE_IDENTITY
    assert rig.sent(Peers, old) == [Peers((PeerAddress(PeerId("a"), "10.0.0.2", 4002),))]
    assert rig.sent(Peers, new) == [Peers((PeerAddress(PeerId("a"), "10.0.0.1", 4001),))]
    rig.take()
    rig.wait(100.0)
    assert not rig.dials()


def test_a_neighbour_that_restarted_is_no_double() -> None:
    rig = PeerRig()
    old = rig.connect("a", instance=b"1" * 16)
    new = rig.connect("a", instance=b"2" * 16)
    rig.alive = {new}
    rig.wait(11.0)
    assert not rig.is_open(old)
    assert rig.is_open(new)
    assert [link.number for link in rig.peer.neighbours] == [new]


def test_a_neighbours_word_of_a_double_is_looked_into_and_stops_nothing() -> None:
    rig = PeerRig(PeerSettings(conflict_s=120.0))
    number, other = rig.connect("a"), rig.connect("b")
    rig.receive(number, Peers((PeerAddress(ME, "10.0.0.66", 4066),)))
    rig.receive(number, Close(CloseReason.DUPLICATE_IDENTITY, "also at 10.0.0.66"))
    assert not rig.peer.refusals
    assert [(d.host, d.port, d.peer_id) for d in rig.dials()] == [("10.0.0.66", 4066, ME)]
    assert [(e.host, e.proven) for e in rig.events_of(IdentityConflict)] == [("also at 10.0.0.66", False)]
    rig.peer.dial_failed("10.0.0.66", 4066, "refused", rig.now)
    rig.take()
    rig.receive(other, Peers((PeerAddress(ME, "10.0.0.67", 4066),)))  # nobody is sent around more often than that
    assert not rig.dials()
    begin_round(rig)
    assert rig.peer.rounds == 1
    rig.wait(121.0)
    assert len(rig.events_of(IdentityConflictOver)) == 1


def test_the_own_announcement_is_not_dialled() -> None:
    rig = PeerRig()
    rig.sight(ME, "10.0.0.1", instance=MY_INSTANCE)
    assert not rig.dials()
    rig.sight(ME, "10.0.0.2", instance=b"other instance!!")
    assert [(d.host, d.peer_id) for d in rig.dials()] == [("10.0.0.2", ME)]


# --- the end ---


def test_leaving_says_goodbye_to_all_and_takes_nobody_new() -> None:
    rig = PeerRig()
    number, silent = rig.connect("a"), rig.open("b")
    rig.peer.leave(rig.now)
    rig.tick()
    assert rig.closed_with(number) is CloseReason.LEAVING
    assert rig.closed_with(silent) is None
    late = rig.open("c")
    assert not rig.is_open(late)
    rig.take()
    rig.wait(60.0)
    assert rig.take() == []


def test_messages_that_cross_a_goodbye_are_ignored() -> None:
    rig = PeerRig()
    number = rig.connect("a")
    rig.peer.leave(rig.now)
    rig.receive(number, Ping(b"12345678"))
    rig.refuse(number, RemoteMisbehaviour(Refusal.FORGED))
    rig.peer.closed(number, "closed", rig.now)
    assert not rig.sent(Pong)
    assert not rig.peer.refusals
    assert rig.actions.count(Disconnect(number)) == 1


def test_a_restarted_peer_waits_its_turn_before_it_contributes_again() -> None:
    """A daemon that crashes in a loop must not spend its budget on starting."""
    rig = PeerRig(learning=msgspec.structs.replace(MANIFEST.learning, contribute_every_exchanges=3))
    rng = np.random.default_rng(0)

    def contributions_of_a_run(exchanges: int) -> int:
        contributor, n_made = Contributor(rig.learner, rig.ledger, MANIFEST), 0
        for _ in range(exchanges):
            n_made += bool(contributor.round_begins(rng))
            rig.learner.exchanged()
        return n_made

    assert contributions_of_a_run(1) == 1
    assert [contributions_of_a_run(3) for _ in range(5)] == [0] * 5
    assert contributions_of_a_run(4) == 1


def test_broken_numbers_begin_anew_instead_of_spreading() -> None:
    rig = PeerRig()
    start = rig.learner.state.item_factors.copy()
    rig.learner.state.gradient[:] = np.nan
    assert rig.learner.step() is False
    np.testing.assert_array_equal(rig.learner.state.item_factors, start)
    assert rig.learner.age == 0
    assert not rig.learner.state.gradient.any()
    assert rig.learner.step() is True

"""Messages that pass through other peers: who gets them, what is refused, and that hostile ones cost bounded memory."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from msgspec.structs import replace

from p2prec.errors import RemoteMisbehaviour
from p2prec.identity import Identity
from p2prec.manifest import Promise
from p2prec.peer import post as post_module
from p2prec.peer.eager import FEWEST
from p2prec.peer.gathering import Gathering
from p2prec.peer.messages import Refusal
from p2prec.peer.post import MAX_FLOODS_OF_ONE, Post, in_frames
from p2prec.peer.private_peer import sizes_of
from p2prec.peer.sum_messages import (
    BETWEEN_PARTNERS,
    Alive,
    Claimed,
    Enrol,
    Enrolled,
    Gone,
    Masked,
    Opened,
    Pair,
    Relayed,
    Relays,
    Returned,
    RollPart,
    Seen,
    SumMessage,
    SumResolve,
    Suspected,
    TakenOut,
)
from p2prec.types import PeerId, SwarmId
from p2prec.wire.limits import MAX_RELAYS_PAYLOAD_BYTES
from p2prec.wire.seal import Seal
from p2prec.wire.signatures import Signatures
from p2prec.wire.sum_codec import SumCodec

SWARM = SwarmId(bytes(32))
PROMISE = Promise(
    epsilon=4.0,
    n_people=60,
    start=0,
    second_after_s=1200.0,
    enrol_s=60.0,
    contribute_s=120.0,
    recover_s=300.0,
    end_s=600.0,
)
CODEC = SumCodec(*sizes_of(PROMISE, 50), 50)
IDENTITIES = [Identity.from_seed(bytes([n]) * 32) for n in range(1, 8)]
IDS = [one.peer_id for one in IDENTITIES]
SUM, HOP_S = 1, 0.5
ENROL, MASKED = Enrol(bytes(32), bytes(32)), Masked(b"sealed shares")


def letter_key(one: PeerId, other: PeerId) -> bytes:
    """As if the two were mask partners."""
    return hashlib.sha256("".join(sorted((one, other))).encode()).digest()


class Line:
    """Peers in a row, each a neighbour of the next; posts only."""

    def __init__(self, n: int, extra: tuple[tuple[int, int], ...] = (), *, gathering: Gathering | None = None) -> None:
        """gathering: of all that is said."""
        tokens = itertools.count(1)
        signatures = Signatures()
        self.beaten: set[SumMessage] = set()
        """What is no news to anybody."""
        self.posts = [
            Post(
                one.peer_id,
                Seal(one, SWARM, CODEC, signatures),
                lambda k: next(tokens).to_bytes(k, "big"),
                HOP_S,
                is_news=lambda letter: letter.message not in self.beaten,
                key_with=lambda number, partner, own=one.peer_id: letter_key(own, partner),
                gathering=lambda number: gathering,
            )
            for one in IDENTITIES[:n]
        ]
        self.links = {frozenset((a, a + 1)) for a in range(n - 1)} | {frozenset(pair) for pair in extra}
        self.got: list[list[tuple[PeerId, SumMessage]]] = [[] for _ in range(n)]
        self.frames = 0
        self.now = 0.0
        for one in self.posts:
            one.open(SUM)
        self.settle()  # all choose to whom floods go
        self.frames = 0

    def neighbours(self, peer: int) -> list[PeerId]:
        return sorted(IDS[b] for a in (peer,) for b in range(len(self.posts)) if frozenset((a, b)) in self.links)

    def settle(self, passes: int = 40) -> None:
        """Until nothing is under way."""
        for _ in range(passes):
            for one in self.posts:
                one.due(self.now)
            self.now += HOP_S
            for number, one in enumerate(self.posts):
                for to, relays in one.flush(self.neighbours(number), self.now):
                    self.frames += 1
                    receiver = IDS.index(to)
                    got = [
                        (letter.origin, letter.message) for letter in self.posts[receiver].receive(IDS[number], relays)
                    ]
                    self.got[receiver] += got


def enrolled(line: Line) -> Line:
    for one in line.posts:
        one.send(None, SUM, ENROL, 0.0)
    line.settle()
    for got in line.got:
        got.clear()
    return line


def test_a_flood_reaches_everybody_once() -> None:
    line = Line(5, extra=((0, 3), (1, 4)))
    line.posts[2].send(None, SUM, ENROL, 0.0)
    line.settle()
    assert [len(got) for got in line.got] == [1, 1, 0, 1, 1]
    assert line.got[4] == [(IDS[2], ENROL)]


def test_a_message_to_one_peer_takes_the_way_its_enrolment_came() -> None:
    line = enrolled(Line(6))
    line.frames = 0
    line.posts[0].send(IDS[5], SUM, MASKED, 0.0)
    line.settle()
    assert [len(got) for got in line.got] == [0, 0, 0, 0, 0, 1]
    assert line.frames == 5


def test_a_repeated_message_finds_another_way_when_one_is_broken() -> None:
    line = enrolled(Line(5, extra=((0, 4), (0, 3))))
    line.links.discard(frozenset((0, 4)))
    for _ in range(8):
        line.posts[0].send(IDS[4], SUM, Pair(), 0.0)
    line.settle()
    assert (IDS[0], Pair()) in line.got[4]


def test_a_repeated_message_leaves_by_all_neighbours() -> None:
    """The first goes one way; whoever hears no answer tries them all."""
    line = enrolled(Line(5, extra=((0, 2), (0, 3), (1, 4), (2, 4))))
    ways = []
    for _ in range(2):
        line.posts[0].send(IDS[4], SUM, MASKED, 0.0)
        line.now = line.posts[0].due(line.now)
        ways.append(len(line.posts[0].flush(line.neighbours(0), line.now)))
    line.posts[0].send(IDS[4], SUM, Pair(), 0.0)  # something else is no repetition
    ways.append(len(line.posts[0].flush(line.neighbours(0), line.posts[0].due(line.now))))
    assert ways == [1, 3, 1]


def test_whoever_has_no_way_left_gives_a_message_to_somebody_who_may_have_one() -> None:
    """Otherwise all behind a peer whose only way is gone could never reach the receiver, however often they repeat it."""
    line = enrolled(Line(5))
    line.links.discard(frozenset((1, 2)))
    line.links.add(frozenset((1, 4)))
    line.posts[0].send(IDS[3], SUM, MASKED, 0.0)
    line.settle()
    assert line.got[3] == [(IDS[0], MASKED)]
    assert not line.got[1] and not line.got[4]


def test_of_several_ways_the_nearest_is_taken() -> None:
    """An enrolment may arrive first on a longer way; each that has passed it on says how long that was."""
    line = Line(3)
    post = line.posts[0]
    for neighbour, passed_on in ((IDS[1], 3), (IDS[2], 2)):
        list(post.receive(neighbour, roll(replace(entry(4), distance=passed_on))))
    list(post.receive(IDS[3], Relays((sealed(MASKED, to=IDS[4]),))))
    sent = post.flush(IDS[1:4], post.due(0.0))
    assert [one.distance for to, frame in sent for part in frame.roll for one in part.enrolled if to == IDS[3]] == [3]
    assert [to for to, frame in sent for relay in frame.relays if relay.to == IDS[4]] == [IDS[2]]


@pytest.mark.parametrize("message", [Pair(), MASKED])
def test_no_dead_end_holds_a_message(message: SumMessage) -> None:
    """A ring, of which a link is cut after the enrolment: behind it nobody has a way on, but the other way round there is one."""
    line = enrolled(Line(7, extra=((0, 6),)))
    line.links.discard(frozenset((0, 1)))
    for sender in (3, 1):
        line.posts[sender].send(IDS[0], SUM, message, 0.0)
        line.settle()
    assert [origin for origin, _ in line.got[0]] == [IDS[3], IDS[1]]
    assert not any(line.got[1:])


def test_a_message_that_nobody_can_bring_ends() -> None:
    line = enrolled(Line(7, extra=((0, 2), (1, 3), (2, 4))))
    line.links -= {frozenset((4, 5))}
    line.frames = 0
    line.posts[0].send(IDS[6], SUM, MASKED, 0.0)
    line.settle()
    assert not any(line.got)
    assert line.frames <= post_module.MAX_HOPS


def test_what_is_for_the_dead_is_not_passed_on() -> None:
    """There is no way to them, so it would be passed around until its hops are used up."""
    line = enrolled(Line(4))
    line.posts[1]._is_dead = lambda number, peer: (number, peer) == (SUM, IDS[3])
    for to in (IDS[2], IDS[3]):
        line.posts[0].send(to, SUM, MASKED, 0.0)
    line.settle()
    assert [len(got) for got in line.got] == [0, 0, 1, 0]


def test_where_messages_went_is_remembered_of_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "MAX_PASSED", 3)
    line = enrolled(Line(3))
    list(line.posts[1].receive(IDS[0], Relays(tuple(sealed(MASKED, number, to=IDS[2]) for number in range(10)))))
    line.settle()
    assert len(line.got[2]) == 10
    assert len(line.posts[1]._sums[SUM].passed) == 3


def test_each_peer_passes_on_at_moments_of_its_own() -> None:
    for first_byte, moments in ((0, (1.0, 1.5)), (128, (0.75, 1.25))):
        post = Post(IDS[0], Seal(IDENTITIES[0], SWARM, CODEC), lambda k, n=first_byte: bytes([n]) * k, HOP_S)  # type: ignore[misc]
        post.open(SUM)
        post.flush([IDS[1]], post.due(0.0))
        assert post.due(0.6) == float("inf")
        for now, moment in zip((0.6, moments[0]), moments, strict=True):
            post.send(None, SUM, ENROL, 0.0)
            assert post.due(now) == pytest.approx(moment)
            assert post.flush([IDS[1]], moment - 0.02) == []
            assert len(post.flush([IDS[1]], post.due(now))) == 1


def test_floods_go_to_a_few_neighbours_and_those_that_have_chosen_this_peer() -> None:
    everybody = IDS[1:]
    post = Post(IDS[0], Seal(IDENTITIES[0], SWARM, CODEC), lambda k: bytes(k), HOP_S)
    post.open(SUM)
    told = post.flush(everybody, post.due(0.0))
    chosen = [to for to, relays in told if relays == Relays((), (), is_eager=True)]
    assert len(chosen) == len(told) == FEWEST
    chosen_by, other = sorted(set(everybody) - set(chosen))[:2]
    list(post.receive(chosen_by, Relays((), (), is_eager=True)))
    list(post.receive(other, Relays((sealed(Gone(), origin=6),))))
    sent = post.flush(everybody, post.due(1.0))
    assert {to for to, _ in sent} == {*chosen, chosen_by}
    assert {to for to, relays in sent if relays.is_eager} == set(chosen)
    # In the place of one that is lost another is told. Enrolments go to all.
    post.lost(chosen[0])
    rest = [one for one in everybody if one != chosen[0]]
    ((to, relays),) = post.flush(rest, post.due(2.0))
    assert to not in chosen
    assert relays.is_eager
    assert post.due(3.0) == float("inf")
    post.send(None, SUM, ENROL, 0.0)
    assert [to for to, _ in post.flush(rest, post.due(3.0))] == sorted(rest)


def test_whoever_is_met_later_hears_what_was_said() -> None:
    line = Line(3)
    line.links.discard(frozenset((1, 2)))
    line.posts[0].send(None, SUM, ENROL, 0.0)
    line.settle()
    (to, relays), *more = line.posts[1].catch_up(IDS[2], 10.0, [SUM], every_s=10.0)
    assert (to, more) == (IDS[2], [])
    assert [letter.origin for letter in line.posts[2].receive(IDS[1], relays)] == [IDS[0]]
    assert line.posts[1].catch_up(IDS[2], 19.9, [SUM], every_s=10.0) == []


def test_nothing_is_taken_of_a_sum_that_is_not_under_way() -> None:
    line = Line(2)
    line.posts[1].close(SUM)
    line.posts[0].send(None, SUM, ENROL, 0.0)
    line.posts[0].send(None, SUM + 1, ENROL, 0.0)
    line.settle()
    assert line.got == [[], []]
    assert line.frames == 1


# --- hostile ---


def sealed(message: SumMessage, number: int = 0, origin: int = 0, to: PeerId | None = None) -> Relayed:
    key = letter_key(IDS[origin], to) if to is not None and isinstance(message, BETWEEN_PARTNERS) else None
    return Seal(IDENTITIES[origin], SWARM, CODEC).seal(to, SUM, number.to_bytes(8, "big"), 32, message, key)


def entry(origin: int, message: Enrol = ENROL) -> Enrolled:
    return Enrolled(Seal(IDENTITIES[origin], SWARM, CODEC).enrol(SUM, message))


def roll(*enrolled: Enrolled) -> Relays:
    return Relays((), (RollPart(SUM, enrolled, ()),))


def forged(relayed: Relayed, number: int = 0) -> Relayed:
    return replace(relayed, signature=number.to_bytes(64, "big"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("origin", IDS[2]), ("token", b"another "), ("body", b"\x91\x02"), ("signature", bytes(64))],
)
def test_a_forged_flood_is_refused_and_not_passed_on(field: str, value: object) -> None:
    line = Line(3)
    changed = replace(sealed(Alive(1)), **{field: value})
    with pytest.raises(RemoteMisbehaviour) as refusal:
        list(line.posts[1].receive(IDS[0], Relays((changed,))))
    assert refusal.value.reason == Refusal.FORGED
    line.settle()
    assert line.frames == 0


@pytest.mark.parametrize(
    "message",
    [
        *(Claimed(IDS[2], 1, True), Suspected(IDS[2], 0)),
        *(Seen(frozenset(), frozenset({IDS[2]})), TakenOut(IDS[0], IDS[2], 1)),
        *(Returned(IDS[1], IDS[2], 1, bytes(32)), Opened(IDS[2], 1, bytes(32))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_everybody_says_is_proven_to_whoever_asks(message: SumMessage) -> None:
    """And to nobody else: it goes on unverified, but not if it is malformed."""
    line = Line(3)
    flood = sealed(message)
    letters = list(line.posts[1].receive(IDS[0], Relays((forged(flood), flood))))
    assert [(letter.message, letter.proof()) for letter in letters] == [(message, False), (message, True)]
    with pytest.raises(RemoteMisbehaviour) as refusal:
        list(line.posts[1].receive(IDS[0], Relays((replace(forged(flood, 1), body=b"\x91\xc0"),))))
    assert refusal.value.reason == Refusal.MALFORMED


def test_what_is_forged_uses_up_nothing_that_its_origin_may_say() -> None:
    line = Line(3)
    claims = [forged(sealed(Claimed(IDS[2], 1, True)), number) for number in range(MAX_FLOODS_OF_ONE + 20)]
    assert (
        len([one for frame in in_frames(claims) for one in line.posts[1].receive(IDS[0], frame)]) == MAX_FLOODS_OF_ONE
    )
    assert [one.message for one in line.posts[1].receive(IDS[0], Relays((sealed(Gone()),)))] == [Gone()]


def test_an_enrolment_is_proven_to_whoever_asks() -> None:
    """And to nobody else: it goes on unverified."""
    line = Line(3)
    made_up = Enrolled(replace(entry(5).enrolment, signature=bytes(64)))
    letters = list(line.posts[1].receive(IDS[0], roll(entry(4), made_up)))
    assert [(letter.origin, letter.message, letter.proof()) for letter in letters] == [
        (IDS[4], ENROL, True),
        (IDS[5], ENROL, False),
    ]
    line.settle()
    assert [origin for origin, _ in line.got[2]] == [IDS[4], IDS[5]]


def test_of_two_enrolments_the_genuine_one_reaches_everybody_and_has_the_way() -> None:
    line = Line(3)
    other = Enrol(bytes([1]) * 32, bytes(32))
    made_up = Enrolled(replace(entry(4, other).enrolment, signature=bytes(64)))
    list(line.posts[1].receive(IDS[0], roll(made_up)))
    list(line.posts[1].receive(IDS[3], roll(entry(4))))
    line.settle()
    assert [message for _, message in line.got[2]] == [ENROL]
    list(line.posts[1].receive(IDS[2], Relays((sealed(MASKED, to=IDS[4]),))))
    sent = line.posts[1].flush([IDS[0], IDS[2], IDS[3]], line.posts[1].due(line.now))
    assert [to for to, _ in sent] == [IDS[3]]


@pytest.mark.parametrize("changes", [{"signature": bytes(64)}, {"body": b"\x91\xc0"}])
def test_a_message_to_one_peer_is_verified_by_that_peer(changes: dict[str, object]) -> None:
    """Who has passed on what is forged or malformed is not to blame."""
    line = enrolled(Line(3))
    wrong = replace(sealed(MASKED, to=IDS[2]), **changes)
    assert list(line.posts[1].receive(IDS[0], Relays((wrong,)))) == []
    line.settle()
    assert not any(line.got)


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["signed", "by another key"])
def test_mask_partners_authenticate_by_the_key_that_both_have_and_by_nothing_else(key: bytes | None) -> None:
    line = Line(3)
    seal = Seal(IDENTITIES[0], SWARM, CODEC)
    wrong = seal.seal(IDS[1], SUM, bytes(8), 32, MASKED, key)
    right = seal.seal(IDS[1], SUM, bytes(8), 32, MASKED, letter_key(IDS[0], IDS[1]))
    assert [one.message for one in line.posts[1].receive(IDS[2], Relays((wrong, right)))] == [MASKED]


def test_partners_who_exchange_from_afar_sign() -> None:
    """Whoever has lost the link in an exchange need not be a mask partner."""
    line = Line(3)
    question = Seal(IDENTITIES[0], SWARM, CODEC).seal(IDS[1], SUM, bytes(8), 32, SumResolve(bytes(16)))
    made_up = replace(question, origin=IDS[2])
    assert [one.origin for one in line.posts[1].receive(IDS[2], Relays((made_up, question)))] == [IDS[0]]


def test_nothing_is_said_between_partners_without_a_key() -> None:
    post = Post(IDS[0], Seal(IDENTITIES[0], SWARM, CODEC), lambda k: bytes(k), HOP_S)
    post.open(SUM)
    post.flush([IDS[1]], post.due(0.0))
    post.send(IDS[1], SUM, MASKED, 0.0)
    assert post.due(1.0) == float("inf")
    letter = Seal(IDENTITIES[1], SWARM, CODEC).seal(IDS[0], SUM, bytes(8), 32, MASKED, letter_key(IDS[0], IDS[1]))
    assert list(post.receive(IDS[1], Relays((letter,)))) == []


def test_what_came_before_a_forgery_counts() -> None:
    line = Line(3)
    relays = Relays((sealed(Alive(1)), replace(sealed(Gone(), 1), signature=bytes(64))))
    letters = line.posts[1].receive(IDS[0], relays)
    assert next(letters).message == Alive(1)
    with pytest.raises(RemoteMisbehaviour):
        next(letters)


def test_a_replayed_flood_is_taken_once() -> None:
    line = Line(3)
    flood = sealed(Gone())
    assert len(list(line.posts[1].receive(IDS[0], Relays((flood, flood))))) == 1
    assert list(line.posts[1].receive(IDS[2], Relays((flood,) * 50))) == []
    line.settle()
    assert line.frames <= 1


def test_one_origin_cannot_fill_the_memory() -> None:
    line = Line(3)
    floods = [sealed(Gone(), number) for number in range(MAX_FLOODS_OF_ONE + 20)]
    taken = [letter for frame in in_frames(floods) for letter in line.posts[1].receive(IDS[0], frame)]
    assert len(taken) == MAX_FLOODS_OF_ONE
    # Others are heard all the same.
    assert len(list(line.posts[1].receive(IDS[0], Relays((sealed(Gone(), origin=2),))))) == 1


def test_many_origins_cannot_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "MAX_FLOODS", 2)
    line = Line(2)
    floods = tuple(sealed(Gone(), origin=origin) for origin in range(2, 6))
    assert len(list(line.posts[1].receive(IDS[0], Relays(floods)))) == 2


def test_messages_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "MAX_WAITING", 3)
    line = enrolled(Line(3))
    routed = Relays(tuple(sealed(MASKED, number, to=IDS[2]) for number in range(10)))
    list(line.posts[1].receive(IDS[0], routed))
    line.settle()
    assert len(line.got[2]) == 3


def test_a_message_that_goes_astray_ends() -> None:
    line = enrolled(Line(3))
    line.frames = 0
    last = replace(sealed(MASKED, to=IDS[2]), hops=0)
    list(line.posts[1].receive(IDS[0], Relays((last,))))
    line.settle()
    assert line.frames == 0


# --- words that are gathered ---

LATER = 1000.0
"""When the collector tells everybody: there is time enough to settle before."""
CLAIM = Claimed(IDS[5], 3, True)


def gathered(n: int = 5, collector: int = 3, extra: tuple[tuple[int, int], ...] = ()) -> Line:
    return enrolled(Line(n, extra, gathering=Gathering(IDS[collector], LATER, 2 * LATER)))


def heard(line: Line) -> list[int]:
    return [len(got) for got in line.got]


def test_a_word_goes_to_the_collector_who_tells_everybody() -> None:
    """Those as well by whom it came: they have only passed it on."""
    line = gathered()
    line.frames = 0
    line.posts[0].send(None, SUM, CLAIM, line.now)
    line.posts[4].send(None, SUM, CLAIM, line.now)
    line.settle()
    assert heard(line) == [0, 0, 0, 2, 0]
    assert line.frames == 4, "three hops and one, and nothing else"
    line.now = LATER
    line.settle()
    assert heard(line) == [1, 2, 2, 2, 1]
    assert line.frames == 8, "both words at once, over each link"
    line.now = 2 * LATER
    line.settle()
    assert line.frames == 8, "whoever has heard its own word does not say it again"


def test_the_collectors_own_words_wait_with_the_others() -> None:
    line = gathered()
    line.frames = 0
    line.posts[3].send(None, SUM, CLAIM, line.now)
    line.settle()
    assert line.frames == 0
    assert heard(line) == [0] * 5
    line.now = LATER
    line.settle()
    assert heard(line) == [1, 1, 1, 0, 1]


def test_of_what_was_gathered_better_claims_are_passed_on_alone() -> None:
    line = gathered()
    other = Claimed(IDS[5], 2, True)
    for sender, message in ((0, CLAIM), (4, other), (3, Suspected(IDS[5], 0))):
        line.posts[sender].send(None, SUM, message, line.now)
    line.settle()
    line.beaten.add(other)
    line.now = LATER
    line.settle()
    assert {message for _, message in line.got[1]} == {CLAIM, Suspected(IDS[5], 0)}


def test_a_word_that_does_not_come_back_is_said_to_everybody() -> None:
    """The collector may have died, or suppress it."""
    line = gathered(extra=((0, 4),))
    line.links -= {frozenset((2, 3)), frozenset((3, 4))}
    line.posts[0].send(None, SUM, CLAIM, line.now)
    line.settle()
    line.now = LATER
    line.settle()
    assert heard(line) == [0] * 5
    line.now = 2 * LATER
    line.settle()
    assert heard(line) == [0, 1, 1, 0, 1]


def test_unless_it_is_no_news_by_then() -> None:
    line = gathered(extra=((0, 4),))
    line.links -= {frozenset((2, 3)), frozenset((3, 4))}
    line.posts[0].send(None, SUM, CLAIM, line.now)
    line.beaten.add(CLAIM)
    line.now = 2 * LATER
    line.settle()
    assert heard(line) == [0] * 5


@pytest.mark.parametrize("message", [Alive(1), Gone()])
def test_what_is_urgent_is_told_to_everybody_at_once(message: SumMessage) -> None:
    line = gathered()
    line.posts[0].send(None, SUM, message, line.now)
    line.settle()
    assert heard(line) == [0, 1, 1, 1, 1]


def test_so_is_what_is_said_when_the_collector_has_spoken() -> None:
    line = gathered()
    line.now = LATER
    line.posts[0].send(None, SUM, CLAIM, line.now)
    line.settle()
    assert heard(line) == [0, 1, 1, 1, 1]


def test_what_comes_to_the_collector_late_is_told_at_once() -> None:
    line = gathered()
    line.posts[0].send(None, SUM, CLAIM, LATER - 1)
    line.now = LATER + 1
    line.settle()
    assert heard(line) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "relayed",
    [
        replace(sealed(CLAIM), body=b"\x91\xc0", hops=5),
        replace(sealed(Alive(1)), signature=bytes(64), hops=5),
    ],
    ids=["malformed", "forged"],
)
def test_who_brings_it_to_the_collector_is_not_to_blame(relayed: Relayed) -> None:
    line = gathered()
    assert list(line.posts[3].receive(IDS[2], Relays((relayed,)))) == []
    line.now = LATER
    line.settle()
    assert heard(line) == [0] * 5


def test_who_does_not_know_the_collector_tells_everybody() -> None:
    line = enrolled(Line(5))
    assert [letter.message for letter in line.posts[1].receive(IDS[0], Relays((replace(sealed(CLAIM), hops=9),)))] == [
        CLAIM
    ]
    line.settle()
    assert heard(line) == [0, 0, 1, 1, 1]


def test_on_its_way_to_the_collector_a_word_has_so_many_hops() -> None:
    line = gathered()
    list(line.posts[1].receive(IDS[0], Relays((replace(sealed(CLAIM), hops=1),))))
    line.settle()
    assert heard(line) == [0] * 5


def test_who_sends_a_word_back_to_its_origin_alone_does_not_suppress_it() -> None:
    line = gathered(extra=((0, 4),))
    line.links -= {frozenset((2, 3)), frozenset((3, 4))}
    line.posts[0].send(None, SUM, CLAIM, line.now)
    line.settle(1)
    mine = line.posts[0]._words._awaited
    (waiting,) = mine.values()
    assert list(line.posts[0].receive(IDS[1], Relays((waiting.relayed,)))) == []
    assert not mine
    line.settle()
    assert heard(line) == [0, 0, 0, 0, 1], "passed on to all but the neighbour that has it"


def test_frames_are_bounded() -> None:
    floods = [sealed(Gone(), number) for number in range(2500)]
    frames = in_frames(floods)
    assert [len(frame.relays) for frame in frames] == [1024, 1024, 452]
    assert [one for frame in frames for one in frame.relays] == floods


def test_the_roll_goes_first_and_in_frames_that_are_bounded_as_well() -> None:
    members = tuple(entry(n % 7) for n in range(256))
    parts = [RollPart(SUM, members, ())] * 5
    frames = in_frames([sealed(Gone(), number) for number in range(3)], parts)
    assert [(len(frame.roll), len(frame.relays)) for frame in frames] == [(4, 0), (1, 3)]
    assert all(len(CODEC.encode_relays(frame)) <= MAX_RELAYS_PAYLOAD_BYTES for frame in frames)
    assert [CODEC.decode_relays(CODEC.encode_relays(frame)) for frame in frames] == frames

"""The roll of who takes part in a sum: which enrolment counts, who has contributed, and that liars cost bounded work."""

from __future__ import annotations

import hashlib
import math

import pytest
from msgspec.structs import replace

from p2prec.peer import roll as roll_module
from p2prec.peer.gathering import Gathering
from p2prec.peer.roll import MAX_BROUGHT, MAX_OTHERS, MAX_ROUTES, PART_ENTRIES, Roll
from p2prec.peer.sum_messages import MAX_DISTANCE, Contributed, Contributes, Enrol, Enrolled, Enrolment, RollPart
from p2prec.types import PeerId

SUM, OWN, NEIGHBOUR, FAR = 1, PeerId("own"), PeerId("neighbour"), PeerId("far")
GENUINE = b"genuine"


class Asked:
    """What is genuine says so; counts who asks."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, number: int, enrolment: Enrolment) -> bool:
        assert number == SUM
        self.n += 1
        return enrolment.signature == GENUINE


def word_of(origin: str) -> bytes:
    return hashlib.sha256(origin.encode()).digest()


def entry(origin: str, signature: bytes = GENUINE, distance: int = 0) -> Enrolled:
    commitment = hashlib.sha256(word_of(origin)).digest()
    return Enrolled(Enrolment(PeerId(origin), signature * 4, commitment, signature), distance)


def heard(
    roll: Roll, *enrolled: Enrolled, contributed: tuple[Contributed, ...] = (), neighbour: PeerId = NEIGHBOUR
) -> list[tuple[PeerId, Enrol | Contributes]]:
    part = RollPart(SUM, enrolled, contributed)
    return [(origin, message) for origin, message, _ in roll.hear(neighbour, part)]


def passed_on(roll: Roll, to: PeerId = FAR) -> tuple[list[Enrolled], list[Contributed]]:
    parts = [part for neighbour, part in roll.flush([NEIGHBOUR, FAR], [NEIGHBOUR, FAR]) if neighbour == to]
    return [one for part in parts for one in part.enrolled], [one for part in parts for one in part.contributed]


def of(one: Enrolled) -> tuple[PeerId, Enrol]:
    return one.origin, Enrol(one.enrolment.mask_key, one.enrolment.commitment)


def test_what_is_new_is_told_once_to_those_who_do_not_have_it() -> None:
    asked = Asked()
    roll = Roll(SUM, OWN, asked)
    assert not roll.has_news
    assert heard(roll, entry("a"), entry("b"), entry("a")) == [of(entry("a")), of(entry("b"))]
    assert roll.has_news
    assert heard(roll, entry("b"), neighbour=FAR) == []
    told = dict(roll.flush([NEIGHBOUR, FAR], [NEIGHBOUR, FAR]))
    assert told == {FAR: RollPart(SUM, (entry("a", distance=1),), ())}
    assert not roll.has_news
    assert heard(roll, entry("a"), entry("b")) == []
    assert not roll.has_news
    assert asked.n == 0


def test_who_has_said_the_word_of_an_enrolment_has_contributed() -> None:
    roll = Roll(SUM, OWN, Asked())
    heard(roll, entry("a"), entry("b"))
    passed_on(roll)
    words = tuple(Contributed(PeerId(name), word_of("a")) for name in ("a", "b", "unknown"))
    assert heard(roll, contributed=(*words, words[0])) == [(PeerId("a"), Contributes(word_of("a")))]
    assert passed_on(roll) == ([], [words[0]])
    assert passed_on(roll, NEIGHBOUR) == ([], [])


def test_what_this_peer_says_itself_goes_to_all() -> None:
    roll = Roll(SUM, OWN, Asked())
    roll.contribute(word_of(OWN), None)
    assert not roll.has_news
    roll.enrol(entry(OWN).enrolment)
    roll.contribute(word_of(OWN), None)
    assert heard(roll, entry(OWN, b"of an earlier run"), contributed=(Contributed(OWN, b"x"),)) == []
    assert {to for to, _ in roll.flush([NEIGHBOUR, FAR], [NEIGHBOUR, FAR])} == {NEIGHBOUR, FAR}
    assert roll.everything() == [RollPart(SUM, (entry(OWN),), (Contributed(OWN, word_of(OWN)),))]


@pytest.mark.parametrize(
    ("signatures", "counts"),
    [
        ([b"made up", GENUINE], [b"made up", GENUINE]),
        ([GENUINE, b"made up"], [GENUINE]),
        ([b"made up", b"another", GENUINE, b"made up"], [b"made up", GENUINE]),
    ],
)
def test_of_two_enrolments_the_first_that_is_genuine_counts(signatures: list[bytes], counts: list[bytes]) -> None:
    roll = Roll(SUM, OWN, Asked())
    entries = [entry("a", signature) for signature in signatures]
    assert heard(roll, *entries) == [of(entry("a", signature)) for signature in counts]
    assert [one.enrolment.signature for one in passed_on(roll)[0]] == [counts[-1]]


def test_with_a_forged_enrolment_goes_what_has_been_contributed_under_it() -> None:
    roll = Roll(SUM, OWN, Asked())
    forger_s = hashlib.sha256(b"forger's").digest()
    made_up = Enrolled(replace(entry("a", b"made up").enrolment, commitment=forger_s))
    heard(roll, made_up, contributed=(Contributed(PeerId("a"), b"forger's"),))
    heard(roll, entry("a"))
    assert passed_on(roll) == ([entry("a", distance=1)], [])
    word = Contributed(PeerId("a"), word_of("a"))
    assert heard(roll, contributed=(word,)) == [(PeerId("a"), Contributes(word.word))]
    assert passed_on(roll) == ([], [word])


def test_a_genuine_signature_with_another_key_is_another_enrolment() -> None:
    """A signature names what was signed only to whoever verifies it."""
    roll = Roll(SUM, OWN, lambda _, enrolment: enrolment == entry("a").enrolment)
    changed = Enrolled(replace(entry("a").enrolment, mask_key=b"another"))
    assert heard(roll, changed, entry("a")) == [of(changed), of(entry("a"))]


def test_the_nearest_ways_are_kept() -> None:
    roll = Roll(SUM, OWN, Asked())
    for distance, neighbour in ((3, "d"), (5, "f"), (2, "c"), (5, "e"), (1, "b"), (1, "b")):
        heard(roll, entry("a", distance=distance), neighbour=PeerId(neighbour))
    assert roll.ways(PeerId("a")) == [PeerId("b"), PeerId("c"), PeerId("d")][:MAX_ROUTES]
    assert roll.ways(PeerId("unknown")) == []


HERE, THERE = Gathering(OWN, 3.0, 6.0), Gathering(PeerId("collector"), 3.0, 6.0)
"""This peer is the collector, and another is."""


def gathered(roll: Roll, *names: str, gathering: Gathering | None = HERE) -> list[PeerId]:
    words = tuple(Contributed(PeerId(name), word_of(name)) for name in names)
    part = RollPart(SUM, (), words, is_gathered=True)
    return [origin for origin, _, _ in roll.hear(NEIGHBOUR, part, gathering)]


def members(*names: str) -> Roll:
    roll = Roll(SUM, OWN, Asked())
    roll.enrol(entry(OWN).enrolment)
    heard(roll, *(entry(name) for name in names))
    passed_on(roll)
    return roll


def rows_to(
    roll: Roll, gathering: Gathering | None, neighbours: tuple[PeerId, ...] = (NEIGHBOUR, FAR)
) -> dict[str, list[str]]:
    """By neighbour: whose contributions are on their way to the collector there."""
    parts = list(roll.flush(neighbours, neighbours, gathering))
    assert all(part.is_gathered for _, part in parts)
    return {to: [one.origin for one in part.contributed] for to, part in parts}


def test_the_collector_tells_everybody_of_what_was_gathered_at_once() -> None:
    roll = members("a", "b")
    assert gathered(roll, "a", "unknown") == [PeerId("a")]
    roll.contribute(word_of(OWN), HERE)
    assert gathered(roll, "b", "a") == [PeerId("b")]
    assert roll.due == 3.0
    roll.say_what_has_waited(2.9)
    assert not roll.has_news
    roll.say_what_has_waited(3.0)
    assert [one.origin for one in passed_on(roll, NEIGHBOUR)[1]] == ["a", OWN, "b"], "also whom it came from"
    assert roll.due == math.inf


def test_others_bring_it_a_step_nearer_a_few_times_and_have_not_heard_it() -> None:
    roll = members("a")
    heard(roll, entry("collector", distance=2), neighbour=FAR)
    passed_on(roll)
    assert gathered(roll, "a", gathering=THERE) == []
    for _ in range(MAX_BROUGHT):
        assert rows_to(roll, THERE) == {FAR: ["a"]}
        assert not roll.has_news
        assert gathered(roll, "a", gathering=THERE) == []
    assert not roll.has_news
    assert heard(roll, contributed=(Contributed(PeerId("a"), word_of("a")),)) == [
        (PeerId("a"), Contributes(word_of("a")))
    ]
    assert [one.origin for one in passed_on(roll)[1]] == ["a"]


def test_who_does_not_know_the_collector_tells_everybody() -> None:
    roll = members("a")
    assert gathered(roll, "a", gathering=None) == [PeerId("a")]
    assert [one.origin for one in passed_on(roll, NEIGHBOUR)[1]] == ["a"]


def test_it_is_not_brought_back_to_whom_it_came_from() -> None:
    roll = members("a", "b")
    heard(roll, entry("collector", distance=2))
    passed_on(roll)
    gathered(roll, "a", gathering=THERE)
    assert rows_to(roll, THERE) == {FAR: ["a"]}, "who may have another way"
    gathered(roll, "b", gathering=THERE)
    assert rows_to(roll, THERE, (NEIGHBOUR,)) == {}


def test_words_that_are_not_their_origins_are_not_brought() -> None:
    roll = members("a")
    part = RollPart(SUM, (), (Contributed(PeerId("a"), b"another"),), is_gathered=True)
    assert list(roll.hear(NEIGHBOUR, part, THERE)) == list(roll.hear(NEIGHBOUR, part, HERE)) == []
    assert not roll.has_news
    assert gathered(roll, "a") == [PeerId("a")]


@pytest.mark.parametrize("comes_back", [False, True])
def test_whoever_does_not_hear_of_its_own_contribution_tells_everybody(comes_back: bool) -> None:
    roll = members("collector")
    roll.contribute(word_of(OWN), THERE)
    assert rows_to(roll, THERE, (PeerId("collector"), FAR)) == {"collector": [OWN]}
    assert roll.due == 6.0
    own = Contributed(OWN, word_of(OWN))
    if comes_back:
        assert heard(roll, contributed=(own,)) == []
        assert roll.due == math.inf
        assert passed_on(roll, FAR)[1] == [own]
        assert passed_on(roll, NEIGHBOUR)[1] == []
    roll.say_what_has_waited(6.0)
    assert passed_on(roll, NEIGHBOUR)[1] == ([] if comes_back else [own])


def test_with_a_forged_enrolment_goes_what_was_gathered_under_it() -> None:
    roll = members()
    forged = Enrolled(replace(entry("a", b"made up").enrolment, commitment=hashlib.sha256(b"forger's").digest()))
    heard(roll, forged)
    part = RollPart(SUM, (), (Contributed(PeerId("a"), b"forger's"),), is_gathered=True)
    assert [origin for origin, _, _ in roll.hear(NEIGHBOUR, part, HERE)] == ["a"]
    heard(roll, entry("a"))
    roll.say_what_has_waited(3.0)
    assert passed_on(roll)[1] == []


def test_the_shortest_way_that_is_known_when_it_is_passed_on_counts() -> None:
    roll = Roll(SUM, OWN, Asked())
    heard(roll, entry("a", distance=3))
    heard(roll, entry("a", distance=1), entry("a", distance=2), neighbour=PeerId("b"))
    assert passed_on(roll) == ([entry("a", distance=2)], [])
    heard(roll, entry("a", distance=0), neighbour=PeerId("c"))
    assert passed_on(roll) == ([], [])
    assert roll.everything()[0].enrolled == (entry("a", distance=2),)


def test_the_distance_ends() -> None:
    roll = Roll(SUM, OWN, Asked())
    heard(roll, entry("a", distance=MAX_DISTANCE))
    assert [one.distance for one in passed_on(roll)[0]] == [MAX_DISTANCE]


def test_many_are_told_in_parts() -> None:
    roll = Roll(SUM, OWN, Asked())
    names = [f"{number:04}" for number in range(2 * PART_ENTRIES + 1)]
    heard(roll, *(entry(name) for name in names))
    heard(roll, contributed=tuple(Contributed(PeerId(name), word_of(name)) for name in names[:3]))
    parts = [part for to, part in roll.flush([FAR], [FAR]) if to == FAR]
    assert [(len(part.enrolled), len(part.contributed)) for part in parts] == [
        (PART_ENTRIES, 3),
        (PART_ENTRIES, 0),
        (1, 0),
    ]
    assert [len(part.enrolled) for part in roll.everything()] == [PART_ENTRIES, PART_ENTRIES, 1]


# --- hostile ---


def test_forged_enrolments_of_one_peer_are_verified_so_often() -> None:
    asked = Asked()
    roll = Roll(SUM, OWN, asked)
    heard(roll, *(entry("a", f"made up {number}".encode()) for number in range(MAX_OTHERS + 50)))
    assert asked.n == MAX_OTHERS + 1
    assert [one.enrolment.signature for one in passed_on(roll)[0]] == [b"made up 0"]


def test_invented_peers_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_module, "MAX_ENROLLED", 2)
    roll = Roll(SUM, OWN, Asked())
    words = tuple(Contributed(PeerId(name), word_of(name)) for name in "abcd")
    assert len(heard(roll, *map(entry, "abcd"), contributed=words)) == 4
    assert [len(part.enrolled) for part in roll.everything()] == [2]

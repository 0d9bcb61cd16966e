"""What others say is verified when it matters, and a forger gains nothing by saying it first, or often."""

from __future__ import annotations

from p2prec.peer.hearsay import Hearsay
from p2prec.types import PeerId

ALICE, BOB = PeerId("alice"), PeerId("bob")


class Proofs:
    """That count how often they are asked."""

    def __init__(self) -> None:
        self.asked = 0

    def good(self) -> bool:
        self.asked += 1
        return True

    def bad(self) -> bool:
        self.asked += 1
        return False


def test_nothing_is_verified_before_somebody_asks_and_then_once() -> None:
    said, proofs = Hearsay[str, int](), Proofs()
    said.hear("it", ALICE, 1, proofs.good)
    said.hear("another", ALICE, 2, proofs.good)
    assert said.n_heard("it") == 1
    assert proofs.asked == 0
    assert dict(said.on("it")) == dict(said.on("it")) == {ALICE: 1}
    assert proofs.asked == 1


def test_what_is_forged_is_nobodys_word() -> None:
    said, proofs = Hearsay[str, int](), Proofs()
    said.hear("it", ALICE, 1, proofs.bad)
    said.hear("it", BOB, 2, proofs.good)
    assert dict(said.on("it")) == {BOB: 2}
    assert said.n_heard("it") == 1
    assert dict(said.on("nothing")) == {}


def test_the_first_word_that_is_a_speakers_own_counts() -> None:
    said, proofs = Hearsay[str, int](), Proofs()
    said.hear("it", ALICE, 1, proofs.bad)
    said.hear("it", ALICE, 2, proofs.good)
    said.hear("it", ALICE, 3, proofs.bad)
    said.hear("it", ALICE, 4, proofs.good)
    assert dict(said.on("it")) == {ALICE: 2}


def test_no_more_is_verified_than_is_asked_for() -> None:
    said, proofs = Hearsay[str, int](), Proofs()
    for number, speaker in enumerate((ALICE, BOB, PeerId("carol"))):
        said.hear("it", speaker, number, proofs.good)
    assert said.of("it", BOB) == 1
    assert proofs.asked == 1
    assert next(said.on("it")) == (ALICE, 0)
    assert proofs.asked == 2
    said.hear("another", ALICE, 3, proofs.bad)
    assert said.of("another", ALICE) is None
    assert said.of("another", BOB) is said.of("nothing", BOB) is None

"""Who takes part in a private sum: enrolments are proven where their keys are used, and where two contradict each other."""

from __future__ import annotations

import hashlib

import pytest

from p2prec.peer.sum_messages import Enrol, Pair
from p2prec.peer.sum_roster import Roster
from p2prec.types import PeerId, SwarmId

SWARM = SwarmId(bytes(range(32)))
PEOPLE = 60
OWN, *OTHERS = (PeerId(f"peer{n}") for n in range(PEOPLE))


class Proof:
    """Of an enrolment: counts how often it is asked for."""

    def __init__(self, genuine: bool) -> None:
        self.genuine, self.asked = genuine, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.genuine


def enrolled(peer: PeerId) -> Enrol:
    return Roster(peer, SWARM, 1, PEOPLE).enrol()


def full(forged: frozenset[PeerId] = frozenset()) -> tuple[Roster, dict[PeerId, Proof]]:
    roster, proofs = Roster(OWN, SWARM, 1, PEOPLE), {peer: Proof(peer not in forged) for peer in OTHERS}
    for peer, proof in proofs.items():
        roster.on_enrol(peer, enrolled(peer), proof)
    return roster, proofs


def test_only_partners_are_verified_and_once() -> None:
    roster, proofs = full()
    for _ in range(2):
        roster.prove_partners()
    for partner in roster.partners:
        roster.on_pair(partner, Pair())
    assert {peer for peer, proof in proofs.items() if proof.asked} == set(roster.partners)
    assert max(proof.asked for proof in proofs.values()) == 1
    assert roster.confirmed == roster.partners


def test_a_partner_whose_enrolment_is_forged_is_none() -> None:
    partners = full()[0].partners
    forged = frozenset(partners[:3])
    roster, _ = full(forged)
    for peer in partners[:2]:  # one may have confirmed before this peer looks
        roster.on_pair(peer, Pair())
    roster.prove_partners()
    assert roster.partners == partners[3:]
    assert len(roster) == PEOPLE - 3
    assert not forged & set(roster.confirmed)
    assert roster.keys().keys().isdisjoint(forged)


@pytest.mark.parametrize("heard", ["fg", "gf", "gs", "ffgf"])
def test_the_first_genuine_enrolment_counts(heard: str) -> None:
    """f: a forged one, g: the peer's, s: a second one that the peer has signed as well."""
    roster, peer = Roster(OWN, SWARM, 1, PEOPLE), Roster(OTHERS[0], SWARM, 1, PEOPLE)
    for which in heard:
        enrol = peer.enrol() if which == "g" else enrolled(peer.own_id)
        roster.on_enrol(peer.own_id, enrol, Proof(which != "f"))
    peer.on_enrol(OWN, roster.enrol())
    assert len(roster) == 2
    assert roster.key_with(peer.own_id) == peer.key_with(OWN)


def test_an_enrolment_commits_its_peer_to_its_word() -> None:
    one, other = (Roster(peer, SWARM, 1, PEOPLE) for peer in OTHERS[:2])
    assert one.enrol().commitment == hashlib.sha256(one.word).digest()
    assert one.word != other.word

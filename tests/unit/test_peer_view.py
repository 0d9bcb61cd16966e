"""The view: one link a neighbour, the same choice on both sides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from p2prec.peer.view import Allowance, Link, View
from p2prec.types import PeerId

FREE = Allowance(1e9, 0.0, 0.0)
SMALL, LARGE = PeerId("a"), PeerId("b")


def link(number: int, remote: PeerId, *, outbound: bool) -> Link:
    return Link(number, remote, "10.0.0.1", outbound, opened_at=0.0, last_heard=0.0, offers=FREE, messages=FREE)


def test_first_link_is_admitted_and_removed_once() -> None:
    view = View(SMALL)
    one = link(1, LARGE, outbound=True)
    view.links[1] = one
    assert view.admit(one) is None
    assert view.admit(one) is None
    assert view.neighbours == {LARGE: one}
    assert view.remove(one)
    assert not view.remove(one)
    assert not view.links
    assert not view.neighbours


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1])))
def test_simultaneous_dials_leave_the_same_connection_on_both_sides(order: tuple[int, int]) -> None:
    """Connection 0 was dialled by the small id, connection 1 by the large one; they may arrive in any order."""
    kept = []
    for own, remote in ((SMALL, LARGE), (LARGE, SMALL)):
        view = View(own)
        links = [link(0, remote, outbound=own == SMALL), link(1, remote, outbound=own == LARGE)]
        losers = [view.admit(links[i]) for i in order]
        assert losers[0] is None
        assert losers[1] is links[1]
        kept.append(view.neighbours[remote].number)
    assert kept == [0, 0]


def test_of_two_dials_by_one_side_the_newer_stays() -> None:
    for outbound in (True, False):
        view = View(SMALL)
        old, new = link(1, LARGE, outbound=outbound), link(2, LARGE, outbound=outbound)
        view.admit(old)
        assert view.admit(new) is old
        assert view.neighbours[LARGE] is new
        view.links[1] = old
        assert not view.remove(old)  # it was no neighbour's any more
        assert view.neighbours[LARGE] is new


def test_random_neighbour_knows_whom_to_leave_out() -> None:
    view = View(PeerId("me"))
    rng = np.random.default_rng(0)
    assert view.random_neighbour(rng) is None
    for i in range(3):
        view.admit(link(i, PeerId(f"p{i}"), outbound=True))
    drawn = {view.random_neighbour(rng, exclude=frozenset({PeerId("p1")})).remote_id for _ in range(50)}  # type: ignore[union-attr]
    assert drawn == {"p0", "p2"}
    assert view.random_neighbour(rng, exclude=frozenset(view.neighbours)) is None

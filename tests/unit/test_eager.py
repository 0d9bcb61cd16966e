"""To whom floods go."""

from __future__ import annotations

import itertools

import numpy as np

from p2prec.peer.eager import FEWEST, Eager
from p2prec.types import PeerId

NEIGHBOURS = [PeerId(f"neighbour{n}") for n in range(8)]


def eager(seed: int = 0) -> Eager:
    return Eager(np.random.default_rng(seed).bytes)


def test_a_peer_chooses_a_few_once() -> None:
    one = eager()
    assert one.is_due
    chosen = one.choose(NEIGHBOURS)
    assert len(chosen) == FEWEST
    assert not one.is_due
    assert one.choose(NEIGHBOURS) == set()
    assert set(one.among(NEIGHBOURS)) == {peer for peer in NEIGHBOURS if one.has_chosen(peer)} == chosen


def test_those_who_have_chosen_it_are_more_and_not_instead() -> None:
    one = eager()
    for neighbour in NEIGHBOURS[:6]:
        one.chosen_by(neighbour)
    assert len(one.choose(NEIGHBOURS)) == FEWEST
    assert set(one.among(NEIGHBOURS)) >= set(NEIGHBOURS[:6])


def test_another_takes_the_place_of_one_that_is_lost() -> None:
    one = eager()
    chosen = one.choose(NEIGHBOURS)
    lost = min(chosen)
    one.chosen_by(lost)
    one.lost(next(peer for peer in NEIGHBOURS if peer not in chosen))
    assert not one.is_due
    one.lost(lost)
    assert one.is_due
    assert lost not in one.among(NEIGHBOURS)
    (other,) = one.choose([peer for peer in NEIGHBOURS if peer != lost])
    assert other not in chosen


def test_with_too_few_neighbours_it_waits_for_more() -> None:
    one = eager()
    assert one.choose(NEIGHBOURS[:2]) == set(NEIGHBOURS[:2])
    assert not one.is_due
    one.met()
    assert one.is_due
    one.choose(NEIGHBOURS[:3])
    one.met()
    assert not one.is_due


def test_what_the_chosen_links_join_stays_together_without_any_two() -> None:
    """Two hundred peers with eight links each: what one says reaches all, whichever two have died. (Every pair of a sample.)"""
    rng = np.random.default_rng(1)
    n, links = 200, [set[int]() for _ in range(200)]
    for peer in range(n):
        for other in rng.permutation(np.delete(np.arange(n), peer))[:4].tolist():
            links[peer].add(other)
            links[other].add(peer)
    over: list[set[int]] = [set() for _ in range(n)]
    for peer in range(n):
        for name in Eager(rng.bytes).choose([PeerId(str(other)) for other in sorted(links[peer])]):
            over[peer].add(int(name))
            over[int(name)].add(peer)
    assert np.mean([len(one) for one in over]) < 0.7 * np.mean([len(one) for one in links])
    pairs = [tuple(rng.permutation(n)[:2].tolist()) for _ in range(100)]
    for dead in itertools.chain([()], pairs):
        first = next(peer for peer in range(n) if peer not in dead)
        reached, waiting = {first}, [first]
        while waiting:
            news = over[waiting.pop()] - reached - set(dead)
            reached |= news
            waiting += news
        assert len(reached) == n - len(dead)

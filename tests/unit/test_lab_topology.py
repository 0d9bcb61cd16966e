"""Who can exchange with whom."""

from __future__ import annotations

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.lab import topology
from p2prec.types import IndexArray


def views(kind: topology.Kind = "random", degree: int = 3) -> list[IndexArray]:
    return topology.neighbours(kind, crowd(), rng(1), degree)


@pytest.mark.parametrize("kind", topology.KINDS)
@pytest.mark.parametrize("n_peers", [2, 3, 7, 24])
def test_links_count_both_ways_and_reach_everybody(kind: topology.Kind, n_peers: int) -> None:
    links = topology.neighbours(kind, crowd(n_peers), rng(), degree=2)
    linked = np.zeros((n_peers, n_peers), np.bool_)
    for peer, row in enumerate(links):
        linked[peer, row] = True
    assert (linked == linked.T).all()
    assert not linked.diagonal().any()
    assert topology.components(linked).max() == 0


def test_graphs_have_their_shapes() -> None:
    assert {len(row) for row in views("ring", 4)} == {4}
    assert views("ring", 4)[0].tolist() == [1, 2, 22, 23]
    assert {len(row) for row in topology.neighbours("torus", crowd(25), rng())} == {4}
    assert {len(row) for row in views("random", 23)} == {23}
    assert min(len(row) for row in views("random", 3)) >= 3
    moved = sum(
        row.tolist() != ring.tolist() for row, ring in zip(views("smallworld", 6), views("ring", 6), strict=True)
    )
    assert 0 < moved < 24


def test_friends_share_a_taste() -> None:
    one, other = [(i, 1, 1) for i in range(5)], [(i, 1, 1) for i in range(5, 10)]
    histories = histories_of({"a": one, "b": other, "c": one, "d": other, "e": one, "f": other}, 10)
    links = topology.neighbours("friends", histories, rng(), degree=2)
    crossing = sum((peer + friend) % 2 for peer, row in enumerate(links) for friend in row)
    assert crossing == 2  # the one link that keeps the swarm in one piece, from both ends


def test_the_same_seed_draws_the_same_graph() -> None:
    assert [row.tolist() for row in views()] == [row.tolist() for row in views()]

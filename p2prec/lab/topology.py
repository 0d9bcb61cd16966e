"""Who can exchange with whom."""

from __future__ import annotations

from typing import Literal

import numpy as np

from p2prec.data.histories import Histories
from p2prec.lab.baselines.matrix import touched
from p2prec.types import BoolArray, IndexArray

Kind = Literal["random", "ring", "smallworld", "torus", "friends"]
KINDS: tuple[Kind, ...] = ("random", "ring", "smallworld", "torus", "friends")
DEGREE = 8
"""Neighbours that a peer picks, as the daemon's `target_neighbours`."""
_REWIRED = 0.1


def neighbours(kind: Kind, histories: Histories, rng: np.random.Generator, degree: int = DEGREE) -> list[IndexArray]:
    """For each peer whom it may exchange with: links count both ways, and the graph is connected.

    random: every peer picks `degree` others, so views are about twice as large, as the daemon's are.
    ring: the `degree` nearest on a circle. smallworld: such a ring with a tenth of its links led elsewhere
    (Watts & Strogatz 1998). torus: the four nearest on a wrapped grid.
    friends: the `degree` whose training items are most alike (cosine): tastes cluster, as among friends. The simulation may
    look at histories for that; no peer can.
    """
    n_peers = len(histories)
    everyone = np.ones((n_peers, n_peers), np.bool_)
    if kind != "torus" and degree >= n_peers - 1:
        linked = everyone
    elif kind == "random":
        linked = _random(n_peers, degree, rng)
    elif kind == "ring":
        linked = _ring(n_peers, degree)
    elif kind == "smallworld":
        linked = _small_world(n_peers, degree, rng)
    elif kind == "torus":
        linked = _torus(n_peers)
    else:
        linked = _friends(histories, degree)
    return _views(linked, rng)


def random_views(n_peers: int, degree: int, rng: np.random.Generator) -> list[IndexArray]:
    """`neighbours` of the kind `random`, for which nobody's history matters."""
    if degree >= n_peers - 1:
        return _views(np.ones((n_peers, n_peers), np.bool_), rng)
    return _views(_random(n_peers, degree, rng), rng)


def _views(linked: BoolArray, rng: np.random.Generator) -> list[IndexArray]:
    np.fill_diagonal(linked, False)
    linked |= linked.T
    _connect(linked, rng)
    return [np.flatnonzero(row) for row in linked]


def _random(n_peers: int, degree: int, rng: np.random.Generator) -> BoolArray:
    linked = np.zeros((n_peers, n_peers), np.bool_)
    for peer in range(n_peers):
        chosen = rng.choice(n_peers - 1, degree, replace=False)
        linked[peer, chosen + (chosen >= peer)] = True
    return linked


def _ring(n_peers: int, degree: int) -> BoolArray:
    linked = np.zeros((n_peers, n_peers), np.bool_)
    peers = np.arange(n_peers)
    for distance in range(1, max(1, degree // 2) + 1):
        linked[peers, (peers + distance) % n_peers] = True
    return linked


def _small_world(n_peers: int, degree: int, rng: np.random.Generator) -> BoolArray:
    linked = _ring(n_peers, degree)
    for one, other in np.argwhere(linked):
        if rng.random() < _REWIRED:
            linked[one, other] = False
            linked[one, rng.integers(n_peers)] = True
    return linked


def _torus(n_peers: int) -> BoolArray:
    """Rows as long as the square root; the last row may be shorter, and wraps over what is there."""
    linked = np.zeros((n_peers, n_peers), np.bool_)
    width = max(1, round(np.sqrt(n_peers)))
    peers = np.arange(n_peers)
    row_start = peers - peers % width
    row_length = np.minimum(width, n_peers - row_start)
    linked[peers, row_start + (peers % width + 1) % row_length] = True
    below = peers + width
    linked[peers, np.where(below < n_peers, below, peers % width)] = True
    return linked


def _friends(histories: Histories, degree: int) -> BoolArray:
    items = touched(histories).astype(np.float32)
    items /= np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.float32(1))
    alike = items @ items.T
    np.fill_diagonal(alike, -1)
    linked = np.zeros(alike.shape, np.bool_)
    closest = np.argsort(-alike, axis=1, kind="stable")[:, :degree]
    linked[np.arange(len(alike))[:, None], closest] = True
    return linked


def _connect(linked: BoolArray, rng: np.random.Generator) -> None:
    """Link the components, if there are several, to the first by one random link each, in place."""
    component = components(linked)
    first = np.flatnonzero(component == 0)
    for number in range(1, int(component.max(initial=0)) + 1):
        one, other = rng.choice(first), rng.choice(np.flatnonzero(component == number))
        linked[one, other] = linked[other, one] = True


def components(linked: BoolArray) -> IndexArray:
    """(n_peers,) the number of each peer's connected component, from 0 in the order of their first peers."""
    component = np.full(len(linked), -1, np.int64)
    number = 0
    for peer in range(len(linked)):
        if component[peer] >= 0:
            continue
        frontier = np.zeros(len(linked), np.bool_)
        frontier[peer] = True
        while frontier.any():
            component[frontier] = number
            frontier = linked[frontier].any(axis=0) & (component < 0)
        number += 1
    return component

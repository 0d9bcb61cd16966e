"""What an observer of every message learns in spite of the masks, some of the peers being on its side.

The noise of all contributions together has the covariance `mask^2 L + independent^2 I`, L the Laplacian of the graph of masks
between peers that do not collude (a mask that one colluder knows hides nothing; what colluders contribute is known). A peer's
contribution, at norm 1, then stands out by

    mu^2 = e_u' (mask^2 L + independent^2 I)^-1 e_u

standard deviations (the privacy loss of a Gaussian mechanism with that covariance). Along the constant vector the masks
cancel, and `1 / (n independent^2)` is what a trusted curator would leak as well; all other directions add at most `e_u' L+ e_u /
mask^2`.

Source: the DECOR and CorN-DSGD papers treat pairwise noise in decentralized learning in this way (docs/research/0003-privacy.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from p2prec.types import BoolArray, DoubleArray, IndexArray

_TOLERANCE = 1e-10
_MAX_STEPS = 2000


def contribution_mu(
    n_peers: int, pairs: IndexArray, peer: int, colluders: Iterable[int], mask_std: float, independent_std: float
) -> float:
    """By how many standard deviations `peer`'s contribution stands out for an observer of all messages whom `colluders` help.

    pairs: (n_pairs, 2) indices of the mask partners. mask_std, independent_std: relative to the largest norm of a
    contribution. Infinite when nothing hides it. Raises ValueError if the peer itself colludes.
    """
    honest = np.ones(n_peers, np.bool_)
    honest[list(colluders)] = False
    if not honest[peer]:
        raise ValueError("a peer has no privacy from itself")
    kept = pairs[honest[pairs[:, 0]] & honest[pairs[:, 1]]]
    members = _component(n_peers, kept, peer)
    constant = 1 / (members.sum() * independent_std**2) if independent_std > 0 else math.inf
    return math.sqrt(constant + leakage(kept, members, peer, mask_std, independent_std))


def leakage(pairs: IndexArray, members: BoolArray, peer: int, mask_std: float, independent_std: float) -> float:
    """The part of mu^2 that the directions other than the constant one add, over the connected `members` of `pairs`.

    By conjugate gradients, so that swarms of thousands take milliseconds.
    """
    index = np.cumsum(members) - 1
    n = int(members.sum())
    if n == 1 or mask_std == 0:
        return 0.0 if n == 1 else (1 - 1 / n) / independent_std**2 if independent_std > 0 else math.inf
    edges = index[pairs[members[pairs[:, 0]]]]
    target = np.full(n, -1.0 / n)
    target[index[peer]] += 1.0
    degrees = np.bincount(edges.ravel(), minlength=n).astype(np.float64)

    def times(x: DoubleArray) -> DoubleArray:
        neighbours = np.bincount(edges[:, 0], x[edges[:, 1]], n) + np.bincount(edges[:, 1], x[edges[:, 0]], n)
        product: DoubleArray = mask_std**2 * (degrees * x - neighbours) + independent_std**2 * x
        return product

    solution, residual = np.zeros(n), target.copy()
    direction, squared = residual.copy(), float(residual @ residual)
    start = squared
    for _ in range(_MAX_STEPS):
        if squared <= _TOLERANCE * start:
            break
        product = times(direction)
        step = squared / float(direction @ product)
        solution += step * direction
        residual -= step * product
        squared, before = float(residual @ residual), squared
        direction = residual + (squared / before) * direction
    return float(target @ solution)


def _component(n_peers: int, pairs: IndexArray, peer: int) -> BoolArray:
    """Who is connected with `peer` by masks."""
    members = np.zeros(n_peers, np.bool_)
    members[peer] = True
    while True:
        touched = members[pairs[:, 0]] | members[pairs[:, 1]]
        before = int(members.sum())
        members[pairs[touched].ravel()] = True
        if int(members.sum()) == before:
            return members

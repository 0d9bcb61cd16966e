"""The step that every peer applies to its own copy of the item factors, from what the accumulators hold."""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import touched_share
from p2prec.model.schedule import learning_rate
from p2prec.model.state import ModelState, average_in, mixing
from p2prec.types import DoubleArray, FloatArray

SMALLEST_SWARM = 20.0
"""A swarm of fewer peers is treated as one of this many: with the penalty of fewer, nothing at all would be learned."""


def step(parameters: LearningParameters, state: ModelState, swarm_size: float | DoubleArray) -> None:
    """One preconditioned step on every item row, in place; then the state is one round older.

    swarm_size: the number of peers, as far as known. The accumulators are means over peers, so the penalty of a row,
    fixed in the manifest, weighs one swarm_size-th next to them: the more people have spoken, the less the prior
    matters. A guess that is wrong by half costs little. Leading peer axes of `state` may have an array of that shape.

    How far a row moves depends on how far its evidence stands out of what is not mixed yet: `evidence_floor * mixing` is
    added to its weight. Right after a contribution, with neighbours away or messages lost, a copy holds few people's word
    and moves little; once everybody's is in, only rare items are held back.
    """
    average_in(state)
    rate = learning_rate(parameters, state.age).astype(np.float32)[..., None, None]
    size = np.maximum(np.asarray(swarm_size, np.float64), SMALLEST_SWARM)
    unmixed = np.float32(parameters.evidence_floor) * mixing(state, size).astype(np.float32)[..., None, None]
    penalty = np.float32(parameters.reg) / size.astype(np.float32)[..., None, None]
    curvature, vectors = _curvature(state.gram, parameters.objective == "explicit")
    direction = _implicit_direction if parameters.objective == "implicit" else _explicit_direction
    towards = direction(parameters, state, penalty, unmixed, curvature, np.swapaxes(vectors, -1, -2))
    towards *= rate
    np.swapaxes(state.item_factors, -1, -2)[...] += vectors @ towards
    state.age += 1.0


def _curvature(gram: FloatArray, normalized: bool) -> tuple[FloatArray, FloatArray]:
    """The eigenvalues (..., n, 1) and eigenvectors (..., n, n) of G: all items share them, so one decomposition a round
    serves every row. normalized: scaled so that the last entry, which belongs to the constant, is 1.
    """
    symmetric = (gram + np.swapaxes(gram, -1, -2)) * np.float32(0.5)
    if normalized:
        symmetric = symmetric / np.maximum(symmetric[..., -1:, -1:], np.float32(1e-6))
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    # Noise and rounding can make a small eigenvalue negative, where the curvature of a mean of p p' never is.
    return np.maximum(eigenvalues, 0).astype(np.float32, copy=False)[..., None], vectors


# Both directions are computed along the eigenvectors of G, and factors first, as the tables lie in memory:
# (..., n_columns, n_items). `turn` holds the eigenvectors as rows.


def _implicit_direction(
    parameters: LearningParameters,
    state: ModelState,
    penalty: FloatArray,
    unmixed: FloatArray,
    curvature: FloatArray,
    turn: FloatArray,
) -> FloatArray:
    """`(S_i - alpha0 G q_i - r a_i q_i) / (a_i (G + max(damping, r) I))` with `a_i = W_i + alpha0`, `r = reg / n`; `unmixed`
    is added to the a_i of the divisor.

    r is the penalty's own curvature. Damped by less, a few people's step jumps over the penalty's minimum, further each time.
    """
    alpha0 = np.float32(parameters.alpha0)
    weight: FloatArray = touched_share(state)[..., None, :] + alpha0
    pull: FloatArray = penalty * weight + alpha0 * curvature
    pull *= turn @ np.swapaxes(state.item_factors, -1, -2)
    direction: FloatArray = turn @ np.swapaxes(state.gradient, -1, -2)
    direction -= pull
    direction /= weight + unmixed
    direction /= curvature + np.maximum(np.float32(parameters.damping), penalty)
    return direction


def _explicit_direction(
    parameters: LearningParameters,
    state: ModelState,
    penalty: FloatArray,
    unmixed: FloatArray,
    curvature: FloatArray,
    turn: FloatArray,
) -> FloatArray:
    """`(S_i - r q_i) / (W_i (G + damping I) + r I)` with `r = reg / n`; `unmixed` is added to W_i.

    With the penalty's own curvature in the divisor, the rows of unrated items fade whatever `reg` is.
    """
    pull: FloatArray = penalty * np.swapaxes(state.item_factors, -1, -2)
    direction: FloatArray = turn @ np.subtract(np.swapaxes(state.gradient, -1, -2), pull, out=pull)
    weight: FloatArray = touched_share(state)[..., None, :] + unmixed
    direction /= weight * (curvature + np.float32(parameters.damping)) + penalty
    return direction

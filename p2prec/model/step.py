"""The step that every peer applies to its own copy of the item factors, from what the accumulators hold."""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import touched_share
from p2prec.model.schedule import learning_rate
from p2prec.model.state import ModelState
from p2prec.types import DoubleArray, FloatArray

SMALLEST_SWARM = 20.0
"""A swarm of fewer peers is treated as one of this many: with the penalty of fewer, nothing at all would be learned."""


def step(parameters: LearningParameters, state: ModelState, swarm_size: float | DoubleArray) -> None:
    """One preconditioned step on every item row, in place; then the state is one round older.

    swarm_size: the number of peers, as far as known. The accumulators are means over peers, so the penalty of a row,
    fixed in the manifest, weighs one swarm_size-th next to them: the more people have spoken, the less the prior
    matters. A guess that is wrong by half costs little. Leading peer axes of `state` may have an array of that shape.
    """
    rate = learning_rate(parameters, state.age).astype(np.float32)[..., None, None]
    size = np.maximum(np.asarray(swarm_size, np.float64), SMALLEST_SWARM).astype(np.float32)[..., None, None]
    if parameters.objective == "implicit":
        state.item_factors += rate * _implicit_direction(parameters, state, size)
    else:
        state.item_factors += rate * _explicit_direction(parameters, state, size)
    state.age += 1.0


def _implicit_direction(parameters: LearningParameters, state: ModelState, size: FloatArray) -> FloatArray:
    """`H_i^-1 (S_i - alpha0 G q_i - r a_i q_i)` with `a_i = W_i + alpha0`, `r = reg / n`, `H_i = a_i (G + damping I)`.

    All H_i share the eigenvectors of G, so one d x d decomposition a round serves every item.
    """
    alpha0 = np.float32(parameters.alpha0)
    penalty: FloatArray = np.float32(parameters.reg) / size
    weight: FloatArray = touched_share(state)[..., None] + alpha0
    eigenvalues, vectors = np.linalg.eigh((state.gram + np.swapaxes(state.gram, -1, -2)) * np.float32(0.5))
    # Noise and rounding can make a small eigenvalue negative, where the curvature of a mean of p p' never is.
    curvature: FloatArray = np.maximum(eigenvalues, 0).astype(np.float32, copy=False)[..., None, :]
    gradient = state.gradient @ vectors
    factors = state.item_factors @ vectors
    direction = gradient - (alpha0 * curvature + penalty * weight) * factors
    direction /= weight * (curvature + np.float32(parameters.damping))
    result: FloatArray = direction @ np.swapaxes(vectors, -1, -2)
    return result


def _explicit_direction(parameters: LearningParameters, state: ModelState, size: FloatArray) -> FloatArray:
    """`(S_i - reg/n q_i) / (W_i + (reg + floor)/n)`: the mean gradient of the item's raters, damped for rare items.

    With the penalty's own curvature in the divisor, the rows of unrated items fade whatever `reg` is.
    """
    floor = np.float32(parameters.reg + parameters.evidence_floor)
    weight: FloatArray = touched_share(state)[..., None] + floor / size
    penalty: FloatArray = np.float32(parameters.reg) / size * state.item_factors
    direction: FloatArray = (state.gradient - penalty) / weight
    return direction

"""The step that every peer applies to its own copy of the item factors, from what the accumulators hold."""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import touched_share
from p2prec.model.schedule import learning_rate
from p2prec.model.state import ModelState
from p2prec.types import FloatArray


def step(parameters: LearningParameters, state: ModelState, swarm_size: float | np.ndarray = 100.0) -> None:
    """One preconditioned step on every item row, in place; then the state is one round older.

    swarm_size: an estimate of the number of peers, >= 1 (explicit only; the penalty of a row is `reg` ratings,
    whatever the size).
    """
    rate = learning_rate(parameters, state.age).astype(np.float32)[..., None, None]
    if parameters.objective == "implicit":
        state.item_factors += rate * _implicit_direction(parameters, state)
    else:
        state.item_factors += rate * _explicit_direction(parameters, state, swarm_size)
    state.age += 1.0


def _implicit_direction(parameters: LearningParameters, state: ModelState) -> FloatArray:
    """`H_i^-1 (S_i - alpha0 G q_i - reg (W_i + alpha0) q_i)`, with `H_i = (W_i + alpha0)(G + reg I)`.

    H_i has the same eigenvectors for all items, so one d x d decomposition a round serves all of them.
    """
    alpha0, reg = np.float32(parameters.alpha0), np.float32(parameters.reg)
    weight: FloatArray = touched_share(state)[..., None] + alpha0
    eigenvalues, vectors = np.linalg.eigh((state.gram + np.swapaxes(state.gram, -1, -2)) * np.float32(0.5))
    # Noise and rounding can make a small eigenvalue negative, where the curvature of a mean of p p' never is.
    curvature: FloatArray = np.maximum(eigenvalues, 0).astype(np.float32, copy=False)[..., None, :]
    gradient = state.gradient @ vectors
    factors = state.item_factors @ vectors
    direction = gradient - (alpha0 * curvature + reg * weight) * factors
    direction /= weight * (curvature + np.float32(parameters.damping))
    result: FloatArray = direction @ np.swapaxes(vectors, -1, -2)
    return result


def _explicit_direction(
    parameters: LearningParameters, state: ModelState, swarm_size: float | np.ndarray
) -> FloatArray:
    """`(S_i - reg/n q_i) / (W_i + floor/n)`: the mean gradient of the item's raters, damped for rare items."""
    size: FloatArray = np.maximum(np.asarray(swarm_size, np.float64), 1.0).astype(np.float32)[..., None, None]
    weight: FloatArray = touched_share(state)[..., None] + np.float32(parameters.evidence_floor) / size
    penalty: FloatArray = np.float32(parameters.reg) / size * state.item_factors
    direction: FloatArray = (state.gradient - penalty) / weight
    return direction

"""The user side, solved in closed form on the device: nothing of it ever leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.types import FloatArray, IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A score taken apart: `baseline + contributions.sum()` is the score (to float32 rounding)."""

    contributions: FloatArray
    """(k,) what each of the user's own items added, in the order in which they were given."""
    baseline: float
    """What the item gets from everybody: the biases (explicit), 0 (implicit)."""


def item_rows(item_factors: FloatArray, items: IndexArray) -> FloatArray:
    """Gather (..., k, n_columns) rows; item_factors: (..., n_items, n_columns), items: (..., k)."""
    return np.take_along_axis(item_factors, items[..., None], axis=-2)


def solve_user(
    parameters: LearningParameters,
    item_factors: FloatArray,
    items: IndexArray,
    values: FloatArray,
    weights: FloatArray | None = None,
    *,
    gram: FloatArray | None = None,
) -> FloatArray:
    """The user factor that fits the user's own interactions best, given the item factors.

    items: (..., k) distinct item indices; values: (..., k) ratings, or 1 for an implicit interaction; weights: (...,
    k) >= 0, 0 for padding, None for all 1. k may be 0. gram: `item_gram` of these item factors, if known.

    Implicit: `p = (Q_u' D Q_u + alpha0 Q'Q + user_reg I)^-1 Q_u' D v`, shape (..., d): a regression on all items, in
    which the unobserved ones count alpha0 (Hu, Koren & Volinsky 2008, eq. 4; Rendle et al. 2021).
    Explicit: ridge regression on the rated items with a free intercept, shape (..., d + 1): the factor, then the
    user's bias.
    """
    weights = np.ones_like(values) if weights is None else weights
    rows = item_rows(item_factors, items)
    system, weighted = _normal_equations(parameters, item_factors, rows, weights, gram)
    target = values
    if parameters.objective == "explicit":
        target = values - rows[..., -1]
    solution = np.linalg.solve(system, weighted @ target[..., None])[..., 0]
    return solution.astype(np.float32, copy=False)


def explain(
    parameters: LearningParameters,
    item_factors: FloatArray,
    items: IndexArray,
    values: FloatArray,
    target: int,
    weights: FloatArray | None = None,
) -> Explanation:
    """How much each of the user's items adds to the score of item `target` (Hu, Koren & Volinsky 2008, section 5).

    The solution of `solve_user` is linear in the user's values, so the score is a sum over them. One peer only.
    """
    weights = np.ones_like(values) if weights is None else weights
    rows = item_rows(item_factors, items)
    system, weighted = _normal_equations(parameters, item_factors, rows, weights)
    row = item_factors[target]
    if parameters.objective == "explicit":
        residuals = values - rows[..., -1]
        mean = float(weights @ residuals / max(float(weights.sum()), 1.0))
        features = np.append(row[:-1], np.float32(1.0))
        influence = np.linalg.solve(system, features) @ weighted
        # The intercept alone explains the mean; what is left of each rating is what speaks for or against the item.
        contributions = influence * (residuals - mean)
        total = float(influence @ residuals)
        return Explanation(contributions.astype(np.float32), float(row[-1]) + total - float(contributions.sum()))
    influence = np.linalg.solve(system, row) @ weighted
    return Explanation((influence * values).astype(np.float32), 0.0)


def scores(parameters: LearningParameters, item_factors: FloatArray, user_factor: FloatArray) -> FloatArray:
    """The predicted value of every item for a user: (..., n_items).

    Explicit: a predicted rating, `b_u + b_i + p.q_i`; implicit: a preference, about 1 for what the user would touch.
    """
    if parameters.objective == "explicit":
        factors = item_factors[..., :-1] @ user_factor[..., :-1, None]
        return factors[..., 0] + item_factors[..., -1] + user_factor[..., -1:]
    product: FloatArray = (item_factors @ user_factor[..., None])[..., 0]
    return product


def item_gram(parameters: LearningParameters, item_factors: FloatArray) -> FloatArray:
    """Q'Q (..., d, d): what every solve with the same item factors (..., n_items, c) has in common. Implicit feedback."""
    factors = item_factors[..., : parameters.n_factors]
    gram: FloatArray = np.swapaxes(factors, -1, -2) @ factors
    return gram


def _normal_equations(
    parameters: LearningParameters,
    item_factors: FloatArray,
    rows: FloatArray,
    weights: FloatArray,
    gram: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """The system matrix A (..., c, c) and X'D (..., c, k), so that the solution is `A^-1 X'D y`."""
    d = parameters.n_factors
    if parameters.objective == "explicit":
        # The last column of an item row is its bias, known; as a feature it makes room for the user's intercept.
        rows = np.concatenate([rows[..., :d], np.ones_like(rows[..., :1])], axis=-1)
    weighted = np.swapaxes(rows * weights[..., None], -1, -2)
    system = weighted @ rows
    observed = weights.sum(axis=-1, keepdims=True)
    index = np.arange(d)
    if parameters.objective == "explicit":
        system[..., index, index] += np.float32(parameters.user_reg)
        system[..., d, d] += _INTERCEPT_REG
    else:
        alpha0 = np.float32(parameters.alpha0)
        system = system + alpha0 * (item_gram(parameters, item_factors) if gram is None else gram)
        system[..., index, index] += np.float32(parameters.user_reg) * (observed + alpha0 * item_factors.shape[-2])
    return system, weighted


_INTERCEPT_REG = np.float32(1e-3)
"""Only keeps the system solvable for a user without ratings: the intercept is the user's mean, not a deviation from
0.
"""

"""The closed-form user side against brute force, and explanations that add up."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from p2prec.manifest import LearningParameters
from p2prec.model.user import explain, scores, solve_user

M, D, K = 40, 5, 12
IMPLICIT = LearningParameters(n_factors=D, alpha0=0.3, user_reg=0.05)
EXPLICIT = LearningParameters(objective="explicit", n_factors=D, user_reg=0.5)


def _case(parameters: LearningParameters, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = D + (parameters.objective == "explicit")
    item_factors = rng.normal(0, 0.5, (M, columns)).astype(np.float32)
    items = rng.choice(M, K, replace=False)
    values = (rng.integers(1, 6, K) if parameters.objective == "explicit" else np.ones(K)).astype(np.float32)
    return item_factors, items, values


def _objective(parameters: LearningParameters, case: tuple[np.ndarray, ...]) -> Callable[[np.ndarray], float]:
    item_factors, items, values = (array.astype(np.float64) for array in case)
    items = items.astype(np.int64)

    def implicit(p: np.ndarray) -> float:
        ridge = parameters.user_reg * (len(items) + parameters.alpha0 * M)
        everything = item_factors @ p
        own = values - everything[items]
        return float(own @ own + parameters.alpha0 * everything @ everything + ridge * p @ p)

    def explicit(p: np.ndarray) -> float:
        own = values - item_factors[items, :D] @ p[:D] - item_factors[items, D] - p[D]
        return float(own @ own + parameters.user_reg * p[:D] @ p[:D] + 1e-3 * p[D] ** 2)

    return implicit if parameters.objective == "implicit" else explicit


def _gradient(function: Callable[[np.ndarray], float], at: np.ndarray, width: float = 1e-4) -> np.ndarray:
    return np.array([(function(at + width * e) - function(at - width * e)) / (2 * width) for e in np.eye(at.size)])


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_solution_is_the_minimum(parameters: LearningParameters) -> None:
    case = _case(parameters)
    objective = _objective(parameters, case)
    solution = solve_user(parameters, *case)
    assert solution.dtype == np.float32
    at = solution.astype(np.float64)
    assert np.abs(_gradient(objective, at)).max() < 1e-3 * np.abs(_gradient(objective, at + 0.5)).max()
    rng = np.random.default_rng(1)
    assert all(objective(at + rng.normal(0, 0.05, at.size)) > objective(at) for _ in range(50))


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_a_weight_counts_an_interaction_that_often(parameters: LearningParameters) -> None:
    item_factors, items, values = _case(parameters)
    weights = np.ones(K, np.float32)
    weights[3] = 2.0
    weighted = solve_user(parameters, item_factors, items, values, weights)
    repeated = solve_user(parameters, item_factors, np.append(items, items[3]), np.append(values, values[3]))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_no_interactions_give_no_taste(parameters: LearningParameters) -> None:
    item_factors, _, _ = _case(parameters)
    solution = solve_user(parameters, item_factors, np.empty(0, np.int64), np.empty(0, np.float32))
    assert not solution.any()


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_many_peers_at_once_are_each_peer_alone(parameters: LearningParameters) -> None:
    cases = [_case(parameters, seed) for seed in range(3)]
    items = np.zeros((3, K + 2), np.int64)
    values, weights = np.zeros((3, K + 2), np.float32), np.zeros((3, K + 2), np.float32)
    for peer, (_, own_items, own_values) in enumerate(cases):
        kept = K - peer
        items[peer, :kept], values[peer, :kept], weights[peer, :kept] = own_items[:kept], own_values[:kept], 1
    item_factors = np.stack([case[0] for case in cases])
    together = solve_user(parameters, item_factors, items, values, weights)
    all_scores = scores(parameters, item_factors, together)
    for peer, (own_factors, own_items, own_values) in enumerate(cases):
        kept = K - peer
        single = solve_user(parameters, own_factors, own_items[:kept], own_values[:kept])
        np.testing.assert_allclose(together[peer], single, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(all_scores[peer], scores(parameters, own_factors, single), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
@pytest.mark.parametrize("target", [0, M - 1])
def test_an_explanation_adds_up_to_the_score(parameters: LearningParameters, target: int) -> None:
    item_factors, items, values = _case(parameters)
    score = scores(parameters, item_factors, solve_user(parameters, item_factors, items, values))[target]
    explanation = explain(parameters, item_factors, items, values, target)
    assert explanation.contributions.shape == (K,)
    assert explanation.baseline + explanation.contributions.sum() == pytest.approx(float(score), abs=1e-4)


def test_an_explanation_names_the_item_that_is_alike() -> None:
    parameters = msgspec.structs.replace(IMPLICIT, alpha0=0.01)
    item_factors = np.zeros((M, D), np.float32)
    item_factors[0, 0] = item_factors[1, 1] = item_factors[2, 0] = 1.0
    items, values = np.array([0, 1]), np.ones(2, np.float32)
    explanation = explain(parameters, item_factors, items, values, target=2)
    assert explanation.contributions[0] > 10 * abs(explanation.contributions[1])


def test_an_explicit_explanation_of_equal_ratings_credits_nobody() -> None:
    item_factors, items, _ = _case(EXPLICIT)
    item_factors[:, D] = 0
    explanation = explain(EXPLICIT, item_factors, items, np.full(K, 4.0, np.float32), target=5)
    assert explanation.baseline == pytest.approx(4.0, abs=0.01)
    assert np.abs(explanation.contributions).max() < 1e-3

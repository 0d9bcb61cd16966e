"""Contributions and steps against finite differences of the swarm's objective."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import (
    EVIDENCE_MEMORY,
    EVIDENCE_WEIGHT,
    GRAM_MEMORY,
    STANDING,
    Contribution,
    absorb,
    contribution,
    draw_probe,
    sample_items,
    touched_share,
)
from p2prec.model.schedule import learning_rate
from p2prec.model.state import FIELDS, ModelState, initial_state
from p2prec.model.step import SMALLEST_SWARM, step
from p2prec.model.user import solve_user

M, D, PEERS = 12, 3, 4
N = 40
"""The swarm size that a step is told: the penalty is one of that many."""
KEYS = [f"item-{i}" for i in range(M)]
IMPLICIT = LearningParameters(n_factors=D, alpha0=0.3, reg=8.0, momentum=0.0, learning_rate=1.0, init_scale=0.5)
EXPLICIT = msgspec.structs.replace(IMPLICIT, objective="explicit", reg=20.0, user_reg=5.0, evidence_floor=1.0)
BOTH = pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])


def _people(parameters: LearningParameters, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    people = []
    for _ in range(PEERS):
        items = rng.choice(M, 5, replace=False)
        values = rng.integers(1, 6, 5) if parameters.objective == "explicit" else np.ones(5)
        people.append((items, values.astype(np.float32)))
    return people


def _mean_contribution(
    parameters: LearningParameters, state: ModelState, people: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[list[np.ndarray], ModelState]:
    """The user factors, and a state whose accumulators hold the mean of everybody's contribution."""
    users = [solve_user(parameters, state.item_factors, *person) for person in people]
    mean = state.copy()
    for user, person in zip(users, people, strict=True):
        own = contribution(parameters, state.item_factors, user[None], *person)
        mean.gradient += own.gradient / PEERS
        mean.evidence += own.evidence / PEERS
        mean.gram += own.gram / PEERS
    return users, mean


def _swarm_objective(
    parameters: LearningParameters,
    item_factors: np.ndarray,
    users: list[np.ndarray],
    people: list[tuple[np.ndarray, np.ndarray]],
) -> float:
    """Half of the mean squared error over peers, with the penalties that the step is meant to follow."""
    q = item_factors.astype(np.float64)
    total = 0.0
    share = np.zeros(M)
    for user, (items, values) in zip(users, people, strict=True):
        p = user.astype(np.float64)
        share[items] += 1 / PEERS
        if parameters.objective == "explicit":
            errors = values - q[items, :D] @ p[:D] - q[items, D] - p[D]
        else:
            errors = values - q[items] @ p
            total += parameters.alpha0 * float(((q @ p) ** 2).sum()) / PEERS
        total += float(errors @ errors) / PEERS
    if parameters.objective == "explicit":
        total += parameters.reg / N * float((q * q).sum())
    else:
        total += parameters.reg / N * float(((share + parameters.alpha0) * (q * q).sum(axis=1)).sum())
    return total / 2


@BOTH
def test_the_step_follows_the_gradient_of_the_objective(parameters: LearningParameters) -> None:
    """Undo the preconditioner and compare with central differences, entry by entry."""
    state = initial_state(parameters, b"s" * 32, KEYS)
    state.item_factors += np.random.default_rng(3).normal(0, 0.2, state.item_factors.shape).astype(np.float32)
    people = _people(parameters)
    users, mean = _mean_contribution(parameters, state, people)
    moved = mean.copy()
    step(parameters, moved, N)
    direction = (moved.item_factors - state.item_factors).astype(np.float64)
    unmixed = parameters.evidence_floor / N  # nobody's sign stands out of the probe
    damping = parameters.damping
    if parameters.objective == "implicit":
        damping = max(damping, parameters.reg / N)
    damped = direction @ (mean.gram + damping * np.eye(len(mean.gram)))
    if parameters.objective == "implicit":
        gradient = -(touched_share(mean)[:, None] + parameters.alpha0 + unmixed) * damped
    else:
        gradient = -(touched_share(mean)[:, None] + unmixed) * damped - parameters.reg / N * direction

    expected = np.zeros_like(gradient)
    for at in np.ndindex(*gradient.shape):
        ends = []
        for sign in (1, -1):
            shifted = state.item_factors.astype(np.float64)
            shifted[at] += sign * 1e-4
            ends.append(_swarm_objective(parameters, shifted, users, people))
        expected[at] = (ends[0] - ends[1]) / 2e-4
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@BOTH
def test_rounds_lower_the_objective(parameters: LearningParameters) -> None:
    parameters = msgspec.structs.replace(parameters, learning_rate=0.3)
    state = initial_state(parameters, b"s" * 32, KEYS)
    people = _people(parameters)
    values = []
    for _ in range(15):
        users, mean = _mean_contribution(parameters, state, people)
        values.append(_swarm_objective(parameters, state.item_factors, users, people))
        step(parameters, mean, N)
        mean.gradient[:], mean.evidence[:], mean.gram[:] = 0, 0, 0
        state = mean
    assert values[-1] < values[0]
    assert state.age == 15


@BOTH
def test_only_touched_rows_are_contributed(parameters: LearningParameters) -> None:
    state = initial_state(parameters, b"s" * 32, KEYS)
    items, values = _people(parameters)[0]
    weights = np.array([1, 1, 0, 1, 1], np.float32)
    user = solve_user(parameters, state.item_factors, items, values)
    own = contribution(parameters, state.item_factors, user[None], items, values, weights)
    touched = np.isin(np.arange(M), items[weights > 0])
    assert own.evidence[touched] == pytest.approx(float(EVIDENCE_WEIGHT))
    assert not own.evidence[~touched].any() and not own.gradient[~touched].any()
    assert own.gradient[touched].any(axis=1).all()


@BOTH
def test_many_peers_at_once_are_each_peer_alone(parameters: LearningParameters) -> None:
    people = _people(parameters)
    states = [initial_state(parameters, bytes([seed]) * 32, KEYS) for seed in range(PEERS)]
    users = [solve_user(parameters, s.item_factors, *person) for s, person in zip(states, people, strict=True)]
    singles = [
        contribution(parameters, s.item_factors, user[None], *person)
        for s, user, person in zip(states, users, people, strict=True)
    ]
    items, values = (np.stack([person[at] for person in people]) for at in (0, 1))
    together = contribution(
        parameters, np.stack([s.item_factors for s in states]), np.stack(users)[:, None], items, values
    )
    stacked = ModelState(*(np.stack([getattr(s, name) for s in states]) for name in FIELDS))
    probes = draw_probe(np.random.default_rng(0), (PEERS,))
    absorb(parameters, stacked, together, probes)
    step(parameters, stacked, N)
    for peer, (state, own) in enumerate(zip(states, singles, strict=True)):
        absorb(parameters, state, own, probes[peer])
        step(parameters, state, N)
        np.testing.assert_allclose(stacked.item_factors[peer], state.item_factors, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(stacked.evidence[peer], state.evidence)
        np.testing.assert_allclose(stacked.gram[peer], state.gram, rtol=1e-5)


def _of_ones(state: ModelState, size: float = 1.0) -> tuple[Contribution, np.ndarray]:
    tables = (np.full_like(table, size) for table in (state.gradient, state.evidence, state.gram, state.probe))
    gradient, evidence, gram, probe = tables
    return Contribution(gradient, evidence, gram), probe


def test_each_accumulator_has_a_memory_of_its_own() -> None:
    parameters = msgspec.structs.replace(IMPLICIT, momentum=0.5)
    state = initial_state(parameters, b"s" * 32, KEYS)
    state.contributions += 1000
    absorb(parameters, state, *_of_ones(state))
    for table, memory in (
        (state.gradient, 0.5),
        (state.probe, 0.5),
        (state.gram, GRAM_MEMORY),
        (state.evidence, EVIDENCE_MEMORY),
    ):
        np.testing.assert_allclose(table, 1 - memory, rtol=1e-5)


def test_the_first_contributions_count_alike() -> None:
    """Until there are more of them than an accumulator remembers: four with a momentum of 0.75, twenty of the evidence."""
    parameters = msgspec.structs.replace(IMPLICIT, momentum=0.75)
    state = initial_state(parameters, b"s" * 32, KEYS)
    for number in range(1, 21):
        absorb(parameters, state, *_of_ones(state, float(number)))
        np.testing.assert_allclose(state.evidence, (number + 1) / 2, rtol=1e-5)
        if number <= 4:
            np.testing.assert_allclose(state.gradient, (number + 1) / 2, rtol=1e-5)
        assert state.contributions == number
    assert state.gradient[0, 0] > 12
    absorb(parameters, state, *_of_ones(state, 21.0))
    np.testing.assert_allclose(state.evidence, 0.95 * 10.5 + 0.05 * 21, rtol=1e-5)


def test_a_contribution_takes_the_place_of_its_authors_last_ones() -> None:
    """And of a little of what all others have said."""
    parameters = msgspec.structs.replace(IMPLICIT, momentum=0.5)
    state = initial_state(parameters, b"s" * 32, KEYS)
    state.contributions += 1000
    for table in (state.gradient, state.evidence, state.gram, state.probe):
        table += 10
    for table in (state.own_gradient, state.own_evidence, state.own_gram, state.own_probe):
        table += 2
    absorb(parameters, state, *_of_ones(state))
    replaced = STANDING * 2 + (1 - STANDING) * 10
    for table, own, memory in (
        (state.gradient, state.own_gradient, 0.5),
        (state.probe, state.own_probe, 0.5),
        (state.gram, state.own_gram, GRAM_MEMORY),
        (state.evidence, state.own_evidence, EVIDENCE_MEMORY),
    ):
        np.testing.assert_allclose(table, 10 + (1 - memory) * (1 - replaced), rtol=1e-5)
        np.testing.assert_allclose(own, 2 + (1 - memory) * (1 - 2), rtol=1e-5)


def test_what_others_have_said_outlasts_them_but_not_for_ever() -> None:
    parameters = msgspec.structs.replace(IMPLICIT, momentum=0.8)
    state = initial_state(parameters, b"s" * 32, KEYS)
    state.contributions += 1000
    state.gradient += 1  # of somebody who has left: none of it is the owner's
    left = []
    for _ in range(2000):
        absorb(parameters, state, *_of_ones(state, 0.0))
        left.append(float(state.gradient.mean()))
    assert left[9] > 0.9 and left[-1] < 0.01
    assert np.all(np.diff(left) < 0)


@BOTH
def test_what_is_not_mixed_moves_little(parameters: LearningParameters) -> None:
    """A row's weight is larger by evidence_floor times the mixing, and its step smaller in proportion."""
    parameters = msgspec.structs.replace(parameters, evidence_floor=5.0, reg=0.0)
    start = initial_state(parameters, b"s" * 32, KEYS)
    start.gradient += 1
    start.evidence += EVIDENCE_WEIGHT
    start.gram += np.eye(len(start.gram), dtype=np.float32)
    mixed, fresh = start.copy(), start.copy()
    fresh.probe[:] = 1.0
    for state in (mixed, fresh):
        step(parameters, state, N)
    moved = [state.item_factors - start.item_factors for state in (mixed, fresh)]
    weight = 1.0 + (parameters.alpha0 if parameters.objective == "implicit" else 0.0)
    np.testing.assert_allclose(moved[1] * (weight + 5.0), moved[0] * (weight + 5.0 / N), rtol=1e-3, atol=1e-6)


def test_a_noisy_gram_with_negative_curvature_does_not_blow_up() -> None:
    state = initial_state(IMPLICIT, b"s" * 32, KEYS)
    state.gram[:] = -np.eye(D, dtype=np.float32)
    state.evidence[:] = -1.0
    for _ in range(50):
        step(IMPLICIT, state, N)
    assert np.abs(state.item_factors).max() < 10


@pytest.mark.parametrize(("limit", "kept"), [(3, 3), (5, 5), (6, 5), (1, 1)])
def test_a_contribution_samples_its_items(limit: int, kept: int) -> None:
    weights = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0]], np.float32)
    rng = np.random.default_rng(0)
    sampled = [sample_items(weights, limit, rng) for _ in range(200)]
    assert all((s[0] > 0).sum() == kept and (s[1] > 0).sum() == min(2, kept) for s in sampled)
    assert all((s <= weights).all() for s in sampled)
    if kept < 5:
        often = np.mean([s[0, :5] for s in sampled], axis=0)
        np.testing.assert_allclose(often, kept / 5, atol=0.12)


def test_the_learning_rate_falls_to_its_floor() -> None:
    parameters = LearningParameters(learning_rate=0.8, learning_rate_decay_rounds=10, learning_rate_floor=0.25)
    rates = learning_rate(parameters, np.array([0.0, 10.0, 29.0, 31.0, 1e9]))
    np.testing.assert_allclose(rates, [0.8, 0.4, 0.8 / 3.9, 0.2, 0.2])


@BOTH
def test_a_tiny_swarm_is_penalized_like_a_small_one(parameters: LearningParameters) -> None:
    moved = []
    for size in (1.0, SMALLEST_SWARM, SMALLEST_SWARM + 1):
        state = initial_state(parameters, b"s" * 32, KEYS)
        state.gram += np.eye(len(state.gram), dtype=np.float32)
        step(parameters, state, size)
        moved.append(state.item_factors)
    np.testing.assert_array_equal(moved[0], moved[1])
    assert not np.array_equal(moved[1], moved[2])

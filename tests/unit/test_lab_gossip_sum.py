"""What a course of exchanges, crashes and inheritances does to values (the lab's array program of private sums)."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.lab.gossip_sum import Crashes, _mix_through_wire, decide, play, weights
from p2prec.lab.swarm import everyone


@pytest.mark.parametrize("seed", range(6))
def test_what_the_dead_held_is_neither_lost_nor_counted_twice(seed: int) -> None:
    """Without rounding, the living end with exactly the sum of what everybody began with, unless three die in a row."""
    n, rng = 60, np.random.default_rng(seed)
    course = decide(everyone(n), 20, Crashes(0.1, within_rounds=6), rng)
    assert not course.alive.all() and course.lost == 0
    values = rng.normal(size=(n, 5)).astype(np.float32)
    begun = values.sum(axis=0)
    play(course, values, quantized=False)
    np.testing.assert_allclose(values[course.alive].sum(axis=0), begun, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_weights_are_conserved(seed: int) -> None:
    n, rng = 60, np.random.default_rng(seed)
    course = decide(everyone(n), 20, Crashes(0.1, within_rounds=6), rng)
    contributing = rng.random(n) < 0.9
    held = weights(course, contributing)[course.alive]
    assert held.sum() == pytest.approx(contributing.sum(), rel=1e-5)
    assert held.std() < 0.01 * held.mean()


@pytest.mark.parametrize("magnitude", [5.0, 1e-3, 1e-6, 0.0, 400.0, 3e3])
@pytest.mark.parametrize("columns", [1, 64, 65, 200])
def test_machine_code_mixes_to_the_same_bits(columns: int, magnitude: float) -> None:
    pytest.importorskip("numba", reason="pip install 'p2prec[fast]'")
    from p2prec.lab.compiled.sums import mix

    rng = np.random.default_rng(columns)
    values = (rng.normal(size=(40, columns)) * magnitude).astype(np.float32)
    if magnitude > 1e3:  # numbers that broke
        values[:3, 0] = np.nan, np.inf, -np.inf
    pairs = rng.permutation(40).reshape(-1, 2)
    rows = np.column_stack([pairs, np.arange(20), rng.integers(0, 2, (20, 2))])
    other = values.copy()
    mix(values, rows)
    with np.errstate(invalid="ignore"):
        _mix_through_wire(other, rows)
    np.testing.assert_array_equal(values, other)


def test_rounding_loses_little_when_peers_crash() -> None:
    n, rng = 60, np.random.default_rng(0)
    course = decide(everyone(n), 20, Crashes(0.1, within_rounds=6), rng)
    values = rng.normal(size=(n, 64)).astype(np.float32)
    begun = values.sum(axis=0)
    play(course, values)
    assert 0 < np.abs(values[course.alive].sum(axis=0) - begun).max() < 0.5

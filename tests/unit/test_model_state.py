"""The common start that every peer derives from the manifest."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import numpy as np
import pytest

from p2prec.manifest import LearningParameters
from p2prec.model.contribution import Contribution, absorb, draw_probe
from p2prec.model.state import (
    PROBE_WIDTH,
    average_in,
    averaged_rounds,
    initial_item_factors,
    initial_state,
    mixing,
)

IMPLICIT = LearningParameters(n_factors=4, init_scale=0.1)
EXPLICIT = msgspec.structs.replace(IMPLICIT, objective="explicit")
SEED = bytes(range(32))


def test_the_start_is_what_the_documentation_says() -> None:
    (row,) = initial_item_factors(IMPLICIT, SEED, ["key"])
    drawn = struct.unpack("<4I", hashlib.shake_256(SEED + b"key").digest(16))
    expected = [0.1 * 3**0.5 * ((2 * u + 1) / 2**32 - 1) for u in drawn]
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_a_row_depends_on_its_key_alone() -> None:
    many = initial_item_factors(IMPLICIT, SEED, ["a", "b", "c"])
    np.testing.assert_array_equal(many[1:2], initial_item_factors(IMPLICIT, SEED, ["b"]))
    assert (initial_item_factors(IMPLICIT, bytes(32), ["b"]) != many[1:2]).all()


def test_the_start_has_the_stated_spread() -> None:
    factors = initial_item_factors(IMPLICIT, SEED, [str(i) for i in range(2000)])
    assert factors.std() == pytest.approx(0.1, rel=0.05)
    assert abs(factors.mean()) < 0.005


def test_biases_and_accumulators_start_at_nothing() -> None:
    state = initial_state(EXPLICIT, SEED, ["a", "b"])
    assert state.item_factors.shape == (2, 5) and not state.item_factors[:, 4].any()
    assert state.gram.shape == (5, 5) and state.probe.shape == (PROBE_WIDTH,)
    assert state.age == state.contributions == 0
    assert not any(table.any() for table in (state.gradient, state.evidence, state.gram, state.probe))
    assert initial_state(IMPLICIT, SEED, ["a", "b"]).gram.shape == (4, 4)


def test_tables_lie_factor_by_factor_and_stay_so() -> None:
    state = initial_state(EXPLICIT, SEED, ["a", "b", "c"])
    for one in (state, state.copy()):
        assert one.item_factors.T.flags.c_contiguous and one.gradient.T.flags.c_contiguous


def test_what_one_person_said_is_not_mixed() -> None:
    """All weights of the first contribution are its own."""
    state = initial_state(IMPLICIT, SEED, ["a"])
    own = Contribution(np.zeros_like(state.gradient), np.zeros_like(state.evidence), np.zeros_like(state.gram))
    absorb(IMPLICIT, state, own, draw_probe(np.random.default_rng(0)))
    assert mixing(state, 1000.0) == 1.0


@pytest.mark.parametrize("n_people", [2, 8, 32])
def test_mixing_tells_how_many_have_spoken(n_people: int) -> None:
    rng = np.random.default_rng(n_people)
    state = initial_state(IMPLICIT, SEED, ["a"])
    found = []
    for _ in range(400):
        state.probe = draw_probe(rng, (n_people,)).mean(axis=0)
        found.append(float(mixing(state, 1000.0)))
    assert np.mean(found) == pytest.approx(1 / n_people, rel=0.1)
    assert np.std(found) < 0.5 * np.mean(found)


def test_mixing_is_never_below_one_person_s_share_nor_above_one() -> None:
    state = initial_state(IMPLICIT, SEED, ["a"])
    assert mixing(state, 50.0) == pytest.approx(1 / 50)
    state.probe[:] = 3.0  # a stranger's
    assert mixing(state, 50.0) == 1.0
    state.probe = np.stack([state.probe, 0 * state.probe])
    np.testing.assert_allclose(mixing(state, np.array([50.0, 4.0])), [1.0, 0.25])


@pytest.mark.parametrize(("age", "rounds"), [(0, 1), (3, 4), (30, 10), (50, 10), (100, 20), (200, 40), (5000, 40)])
def test_older_models_are_averaged_over_more_rounds(age: float, rounds: float) -> None:
    assert averaged_rounds(np.array(age, np.float64)) == rounds


def test_the_first_average_is_a_plain_mean() -> None:
    state = initial_state(IMPLICIT, SEED, ["a", "b"])
    for age in range(4):
        state.item_factors[:] = age
        state.age[...] = age
        average_in(state)
    np.testing.assert_allclose(state.average, 1.5, rtol=1e-6)


def test_a_copy_is_left_alone() -> None:
    state = initial_state(IMPLICIT, SEED, ["a", "b"])
    snapshot = state.copy()
    state.item_factors += 1
    state.age += 1
    assert snapshot.age == 0 and not np.array_equal(snapshot.item_factors, state.item_factors)

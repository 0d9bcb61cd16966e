"""The common start that every peer derives from the manifest."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import numpy as np
import pytest

from p2prec.manifest import LearningParameters
from p2prec.model.state import initial_item_factors, initial_state

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
    assert state.gram.shape == (0, 0) and state.age == 0
    assert not state.gradient.any() and not state.evidence.any()
    assert initial_state(IMPLICIT, SEED, ["a", "b"]).gram.shape == (4, 4)


def test_a_copy_is_left_alone() -> None:
    state = initial_state(IMPLICIT, SEED, ["a", "b"])
    snapshot = state.copy()
    state.item_factors += 1
    state.age += 1
    assert snapshot.age == 0 and not np.array_equal(snapshot.item_factors, state.item_factors)

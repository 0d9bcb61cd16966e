"""Eight bits a value: bounds, unbiasedness, and exchanges that conserve what they mix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from p2prec.manifest import LearningParameters
from p2prec.model.quantize import (
    AGE_CAP,
    EVIDENCE_BLOCK,
    MAX_MAGNITUDE,
    QuantizedTable,
    apply_exchange,
    dequantize,
    other_share,
    quantize,
    quantize_state,
    table_shapes,
    within_bounds,
)
from p2prec.model.state import ModelState, initial_state

IMPLICIT = LearningParameters(n_factors=4)
EXPLICIT = LearningParameters(objective="explicit", n_factors=4)
KEYS = [f"item-{i}" for i in range(37)]

seeds = st.integers(0, 2**32 - 1)
tables = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(-MAX_MAGNITUDE, MAX_MAGNITUDE, width=32),
)


def _random_state(parameters: LearningParameters, seed: int, age: float) -> ModelState:
    rng = np.random.default_rng(seed)
    state = initial_state(parameters, b"x" * 32, KEYS)
    for name in ("item_factors", "gradient", "evidence", "gram"):
        table = getattr(state, name)
        table[...] = rng.normal(0, 10.0 ** rng.uniform(-4, 1), table.shape)
    state.age[...] = age
    return state


@given(tables, seeds)
def test_every_value_is_within_one_level_and_in_bounds(table: np.ndarray, seed: int) -> None:
    quantized = quantize(table, np.random.default_rng(seed))
    assert within_bounds(quantized)
    assert quantized.values.dtype == np.int8 and quantized.scales.dtype == np.float16
    level = quantized.scales.astype(np.float32)[..., None]
    # A denormal row divided by 127 is 0, and so is its scale.
    tiny = np.finfo(np.float32).tiny
    assert (np.abs(dequantize(quantized) - table) <= level * np.float32(1.001) + tiny).all()
    # The scale wastes at most float16's rounding: 1/1024, or half of its smallest step, 6e-8.
    assert (level[..., 0] <= np.abs(table).max(axis=-1) / 127 * 1.002 + 6e-8).all()


@given(tables, seeds)
def test_leading_axes_change_nothing(table: np.ndarray, seed: int) -> None:
    stacked = quantize(np.stack([table, table]), np.random.default_rng(seed))
    assert (stacked.scales[0] == quantize(table, np.random.default_rng(seed)).scales).all()
    np.testing.assert_array_equal(
        dequantize(stacked)[1], dequantize(QuantizedTable(stacked.scales[1], stacked.values[1]))
    )


def test_rounding_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (5, 16)).astype(np.float32)
    mean = np.mean([dequantize(quantize(table, rng)) for _ in range(4000)], axis=0)
    level = np.abs(table).max(axis=1, keepdims=True) / 127
    assert np.abs(mean - table).max() < 5 * (level / 2).max() / np.sqrt(4000)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_numbers_are_not_passed_on(broken: float) -> None:
    table = np.array([[1.0, broken], [1.0, 2.0]], np.float32)
    quantized = quantize(table, np.random.default_rng(0))
    assert within_bounds(quantized)
    assert np.abs(dequantize(quantized)[1] - [1, 2]).max() < 0.02


def test_bounds_have_two_sides() -> None:
    largest = np.float16(MAX_MAGNITUDE / 127)
    values = np.array([[-127, 127]], np.int8)
    assert within_bounds(QuantizedTable(np.array([largest]), values))
    assert within_bounds(QuantizedTable(np.array([0], np.float16), values))
    for scale in (np.nextafter(largest, np.float16(np.inf)), np.float16(-1e-7), np.float16(np.inf), np.float16(np.nan)):
        assert not within_bounds(QuantizedTable(np.array([scale], np.float16), values))
    assert not within_bounds(QuantizedTable(np.array([largest]), np.array([[-128, 0]], np.int8)))
    assert within_bounds(QuantizedTable(np.zeros(0, np.float16), np.zeros((0, 0), np.int8)))


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
def test_what_is_transmitted_has_the_shapes_of_the_manifest(parameters: LearningParameters) -> None:
    sent = quantize_state(_random_state(parameters, 0, 0), np.random.default_rng(0))
    shapes = table_shapes(parameters, len(KEYS))
    total = 0
    for name in ("item_factors", "gradient", "evidence", "gram"):
        table = getattr(sent, name)
        assert table.values.shape == getattr(shapes, name)
        assert table.scales.shape == table.values.shape[:1]
        total += table.values.nbytes + table.scales.nbytes
    assert shapes.payload_bytes == total
    assert shapes.evidence == (-(-len(KEYS) // EVIDENCE_BLOCK), EVIDENCE_BLOCK)


@pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT], ids=["implicit", "explicit"])
@given(seed=seeds, ages=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_an_exchange_conserves_the_sums(parameters: LearningParameters, seed: int, ages: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    one, other = _random_state(parameters, seed, ages[0]), _random_state(parameters, seed + 1, ages[1])
    before = [one.copy(), other.copy()]
    sent, received = quantize_state(one, rng), quantize_state(other, rng)
    apply_exchange(one, sent, received, ages[1])
    apply_exchange(other, received, sent, ages[0])
    for name in ("gradient", "evidence", "gram"):
        total = getattr(before[0], name) + getattr(before[1], name)
        np.testing.assert_allclose(getattr(one, name) + getattr(other, name), total, rtol=1e-4, atol=1e-4)
        if total.size:
            # Rounding apart, both now hold the mean.
            distance = np.abs(getattr(one, name) - getattr(other, name)).max()
            largest = max(np.abs(getattr(state, name)).max() for state in before)
            assert distance <= 4.1 * largest / 127


@given(seed=seeds)
def test_the_older_copy_prevails(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = _random_state(IMPLICIT, seed, 400), _random_state(IMPLICIT, seed + 1, 0)
    before = old.item_factors.copy()
    largest = max(np.abs(before).max(), np.abs(new.item_factors).max())
    sent, received = quantize_state(old, rng), quantize_state(new, rng)
    apply_exchange(old, sent, received, 0)
    apply_exchange(new, received, sent, 400)
    np.testing.assert_array_equal(old.item_factors, before)
    # The newcomer has taken over the old copy, up to the rounding of both.
    assert np.abs(new.item_factors - before).max() <= 4.1 * largest / 127


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_shares_of_both_sides_add_up_to_one(age: int, other: int) -> None:
    assert other_share(age, other) + other_share(other, age) == pytest.approx(1.0)


def test_shares_at_the_cap() -> None:
    assert other_share(0, 0) == 0.5
    assert other_share(0, 1) == 1.0
    assert other_share(AGE_CAP, AGE_CAP + 1) == 0.5
    assert other_share(AGE_CAP - 1, AGE_CAP) == pytest.approx(AGE_CAP / (2 * AGE_CAP - 1))

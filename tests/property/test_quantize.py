"""A few bits a value: bounds, unbiasedness, and exchanges that conserve what they mix."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from p2prec.manifest import LearningParameters
from p2prec.model.quantize import (
    AGE_CAP,
    BLOCK,
    FINE_LEVELS,
    MAX_MAGNITUDE,
    SCALES,
    QuantizedTable,
    TableShape,
    apply_exchange,
    dequantize,
    other_share,
    part_rows,
    quantize,
    quantize_state,
    table_shapes,
    transmit,
    values_of,
    within_bounds,
)
from p2prec.model.state import ModelState, factors_first, initial_state

IMPLICIT = LearningParameters(n_factors=4)
EXPLICIT = LearningParameters(objective="explicit", n_factors=4, value_bits=8)
IN_PARTS = LearningParameters(n_factors=4, n_parts=3)
SWARMS = pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT, IN_PARTS], ids=["implicit", "explicit", "in parts"])
LEVELS = pytest.mark.parametrize("levels", [7, FINE_LEVELS])
KEYS = [f"item-{i}" for i in range(37)]
MIXED = ("gradient", "evidence", "gram", "probe")

seeds = st.integers(0, 2**32 - 1)
tables = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(-MAX_MAGNITUDE, MAX_MAGNITUDE, width=32),
)


def _shape(table: QuantizedTable, levels: int) -> TableShape:
    return TableShape(*table.values.shape[-2:], levels)


def _random_state(parameters: LearningParameters, seed: int, age: float) -> ModelState:
    rng = np.random.default_rng(seed)
    state = initial_state(parameters, b"x" * 32, KEYS)
    for name in ("item_factors", *MIXED):
        table = getattr(state, name)
        table[...] = rng.normal(0, 10.0 ** rng.uniform(-4, 1), table.shape)
    state.age[...] = age
    return state


# One table


def test_scales_rise_by_an_eighth_at_most() -> None:
    assert SCALES[192] == 1
    steps = SCALES[1:] / SCALES[:-1]
    assert steps.min() > 1 and steps.max() == 9 / 8


@LEVELS
@given(tables, seeds)
def test_every_value_is_within_one_level_and_in_bounds(levels: int, table: np.ndarray, seed: int) -> None:
    quantized = quantize(table, np.random.default_rng(seed), levels)
    assert within_bounds(quantized, _shape(quantized, levels))
    assert quantized.values.dtype == np.int8 and quantized.codes.dtype == np.uint8
    level = SCALES[quantized.codes][..., None]
    assert (np.abs(dequantize(quantized) - table) <= level * np.float32(1.001)).all()
    # The smallest scale that is large enough, but for the smallest of all.
    largest = np.abs(table).max(axis=-1)
    assert (level[..., 0] <= np.maximum(largest / levels * 1.1251, SCALES[0])).all()
    assert not quantized.values[table == 0].any()
    assert not quantized.codes[largest == 0].any()


@LEVELS
@given(tables, seeds)
def test_leading_axes_change_no_scale_and_no_more_than_a_level(levels: int, table: np.ndarray, seed: int) -> None:
    stacked = quantize(np.stack([table, -table]), np.random.default_rng(seed), levels)
    alone = quantize(table, np.random.default_rng(seed), levels)
    assert (stacked.codes == alone.codes).all()
    assert np.abs(stacked.values[0].astype(int) - alone.values).max() <= 1
    one = QuantizedTable(stacked.codes[1], stacked.values[1])
    np.testing.assert_array_equal(dequantize(stacked)[1], dequantize(one))


@LEVELS
@pytest.mark.parametrize("columns", [1, 16])
def test_rounding_is_unbiased(levels: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    table = factors_first(rng.normal(0, 1, (50, columns)).astype(np.float32))
    mean = np.mean([dequantize(quantize(table, rng, levels)) for _ in range(4000)], axis=0)
    level = np.abs(table).max(axis=1, keepdims=True) / levels * 9 / 8
    assert (np.abs(mean - table) < 5 * level / 2 / np.sqrt(4000)).all()


@LEVELS
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_numbers_are_not_passed_on(levels: int, broken: float) -> None:
    table = np.array([[1.0, broken], [1.0, 2.0]], np.float32)
    quantized = quantize(table, np.random.default_rng(0), levels)
    assert within_bounds(quantized, _shape(quantized, levels))
    assert np.abs(dequantize(quantized)[1] - [1, 2]).max() < 2 / levels * 1.126


@pytest.mark.parametrize(("levels", "largest_code"), [(7, 250), (FINE_LEVELS, 216)])
def test_bounds_have_two_sides(levels: int, largest_code: int) -> None:
    shape = TableShape(1, 2, levels)
    values = np.array([[-levels, levels]], np.int8)

    def in_bounds(code: int, values: np.ndarray) -> bool:
        return within_bounds(QuantizedTable(np.array([code], np.uint8), values), shape)

    for code in range(256):
        assert in_bounds(code, values) is (code <= largest_code), code
    assert not in_bounds(1, values - 1)
    assert not in_bounds(1, values + 1)
    assert within_bounds(QuantizedTable(np.zeros(0, np.uint8), np.zeros((0, 2), np.int8)), TableShape(0, 2, levels))
    # The largest table that a sender makes is one that a receiver takes.
    table = np.array([[MAX_MAGNITUDE, -MAX_MAGNITUDE]], np.float32)
    assert within_bounds(quantize(table, np.random.default_rng(0), levels), shape)


# All tables


@given(st.integers(1, 300), st.integers(1, 64))
def test_parts_are_the_whole_catalogue_once(n_items: int, n_parts: int) -> None:
    covered = [row for part in range(n_parts) for row in range(n_items)[part_rows(n_items, n_parts, part)]]
    assert covered == list(range(n_items))


@SWARMS
def test_what_is_transmitted_has_the_shapes_of_the_manifest(parameters: LearningParameters) -> None:
    state = _random_state(parameters, 0, 0)
    for part in range(parameters.n_parts):
        sent = quantize_state(parameters, state, part, np.random.default_rng(0))
        shapes = table_shapes(parameters, len(KEYS), part)
        assert sent.part == part
        for table, shape in zip(sent, shapes, strict=True):
            assert table.values.shape == (shape.rows, shape.columns)
            assert table.codes.shape == (shape.rows,)
            assert within_bounds(table, shape)
        n_rows = shapes.item_factors.rows
        assert not sent.evidence.values.reshape(-1)[n_rows:].any()
        assert not sent.gram.values.reshape(-1)[shapes.item_factors.columns**2 :].any()
        assert shapes.evidence == TableShape(-(-n_rows // BLOCK), BLOCK, FINE_LEVELS)
        assert bool(sent.gram.values.size) is bool(sent.probe.values.size) is (part == 0)


def test_the_size_of_a_message() -> None:
    four = table_shapes(LearningParameters(n_factors=16, value_bits=4), 3706)
    eight = table_shapes(LearningParameters(n_factors=16, value_bits=8), 3706)
    small = 232 * 17 + 16 * 17 + 17
    assert four.payload_bytes == 2 * 3706 * (8 + 1) + small
    assert eight.payload_bytes == 2 * 3706 * (16 + 1) + small
    assert TableShape(3, 3, 7).value_bytes == 5  # an odd count


@SWARMS
@given(seed=seeds)
def test_the_lab_computes_with_what_the_wire_carries(parameters: LearningParameters, seed: int) -> None:
    state = _random_state(parameters, seed, 0)
    for part in range(parameters.n_parts):
        sent = quantize_state(parameters, state, part, np.random.default_rng(seed))
        one = values_of(parameters, len(KEYS), sent)
        other = transmit(parameters, state, part, np.random.default_rng(seed))
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


# Exchanges


def exchange(parameters: LearningParameters, one: ModelState, other: ModelState, rng: np.random.Generator) -> None:
    """All parts, between two states whose ages stay."""
    for part in range(parameters.n_parts):
        sent, received = (
            values_of(parameters, len(KEYS), quantize_state(parameters, state, part, rng)) for state in (one, other)
        )
        apply_exchange(parameters, one, sent, received, other_share(one.age, other.age))
        apply_exchange(parameters, other, received, sent, other_share(other.age, one.age))


@SWARMS
@given(seed=seeds, ages=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_an_exchange_conserves_the_sums(parameters: LearningParameters, seed: int, ages: tuple[int, int]) -> None:
    one, other = _random_state(parameters, seed, ages[0]), _random_state(parameters, seed + 1, ages[1])
    before = [one.copy(), other.copy()]
    exchange(parameters, one, other, np.random.default_rng(seed))
    levels = {"gradient": (1 << parameters.value_bits - 1) - 1}
    for name in MIXED:
        total = getattr(before[0], name) + getattr(before[1], name)
        np.testing.assert_allclose(getattr(one, name) + getattr(other, name), total, rtol=1e-4, atol=1e-4)
        # Rounding apart, both now hold the mean.
        distance = np.abs(getattr(one, name) - getattr(other, name)).max()
        largest = max(np.abs(getattr(state, name)).max() for state in before)
        assert distance <= 4.6 * largest / levels.get(name, FINE_LEVELS)


def test_an_exchange_of_one_part_leaves_the_others_alone() -> None:
    one, other = _random_state(IN_PARTS, 0, 1), _random_state(IN_PARTS, 1, 1)
    before, rng = one.copy(), np.random.default_rng(0)
    sent, received = (transmit(IN_PARTS, state, 1, rng) for state in (one, other))
    apply_exchange(IN_PARTS, one, sent, received, 0.5)
    rows = part_rows(len(KEYS), 3, 1)
    for name in ("item_factors", "gradient", "evidence"):
        changed = (getattr(one, name) != getattr(before, name)).reshape(len(KEYS), -1).any(axis=1)
        assert set(np.flatnonzero(changed)) <= set(range(len(KEYS))[rows])
        assert changed[rows].any()
    assert (one.gram == before.gram).all() and (one.probe == before.probe).all()


@given(seed=seeds)
def test_the_older_copy_prevails(seed: int) -> None:
    parameters = msgspec.structs.replace(IMPLICIT, value_bits=8)
    old, new = _random_state(parameters, seed, 400), _random_state(parameters, seed + 1, 0)
    before = old.item_factors.copy()
    largest = max(np.abs(before).max(), np.abs(new.item_factors).max())
    exchange(parameters, old, new, np.random.default_rng(seed))
    np.testing.assert_array_equal(old.item_factors, before)
    # The newcomer has taken over the old copy, up to the rounding of both.
    assert np.abs(new.item_factors - before).max() <= 4.6 * largest / 127


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_shares_of_both_sides_add_up_to_one(age: int, other: int) -> None:
    assert other_share(age, other) + other_share(other, age) == pytest.approx(1.0)
    many = other_share(np.array([float(age), 0.0]), np.array([float(other), 0.0]))
    assert many.tolist() == [other_share(age, other), 0.5]


def test_shares_at_the_cap() -> None:
    assert other_share(0, 0) == 0.5
    assert other_share(0, 1) == 1.0
    assert other_share(AGE_CAP, AGE_CAP + 1) == 0.5
    assert other_share(AGE_CAP - 1, AGE_CAP) == pytest.approx(AGE_CAP / (2 * AGE_CAP - 1))

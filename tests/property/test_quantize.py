"""A few bits a value: bounds, unbiasedness, and exchanges that conserve what they mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

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
    TableShapes,
    apply_exchange,
    other_share,
    part_rows,
    quantize_state,
    table_shapes,
    transmit,
    valid,
    values_of,
)
from p2prec.model.rounding import (
    DITHER,
    DITHER_PERIOD,
    LEVELS,
    MAX_MAGNITUDE,
    SCALES,
    QuantizedTable,
    TableShape,
    dequantize,
    reach,
    rounded,
    within_bounds,
)
from p2prec.model.state import ModelState, factors_first, initial_state

IMPLICIT = LearningParameters(n_factors=4)
EXPLICIT = LearningParameters(objective="explicit", n_factors=4, factors_per_byte=1, gradients_per_byte=2)
IN_PARTS = LearningParameters(n_factors=4, n_parts=3)
SWARMS = pytest.mark.parametrize("parameters", [IMPLICIT, EXPLICIT, IN_PARTS], ids=["implicit", "explicit", "in parts"])
PER_BYTE = pytest.mark.parametrize("per_byte", LEVELS)
KEYS = [f"item-{i}" for i in range(37)]
MIXED = ("gradient", "evidence", "gram", "probe")

seeds = st.integers(0, 2**32 - 1)
places = st.integers(0, DITHER_PERIOD - 1)
tables = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(-MAX_MAGNITUDE, MAX_MAGNITUDE, width=32),
)


def quantize(table: np.ndarray, per_byte: int, place: int) -> QuantizedTable:
    where = np.full(table.shape[:-2], place) if table.ndim > 2 else place
    return rounded(table, LEVELS[per_byte], where).quantized()


def read(table: QuantizedTable, per_byte: int, place: int) -> np.ndarray:
    where = np.full(table.values.shape[:-2], place) if table.values.ndim > 2 else place
    return dequantize(table, LEVELS[per_byte], where)


def _shape(table: QuantizedTable, per_byte: int) -> TableShape:
    return TableShape(*table.values.shape[-2:], per_byte)


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
    assert SCALES[176] == 1
    steps = SCALES[1:] / SCALES[:-1]
    assert steps.min() > 1 and steps.max() == 9 / 8


def test_the_dither_is_uniform_and_without_a_pattern() -> None:
    assert (np.sort(DITHER) == np.repeat((np.arange(1 << 15) + 0.5) / (1 << 15), 2)).all()
    centred = np.fft.rfft(DITHER - 0.5)
    correlation = np.fft.irfft(np.abs(centred) ** 2) / DITHER_PERIOD * 12
    assert correlation[0] == pytest.approx(1, abs=1e-3)
    assert np.abs(correlation[1:2000]).max() < 0.05


def test_levels_are_as_many_as_a_byte_has_room_for() -> None:
    for per_byte, levels in LEVELS.items():
        assert levels**per_byte <= 256 < (levels + 1) ** per_byte


@PER_BYTE
@given(tables, places)
def test_every_value_is_within_half_a_level_and_in_bounds(per_byte: int, table: np.ndarray, place: int) -> None:
    quantized = quantize(table, per_byte, place)
    assert within_bounds(quantized, _shape(quantized, per_byte))
    assert quantized.values.dtype == np.uint8 and quantized.codes.dtype == np.uint8
    scale = SCALES[quantized.codes][..., None]
    assert (np.abs(read(quantized, per_byte, place) - table) <= scale * np.float32(0.5001)).all()
    # The smallest scale that is large enough, but for the smallest of all.
    largest = np.abs(table).max(axis=-1)
    assert (scale[..., 0] <= np.maximum(largest / reach(LEVELS[per_byte]) * 1.1251, SCALES[0])).all()
    assert not quantized.codes[largest == 0].any()


@PER_BYTE
@given(tables, places)
def test_leading_axes_change_nothing(per_byte: int, table: np.ndarray, place: int) -> None:
    stacked = quantize(np.stack([table, -table]), per_byte, place)
    alone = quantize(table, per_byte, place)
    assert (stacked.codes == alone.codes).all() and (stacked.values[0] == alone.values).all()
    one = QuantizedTable(stacked.codes[1], stacked.values[1])
    np.testing.assert_array_equal(read(stacked, per_byte, place)[1], read(one, per_byte, place))


@PER_BYTE
@pytest.mark.parametrize("columns", [1, 16])
def test_errors_average_out_and_do_not_depend_on_the_value(per_byte: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    table = factors_first(rng.normal(0, 1, (50, columns)).astype(np.float32))
    chosen = rng.integers(DITHER_PERIOD, size=4000).tolist()
    errors = np.stack([read(quantize(table, per_byte, place), per_byte, place) for place in chosen]) - table
    scale = SCALES[quantize(table, per_byte, 0).codes][:, None]
    assert (np.abs(errors.mean(axis=0)) < 5 * scale / np.sqrt(12 * 4000)).all()
    assert errors.var(axis=0) / scale**2 == pytest.approx(1 / 12, rel=0.12)


@PER_BYTE
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_numbers_are_not_passed_on(per_byte: int, broken: float) -> None:
    table = np.array([[1.0, broken], [1.0, 2.0]], np.float32)
    quantized = quantize(table, per_byte, 0)
    assert within_bounds(quantized, _shape(quantized, per_byte))
    assert np.abs(read(quantized, per_byte, 0)[1] - [1, 2]).max() < 2 / reach(LEVELS[per_byte]) * 1.126


@pytest.mark.parametrize(("per_byte", "largest_code"), [(1, 200), (2, 233), (3, 246), (4, 251)])
def test_bounds_have_two_sides(per_byte: int, largest_code: int) -> None:
    shape, levels = TableShape(1, 2, per_byte), LEVELS[per_byte]
    values = np.array([[0, levels - 1]], np.uint8)

    def in_bounds(code: int, values: np.ndarray) -> bool:
        return within_bounds(QuantizedTable(np.array([code], np.uint8), values), shape)

    for code in range(256):
        assert in_bounds(code, values) is (code <= largest_code), code
    if levels < 256:
        assert not in_bounds(1, values + 1)
    empty = QuantizedTable(np.zeros(0, np.uint8), np.zeros((0, 2), np.uint8))
    assert within_bounds(empty, TableShape(0, 2, per_byte))
    # The largest table that a sender makes is one that a receiver takes.
    table = np.array([[MAX_MAGNITUDE, -MAX_MAGNITUDE]], np.float32)
    for place in range(0, DITHER_PERIOD, 97):
        assert within_bounds(quantize(table, per_byte, place), shape)


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
        assert valid(sent, shapes)
        n_blocks = -(-shapes.item_factors.rows // BLOCK)
        small = -(-(shapes.item_factors.columns**2) // BLOCK) + 1 if part == 0 else 0
        assert shapes.vectors == TableShape(n_blocks + small, BLOCK, 1)
        assert not sent.vectors.values[n_blocks - 1, shapes.item_factors.rows % BLOCK :].any()


def _tampered(shapes: TableShapes) -> Iterator[dict[str, Any]]:
    """What to replace in tables of these shapes, so that they are of no use."""
    for place in (-1, DITHER_PERIOD):
        yield {"place": place}
    for name, shape in zip(("item_factors", "gradient", "vectors"), shapes, strict=True):
        codes, values = np.zeros(shape.rows, np.uint8), np.zeros((shape.rows, shape.columns), np.uint8)
        yield {name: QuantizedTable(codes, values[1:])}
        yield {name: QuantizedTable(codes[1:], values)}
        yield {name: QuantizedTable(codes + np.uint8(255), values)}
    for row, column in shapes.padding():
        values[row, column] = 1
        yield {"vectors": QuantizedTable(codes, values.copy())}
        values[row, column] = 0


def test_tables_that_nobody_can_have_sent_are_not_valid() -> None:
    shapes = table_shapes(EXPLICIT, len(KEYS))
    sent = quantize_state(EXPLICIT, _random_state(EXPLICIT, 0, 0), 0, np.random.default_rng(0))
    assert valid(sent, shapes) and list(shapes.padding()) == [(2, 5), (4, 9)]
    for change in _tampered(shapes):
        assert not valid(dataclasses.replace(sent, **change), shapes), change


def test_the_size_of_a_message() -> None:
    small = 232 * 17 + 16 * 17 + 17
    for factors, gradients, factor_bytes in ((1, 1, 32), (2, 2, 16), (4, 4, 8), (2, 4, 12)):
        learning = LearningParameters(n_factors=16, factors_per_byte=factors, gradients_per_byte=gradients)
        assert table_shapes(learning, 3706).payload_bytes == 3706 * (factor_bytes + 2) + small
    assert TableShape(5, 5, 3).value_bytes == 9  # the last byte has one


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
    reached = {"gradient": reach(LEVELS[parameters.gradients_per_byte])}
    for name in MIXED:
        total = getattr(before[0], name) + getattr(before[1], name)
        np.testing.assert_allclose(getattr(one, name) + getattr(other, name), total, rtol=1e-4, atol=1e-4)
        # Rounding apart, both now hold the mean.
        distance = np.abs(getattr(one, name) - getattr(other, name)).max()
        largest = max(np.abs(getattr(state, name)).max() for state in before)
        assert distance <= 1.13 * largest / reached.get(name, 127.5)


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
    parameters = msgspec.structs.replace(IMPLICIT, factors_per_byte=1)
    old, new = _random_state(parameters, seed, 400), _random_state(parameters, seed + 1, 0)
    before = old.item_factors.copy()
    largest = max(np.abs(before).max(), np.abs(new.item_factors).max())
    exchange(parameters, old, new, np.random.default_rng(seed))
    np.testing.assert_array_equal(old.item_factors, before)
    # The newcomer has taken over the old copy, up to the rounding of both.
    assert np.abs(new.item_factors - before).max() <= 1.13 * largest / 127


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

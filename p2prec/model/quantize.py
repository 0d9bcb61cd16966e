"""A few bits a value: what an exchange transmits, and how both sides move by it.

Every function works on one peer or on many at once: `...` stands for the leading peer axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.rounding import (
    DITHER_PERIOD,
    Dice,
    QuantizedTable,
    Rounded,
    TableShape,
    dequantize,
    draw_place,
    rounded,
    within_bounds,
)
from p2prec.model.state import PROBE_WIDTH, ModelState, factors_first, n_columns
from p2prec.types import DoubleArray, FloatArray, IndexArray

BLOCK = 16
"""Evidence and the small tables travel as vectors in rows of so many values, so that a scale costs half a bit a value."""

SMALL_MESSAGE_BYTES = 16_000
"""What a new swarm's messages should not exceed; larger tables travel in parts."""

AGE_CAP = 100
"""Rounds beyond which a peer counts as no older. Bounds how firmly an old peer holds on to its item factors."""

VECTORS_PER_BYTE = 1
"""Evidence, gram and probe always have 256 levels a value."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTables:
    """One part of a peer's shared state as transmitted. Shapes follow from the manifest and `part` (`table_shapes`)."""

    part: int
    """Which rows these are (`part_rows`); the small tables travel with part 0."""
    place: int
    """Where in the dither the first value reads, 0 to DITHER_PERIOD - 1; the others follow in the order in which they are
    transmitted."""
    item_factors: QuantizedTable
    """Q: (n_rows, n_columns)."""
    gradient: QuantizedTable
    """S: (n_rows, n_columns)."""
    vectors: QuantizedTable
    """W, and in part 0 G, row by row, and the probe, each in rows of BLOCK: (n_blocks, BLOCK). What pads their last rows is 0."""

    def __iter__(self) -> Iterator[QuantizedTable]:
        """The tables in the order in which they are transmitted."""
        yield from (self.item_factors, self.gradient, self.vectors)


@dataclass(frozen=True, slots=True)
class TableShapes:
    """The tables of one part."""

    item_factors: TableShape
    gradient: TableShape
    vectors: TableShape
    item_rows: slice
    """Which rows of the catalogue the item tables and the evidence are about."""
    vector_sizes: tuple[int, ...]
    """Of the evidence, and in part 0 of gram and probe."""

    def __iter__(self) -> Iterator[TableShape]:
        """In the order in which they are transmitted."""
        yield from (self.item_factors, self.gradient, self.vectors)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all values and scale codes, without any framing."""
        return sum(shape.rows + shape.value_bytes for shape in self)

    @property
    def offsets(self) -> tuple[int, ...]:
        """How many values go before each table."""
        return 0, self.item_factors.size, self.item_factors.size + self.gradient.size

    def padding(self) -> Iterator[tuple[int, int]]:
        """Of each vector: its last row in `vectors`, and the first column in it that pads."""
        row = 0
        for size in self.vector_sizes:
            row += math.ceil(size / BLOCK)
            if size % BLOCK:
                yield row - 1, size % BLOCK


def part_rows(n_items: int, n_parts: int, part: int) -> slice:
    """The item rows of a part: n_parts runs of the catalogue, all of the same length but for the last."""
    size = math.ceil(n_items / n_parts)
    return slice(min(part * size, n_items), min((part + 1) * size, n_items))


@lru_cache(maxsize=256)
def table_shapes(parameters: LearningParameters, n_items: int, part: int = 0) -> TableShapes:
    """The shapes that every message about this part has; anything else is malformed."""
    rows = part_rows(n_items, parameters.n_parts, part)
    n_rows, columns = rows.stop - rows.start, n_columns(parameters)
    sizes = (n_rows, columns**2, PROBE_WIDTH) if part == 0 else (n_rows,)
    return TableShapes(
        item_factors=TableShape(n_rows, columns, parameters.factors_per_byte),
        gradient=TableShape(n_rows, columns, parameters.gradients_per_byte),
        vectors=TableShape(sum(math.ceil(size / BLOCK) for size in sizes), BLOCK, VECTORS_PER_BYTE),
        item_rows=rows,
        vector_sizes=sizes,
    )


def valid(tables: QuantizedTables, shapes: TableShapes) -> bool:
    """Whether tables of this part may be used: their shapes, their bounds, and zeros where vectors are padded."""
    return (
        0 <= tables.place < DITHER_PERIOD
        and all(
            table.values.shape == (shape.rows, shape.columns)
            and table.codes.shape == (shape.rows,)
            and within_bounds(table, shape)
            for table, shape in zip(tables, shapes, strict=True)
        )
        and not any(tables.vectors.values[row, column:].any() for row, column in shapes.padding())
    )


@dataclass(frozen=True, slots=True, eq=False)
class Transmitted:
    """The values that a peer's tables had when they were transmitted: what both sides of an exchange compute with."""

    part: int
    item_factors: FloatArray
    """(..., n_rows, n_columns) float32, the rows of the part; so are gradient (same shape) and evidence (..., n_rows)."""
    gradient: FloatArray
    evidence: FloatArray
    gram: FloatArray
    """(..., n_columns, n_columns); (..., 0, 0) in other parts than 0."""
    probe: FloatArray
    """(..., PROBE_WIDTH); (..., 0) in other parts than 0."""


def _round_state(
    parameters: LearningParameters, state: ModelState, part: int, place: int | IndexArray
) -> Iterator[Rounded]:
    """Q, S and the vectors of a part."""
    shapes = table_shapes(parameters, state.item_factors.shape[-2], part)
    rows = shapes.item_rows
    vectors = [state.evidence[..., rows]]
    if part == 0:
        vectors += [state.gram.reshape(*state.gram.shape[:-2], -1), state.probe]
    tables = state.item_factors[..., rows, :], state.gradient[..., rows, :], _blocked(vectors)
    for table, shape, offset in zip(tables, shapes, shapes.offsets, strict=True):
        yield rounded(table, shape.levels, place + offset)


def quantize_state(parameters: LearningParameters, state: ModelState, part: int, rng: Dice) -> QuantizedTables:
    """What a peer, one alone, transmits of its state. Rounding is drawn afresh on every call."""
    place = draw_place(rng)
    tables = [table.quantized() for table in _round_state(parameters, state, part, place)]
    for row, column in table_shapes(parameters, state.item_factors.shape[-2], part).padding():
        tables[-1].values[row, column:] = 0
    return QuantizedTables(part, place, *tables)


def transmit(parameters: LearningParameters, state: ModelState, part: int, rng: Dice) -> Transmitted:
    """`values_of(quantize_state(...))` to the bit, without the detour over bytes (the lab)."""
    place = draw_place(rng, state.age.shape)
    shapes = table_shapes(parameters, state.item_factors.shape[-2], part)
    return _transmitted(shapes, part, *(table.values() for table in _round_state(parameters, state, part, place)))


def values_of(parameters: LearningParameters, n_items: int, tables: QuantizedTables) -> Transmitted:
    """What transmitted tables stand for."""
    shapes = table_shapes(parameters, n_items, tables.part)
    values = (
        dequantize(table, shape.levels, tables.place + offset)
        for table, shape, offset in zip(tables, shapes, shapes.offsets, strict=True)
    )
    return _transmitted(shapes, tables.part, *values)


def _transmitted(shapes: TableShapes, part: int, Q: FloatArray, S: FloatArray, blocks: FloatArray) -> Transmitted:
    """Vectors out of their blocks."""
    leading, columns = blocks.shape[:-2], shapes.item_factors.columns if part == 0 else 0
    flat = blocks.reshape(*leading, -1)
    vectors, start = [], 0
    for size in shapes.vector_sizes:
        vectors.append(flat[..., start : start + size])
        start += math.ceil(size / BLOCK) * BLOCK
    evidence, gram, probe = vectors if part == 0 else (*vectors, flat[..., :0], flat[..., :0])
    return Transmitted(part, Q, S, evidence, gram.reshape(*leading, columns, columns), probe)


def apply_exchange(
    parameters: LearningParameters,
    state: ModelState,
    sent: Transmitted,
    received: Transmitted,
    share: float | DoubleArray,
) -> None:
    """Move `state` by its side of an exchange, in place; the other side does the same with sent and received swapped.

    S, W, G and the probe move by half of the difference of the two *transmitted* tables, so what one side gains the other
    loses, and the swarm's sums stay as they are whatever the rounding did. Q moves by `share` of it (`other_share`): a
    newcomer takes over what an old peer has learned, and an old peer hardly notices the newcomer. The increments commute with
    every other change of the state: a late exchange is as good as a punctual one.
    """
    move(parameters, state, between(sent, received), share, 0.5)


def between(sent: Transmitted, received: Transmitted) -> Transmitted:
    """What is received minus what was sent, both of the same part."""
    return Transmitted(
        sent.part,
        received.item_factors - sent.item_factors,
        received.gradient - sent.gradient,
        received.evidence - sent.evidence,
        received.gram - sent.gram,
        received.probe - sent.probe,
    )


def move(
    parameters: LearningParameters, state: ModelState, by: Transmitted, share: float | DoubleArray, half: float
) -> None:
    """`apply_exchange` with the difference already formed; the other side moves by minus its share and minus a half."""
    rows = table_shapes(parameters, state.item_factors.shape[-2], by.part).item_rows
    weight, factor_weight = np.float32(half), np.asarray(share, np.float32)[..., None, None]
    state.item_factors[..., rows, :] += factor_weight * by.item_factors
    state.gradient[..., rows, :] += weight * by.gradient
    state.evidence[..., rows] += weight * by.evidence
    if by.part == 0:
        state.gram += weight * by.gram
        state.probe += weight * by.probe


def other_share(age: float | DoubleArray, other_age: float | DoubleArray) -> DoubleArray:
    """The weight of the other side's item factors, 0 to 1: age_other / (age + age_other), ages capped at AGE_CAP.

    One half when neither has learned anything. The two sides' weights add up to 1, so equal copies stay equal.
    """
    if np.ndim(age) == 0:
        mine, others = min(float(age), AGE_CAP), min(float(other_age), AGE_CAP)  # an array of one would cost tenfold
        return np.asarray(others / (mine + others) if mine + others > 0 else 0.5)
    own, other = np.minimum(age, AGE_CAP), np.minimum(other_age, AGE_CAP)
    total = own + other
    return np.where(total > 0, other / np.where(total > 0, total, 1.0), 0.5)


def _blocked(vectors: Sequence[FloatArray]) -> FloatArray:
    """Vectors (..., n) one after the other, each in rows of BLOCK, zero padded: (..., n_rows, BLOCK)."""
    n_rows = [math.ceil(vector.shape[-1] / BLOCK) for vector in vectors]
    padded = np.zeros((*vectors[0].shape[:-1], sum(n_rows) * BLOCK), np.float32, like=vectors[0])
    start = 0
    for vector, rows in zip(vectors, n_rows, strict=True):
        padded[..., start : start + vector.shape[-1]] = vector
        start += rows * BLOCK
    return factors_first(padded.reshape(*padded.shape[:-1], -1, BLOCK))

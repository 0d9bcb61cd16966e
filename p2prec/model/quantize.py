"""A few bits a value: what an exchange transmits, and how both sides move by it.

Every function works on one peer or on many at once: `...` stands for the leading peer axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.state import PROBE_WIDTH, ModelState, factors_first, n_columns
from p2prec.types import DoubleArray, FloatArray, Int8Array, Int32Array, ScaleCodes

BLOCK = 16
"""Evidence and the small tables travel as vectors in rows of so many values, so that a scale costs half a bit a value."""

MAX_MAGNITUDE = 1000.0
"""No table entry may exceed this. Honest values stay below 30; anything larger is a fault or an attack."""

SMALL_MESSAGE_BYTES = 16_000
"""What a new swarm's messages should not exceed; larger tables travel in parts."""

AGE_CAP = 100
"""Rounds beyond which a peer counts as no older. Bounds how firmly an old peer holds on to its item factors."""

FINE_LEVELS = 127
"""Of the small tables (evidence, gram, probe), which always travel at 8 bits a value."""

_SCALE_STEP = 9 / 8
"""The largest factor between one scale and the next."""
MAX_CODE = 255
_FIRST_EXPONENT = -24
"""Of the scales with codes 0 to 7. A code is a small float, 5 bits of exponent and 3 of mantissa: steps of an eighth."""
_BITS = 20
"""Mantissa bits of a float32 below those that a code has."""
_BITS_OF_CODE_0 = (127 + _FIRST_EXPONENT) << 3


def _scales() -> FloatArray:
    code = np.arange(MAX_CODE + 1)
    return np.ldexp(1 + (code % 8) / 8, _FIRST_EXPONENT + code // 8).astype(np.float32)


SCALES: FloatArray = _scales()
"""(256,) float32: what each scale code stands for, `(1 + code % 8 / 8) * 2^(code // 8 - 24)`."""

_DITHER_PERIOD = 1 << 16
_DITHER: FloatArray = (
    (np.random.default_rng(0).permutation(_DITHER_PERIOD).astype(np.float32) + np.float32(0.5)) / _DITHER_PERIOD
).astype(np.float32)
"""Every 65,536th part of 1 once, in a random order: read round and round from a random place on, it is a uniform variable for
each entry, for the price of one draw. It decides nothing that anybody may not know: rounding hides nothing."""


class Dice(Protocol):
    """What rounding needs of a generator (`numpy.random.Generator` is one)."""

    def integers(self, high: int, /, *, size: Any = ...) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTable:
    """A matrix as small integers with one scale a row: value = SCALES[codes[i]] * values[i, j]."""

    codes: ScaleCodes
    """(..., n_rows) uint8."""
    values: Int8Array
    """(..., n_rows, n_columns) int8, -levels to levels."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTables:
    """One part of a peer's shared state as transmitted. Shapes follow from the manifest and `part` (`table_shapes`)."""

    part: int
    """Which rows these are (`part_rows`); the small tables travel with part 0."""
    item_factors: QuantizedTable
    """Q: (n_rows, n_columns)."""
    gradient: QuantizedTable
    """S: (n_rows, n_columns)."""
    evidence: QuantizedTable
    """W: blocked into rows of BLOCK, zero padded: (ceil(n_rows / BLOCK), BLOCK)."""
    gram: QuantizedTable
    """G, row by row, blocked likewise: (ceil(n_columns^2 / BLOCK), BLOCK); (0, BLOCK) in other parts than 0."""
    probe: QuantizedTable
    """(PROBE_WIDTH / BLOCK, BLOCK); (0, BLOCK) in other parts than 0."""

    def __iter__(self) -> Iterator[QuantizedTable]:
        """The tables in the order in which they are transmitted."""
        yield from (self.item_factors, self.gradient, self.evidence, self.gram, self.probe)


@dataclass(frozen=True, slots=True)
class TableShape:
    """One table of a message."""

    rows: int
    columns: int
    levels: int
    """Values are -levels to levels; up to 7 they are packed two to a byte."""

    @property
    def value_bytes(self) -> int:
        n_values = self.rows * self.columns
        return -(-n_values // 2) if self.levels <= 7 else n_values


@dataclass(frozen=True, slots=True)
class TableShapes:
    """The tables of one part."""

    item_factors: TableShape
    gradient: TableShape
    evidence: TableShape
    gram: TableShape
    probe: TableShape
    item_rows: slice
    """Which rows of the catalogue the item tables and the evidence are about."""
    small_rows: tuple[slice, slice, slice]
    """Where evidence, gram and probe lie when they are rounded in one."""

    def __iter__(self) -> Iterator[TableShape]:
        """In the order in which they are transmitted."""
        yield from (self.item_factors, self.gradient, self.evidence, self.gram, self.probe)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all values and scale codes, without any framing."""
        return sum(shape.rows + shape.value_bytes for shape in self)


def part_rows(n_items: int, n_parts: int, part: int) -> slice:
    """The item rows of a part: n_parts runs of the catalogue, all of the same length but for the last."""
    size = math.ceil(n_items / n_parts)
    return slice(min(part * size, n_items), min((part + 1) * size, n_items))


@lru_cache(maxsize=256)
def table_shapes(parameters: LearningParameters, n_items: int, part: int = 0) -> TableShapes:
    """The shapes that every message about this part has; anything else is malformed."""
    rows = part_rows(n_items, parameters.n_parts, part)
    n_rows, columns = rows.stop - rows.start, n_columns(parameters)
    coarse = coarse_levels(parameters)
    evidence = math.ceil(n_rows / BLOCK)
    gram, probe = (math.ceil(columns**2 / BLOCK), PROBE_WIDTH // BLOCK) if part == 0 else (0, 0)
    return TableShapes(
        item_factors=TableShape(n_rows, columns, coarse),
        gradient=TableShape(n_rows, columns, coarse),
        evidence=TableShape(evidence, BLOCK, FINE_LEVELS),
        gram=TableShape(gram, BLOCK, FINE_LEVELS),
        probe=TableShape(probe, BLOCK, FINE_LEVELS),
        item_rows=rows,
        small_rows=(
            slice(evidence),
            slice(evidence, evidence + gram),
            slice(evidence + gram, evidence + gram + probe),
        ),
    )


def coarse_levels(parameters: LearningParameters) -> int:
    """The largest value of an item table's entry: 7 at 4 bits, 127 at 8."""
    return (1 << (parameters.value_bits - 1)) - 1


def within_bounds(table: QuantizedTable, shape: TableShape) -> bool:
    """Whether a received table may be used: values within +-levels, none that its scale would take beyond MAX_MAGNITUDE.

    The caller refuses the whole message otherwise.
    """
    values = table.values
    if values.size == 0:
        return True
    if int(values.min()) < -shape.levels or int(values.max()) > shape.levels:
        return False
    return float(SCALES[int(table.codes.max())]) * shape.levels <= MAX_MAGNITUDE * _SCALE_STEP


def quantize(table: FloatArray, rng: Dice, levels: int = FINE_LEVELS) -> QuantizedTable:
    """Round each row to `2 levels + 1` levels, up or down at random so that the mean of the result is the value itself.

    table: (..., n_rows, n_columns) float32; entries beyond +-MAX_MAGNITUDE are cut, NaN becomes 0 (a peer whose
    numbers broke must not break others). The error of a value is below one level, `SCALES[codes[i]]`, which is at most
    9/8 max|row i| / levels.
    """
    return _rounded(table, rng, levels).quantized()


@dataclass(frozen=True, slots=True, eq=False)
class _Rounded:
    """A table before it is packed."""

    levels: FloatArray
    """(..., n_rows, n_columns) float32, whole numbers."""
    codes: Int32Array
    """(..., n_rows)."""
    scale: FloatArray
    """(..., n_rows), SCALES of the codes."""

    def __getitem__(self, rows: slice) -> _Rounded:
        return _Rounded(self.levels[..., rows, :], self.codes[..., rows], self.scale[..., rows])

    def quantized(self) -> QuantizedTable:
        return QuantizedTable(self.codes.astype(np.uint8), self.levels.astype(np.int8))

    def values(self) -> FloatArray:
        """What the other side will read. Uses up `levels`."""
        levels = self.levels
        levels *= self.scale[..., None]
        return levels


def _rounded(table: FloatArray, rng: Dice, levels: int) -> _Rounded:
    if table.size == 0:
        rows = table.shape[:-1]
        return _Rounded(np.zeros(table.shape, np.float32), np.zeros(rows, np.int32), np.zeros(rows, np.float32))
    magnitude = np.maximum(table.max(axis=-1), -table.min(axis=-1))
    if not magnitude.max() <= MAX_MAGNITUDE:
        table = np.clip(np.nan_to_num(table, nan=0.0), -MAX_MAGNITUDE, MAX_MAGNITUDE)
        magnitude = np.abs(table).max(axis=-1)
    codes = _codes(magnitude, levels)
    scale = ((codes + _BITS_OF_CODE_0) << _BITS).view(np.float32)
    rounded = table * (np.float32(1) / scale)[..., None]
    rounded += _dither(table, rng)
    np.floor(rounded, out=rounded)
    return _Rounded(rounded, codes, scale)


def _codes(magnitude: FloatArray, levels: int) -> Int32Array:
    """(..., n_rows) the smallest codes whose scales take `levels` to the magnitude; a row of zeros has code 0."""
    smallest = magnitude * np.float32(1.000001 / levels)
    codes = (smallest.view(np.int32) + ((1 << _BITS) - 1)) >> _BITS
    codes -= _BITS_OF_CODE_0
    bounded: Int32Array = np.minimum(np.maximum(codes, 0), MAX_CODE)
    return bounded


def _dither(table: FloatArray, rng: Dice) -> FloatArray:
    """Uniform on (0, 1), in the table's shape and memory order (factors first: `p2prec.model.state`)."""
    *leading, n_rows, columns = table.shape
    if leading:  # each peer reads from a place of its own
        starts = rng.integers(_DITHER_PERIOD, size=leading)
        places = (starts[..., None] + np.arange(n_rows * columns)) % _DITHER_PERIOD
        drawn = np.asarray(_DITHER, like=places)[places]
        return np.swapaxes(drawn.reshape(*leading, columns, n_rows), -1, -2)
    start = int(rng.integers(_DITHER_PERIOD))
    drawn = _DITHER[start : start + table.size]
    if len(drawn) < table.size:
        drawn = np.resize(np.concatenate((drawn, _DITHER[:start])), table.size)
    return np.swapaxes(drawn.reshape(columns, n_rows), -1, -2)


def dequantize(table: QuantizedTable) -> FloatArray:
    """The values that a table stands for: (..., n_rows, n_columns) float32."""
    values = table.values.astype(np.float32)
    values *= np.asarray(SCALES, like=table.codes)[table.codes][..., None]
    return values


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
    parameters: LearningParameters, state: ModelState, shapes: TableShapes, part: int, rng: Dice
) -> Iterator[_Rounded]:
    """Q, S, W, G and the probe of a part."""
    rows = shapes.item_rows
    levels = shapes.item_factors.levels
    yield _rounded(state.item_factors[..., rows, :], rng, levels)
    yield _rounded(state.gradient[..., rows, :], rng, levels)
    vectors = [state.evidence[..., rows]]
    if part == 0:
        vectors += [state.gram.reshape(*state.gram.shape[:-2], -1), state.probe]
    small = _rounded(_blocked(vectors), rng, FINE_LEVELS)
    yield from (small[section] for section in shapes.small_rows)


def quantize_state(parameters: LearningParameters, state: ModelState, part: int, rng: Dice) -> QuantizedTables:
    """What a peer transmits of its state. Rounding is drawn afresh on every call."""
    shapes = table_shapes(parameters, state.item_factors.shape[-2], part)
    return QuantizedTables(part, *(table.quantized() for table in _round_state(parameters, state, shapes, part, rng)))


def transmit(parameters: LearningParameters, state: ModelState, part: int, rng: Dice) -> Transmitted:
    """`values_of(quantize_state(...))` to the bit, without the detour over bytes (the lab)."""
    shapes = table_shapes(parameters, state.item_factors.shape[-2], part)
    tables = _round_state(parameters, state, shapes, part, rng)
    return _transmitted(shapes, part, *(table.values() for table in tables))


def values_of(parameters: LearningParameters, n_items: int, tables: QuantizedTables) -> Transmitted:
    """What transmitted tables stand for."""
    shapes = table_shapes(parameters, n_items, tables.part)
    return _transmitted(shapes, tables.part, *(dequantize(table) for table in tables))


def _transmitted(
    shapes: TableShapes, part: int, Q: FloatArray, S: FloatArray, W: FloatArray, G: FloatArray, Z: FloatArray
) -> Transmitted:
    """Out of their blocks."""
    columns = shapes.item_factors.columns if part == 0 else 0
    leading = W.shape[:-2]
    return Transmitted(
        part=part,
        item_factors=Q,
        gradient=S,
        evidence=W.reshape(*leading, -1)[..., : shapes.item_factors.rows],
        gram=G.reshape(*leading, -1)[..., : columns * columns].reshape(*leading, columns, columns),
        probe=Z.reshape(*leading, -1),
    )


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

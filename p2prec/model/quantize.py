"""A few bits a value: what an exchange transmits, and how both sides move by it.

Every function works on one peer or on many at once: `...` stands for the leading peer axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.state import PROBE_WIDTH, ModelState, n_columns
from p2prec.types import DoubleArray, FloatArray, Int8Array, ScaleCodes

EVIDENCE_BLOCK = 16
"""Evidence is a vector: it travels in rows of this many items, so that a scale costs half a bit an item."""

MAX_MAGNITUDE = 1000.0
"""No table entry may exceed this. Honest values stay below 30; anything larger is a fault or an attack."""

AGE_CAP = 100
"""Rounds beyond which a peer counts as no older. Bounds how firmly an old peer holds on to its item factors."""

FINE_LEVELS = 127
"""Of the small tables (evidence, gram, probe), which always travel at 8 bits a value."""

ZERO_CODE = 0
"""The scale code of a row of zeros."""
_ONE_CODE = 196
"""The scale code of 1. Codes go up in eighths of an octave, so the range is 2^-24.4 to 2^7.4."""
_MANTISSAS = np.array(
    [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], np.float32
)
"""2^(k/8), cut to float32: part of the protocol, so that every implementation multiplies by the same numbers."""


def _scales() -> FloatArray:
    code = np.arange(256) - _ONE_CODE
    scales = np.ldexp(_MANTISSAS[code % 8], code // 8).astype(np.float32)
    scales[ZERO_CODE] = 0.0
    return scales


SCALES: FloatArray = _scales()
"""(256,) float32: what each scale code stands for."""


class RandomBytes(Protocol):
    """What rounding needs of a generator (`numpy.random.Generator` is one)."""

    def bytes(self, length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTable:
    """A matrix as small integers with one scale a row: value = SCALES[codes[i]] * values[i, j]."""

    codes: ScaleCodes
    """(..., n_rows) uint8."""
    values: Int8Array
    """(..., n_rows, n_columns) int8, -levels to levels; 0 where the code is ZERO_CODE."""


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
    """W: blocked into rows of EVIDENCE_BLOCK, zero padded: (ceil(n_rows / EVIDENCE_BLOCK), EVIDENCE_BLOCK)."""
    gram: QuantizedTable
    """G: (n_columns, n_columns); (0, 0) in other parts than 0."""
    probe: QuantizedTable
    """(1, PROBE_WIDTH); (0, 0) in other parts than 0."""

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


def table_shapes(parameters: LearningParameters, n_items: int, part: int = 0) -> TableShapes:
    """The shapes that every message about this part has; anything else is malformed."""
    rows = part_rows(n_items, parameters.n_parts, part)
    n_rows, columns = rows.stop - rows.start, n_columns(parameters)
    coarse = coarse_levels(parameters)
    small = part == 0
    return TableShapes(
        item_factors=TableShape(n_rows, columns, coarse),
        gradient=TableShape(n_rows, columns, coarse),
        evidence=TableShape(math.ceil(n_rows / EVIDENCE_BLOCK), EVIDENCE_BLOCK, FINE_LEVELS),
        gram=TableShape(*((columns, columns) if small else (0, 0)), FINE_LEVELS),
        probe=TableShape(*((1, PROBE_WIDTH) if small else (0, 0)), FINE_LEVELS),
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
    return float(SCALES[int(table.codes.max())]) * shape.levels <= MAX_MAGNITUDE * float(_MANTISSAS[1])


def quantize(table: FloatArray, rng: RandomBytes, levels: int = FINE_LEVELS) -> QuantizedTable:
    """Round each row to `2 levels + 1` levels, up or down at random so that the mean of the result is the value itself.

    table: (..., n_rows, n_columns) float32; entries beyond +-MAX_MAGNITUDE are cut, NaN becomes 0 (a peer whose
    numbers broke must not break others). The error of a value is below one level, `SCALES[codes[i]]`, which is less
    than 1.1 max|row i| / levels. The dither has 8 bits, so a mean may be off by 1/512 of a level; sums over both sides of
    an exchange are not, since both move by what was transmitted.
    """
    if table.size == 0:
        return QuantizedTable(np.zeros(table.shape[:-1], np.uint8), np.zeros(table.shape, np.int8))
    magnitude = np.maximum(table.max(axis=-1), -table.min(axis=-1))
    if not np.all(magnitude <= MAX_MAGNITUDE):
        table = np.clip(np.nan_to_num(table, nan=0.0), -MAX_MAGNITUDE, MAX_MAGNITUDE)
        magnitude = np.abs(table).max(axis=-1)
    codes = _codes(magnitude, levels)
    scaled = table * _INVERSES[codes][..., None]
    scaled += _dither(table, rng)
    np.floor(scaled, out=scaled)
    return QuantizedTable(codes, scaled.astype(np.int8))


def _codes(magnitude: FloatArray, levels: int) -> ScaleCodes:
    """(..., n_rows) the smallest codes whose scales take `levels` to the magnitude."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(magnitude * np.float32(1.000001 / levels))
    codes = np.ceil(np.float32(8) * octaves) + np.float32(_ONE_CODE)
    return np.where(magnitude > 0, np.clip(codes, 1, 255), np.float32(ZERO_CODE)).astype(np.uint8)


def _dither(table: FloatArray, rng: RandomBytes) -> FloatArray:
    """Uniform on (0, 1), in the table's shape and memory order (factors first: `p2prec.model.state`)."""
    *leading, n_rows, columns = table.shape
    drawn = np.frombuffer(rng.bytes(table.size), np.uint8).reshape(*leading, columns, n_rows)
    dither = np.multiply(np.swapaxes(drawn, -1, -2), np.float32(1 / 256), dtype=np.float32)
    dither += np.float32(1 / 512)
    return dither


_INVERSES: FloatArray = np.divide(1, SCALES, out=np.zeros_like(SCALES), where=SCALES > 0)


def dequantize(table: QuantizedTable) -> FloatArray:
    """The values that a table stands for: (..., n_rows, n_columns) float32."""
    values = table.values.astype(np.float32)
    values *= SCALES[table.codes][..., None]
    return values


def quantize_state(parameters: LearningParameters, state: ModelState, part: int, rng: RandomBytes) -> QuantizedTables:
    """What a peer transmits of its state. Rounding is drawn afresh on every call."""
    rows = part_rows(state.item_factors.shape[-2], parameters.n_parts, part)
    levels = coarse_levels(parameters)
    small = slice(None) if part == 0 else slice(0)
    return QuantizedTables(
        part=part,
        item_factors=quantize(state.item_factors[..., rows, :], rng, levels),
        gradient=quantize(state.gradient[..., rows, :], rng, levels),
        evidence=quantize(_blocked(state.evidence[..., rows]), rng),
        gram=quantize(state.gram[..., small, small], rng),
        probe=quantize(state.probe[..., None, :][..., small, small], rng),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What the second of two transmitted states has more than the first, as values, over the rows of one part."""

    rows: slice
    item_factors: FloatArray
    gradient: FloatArray
    evidence: FloatArray
    gram: FloatArray
    probe: FloatArray


def difference(
    parameters: LearningParameters, n_items: int, first: QuantizedTables, second: QuantizedTables
) -> Difference:
    """`second - first`, both of the same part."""
    rows = part_rows(n_items, parameters.n_parts, first.part)
    Q, S, W, G, Z = (dequantize(b) - dequantize(a) for a, b in zip(first, second, strict=True))
    evidence = W.reshape(*W.shape[:-2], -1)[..., : rows.stop - rows.start]
    return Difference(rows, Q, S, evidence, G, Z.reshape(*Z.shape[:-2], -1))


def move(state: ModelState, by: Difference, other_age: float | DoubleArray, direction: int = 1) -> None:
    """Move `state` by its side of an exchange, in place; the other side does the same in the other direction.

    S, W, G and the probe move by half of the difference of the two *transmitted* tables, so what one side gains the other
    loses, and the swarm's sums stay as they are whatever the rounding did. Q moves by the other's share of the two ages: a
    newcomer takes over what an old peer has learned, and an old peer hardly notices the newcomer.

    other_age: rounds behind the other side's model, >= 0; leading peer axes of `state` need an array of that shape.
    direction: 1 where `by` is the other's state minus the own one, -1 where it is the reverse. The increments commute with every
    other change of the state: a late exchange is as good as a punctual one.
    """
    rows, half = by.rows, np.float32(0.5 * direction)
    share = (other_share(state.age, other_age) * direction).astype(np.float32)[..., None, None]
    state.item_factors[..., rows, :] += share * by.item_factors
    state.gradient[..., rows, :] += half * by.gradient
    state.evidence[..., rows] += half * by.evidence
    if by.gram.size:
        state.gram += half * by.gram
        state.probe += half * by.probe


def apply_exchange(
    parameters: LearningParameters,
    state: ModelState,
    sent: QuantizedTables,
    received: QuantizedTables,
    other_age: float | DoubleArray,
) -> None:
    """One side of an exchange (`move`), from what went over the wire."""
    move(state, difference(parameters, state.item_factors.shape[-2], sent, received), other_age)


def other_share(age: float | DoubleArray, other_age: float | DoubleArray) -> DoubleArray:
    """The weight of the other side's item factors, 0 to 1: age_other / (age + age_other), ages capped at AGE_CAP.

    One half when neither has learned anything. The two sides' weights add up to 1, so equal copies stay equal.
    """
    own = np.minimum(np.asarray(age, np.float64), AGE_CAP)
    other = np.minimum(np.asarray(other_age, np.float64), AGE_CAP)
    total = own + other
    return np.where(total > 0, other / np.where(total > 0, total, 1.0), 0.5)


def _blocked(evidence: FloatArray) -> FloatArray:
    """(..., n) to (..., ceil(n / EVIDENCE_BLOCK), EVIDENCE_BLOCK), zero padded."""
    n_items = evidence.shape[-1]
    n_rows = math.ceil(n_items / EVIDENCE_BLOCK)
    padded = np.zeros((*evidence.shape[:-1], n_rows * EVIDENCE_BLOCK), np.float32)
    padded[..., :n_items] = evidence
    return padded.reshape(*evidence.shape[:-1], n_rows, EVIDENCE_BLOCK)

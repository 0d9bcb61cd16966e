"""Eight bits a value: what an exchange transmits, and how both sides move by it.

Every function works on one peer or on many at once: `...` stands for the leading peer axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.state import ModelState, n_columns, n_gram_factors
from p2prec.types import DoubleArray, FloatArray, Int8Array, Scales

EVIDENCE_BLOCK = 16
"""Evidence is a vector: it travels in rows of this many items, so that a scale costs an eighth of a byte an item."""

MAX_MAGNITUDE = 1000.0
"""No table entry may exceed this. Honest values stay below 30; anything larger is a fault or an attack."""

AGE_CAP = 100
"""Rounds beyond which a peer counts as no older. Bounds how firmly an old peer holds on to its item factors."""

_LEVELS = 127
_MAX_SCALE = np.float16(MAX_MAGNITUDE / _LEVELS)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTable:
    """A matrix as int8 rows with one scale a row: value = scales[i] * values[i, j]."""

    scales: Scales
    """(..., n_rows) float16, finite, >= 0; multiply by this to get back the values."""
    values: Int8Array
    """(..., n_rows, n_columns) int8, -127 to 127."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTables:
    """One peer's shared state as transmitted. Shapes follow from the manifest alone (`table_shapes`)."""

    item_factors: QuantizedTable
    """Q: (n_items, n_columns)."""
    gradient: QuantizedTable
    """S: (n_items, n_columns)."""
    evidence: QuantizedTable
    """W: blocked into rows of EVIDENCE_BLOCK, zero padded: (ceil(n_items / EVIDENCE_BLOCK), EVIDENCE_BLOCK)."""
    gram: QuantizedTable
    """G: (n_factors, n_factors); (0, 0) for the explicit objective."""


@dataclass(frozen=True, slots=True)
class TableShapes:
    """(n_rows, n_columns) of each table's `values`; `scales` has n_rows."""

    item_factors: tuple[int, int]
    gradient: tuple[int, int]
    evidence: tuple[int, int]
    gram: tuple[int, int]

    @property
    def payload_bytes(self) -> int:
        """Bytes of all values and scales of one peer's tables, without any framing."""
        tables = (self.item_factors, self.gradient, self.evidence, self.gram)
        return sum(rows * (columns + 2) for rows, columns in tables)


def table_shapes(parameters: LearningParameters, n_items: int) -> TableShapes:
    """The shapes that every message of a swarm has; anything else is malformed."""
    items = (n_items, n_columns(parameters))
    gram = n_gram_factors(parameters)
    return TableShapes(
        item_factors=items,
        gradient=items,
        evidence=(math.ceil(n_items / EVIDENCE_BLOCK), EVIDENCE_BLOCK),
        gram=(gram, gram),
    )


def within_bounds(table: QuantizedTable) -> bool:
    """Whether a received table may be used: finite scales in [0, MAX_MAGNITUDE / 127], values in -127 to 127.

    The caller refuses the whole message otherwise. -128 is refused too: no quantizer of ours makes it, and one value
    has one meaning.
    """
    scales, values = table.scales, table.values
    # NaN fails both comparisons, so it needs no test of its own.
    if not bool(np.all((scales >= 0) & (scales <= _MAX_SCALE))):
        return False
    return values.size == 0 or int(values.min()) >= -_LEVELS


def quantize(table: FloatArray, rng: np.random.Generator) -> QuantizedTable:
    """Round each row to 255 levels, up or down at random so that the mean of the result is the value itself.

    table: (..., n_rows, n_columns) float32; entries beyond +-MAX_MAGNITUDE are cut, NaN becomes 0 (a peer whose
    numbers broke must not break others). The error of a value is below one level, `scales[i]`, which is at most
    max|row i| / 127 rounded up to float16.
    """
    if table.shape[-1] == 0:
        return QuantizedTable(np.zeros(table.shape[:-1], np.float16), np.zeros(table.shape, np.int8))
    low, high = table.min(axis=-1), table.max(axis=-1)
    magnitude = np.maximum(-low, high)
    if not np.all(magnitude <= MAX_MAGNITUDE):
        table = np.clip(np.nan_to_num(table, nan=0.0), -MAX_MAGNITUDE, MAX_MAGNITUDE)
        magnitude = np.abs(table).max(axis=-1)
    exact = magnitude / np.float32(_LEVELS)
    scales = exact.astype(np.float16)
    # A scale that rounded down would push the largest entry past 127, and cutting it there would be a bias.
    scales = np.where(scales.astype(np.float32) < exact, np.nextafter(scales, np.float16(np.inf)), scales)
    scales = np.minimum(scales, _MAX_SCALE)
    divisor = np.where(scales > 0, scales, np.float16(1)).astype(np.float32)
    levels = table / divisor[..., None]
    levels += rng.random(table.shape, dtype=np.float32)
    np.floor(levels, out=levels)
    np.clip(levels, -_LEVELS, _LEVELS, out=levels)
    return QuantizedTable(scales, levels.astype(np.int8))


def dequantize(table: QuantizedTable) -> FloatArray:
    """The values that a table stands for: (..., n_rows, n_columns) float32."""
    return table.values * table.scales.astype(np.float32)[..., None]


def quantize_state(state: ModelState, rng: np.random.Generator) -> QuantizedTables:
    """What a peer transmits of its state. Rounding is drawn afresh on every call."""
    return QuantizedTables(
        item_factors=quantize(state.item_factors, rng),
        gradient=quantize(state.gradient, rng),
        evidence=quantize(_blocked(state.evidence), rng),
        gram=quantize(state.gram, rng),
    )


def apply_exchange(
    state: ModelState, sent: QuantizedTables, received: QuantizedTables, other_age: float | DoubleArray
) -> None:
    """Move `state` by its side of an exchange, in place; the other side does the same with sent and received swapped.

    S, W and G move by half of the difference of the two *transmitted* tables, so what one side gains the other loses,
    and the swarm's sums stay as they are whatever the rounding did. Q moves by the other's share of the two ages: a
    newcomer takes over what an old peer has learned, and an old peer hardly notices the newcomer.

    other_age: rounds behind the other side's model, >= 0. Leading peer axes of `state` need an array of that shape.
    The increments commute with every other change of the state: a late exchange is as good as a punctual one.
    """
    n_items = state.item_factors.shape[-2]
    share = other_share(state.age, other_age).astype(np.float32)[..., None, None]
    state.item_factors += share * (dequantize(received.item_factors) - dequantize(sent.item_factors))
    state.gradient += np.float32(0.5) * (dequantize(received.gradient) - dequantize(sent.gradient))
    moved = np.float32(0.5) * (dequantize(received.evidence) - dequantize(sent.evidence))
    state.evidence += moved.reshape(*moved.shape[:-2], -1)[..., :n_items]
    state.gram += np.float32(0.5) * (dequantize(received.gram) - dequantize(sent.gram))


def other_share(age: float | DoubleArray, other_age: float | DoubleArray) -> DoubleArray:
    """The weight of the other side's item factors, 0 to 1: age_other / (age + age_other), ages capped at AGE_CAP.

    One half when neither has learned anything. The two sides' weights add up to 1, so equal copies stay equal.
    """
    own = np.minimum(np.asarray(age, np.float64), AGE_CAP)
    other = np.minimum(np.asarray(other_age, np.float64), AGE_CAP)
    total = own + other
    return np.where(total > 0, other / np.where(total > 0, total, 1.0), 0.5)


def _blocked(evidence: FloatArray) -> FloatArray:
    """(..., n_items) to (..., ceil(n_items / EVIDENCE_BLOCK), EVIDENCE_BLOCK), zero padded."""
    n_items = evidence.shape[-1]
    n_rows = math.ceil(n_items / EVIDENCE_BLOCK)
    padded = np.zeros((*evidence.shape[:-1], n_rows * EVIDENCE_BLOCK), np.float32)
    padded[..., :n_items] = evidence
    return padded.reshape(*evidence.shape[:-1], n_rows, EVIDENCE_BLOCK)

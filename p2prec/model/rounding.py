"""One table as a few levels a value, rounded so that nothing is lost on average.

A value is rounded after a random number between two levels, the dither, was added to it, and the same number is taken off by
whoever reads it (Roberts 1962; Schuchman 1964). The error is then uniform and independent of the value: its mean is 0, and its
square half of what rounding up or down at random leaves. Both sides know the dither, since it is read from a table that
everybody has, from a place that the message names.

Every function works on one peer or on many at once: `...` stands for the leading peer axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from p2prec.types import FloatArray, IndexArray, Int32Array, ScaleCodes, UInt8Array

MAX_MAGNITUDE = 1000.0
"""No table entry may exceed this. Honest values stay below 30; anything larger is a fault or an attack."""

LEVELS = {1: 256, 2: 16, 3: 6, 4: 4}
"""How many levels a value has, by how many values share a byte."""

SCALE_STEP = 9 / 8
"""The largest factor between one scale and the next."""
MAX_CODE = 255
_FIRST_EXPONENT = -22
"""Of the scales with codes 0 to 7. A code is a small float, 5 bits of exponent and 3 of mantissa: steps of an eighth."""
SCALE_BITS = 20
"""Mantissa bits of a float32 below those that a code has."""
BITS_OF_CODE_0 = (127 + _FIRST_EXPONENT) << 3
SCALE_MARGIN = 1.000001
"""What is added to a row's largest magnitude, so that its quotient stays within the levels however it is rounded."""


def is_transmittable(table: FloatArray) -> bool:
    """Whether all of it can be transmitted as it is: no entry is beyond +-MAX_MAGNITUDE, or NaN."""
    # NaN fails the comparison too.
    return max(float(table.max()), -float(table.min())) <= MAX_MAGNITUDE


def _scales() -> FloatArray:
    code = np.arange(MAX_CODE + 1)
    return np.ldexp(1 + (code % 8) / 8, _FIRST_EXPONENT + code // 8).astype(np.float32)


SCALES: FloatArray = _scales()
"""(256,) float32: what each scale code stands for, `(1 + code % 8 / 8) * 2^(code // 8 - 22)`."""

DITHER_PERIOD = 1 << 16


def _dither() -> FloatArray:
    mixed = np.arange(DITHER_PERIOD, dtype=np.uint32)
    for shift, factor in ((8, 0x88B5), (7, 0xDB2D)):
        mixed ^= mixed >> shift
        mixed = mixed * np.uint32(factor) & np.uint32(DITHER_PERIOD - 1)
    mixed ^= mixed >> 9
    return (((mixed >> 1) + 0.5) / (DITHER_PERIOD >> 1)).astype(np.float32)


DITHER: FloatArray = _dither()
"""Every odd 65,536th part of 1 twice, in an order without a pattern (each place mixed by a bijection of 16 bits): read round and
round from a random place on, it is a uniform variable for each entry, for the price of one draw. It hides nothing."""


class Dice(Protocol):
    """What rounding needs of a generator (`numpy.random.Generator` is one)."""

    def integers(self, high: int, /, *, size: Any = ...) -> Any: ...


@dataclass(frozen=True, slots=True)
class TableShape:
    """One table of a message."""

    rows: int
    columns: int
    per_byte: int
    """Values that share a byte, a key of LEVELS."""

    @property
    def levels(self) -> int:
        return LEVELS[self.per_byte]

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def value_bytes(self) -> int:
        return -(-self.size // self.per_byte)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTable:
    """A matrix as whole numbers with one scale a row: value = SCALES[codes[i]] * (values[i, j] + 1/2 - D[i, j]), with D the
    `shifted_dither` from the table's place on.
    """

    codes: ScaleCodes
    """(..., n_rows) uint8."""
    values: UInt8Array
    """(..., n_rows, n_columns) uint8, 0 to levels - 1."""


def reach(levels: int) -> float:
    """Half of the distance between the outermost levels, in levels."""
    return (levels - 1) / 2


@lru_cache
def shifted_dither(levels: int) -> FloatArray:
    """(DITHER_PERIOD,) DITHER + reach, exactly: added to a value of -reach to reach, it makes one of 0 to `levels`."""
    return DITHER + np.float32(reach(levels))


def draw_place(rng: Dice, leading: tuple[int, ...] = ()) -> Any:
    """Where in the dither to begin: an integer, or an array of leading axes."""
    return rng.integers(DITHER_PERIOD, size=leading) if leading else int(rng.integers(DITHER_PERIOD))


def within_bounds(table: QuantizedTable, shape: TableShape) -> bool:
    """Whether a received table may be used: values below `levels`, no scale that would take the outermost levels beyond
    MAX_MAGNITUDE (but for the step between two scales).

    The caller refuses the whole message otherwise.
    """
    if table.values.size == 0:
        return True
    if int(table.values.max()) >= shape.levels:
        return False
    return float(SCALES[int(table.codes.max())]) * reach(shape.levels) <= MAX_MAGNITUDE * SCALE_STEP


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A table before it is packed."""

    levels: FloatArray
    """(..., n_rows, n_columns) float32, whole numbers from 0 on."""
    dither: FloatArray
    """As `levels`: what was added."""
    codes: Int32Array
    """(..., n_rows)."""
    scale: FloatArray
    """(..., n_rows), SCALES of the codes."""

    def quantized(self) -> QuantizedTable:
        return QuantizedTable(self.codes.astype(np.uint8), self.levels.astype(np.uint8))

    def values(self) -> FloatArray:
        """What the other side will read. Uses up `levels`."""
        return _read(self.levels, self.dither, self.scale)


def rounded(table: FloatArray, levels: int, place: int | IndexArray) -> Rounded:
    """Round each row to `levels` levels; place: where in the dither its first entry reads, of each peer.

    table: (..., n_rows, n_columns) float32; entries beyond +-MAX_MAGNITUDE are cut, NaN becomes 0 (a peer whose numbers
    broke must not break others). The error of a value is at most half a level, `SCALES[codes[i]]`, which is at most
    9/8 max|row i| / reach.
    """
    dither = _dither_of(table, levels, place)
    if table.size == 0:
        rows = table.shape[:-1]
        return Rounded(np.zeros(table.shape, np.float32), dither, np.zeros(rows, np.int32), np.zeros(rows, np.float32))
    magnitude = np.maximum(table.max(axis=-1), -table.min(axis=-1))
    if not magnitude.max() <= MAX_MAGNITUDE:
        table = np.clip(np.nan_to_num(table, nan=0.0), -MAX_MAGNITUDE, MAX_MAGNITUDE)
        magnitude = np.abs(table).max(axis=-1)
    codes = _codes(magnitude, levels)
    scale = ((codes + BITS_OF_CODE_0) << SCALE_BITS).view(np.float32)
    level = table * (np.float32(1) / scale)[..., None]
    level += dither
    np.floor(level, out=level)
    return Rounded(level, dither, codes, scale)


def dequantize(table: QuantizedTable, levels: int, place: int | IndexArray) -> FloatArray:
    """The values that a table stands for: (..., n_rows, n_columns) float32."""
    values = table.values.astype(np.float32)
    scale = np.asarray(SCALES, like=table.codes)[table.codes]
    return _read(values, _dither_of(values, levels, place), scale)


def _read(values: FloatArray, dither: FloatArray, scale: FloatArray) -> FloatArray:
    """In place. But for the product, everything is exact in float32."""
    values += np.float32(0.5)
    values -= dither
    values *= scale[..., None]
    return values


def _codes(magnitude: FloatArray, levels: int) -> Int32Array:
    """(..., n_rows) the smallest codes whose scales take `reach` to the magnitude; a row of zeros has code 0."""
    smallest = magnitude * np.float32(SCALE_MARGIN / reach(levels))
    codes = (smallest.view(np.int32) + ((1 << SCALE_BITS) - 1)) >> SCALE_BITS
    codes -= BITS_OF_CODE_0
    bounded: Int32Array = np.minimum(np.maximum(codes, 0), MAX_CODE)
    return bounded


def _dither_of(table: FloatArray, levels: int, place: Any) -> FloatArray:
    """`shifted_dither` for each entry, in the table's shape and memory order (factors first: `p2prec.model.state`)."""
    *leading, n_rows, columns = table.shape
    source, size = shifted_dither(levels), n_rows * columns
    if leading:  # each peer reads from a place of its own
        places = (place[..., None] + np.arange(size)) % DITHER_PERIOD
        drawn = np.asarray(source, like=places)[places]
        return np.swapaxes(drawn.reshape(*leading, columns, n_rows), -1, -2)
    start = place % DITHER_PERIOD
    drawn = source[start : start + size]
    if len(drawn) < size:
        drawn = np.resize(np.concatenate((drawn, source[:start])), size)
    return np.swapaxes(drawn.reshape(columns, n_rows), -1, -2)

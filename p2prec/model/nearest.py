"""Eight or sixteen bits a value for sums that have to come out exactly: rounded to the nearest level, without chance.

Random rounding (`p2prec.model.quantize`) keeps the mean of many values right. A private sum does not need that, since both
sides of an exchange move by the same difference of what was transmitted, and whatever rounding took stays with its owner. It
needs small errors: what a crashed peer had not transmitted is what its heir cannot restore. Nearest rounding has two thirds
of the error; and while values are still mostly masks they take sixteen bits, with a 256th of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2prec.types import FloatArray, Int8Array, Int16Array, Scales

ROW = 64
"""Values that share a scale: a quarter of a bit a value."""
MAX_MAGNITUDE = 1000.0
"""No value may exceed this. Honest ones stay below 50 (masks of 30 partners, six standard deviations)."""
_LEVELS = {np.dtype(np.int8): 127, np.dtype(np.int16): 32767}
"""The largest level, by the type of levels."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A vector (or many, along leading axes) in rows of ROW, the last padded with 0."""

    scales: Scales
    """(..., n_rows) float16, finite, >= 0: a value is its level times this."""
    levels: Int8Array | Int16Array
    """(..., n_rows, ROW) int8, -127 to 127, or int16, -32767 to 32767."""

    @property
    def payload_bytes(self) -> int:
        return self.scales.nbytes + self.levels.nbytes


def n_rows(count: int) -> int:
    return -(-count // ROW)


def max_scale(levels: np.dtype[Any]) -> np.float16:
    """The largest scale of levels of this type: no value exceeds MAX_MAGNITUDE."""
    return np.float16(MAX_MAGNITUDE / _LEVELS[levels])


def encode(values: FloatArray, *, fine: bool = False) -> Levels:
    """values: (..., count) float32; beyond +-MAX_MAGNITUDE they are cut, NaN becomes 0 (a peer whose numbers broke must not break
    others). fine: sixteen bits instead of eight.
    """
    kind = np.dtype(np.int16 if fine else np.int8)
    most, largest = _LEVELS[kind], max_scale(kind)
    rows = np.zeros((*values.shape[:-1], n_rows(values.shape[-1]) * ROW), np.float32)
    rows[..., : values.shape[-1]] = values
    rows = rows.reshape(*values.shape[:-1], n_rows(values.shape[-1]), ROW)
    magnitude = np.maximum(-rows.min(axis=-1), rows.max(axis=-1))
    if not np.all(magnitude <= MAX_MAGNITUDE):
        rows = np.clip(np.nan_to_num(rows, nan=0.0), -MAX_MAGNITUDE, MAX_MAGNITUDE)
        magnitude = np.abs(rows).max(axis=-1)
    exact = magnitude / np.float32(most)
    scales = exact.astype(np.float16)
    # A scale that rounded down would push the largest value past the last level.
    scales = np.where(scales.astype(np.float32) < exact, np.nextafter(scales, np.float16(np.inf)), scales)
    scales = np.minimum(scales, largest)
    divisor = np.where(scales > 0, scales, np.float16(1)).astype(np.float32)
    levels = np.rint(rows * (1 / divisor)[..., None])
    return Levels(scales, np.clip(levels, -most, most).astype(kind))


def decode(levels: Levels, count: int) -> FloatArray:
    """The values (..., count) float32."""
    values: FloatArray = levels.levels * levels.scales.astype(np.float32)[..., None]
    return values.reshape(*values.shape[:-2], values.shape[-2] * ROW)[..., :count]


def to_bytes(levels: Levels) -> tuple[bytes, bytes]:
    """Scales and levels, both little-endian."""
    wide = levels.levels.dtype.newbyteorder("<")
    return levels.scales.astype("<f2").tobytes(), levels.levels.astype(wide, copy=False).tobytes()


def from_bytes(scales: bytes, levels: bytes, count: int) -> Levels:
    """What `to_bytes` made of `count` values; how many bytes there are tells how wide levels are. Read-only; bounds are
    `is_encoded`'s. Raises ValueError for other numbers of bytes.
    """
    rows = n_rows(count)
    if len(scales) != 2 * rows or len(levels) not in (ROW * rows, 2 * ROW * rows):
        raise ValueError(f"{count} values have {2 * rows} bytes of scales, and {ROW * rows} of levels or twice as many")
    factors = np.frombuffer(scales, "<f2").astype(np.float16, copy=False)
    if len(levels) == ROW * rows:
        return Levels(factors, np.frombuffer(levels, np.int8).reshape(rows, ROW))
    return Levels(factors, np.frombuffer(levels, "<i2").astype(np.int16, copy=False).reshape(rows, ROW))


def is_encoded(levels: Levels, count: int) -> bool:
    """Whether a received vector has the shape and the bounds that `encode` gives; the whole message is refused otherwise."""
    shaped = levels.scales.shape == (n_rows(count),) and levels.levels.shape == (n_rows(count), ROW)
    if not shaped or levels.scales.dtype != np.float16 or levels.levels.dtype not in _LEVELS:
        return False
    # NaN fails both comparisons.
    bounded = bool(np.all((levels.scales >= 0) & (levels.scales <= max_scale(levels.levels.dtype))))
    return bounded and (levels.levels.size == 0 or int(levels.levels.min()) >= -_LEVELS[levels.levels.dtype])

"""Exchanges of private sums in one go over both vectors: `p2prec.model.nearest` `encode` and `decode`, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2prec.lab.compiled.machine import compiled
from p2prec.model.nearest import MAX_MAGNITUDE, ROW, max_scale

_MAGNITUDE_BITS = np.int32(0x7FFFFFFF)
_MAX = np.float32(MAX_MAGNITUDE)
_MAX_BITS = int(_MAX.view(np.int32))
_MOST, _MOST_FINE = np.float32(127), np.float32(32767)
_MAX_SCALE, _MAX_SCALE_FINE = (np.float32(max_scale(np.dtype(kind))) for kind in (np.int8, np.int16))
_TO_NEAREST = np.float32(3 * 2**22)
"""Added to a float32 below 2^22 and taken off again: what is left is rounded as `rint` does."""
_SMALLEST_NORMAL = np.float32(2.0**-14)
_STEP_BELOW = np.float32(2.0**-24)
"""Of float16 below its smallest normal number."""
_LOST_BITS = 0x1FFF
"""Of a float32's fraction, in float16."""
_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0), np.float32(1)


@compiled()
def mix(block: Any, rows: Any) -> None:
    """Disjoint exchanges: both sides move by half of the difference of what arrives. block: (n_peers, n_columns) float32,
    changed; rows: as in `p2prec.lab.gossip_sum.Course`.
    """
    bits, n_columns = block.view(np.int32), block.shape[1]
    sent, received = np.empty(ROW, np.float32), np.empty(ROW, np.float32)
    scale = np.empty(1, np.float32)
    for row in range(len(rows)):
        one, other = rows[row, 0], rows[row, 1]
        for start in range(0, n_columns, ROW):
            end = min(start + ROW, n_columns)
            _transmit(block[one, start:end], bits[one, start:end], rows[row, 3] == 1, sent, scale)
            _transmit(block[other, start:end], bits[other, start:end], rows[row, 4] == 1, received, scale)
            for column in range(end - start):
                half = _HALF * (received[column] - sent[column])
                block[one, start + column] += half
                block[other, start + column] -= half


@compiled()
def _transmit(values: Any, bits: Any, fine: bool, arrived: Any, scale: Any) -> None:
    """What arrives of a row of values; bits: the same as int32; scale: (1,) float32 to work with."""
    most, largest = (_MOST_FINE, _MAX_SCALE_FINE) if fine else (_MOST, _MAX_SCALE)
    # Of numbers without a sign the bits have their order; and integers' maximum takes one instruction for many.
    top = np.int32(0)
    for column in range(len(values)):
        top = max(top, bits[column] & _MAGNITUDE_BITS)
    if top > _MAX_BITS:
        for column in range(len(values)):
            value = values[column]
            arrived[column] = _ZERO if value != value else min(max(value, -_MAX), _MAX)
    else:
        for column in range(len(values)):
            arrived[column] = values[column]
    scale.view(np.int32)[0] = top
    if top > _MAX_BITS:
        scale[0] = _ZERO
        for column in range(len(values)):
            scale[0] = max(scale[0], abs(arrived[column]))
    _round_up(scale, scale[0] / most)
    factor = min(scale[0], largest)
    inverse = _ONE / (factor if factor > _ZERO else _ONE)
    for column in range(len(values)):
        level = (arrived[column] * inverse + _TO_NEAREST) - _TO_NEAREST
        arrived[column] = min(max(level, -most), most) * factor


@compiled()
def _round_up(scale: Any, exact: Any) -> None:
    """scale[0] becomes the smallest float16 that is not below `exact`."""
    scale[0] = exact
    if exact >= _SMALLEST_NORMAL:
        bits = scale.view(np.int32)
        bits[0] = (bits[0] + _LOST_BITS) & ~_LOST_BITS
    else:
        scale[0] = np.ceil(exact / _STEP_BELOW) * _STEP_BELOW

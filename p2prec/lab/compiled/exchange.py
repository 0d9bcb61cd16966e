"""Both sides of an exchange in one go over their tables: `p2prec.model.quantize` `transmit`, `between` and `move`, to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from p2prec.lab.compiled.machine import compiled, next_uint32
from p2prec.lab.schedule import Fate
from p2prec.model.quantize import AGE_CAP, BLOCK
from p2prec.model.rounding import (
    BITS_OF_CODE_0,
    DITHER_PERIOD,
    MAX_CODE,
    MAX_MAGNITUDE,
    SCALE_BITS,
    SCALE_MARGIN,
    reach,
    shifted_dither,
)
from p2prec.model.state import PROBE_WIDTH
from p2prec.types import FloatArray

_MAX_BITS = int(np.float32(MAX_MAGNITUDE).view(np.int32))
_APPLIED = int(Fate.APPLIED)


def levels_of(levels: int) -> tuple[FloatArray, np.float32]:
    """What the kernels round to so many levels by: what is added, and what a row's largest magnitude is multiplied with."""
    return shifted_dither(levels), np.float32(SCALE_MARGIN / reach(levels))


@compiled()
def draw_place(generator: Any) -> int:
    """Where a peer reads the dither of one exchange."""
    # What `Generator.integers` makes of 32 bits when the bound is a power of two.
    return np.int64(next_uint32(generator[0], generator[1]) // ((1 << 32) // DITHER_PERIOD))  # type: ignore[return-value]


@compiled()
def exchange(
    item_factors: Any,
    gradient: Any,
    evidence: Any,
    gram: Any,
    probe: Any,
    age: Any,
    meetings: Any,
    answers: Any,
    bounds: Any,
    generators: Any,
    coding: Any,
) -> None:
    """Play meetings between distinct peers.

    Stacked states; meetings: as `Schedule.draw` gives them; answers: (n,) what their responders drew
    (`draw_place`); bounds: (n_parts, 2) the item rows of each part; generators: (n_peers, 2) of `machine.generators`;
    coding: `levels_of` for Q, S and what is small.
    """
    n_items, n_columns = evidence.shape[1], gram.shape[1]
    small_rows = math.ceil(n_items / BLOCK) + math.ceil(n_columns * n_columns / BLOCK) + PROBE_WIDTH // BLOCK
    blocks, most_rows = np.empty((2, BLOCK, small_rows), np.float32), max(n_items, small_rows)
    largest, values = np.empty(most_rows, np.int32), np.empty((2, most_rows), np.float32)
    scales = np.empty((2, 2, most_rows), np.float32)
    places = np.empty(2, np.int64)
    for at in range(len(meetings)):
        one, other, part, fate = meetings[at, 0], meetings[at, 1], meetings[at, 2], meetings[at, 3]
        places[0], places[1] = draw_place(generators[one]), answers[at]
        if fate != _APPLIED:
            continue
        low, high = bounds[part]
        n_values = (high - low) * n_columns
        shares = _share(age[one], age[other]), -_share(age[other], age[one])
        halves = np.float32(0.5), np.float32(-0.5)
        both = item_factors[one], item_factors[other]
        _exchange_table(both, low, high, coding[0], places, shares, largest, scales, values)
        both = gradient[one], gradient[other]
        _exchange_table(both, low, high, coding[1], places + n_values, halves, largest, scales, values)
        _exchange_small(
            (evidence[one, low:high], evidence[other, low:high]),
            (gram[one].reshape(-1), gram[other].reshape(-1)),
            (probe[one], probe[other]),
            part == 0,
            coding[2],
            places + 2 * n_values,
            halves,
            blocks,
            largest,
            scales,
            values,
        )


@compiled()
def _share(age: float, other_age: float) -> Any:
    mine, others = min(age, float(AGE_CAP)), min(other_age, float(AGE_CAP))
    return np.float32(others / (mine + others) if mine + others > 0 else 0.5)


@compiled()
def _exchange_table(
    both: Any,
    low: int,
    high: int,
    coding: Any,
    places: Any,
    shares: Any,
    largest: Any,
    scales: Any,
    values: Any,
) -> None:
    """Round the columns [low, high) of two tables, factors first, and move each by its share of the difference."""
    n_rows = high - low
    one, other = both
    dither, margin = coding
    seen = (
        _scaled(one, low, high, margin, largest[:n_rows], scales[0, :, :n_rows]),
        _scaled(other, low, high, margin, largest[:n_rows], scales[1, :, :n_rows]),
    )
    for column in range(one.shape[0]):
        for side in range(2):
            place = (places[side] + column * n_rows) % DITHER_PERIOD
            done = 0
            while done < n_rows:
                run = min(n_rows - done, DITHER_PERIOD - place)
                _round(
                    seen[side][column, low + done : low + done + run],
                    dither[place : place + run],
                    scales[side, 0, done : done + run],
                    scales[side, 1, done : done + run],
                    values[side, done : done + run],
                )
                done, place = done + run, 0
        _difference(values[0, :n_rows], values[1, :n_rows])
        _add(one[column, low:high], shares[0], values[1, :n_rows])
        _add(other[column, low:high], shares[1], values[1, :n_rows])


@compiled()
def _exchange_small(
    evidence: Any,
    gram: Any,
    probe: Any,
    whole: bool,
    coding: Any,
    places: Any,
    halves: Any,
    blocks: Any,
    largest: Any,
    scales: Any,
    values: Any,
) -> None:
    """The vectors in blocks, as a table of their own. whole: with gram and probe."""
    n_evidence, n_gram = math.ceil(evidence[0].size / BLOCK), math.ceil(gram[0].size / BLOCK)
    n_rows = n_evidence + (n_gram + PROBE_WIDTH // BLOCK if whole else 0)
    for side in range(2):
        _block(evidence[side], blocks[side], 0)
        if whole:
            _block(gram[side], blocks[side], n_evidence)
            _block(probe[side], blocks[side], n_evidence + n_gram)
    both = blocks[0], blocks[1]
    _exchange_table(both, 0, n_rows, coding, places, halves, largest, scales, values)
    for side in range(2):
        _unblock(blocks[side], 0, evidence[side])
        if whole:
            _unblock(blocks[side], n_evidence, gram[side])
            _unblock(blocks[side], n_evidence + n_gram, probe[side])


@compiled()
def _scaled(table: Any, low: int, high: int, margin: Any, largest: Any, scales: Any) -> Any:
    """Choose the scale of each row, and one over it. Returns the table as it is transmitted: itself, or a copy with what
    may not be transmitted cut.
    """
    # As bits magnitudes have the order of their values, and NaN is above them all.
    if _largest(table, low, high, largest) > _MAX_BITS:
        table = _cut(table)
        _largest(table, low, high, largest)
    scale, inverse = scales[0], scales[1]
    magnitude, bits = largest.view(np.float32), scale.view(np.int32)
    for row in range(len(largest)):
        scale[row] = magnitude[row] * margin
    for row in range(len(largest)):
        code = ((bits[row] + np.int32((1 << SCALE_BITS) - 1)) >> np.int32(SCALE_BITS)) - np.int32(BITS_OF_CODE_0)
        code = min(max(code, np.int32(0)), np.int32(MAX_CODE))
        bits[row] = (code + np.int32(BITS_OF_CODE_0)) << np.int32(SCALE_BITS)
    for row in range(len(largest)):
        inverse[row] = np.float32(1) / scale[row]
    return table


@compiled()
def _largest(table: Any, low: int, high: int, largest: Any) -> Any:
    """Into `largest` each row's largest magnitude, as bits. Returns the largest of them."""
    bits = table.view(np.int32)
    largest[:] = 0
    for column in range(table.shape[0]):
        _raise(largest, bits[column, low:high])
    most = np.int32(0)
    for row in range(len(largest)):
        most = largest[row] if largest[row] > most else most
    return most


@compiled()
def _raise(largest: Any, bits: Any) -> None:
    for row in range(len(largest)):
        magnitude = bits[row] & np.int32(0x7FFFFFFF)
        largest[row] = magnitude if magnitude > largest[row] else largest[row]


@compiled()
def _cut(table: Any) -> Any:
    cut, limit = np.zeros_like(table), np.float32(MAX_MAGNITUDE)
    for column in range(table.shape[0]):
        for row in range(table.shape[1]):
            value = table[column, row]
            if not np.isnan(value):
                cut[column, row] = min(max(value, -limit), limit)
    return cut


@compiled()
def _round(table: Any, dither: Any, scale: Any, inverse: Any, values: Any) -> None:
    for row in range(len(values)):
        level = np.floor(table[row] * inverse[row] + dither[row])
        values[row] = (level + np.float32(0.5) - dither[row]) * scale[row]


@compiled()
def _difference(one: Any, other: Any) -> None:
    """other <- other - one."""
    for row in range(len(one)):
        other[row] -= one[row]


@compiled()
def _add(table: Any, share: Any, by: Any) -> None:
    for row in range(len(table)):
        table[row] += share * by[row]


@compiled()
def _block(vector: Any, blocks: Any, first: int) -> None:
    """A vector in rows of BLOCK from row `first` on, zero padded; blocks: (BLOCK, n_rows)."""
    for row in range(math.ceil(len(vector) / BLOCK)):
        for column in range(BLOCK):
            at = row * BLOCK + column
            blocks[column, first + row] = vector[at] if at < len(vector) else np.float32(0)


@compiled()
def _unblock(blocks: Any, first: int, vector: Any) -> None:
    for row in range(math.ceil(len(vector) / BLOCK)):
        for column in range(min(BLOCK, len(vector) - row * BLOCK)):
            vector[row * BLOCK + column] = blocks[column, first + row]

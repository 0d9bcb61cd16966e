"""Quantized tables as bytes, and the checks of those from outside (protocols/wire-v2.md, "Tables").

Sizes follow from the manifest and the number of the part, which stands in front of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.quantize import (
    BLOCK,
    QuantizedTable,
    QuantizedTables,
    TableShape,
    TableShapes,
    table_shapes,
    within_bounds,
)
from p2prec.types import Int8Array
from p2prec.wire.fields import binary, exactly, malformed, uint

TABLES_FIELDS: Final = 11
"""The number of the part, and scale codes and values of five tables."""

_NIBBLE_LEVELS = 7
"""Values of at most so much are packed two to a byte."""
_PAIR = np.dtype("<u2")
"""Two values of a byte each, the first in the low one: all arithmetic is then along memory."""


class TablesLayout:
    """How one swarm's tables lie in its offers and answers, part by part."""

    def __init__(self, parameters: LearningParameters, n_items: int) -> None:
        self._n_items = n_items
        self._shapes: tuple[TableShapes, ...] = tuple(
            table_shapes(parameters, n_items, part) for part in range(parameters.n_parts)
        )
        self.max_bytes = max(shapes.payload_bytes for shapes in self._shapes)
        """Scale codes and values of the largest part."""

    def fields(self, tables: QuantizedTables) -> list[int | bytes]:
        """The elements that `read` makes the same tables from. Raises ValueError for tables of another swarm."""
        if not 0 <= tables.part < len(self._shapes):
            raise ValueError(f"part {tables.part} of tables that have {len(self._shapes)}")
        fields: list[int | bytes] = [tables.part]
        for table, shape in zip(tables, self._shapes[tables.part], strict=True):
            if table.values.shape != (shape.rows, shape.columns) or table.codes.shape != (shape.rows,):
                raise ValueError(f"a table of shape {table.values.shape}, not {(shape.rows, shape.columns)}")
            if table.values.dtype != np.int8 or table.codes.dtype != np.uint8:
                raise ValueError(f"a table of {table.values.dtype} and {table.codes.dtype}")
            if not within_bounds(table, shape):  # four bits would make another value of it
                raise ValueError("a table of values beyond its levels or the largest scale")
            fields.append(table.codes.tobytes())
            fields.append(pack_values(table.values, shape))
        return fields

    def read(self, fields: Sequence[Any]) -> QuantizedTables:
        """Tables from outside, read-only. Raises RemoteMisbehaviour ("malformed")."""
        part, *arrays = exactly(fields, TABLES_FIELDS)
        shapes = self._shapes[uint(part, "part", 0, len(self._shapes) - 1)]
        tables = [
            _read_table(codes, values, shape)
            for codes, values, shape in zip(arrays[::2], arrays[1::2], shapes, strict=True)
        ]
        received = QuantizedTables(part, *tables)
        _check_padding(received.evidence, shapes.item_factors.rows)
        if part == 0:
            _check_padding(received.gram, shapes.item_factors.columns**2)
        return received


def pack_values(values: Int8Array, shape: TableShape) -> bytes:
    """The values column by column, one to a byte or, where 4 bits are enough, two: the first in the low ones.

    values: (rows, columns) int8 within the levels of `shape`. An odd count leaves the last four bits 0.
    """
    flat = np.ascontiguousarray(values.T).reshape(-1).view(np.uint8)  # no copy of tables that lie factors first
    if shape.levels > _NIBBLE_LEVELS:
        return flat.tobytes()
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    pairs = flat.view(_PAIR)
    return (pairs & 0xF | pairs >> 4 & 0xF0).astype(np.uint8).tobytes()


def unpack_values(data: bytes, shape: TableShape) -> Int8Array:
    """(rows, columns) int8, read-only, factors first in memory. data: `shape.value_bytes` of them.

    Raises RemoteMisbehaviour ("malformed") when the four bits that an odd count leaves are not 0. Values may be any that the
    bits can hold.
    """
    flat: Int8Array = np.frombuffer(data, np.int8)
    if shape.levels <= _NIBBLE_LEVELS:
        flat = _nibbles(data)
        if flat.size > shape.rows * shape.columns:
            if flat[-1]:
                raise malformed("a value beyond the last one")
            flat = flat[:-1]
        flat.flags.writeable = False
    return flat.reshape(shape.columns, shape.rows).T


def _nibbles(data: bytes) -> Int8Array:
    """(2 n,) int8: the low, then the high half of each byte, as two's complement."""
    pairs = np.frombuffer(data, np.uint8).astype(_PAIR)
    pairs |= pairs << 4
    pairs &= 0x0F0F
    halves = pairs.view(np.int8)
    halves ^= 8  # and minus 8: the fourth bit becomes the sign
    halves -= 8
    return halves


def _check_padding(vector: QuantizedTable, n_values: int) -> None:
    """A vector in rows of BLOCK ends in zeros, which are in its last row."""
    n_padded = vector.values.size - n_values
    if vector.values[-1:, BLOCK - n_padded :].any():
        raise malformed("a value beyond the end of a vector")


def _read_table(codes: Any, values: Any, shape: TableShape) -> QuantizedTable:
    table = QuantizedTable(
        codes=np.frombuffer(binary(codes, "scale codes", shape.rows), np.uint8),
        values=unpack_values(binary(values, "values", shape.value_bytes), shape),
    )
    if not within_bounds(table, shape):
        raise malformed("a scale or a value is out of range")
    return table

"""Quantized tables as bytes, and the checks of those from outside (protocols/wire-v3.md, "Tables").

Sizes follow from the manifest and the number of the part, which stands in front of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from p2prec.manifest import LearningParameters
from p2prec.model.quantize import QuantizedTables, TableShapes, table_shapes, valid
from p2prec.model.rounding import DITHER_PERIOD, LEVELS, QuantizedTable, TableShape, within_bounds
from p2prec.types import UInt8Array
from p2prec.wire.fields import binary, exactly, malformed, uint

TABLES_FIELDS: Final = 8
"""The number of the part, the place in the dither, and scale codes and values of three tables."""


class TablesLayout:
    """How one swarm's tables lie in its offers and answers, part by part."""

    def __init__(self, parameters: LearningParameters, n_items: int) -> None:
        self._shapes: tuple[TableShapes, ...] = tuple(
            table_shapes(parameters, n_items, part) for part in range(parameters.n_parts)
        )
        self.max_bytes = max(shapes.payload_bytes for shapes in self._shapes)
        """Scale codes and values of the largest part."""

    def fields(self, tables: QuantizedTables) -> list[int | bytes]:
        """The elements that `read` makes the same tables from. Raises ValueError for tables of another swarm."""
        if not 0 <= tables.part < len(self._shapes):
            raise ValueError(f"part {tables.part} of tables that have {len(self._shapes)}")
        fields: list[int | bytes] = [tables.part, tables.place]
        for table, shape in zip(tables, self._shapes[tables.part], strict=True):
            if table.values.shape != (shape.rows, shape.columns) or table.codes.shape != (shape.rows,):
                raise ValueError(f"a table of shape {table.values.shape}, not {(shape.rows, shape.columns)}")
            if table.values.dtype != np.uint8 or table.codes.dtype != np.uint8:
                raise ValueError(f"a table of {table.values.dtype} and {table.codes.dtype}")
            if not within_bounds(table, shape):  # a byte would make others of its values
                raise ValueError("a table of values beyond its levels or the largest scale")
            fields.append(table.codes.tobytes())
            fields.append(pack_values(table.values, shape))
        return fields

    def read(self, fields: Sequence[Any]) -> QuantizedTables:
        """Tables from outside, read-only. Raises RemoteMisbehaviour ("malformed")."""
        part, place, *arrays = exactly(fields, TABLES_FIELDS)
        shapes = self._shapes[uint(part, "part", 0, len(self._shapes) - 1)]
        tables = [
            QuantizedTable(
                np.frombuffer(binary(codes, "scale codes", shape.rows), np.uint8),
                unpack_values(binary(values, "values", shape.value_bytes), shape),
            )
            for codes, values, shape in zip(arrays[::2], arrays[1::2], shapes, strict=True)
        ]
        received = QuantizedTables(part, uint(place, "place", 0, DITHER_PERIOD - 1), *tables)
        if not valid(received, shapes):
            raise malformed("a scale is out of range, or a vector goes on beyond its end")
        return received


def pack_values(values: UInt8Array, shape: TableShape) -> bytes:
    """The values column by column, so many to a byte as `shape` says: digits of a number to the base `levels`, the first the
    lowest. Digits that the last byte has left are 0.

    values: (rows, columns) uint8 below the levels of `shape`.
    """
    flat = np.ascontiguousarray(values.T).reshape(-1)  # no copy of tables that lie factors first
    digits = np.zeros(shape.value_bytes * shape.per_byte, np.uint8)
    digits[: flat.size] = flat
    packed = digits[shape.per_byte - 1 :: shape.per_byte].copy()
    for digit in reversed(range(shape.per_byte - 1)):
        packed *= np.uint8(shape.levels)
        packed += digits[digit :: shape.per_byte]
    return packed.tobytes()


def unpack_values(data: bytes, shape: TableShape) -> UInt8Array:
    """(rows, columns) uint8, read-only, factors first in memory. data: `shape.value_bytes` of them.

    Raises RemoteMisbehaviour ("malformed") for a byte that is no such number, and when digits that are left in the last one are
    not 0.
    """
    packed = np.frombuffer(data, np.uint8)
    if packed.size and int(packed.max()) >= shape.levels**shape.per_byte:
        raise malformed("a byte that stands for no values")
    digits = _digits(shape.per_byte)[packed].reshape(-1)
    if digits[shape.size :].any():
        raise malformed("a value beyond the last one")
    flat: UInt8Array = digits[: shape.size]
    flat.flags.writeable = False
    return flat.reshape(shape.columns, shape.rows).T


@lru_cache
def _digits(per_byte: int) -> UInt8Array:
    """(256, per_byte) what each byte stands for."""
    levels = LEVELS[per_byte]
    digits: UInt8Array = (np.arange(256)[:, None] // levels ** np.arange(per_byte) % levels).astype(np.uint8)
    return digits

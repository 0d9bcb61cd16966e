"""Eight bits a value: what an exchange transmits, and how both sides move by it. (Skeleton: the learning owner completes it.)"""

from __future__ import annotations

from dataclasses import dataclass

from p2prec.types import Int8Array, Scales


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

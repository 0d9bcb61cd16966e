"""Bounding what one contribution can change: the sensitivity that the noise is scaled to."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from p2prec.types import DoubleArray, FloatArray


def joint_norm(arrays: Sequence[FloatArray], *, peer_axes: int = 0) -> DoubleArray:
    """L2 norm over all entries of all arrays together, one norm for each index of the `peer_axes` leading axes.

    Computed in float64, so that entries up to the float32 range cannot overflow it.
    """
    total: DoubleArray = np.zeros(arrays[0].shape[:peer_axes] if arrays else (), dtype=np.float64)
    for array in arrays:
        wide, axes = array.astype(np.float64), string.ascii_letters[: array.ndim]
        # Not flattened: of tables that lie in memory factor by factor that takes ten times as long as the sum.
        total = total + np.einsum(f"{axes},{axes}->{axes[:peer_axes]}", wide, wide)
    return np.sqrt(total)


def clip_factor(arrays: Sequence[FloatArray], norm: float, *, peer_axes: int = 0) -> DoubleArray:
    """What to multiply all arrays by so that their joint norm is at most `norm`: at most 1. As `clip_to_norm`."""
    if not norm > 0:
        raise ValueError(f"clip norm must be positive, not {norm}")
    joint = joint_norm(arrays, peer_axes=peer_axes)
    if not np.isfinite(joint).all():
        raise ValueError("a contribution with non-finite entries cannot be clipped")
    factor: DoubleArray = norm / np.maximum(joint, norm)
    return factor


def clip_to_norm(arrays: Sequence[FloatArray], norm: float, *, peer_axes: int = 0) -> tuple[FloatArray, ...]:
    """Scale all arrays by one factor, at most 1, so that their joint L2 norm is at most `norm` (up to float32
    rounding).

    arrays: any shapes, float32; with `peer_axes` = n, the first n axes index peers and each peer is clipped by itself.
    norm: > 0, in the unit of the entries.
    Raises ValueError on a non-finite entry: scaling could not bound it, and it must never leave the device.
    Source: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.
    """
    factor = clip_factor(arrays, norm, peer_axes=peer_axes)
    return tuple(
        (array * factor.reshape(factor.shape + (1,) * (array.ndim - peer_axes))).astype(np.float32) for array in arrays
    )

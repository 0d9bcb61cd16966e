"""The Gaussian mechanism's noise. Dense on purpose: which entries are zero is as secret as the values of the others."""

from __future__ import annotations

import numpy as np

from p2prec.privacy.stream import KEY_BYTES, MAX_VALUES, NoiseStream
from p2prec.types import DoubleArray, FloatArray


def add_gaussian(array: FloatArray, std: float, rng: np.random.Generator) -> FloatArray:
    """`array` plus independent N(0, std^2) noise on every entry, as float32; a copy also when `std` is 0.

    rng: in the daemon, seeded from the operating system's entropy; anything that an observer could guess voids the
    guarantee. A device's noise comes from a ChaCha20 stream whose key `rng` draws: what is sent then tells nothing about the
    state of `rng`. The lab's arrays, with an axis of peers, are drawn from `rng` itself.
    The sum is formed in float64 and rounded once. Floating-point noise leaks through its low bits in
    principle (Mironov 2012); what leaves the device is rounded to 8 bits a value, far above them.
    Raises ValueError when `std` is negative or not finite.
    """
    if not (np.isfinite(std) and std >= 0):
        raise ValueError(f"noise standard deviation must be finite and at least 0, not {std}")
    if std == 0:
        return array.astype(np.float32, copy=True)
    if array.ndim > 2 or array.size > MAX_VALUES or not isinstance(array, np.ndarray):
        noisy: FloatArray = (array + std * rng.standard_normal(array.shape)).astype(np.float32)
        return noisy
    drawn = gaussian(array.size, rng).reshape(array.shape)
    drawn *= std
    # Laid out as `array` is, or whatever it meets next would be read across memory.
    return np.add(array, drawn, out=np.empty_like(array, np.float64)).astype(np.float32)


def gaussian(count: int, rng: np.random.Generator) -> DoubleArray:
    """(count,) independent standard normal numbers from a ChaCha20 stream whose key `rng` draws."""
    return NoiseStream(rng.bytes(KEY_BYTES)).gaussian(count)

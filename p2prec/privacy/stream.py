"""Random numbers that nobody can predict: Gaussian noise from a ChaCha20 key stream.

The same key gives the same numbers on any machine, to the last few bits (the logarithm and the tangent are the platform's):
what two mask partners share cancels to rounding. Noise of a peer alone comes from a key that the operating system draws and
nobody keeps. NumPy's generators are not for this: their state follows from a few hundred of their outputs.
"""

from __future__ import annotations

import math
import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from p2prec.types import DoubleArray

KEY_BYTES = 32
_NONCE = bytes(16)
"""Block counter and nonce, all zero: a key is used for one stream only, and the counter runs for 2^32 blocks of 64 bytes."""
MAX_VALUES = 1 << 26
"""Numbers that one stream gives, at most: half a gigabyte, far below the 256 GB after which the counter would repeat."""


class NoiseStream:
    """Numbers one after the other from one key. Made by `private` or from a shared secret's key; not for several uses of a
    key."""

    def __init__(self, key: bytes) -> None:
        """key: KEY_BYTES bytes, secret. Raises ValueError for another length."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a noise key has {KEY_BYTES} bytes, not {len(key)}")
        self._encryptor = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
        self._drawn = 0

    @classmethod
    def private(cls) -> NoiseStream:
        """A stream of this peer alone: the key is the operating system's entropy, and is kept nowhere."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def gaussian(self, count: int) -> DoubleArray:
        """The next `count` independent standard normal numbers, float64 (Box & Muller 1958 on 53 and 64 bits: none is beyond
        8.6 standard deviations). Raises ValueError when the stream would exceed MAX_VALUES.
        """
        if count < 0 or self._drawn + count > MAX_VALUES:
            raise ValueError(f"a noise stream gives 0 to {MAX_VALUES} numbers")
        self._drawn += count
        pairs = (count + 1) // 2
        words = np.frombuffer(self._encryptor.update(bytes(16 * pairs)), dtype="<u8").reshape(2, pairs)
        # (0, 1]: never the logarithm of 0.
        radius = (words[0] >> np.uint64(11)).astype(np.float64)
        radius += 1.0
        radius *= 2.0**-53
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        # Cosine and sine both follow from the tangent of half the angle, which takes a third of their time.
        values = np.empty((2, pairs))
        cosine, sine = values
        np.multiply(words[1], math.pi * 2.0**-64, out=sine)
        np.tan(sine, out=sine)
        np.multiply(sine, sine, out=cosine)
        radius /= 1.0 + cosine
        np.subtract(1.0, cosine, out=cosine)
        sine += sine
        values *= radius
        return values.reshape(-1)[:count]

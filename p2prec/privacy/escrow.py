"""Keys that a few may restore together, and fewer not at all: Shamir's secret sharing over GF(256), byte by byte.

A peer leaves the key of each of its masks with its other partners. If it crashes, and the partner on the other side of a mask
never appeared, so that nothing cancels that mask, the others put the key together and take the mask out. THRESHOLD is more
than the partners that may collude, so nobody learns a key before.

Source: Shamir 1979, "How to share a secret"; Bonawitz et al. 2017 use it for the same purpose in secure aggregation.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from p2prec.privacy.plan import COLLUDING

THRESHOLD = COLLUDING + 1
MAX_SHARES = 255


def split(secret: bytes, n_shares: int, threshold: int = THRESHOLD) -> dict[int, bytes]:
    """Shares by their number, 1 to n_shares, each as long as the secret. Raises ValueError unless
    1 <= threshold <= n_shares <= MAX_SHARES.
    """
    if not 1 <= threshold <= n_shares <= MAX_SHARES:
        raise ValueError(f"{threshold} of {n_shares} shares: at least 1, at most {MAX_SHARES}")
    # One random polynomial a byte, whose value at 0 is that byte; evaluated by Horner's rule.
    coefficients = [_bytes(secret), *(_bytes(secrets.token_bytes(len(secret))) for _ in range(threshold - 1))]
    numbers = np.arange(1, n_shares + 1)
    values = np.broadcast_to(coefficients[-1], (n_shares, len(secret)))
    for coefficient in reversed(coefficients[:-1]):
        values = _PRODUCTS[values, numbers[:, None]] ^ coefficient
    return {int(number): value.tobytes() for number, value in zip(numbers, values, strict=True)}


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret of at least as many shares as the threshold; of fewer, random bytes. Raises ValueError for shares of
    different lengths, or numbers that are none.
    """
    lengths = {len(share) for share in shares.values()}
    if len(lengths) != 1 or not all(1 <= number <= MAX_SHARES for number in shares):
        raise ValueError("shares of one secret have one length, and numbers from 1 to 255")
    secret = np.zeros(lengths.pop(), np.uint8)
    for number, share in shares.items():
        # Lagrange's polynomials at 0: the product of other / (other - number), where minus is xor.
        weight = 1
        for other in shares:
            if other != number:
                weight = int(_PRODUCTS[weight, _PRODUCTS[other, _INVERSES[other ^ number]]])
        secret ^= _PRODUCTS[_bytes(share), weight]
    return secret.tobytes()


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _products() -> npt.NDArray[np.uint8]:
    """(256, 256) products in GF(256) modulo x^8 + x^4 + x^3 + x + 1, one power of x after the other."""
    table = np.zeros((256, 256), np.uint16)
    multiple = np.arange(256, dtype=np.uint16)
    for bit in range(8):
        table ^= np.where((np.arange(256) >> bit & 1)[:, None] == 1, multiple[None, :], 0).astype(np.uint16)
        multiple = (multiple << 1 ^ np.where(multiple & 0x80, 0x11B, 0)).astype(np.uint16)
    return table.astype(np.uint8)


_PRODUCTS = _products()
_INVERSES = np.argmax(_PRODUCTS == 1, axis=1)
"""Of each element; of 0, which has none, 0."""

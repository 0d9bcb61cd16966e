"""Setting interactions aside for measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from p2prec.types import BoolArray, ItemKey


def held_out(item_keys: Sequence[ItemKey], secret: bytes, fraction: float) -> BoolArray:
    """Which items are never trained on, only measured with: (len(item_keys),) bool.

    Decided item by item by a hash keyed with a secret of this device, so an item stays on its side for ever, whatever
    else is logged or forgotten and across restarts, and nobody outside can tell which side it is on.
    secret: 16 to 64 bytes. fraction: in [0, 1), the expected share.
    """
    if not 16 <= len(secret) <= 64:
        raise ValueError(f"the secret must have 16 to 64 bytes, not {len(secret)}")
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction must be in [0, 1), not {fraction}")
    threshold = int(fraction * 2**64)
    chosen = (
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=secret, person=b"p2prec-held-out").digest())
        < threshold
        for key in item_keys
    )
    return np.fromiter(chosen, dtype=np.bool_, count=len(item_keys))


def random_fifth(n_interactions: int, rng: np.random.Generator, fraction: float = 0.2) -> BoolArray:
    """Mark `fraction` of a person's interactions (rounded, at least one, never all) as test part: (n_interactions,)
    bool.

    Raises ValueError for fewer than two interactions, which cannot be split.
    """
    if n_interactions < 2:
        raise ValueError("a history of fewer than two interactions cannot be split")
    n_test = min(max(1, round(fraction * n_interactions)), n_interactions - 1)
    test = np.zeros(n_interactions, dtype=np.bool_)
    test[rng.choice(n_interactions, size=n_test, replace=False)] = True
    return test

"""Weighted averages of many peers' copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2prec.types import FloatArray, IndexArray

_VALUES_AT_ONCE = 16_384
"""Of each copy: bounds what is held twice, and keeps one sum inside the processor's cache."""


def mix(copies: FloatArray, sources: Sequence[IndexArray], weights: Sequence[FloatArray]) -> None:
    """`copies[p] <- sum_j weights[p][j] copies[sources[p][j]]` for all peers at the same moment, in place.

    copies: (n_peers, n_items, c) float32. A peer's own share has to be among its sources.
    """
    receivers = np.repeat(np.arange(len(sources)), [len(row) for row in sources])
    senders, shares = np.concatenate(sources), np.concatenate(weights).astype(np.float32)
    items_at_once = max(1, _VALUES_AT_ONCE // copies.shape[2])
    for start in range(0, copies.shape[1], items_at_once):
        block = copies[:, start : start + items_at_once]
        before = block.copy()
        mixed = np.zeros_like(before)
        for receiver, sender, share in zip(receivers.tolist(), senders.tolist(), shares.tolist(), strict=True):
            mixed[receiver] += np.float32(share) * before[sender]
        block[...] = mixed

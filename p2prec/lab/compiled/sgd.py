"""Local SGD on ratings and gossip learning's merge in machine code: `baselines.local_mf` and `baselines.gossip_learning`, to the
bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2prec.lab.compiled.machine import compiled


@compiled()
def pass_over_ratings(
    item_factors: Any, user_factors: Any, items: Any, values: Any, lengths: Any, peers: Any, rate: Any, reg: Any
) -> None:
    """`local_pass` for explicit feedback. rate, reg: float32; arrays as in `LocalModels` and `LocalData`."""
    last = item_factors.shape[2] - 1
    products, moves = np.empty(last, np.float32), np.empty(last + 1, np.float32)
    for peer in peers:
        user = user_factors[peer]
        for at in range(lengths[peer]):
            row = item_factors[peer, items[peer, at]]
            for column in range(last):
                products[column] = row[column] * user[column]
            error = values[peer, at] - (_sum(products) + row[last] + user[last])
            if np.isnan(error):
                error = np.float32(0)
            for column in range(last + 1):
                user_feature = row[column] if column < last else np.float32(1)
                pull = reg * user[column] if column < last else np.float32(0)
                moves[column] = rate * (error * user_feature - pull)
                row_feature = user[column] if column < last else np.float32(1)
                row[column] += rate * (error * row_feature - reg * row[column])
            for column in range(last + 1):
                user[column] += moves[column]


@compiled()
def merge_into(item_factors: Any, ages: Any, receivers: Any, senders: Any) -> None:
    """`merge` of what each sender sends into each receiver's copy; all of them are distinct."""
    for at in range(len(receivers)):
        own, other = item_factors[receivers[at]], item_factors[senders[at]]
        own_age, other_age = ages[receivers[at]], ages[senders[at]]
        for row in range(own.shape[0]):
            total = own_age[row] + other_age[row]
            share = other_age[row] / max(total, np.float32(1)) if total > 0 else np.float32(0.5)
            for column in range(own.shape[1]):
                own[row, column] += share * (other[row, column] - own[row, column])
            own_age[row] = max(own_age[row], other_age[row])


@compiled()
def _sum(values: Any) -> Any:
    """Up to 128 numbers in the order in which numpy adds them up."""
    whole = len(values) // 8 * 8
    total = np.float32(0)
    if whole:
        lanes = np.empty(8, np.float32)
        lanes[:] = values[:8]
        for start in range(8, whole, 8):
            for lane in range(8):
                lanes[lane] += values[start + lane]
        total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    for at in range(whole, len(values)):
        total += values[at]
    return total

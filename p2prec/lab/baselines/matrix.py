"""Histories as matrices, for the methods that see everybody's at once."""

from __future__ import annotations

import numpy as np

from p2prec.data.histories import Histories
from p2prec.lab import memory
from p2prec.lab.dataset import person_of_row
from p2prec.types import BoolArray, DoubleArray, FloatArray


def check_items_by_items(histories: Histories, n_tables: int) -> None:
    """Raises UsageError if so many (n_items, n_items) float64 tables and two matrices of everybody do not fit into memory."""
    n_items = len(histories.catalogue)
    memory.require(
        8 * n_tables * n_items**2 + 8 * len(histories) * n_items,
        f"tables of {n_items:,} by {n_items:,} items",
        remedy="leave this method out, by naming others (--only METHOD)",
    )


def dense(histories: Histories) -> FloatArray:
    """(n_people, n_items) float32 values, 0 where there is no interaction."""
    matrix = np.zeros((len(histories), len(histories.catalogue)), np.float32)
    matrix[person_of_row(histories), histories.items] = histories.values
    return matrix


def touched(histories: Histories) -> BoolArray:
    """(n_people, n_items): whether there is an interaction."""
    mask = np.zeros((len(histories), len(histories.catalogue)), np.bool_)
    mask[person_of_row(histories), histories.items] = True
    return mask


def biases(
    histories: Histories, *, item_reg: float = 10.0, user_reg: float = 15.0
) -> tuple[float, DoubleArray, DoubleArray]:
    """The baseline predictor `mu + b_u + b_i`, item biases first, each damped (Koren 2010, section 2.1).

    Returns the mean, (n_people,) and (n_items,).
    """
    people = person_of_row(histories)
    values = histories.values.astype(np.float64)
    mean = float(values.mean())
    item_counts = np.bincount(histories.items, minlength=len(histories.catalogue))
    item_bias = np.bincount(histories.items, values - mean, minlength=len(histories.catalogue)) / (
        item_reg + item_counts
    )
    rest = values - mean - item_bias[histories.items]
    user_counts = np.bincount(people, minlength=len(histories))
    user_bias = np.bincount(people, rest, minlength=len(histories)) / (user_reg + user_counts)
    return mean, user_bias, item_bias

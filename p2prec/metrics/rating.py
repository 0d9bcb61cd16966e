"""Accuracy of predicted ratings."""

from __future__ import annotations

import numpy as np

from p2prec.types import DoubleArray, FloatArray


def rmse(predicted: FloatArray | DoubleArray, actual: FloatArray | DoubleArray) -> float:
    """Root mean squared error, in ratings. Raises ValueError when there is nothing to compare or the shapes differ."""
    if predicted.shape != actual.shape or predicted.size == 0:
        raise ValueError(f"cannot compare {predicted.shape} predictions with {actual.shape} ratings")
    difference = predicted.astype(np.float64) - actual.astype(np.float64)
    return float(np.sqrt(np.mean(difference * difference)))

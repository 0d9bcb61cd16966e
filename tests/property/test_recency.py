"""Weights and segments of any history."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2prec.manifest import LearningParameters
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.segments import draw_segments

TIMES = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(lambda times: np.array(times, np.float64))


@given(TIMES, st.floats(0.1, 100), st.floats(0, 1))
def test_weights_fall_with_age_from_1_and_times_matter_by_their_order_alone(
    times: np.ndarray, interactions: float, floor: float
) -> None:
    parameters = LearningParameters(recency_interactions=interactions, recency_floor=floor)
    ranks, ones = recency_ranks(times), np.ones(times.size, np.float32)
    weights = recent_weights(parameters, ranks, ones)
    assert weights.max() == 1 and weights.min() >= 0
    order = np.argsort(times)
    assert (np.diff(weights[order]) >= 0).all()
    np.testing.assert_array_equal(recency_ranks(times**3 + 7 * times), ranks)


@given(TIMES, st.integers(1, 30), st.integers(0, 1000), st.integers(0, 5))
def test_segments_are_stretches_of_time(times: np.ndarray, interactions: int, seed: int, padding: int) -> None:
    parameters = LearningParameters(segment_interactions=interactions)
    ranks = np.append(recency_ranks(times), np.zeros(padding, np.float32))
    weights = np.append(np.ones(times.size), np.zeros(padding)).astype(np.float32)
    segments = draw_segments(parameters, ranks, weights, np.random.default_rng(seed))
    own = segments[: times.size]
    count = max(1, int(np.floor(times.size / interactions + 0.5)))
    assert (own == np.floor(own)).all() and own.min() >= 0 and own.max() < count
    assert all(np.ptp(own[times == time]) == 0 for time in times)
    turned = own[np.argsort(times, kind="stable")]
    assert (np.diff(turned) != 0).sum() < count  # in one piece each

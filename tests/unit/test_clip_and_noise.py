from __future__ import annotations

import numpy as np
import pytest

from p2prec.privacy.clip import clip_to_norm, joint_norm
from p2prec.privacy.noise import add_gaussian


def test_arrays_within_the_norm_are_left_alone() -> None:
    rows, weights = np.array([[3.0, 0.0]], np.float32), np.array([4.0], np.float32)
    clipped = clip_to_norm([rows, weights], 5.0)
    np.testing.assert_array_equal(clipped[0], rows)
    np.testing.assert_array_equal(clipped[1], weights)
    assert clipped[0].dtype == np.float32


def test_arrays_beyond_the_norm_shrink_by_one_common_factor() -> None:
    rows, weights = np.array([[3.0, 0.0]], np.float32), np.array([4.0], np.float32)
    clipped = clip_to_norm([rows, weights], 1.0)
    np.testing.assert_allclose(clipped[0], [[0.6, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(clipped[1], [0.8], rtol=1e-6)


def test_each_peer_is_clipped_by_itself() -> None:
    rows = np.array([[[3.0], [4.0]], [[0.3], [0.4]]], np.float32)  # two peers of norms 5 and 0.5
    (clipped,) = clip_to_norm([rows], 1.0, peer_axes=1)
    np.testing.assert_allclose(joint_norm([clipped], peer_axes=1), [1.0, 0.5], rtol=1e-6)
    (alone,) = clip_to_norm([rows[0]], 1.0)
    np.testing.assert_array_equal(clipped[0], alone)


def test_nothing_stays_nothing_and_huge_entries_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        (zeros,) = clip_to_norm([np.zeros((2, 3), np.float32)], 3.0)
    assert not zeros.any()
    (huge,) = clip_to_norm([np.full(4, 3e38, np.float32)], 1.0)
    np.testing.assert_allclose(huge, 0.5, rtol=1e-6)


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
def test_a_non_finite_contribution_is_refused(entry: float) -> None:
    with pytest.raises(ValueError, match="non-finite"):
        clip_to_norm([np.array([1.0, entry], np.float32)], 1.0)


@pytest.mark.parametrize("norm", [0.0, -1.0, np.nan])
def test_a_clip_norm_must_be_positive(norm: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        clip_to_norm([np.ones(2, np.float32)], norm)


def test_noise_has_the_stated_deviation_and_is_on_every_entry() -> None:
    rng = np.random.default_rng(1)
    noisy = add_gaussian(np.zeros((1000, 100), np.float32), 2.5, rng)
    assert noisy.dtype == np.float32
    assert (noisy != 0).all()
    # 100,000 draws: the standard error of a mean is 0.8% of the deviation, of a deviation 0.22%.
    assert abs(noisy.mean()) < 0.04
    assert noisy.std() == pytest.approx(2.5, rel=0.01)


def test_no_noise_gives_an_equal_copy() -> None:
    array = np.arange(3, dtype=np.float32)
    copy = add_gaussian(array, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(copy, array)
    assert not np.shares_memory(copy, array)


@pytest.mark.parametrize("std", [-0.1, np.nan, np.inf])
def test_a_senseless_deviation_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        add_gaussian(np.zeros(1, np.float32), std, np.random.default_rng(0))

"""Ranking against a full sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2prec.model.topk import similar_items, top_k


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    k=st.integers(0, 45),
    exclude=st.sets(st.integers(0, 39)),
)
def test_top_k_is_the_head_of_a_full_sort(values: list[int], k: int, exclude: set[int]) -> None:
    table = np.array(values, np.float32)
    left_out = np.array(sorted(i for i in exclude if i < table.size), np.int64)
    expected = [i for i in sorted(range(table.size), key=lambda i: (-values[i], i)) if i not in exclude][:k]
    assert top_k(table, k, left_out).tolist() == expected
    assert table.tolist() == values


def test_nothing_excluded_is_the_default() -> None:
    assert top_k(np.array([1.0, 3.0, 2.0], np.float32), 2).tolist() == [1, 2]


@given(st.integers(0, 1000), st.integers(1, 12))
def test_similar_items_are_ranked_by_cosine_and_never_itself(seed: int, k: int) -> None:
    factors = np.random.default_rng(seed).normal(size=(10, 3)).astype(np.float32)
    items, cosines = similar_items(factors, 4, k)
    assert 4 not in items and len(items) == min(k, 9)
    assert (np.diff(cosines) <= 0).all() and (np.abs(cosines) <= 1 + 1e-5).all()


def test_an_item_without_a_row_is_like_nothing() -> None:
    factors = np.array([[1, 0], [0, 0], [2, 0], [0, 3]], np.float32)
    items, cosines = similar_items(factors, 0, 3)
    assert items[0] == 2 and cosines.tolist() == [1.0, 0.0, 0.0]

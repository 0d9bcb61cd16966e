from __future__ import annotations

import numpy as np
import pytest

from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction, training_pairs
from p2prec.data.split import held_out, random_fifth
from p2prec.types import ItemKey

CATALOGUE = Catalogue(tuple(ItemKey(key) for key in "abcd"), ("A", "B", "C", "D"))
HISTORY = [
    Interaction(ItemKey("c"), "rating", 2.0, 10.0),
    Interaction(ItemKey("a"), "play", None, 50.0),
    Interaction(ItemKey("c"), "rating", 5.0, 30.0),
    Interaction(ItemKey("c"), "rating", 4.0, 20.0),
    Interaction(ItemKey("gone"), "rating", 1.0, 99.0),
    Interaction(ItemKey("b"), "rating", 1.0, 7.0),
    Interaction(ItemKey("b"), "rating", 3.0, 7.0),
]


def test_explicit_training_takes_the_latest_rating_of_each_item() -> None:
    pairs = training_pairs(HISTORY, CATALOGUE, "explicit")
    assert pairs.items.tolist() == [1, 2]
    assert pairs.values.tolist() == [3.0, 5.0]
    assert pairs.times.tolist() == [7.0, 30.0]
    assert (pairs.items.dtype, pairs.values.dtype, pairs.times.dtype) == (np.int64, np.float32, np.float64)


def test_implicit_training_takes_any_event_once() -> None:
    pairs = training_pairs(HISTORY, CATALOGUE, "implicit")
    assert pairs.items.tolist() == [0, 1, 2]
    assert pairs.values.tolist() == [1.0, 1.0, 1.0]
    assert pairs.times.tolist() == [50.0, 7.0, 30.0]


def test_no_history_gives_empty_pairs() -> None:
    pairs = training_pairs([], CATALOGUE, "implicit")
    assert len(pairs) == 0
    assert pairs.items.dtype == np.int64


def test_pairs_can_be_divided() -> None:
    pairs = training_pairs(HISTORY, CATALOGUE, "implicit")
    assert pairs.where(np.array([True, False, True])).items.tolist() == [0, 2]


KEYS = [ItemKey(str(n)) for n in range(5000)]


def test_held_out_items_stay_held_out_whatever_else_is_there() -> None:
    secret = b"k" * 32
    marked = held_out(KEYS, secret, 0.1)
    assert marked.mean() == pytest.approx(0.1, abs=0.02)
    assert held_out(KEYS[::-1], secret, 0.1).tolist() == marked[::-1].tolist()
    assert held_out(KEYS[:3], secret, 0.1).tolist() == marked[:3].tolist()
    assert marked[held_out(KEYS, secret, 0.05)].all()


def test_another_secret_holds_out_other_items() -> None:
    both = held_out(KEYS, b"k" * 32, 0.1) & held_out(KEYS, b"l" * 32, 0.1)
    assert both.mean() == pytest.approx(0.01, abs=0.01)


def test_the_fraction_and_the_secret_are_bounded() -> None:
    assert not held_out(KEYS, b"k" * 16, 0.0).any()
    assert held_out([], b"k" * 64, 0.5).shape == (0,)
    for secret, fraction in ((b"k" * 15, 0.1), (b"k" * 65, 0.1), (b"k" * 32, 1.0), (b"k" * 32, -0.1)):
        with pytest.raises(ValueError, match="must"):
            held_out(KEYS, secret, fraction)


@pytest.mark.parametrize(("n", "n_test"), [(2, 1), (3, 1), (5, 1), (8, 2), (100, 20)])
def test_a_random_fifth(n: int, n_test: int) -> None:
    marked = random_fifth(n, np.random.default_rng(5))
    assert marked.sum() == n_test
    assert marked.tolist() == random_fifth(n, np.random.default_rng(5)).tolist()


def test_a_single_interaction_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        random_fifth(1, np.random.default_rng(0))

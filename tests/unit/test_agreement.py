"""One list of items for all."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.model.pairs import select
from p2prec.peer.agreement import is_plausible, proposer
from p2prec.types import PeerId

IDS = [PeerId(f"peer{n}") for n in range(50)]
POPULARITY = np.linspace(1, 0, 200).astype(np.float32)


def test_everybody_finds_the_same_proposer_and_each_sum_another() -> None:
    assert proposer(1, IDS) == proposer(1, reversed(IDS))
    assert len({proposer(epoch, IDS) for epoch in range(30)}) > 10
    assert proposer(1, []) is None


def test_lists_of_slightly_different_copies_are_adopted() -> None:
    noisy = POPULARITY + np.random.default_rng(1).normal(0, 0.01, 200).astype(np.float32)
    assert is_plausible(select(noisy, 40), POPULARITY, 40)


@pytest.mark.parametrize(
    "proposed",
    [
        np.arange(160, 200),  # the least popular
        np.arange(39),  # too few
        np.arange(41),
        np.zeros(40, np.int64),  # one item forty times
        np.arange(40) - 1,
        np.arange(161, 201),
        np.arange(40).astype(np.float64),
    ],
)
def test_other_lists_are_not(proposed: np.ndarray) -> None:
    assert not is_plausible(proposed, POPULARITY, 40)


def test_a_tenth_may_differ_and_no_more() -> None:
    strangers = np.arange(199, 189, -1)
    assert is_plausible(np.concatenate([np.arange(36), strangers[:4]]), POPULARITY, 40)
    assert not is_plausible(np.concatenate([np.arange(35), strangers[:5]]), POPULARITY, 40)

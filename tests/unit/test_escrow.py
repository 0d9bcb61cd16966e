"""Keys that some may restore together and fewer not at all."""

from __future__ import annotations

import itertools

import pytest

from p2prec.privacy.escrow import MAX_SHARES, THRESHOLD, join, split
from p2prec.privacy.plan import COLLUDING

SECRET = bytes(range(32))


def test_any_four_of_six_restore_a_key() -> None:
    shares = split(SECRET, 6)
    for chosen in itertools.combinations(shares, THRESHOLD):
        assert join({number: shares[number] for number in chosen}) == SECRET
    assert join(shares) == SECRET


def test_those_who_may_collude_learn_nothing() -> None:
    assert THRESHOLD == COLLUDING + 1
    # Any secret is as likely: three shares of it agree with every fourth one, and each makes another secret.
    shares = split(SECRET, 6)
    three = {number: shares[number] for number in (1, 2, 3)}
    found = {join({**three, 4: bytes([value]) * 32})[0] for value in range(256)}
    assert len(found) == 256
    assert join(three) != SECRET


@pytest.mark.parametrize(("n_shares", "threshold"), [(3, 4), (0, 0), (MAX_SHARES + 1, 4), (5, 0)])
def test_what_cannot_be_split_is_refused(n_shares: int, threshold: int) -> None:
    with pytest.raises(ValueError):
        split(SECRET, n_shares, threshold)


@pytest.mark.parametrize("n_shares", [THRESHOLD, MAX_SHARES])
def test_both_ends_of_the_range(n_shares: int) -> None:
    shares = split(SECRET, n_shares)
    assert join(dict(list(shares.items())[-THRESHOLD:])) == SECRET


@pytest.mark.parametrize("shares", [{}, {1: b"a", 2: b"ab"}, {0: b"a"}, {256: b"a"}])
def test_shares_that_do_not_fit_are_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(ValueError):
        join(shares)

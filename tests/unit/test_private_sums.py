"""Cancelling noise: streams, masks, what they hide, and the plan that adds it up."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from p2prec.model.nearest import MAX_MAGNITUDE, ROW, Levels, decode, encode, is_encoded
from p2prec.privacy.accountant import epsilon, epsilon_of_mu, mu_of_epsilon
from p2prec.privacy.collusion import contribution_mu
from p2prec.privacy.masks import MaskKey, are_partners, mask
from p2prec.privacy.plan import COLLUDING, MEAN_PARTNERS, MIN_PARTNERS, MIN_PEOPLE, PrivacyPlan
from p2prec.privacy.stream import KEY_BYTES, MAX_VALUES, NoiseStream
from p2prec.types import PeerId, SwarmId

SWARM = SwarmId(bytes(range(32)))
ALICE, BOB = PeerId("alice"), PeerId("bob")
KEY = bytes(range(KEY_BYTES))


# --- streams ---


def test_a_stream_is_the_same_everywhere() -> None:
    """The first four numbers, from the raw key stream and the formula: what any implementation has to get."""
    encryptor = Cipher(algorithms.ChaCha20(KEY, bytes(16)), mode=None).encryptor()
    words = struct.unpack("<4Q", encryptor.update(bytes(32)))
    radii = [math.sqrt(-2 * math.log(((word >> 11) + 1) / 2**53)) for word in words[:2]]
    angles = [2 * math.pi * word / 2**64 for word in words[2:]]
    expected = [r * math.cos(a) for r, a in zip(radii, angles, strict=True)]
    expected += [r * math.sin(a) for r, a in zip(radii, angles, strict=True)]
    assert NoiseStream(KEY).gaussian(4) == pytest.approx(expected, rel=1e-12)
    again = NoiseStream(KEY)
    assert not np.array_equal(again.gaussian(4), again.gaussian(4))


def test_a_stream_is_standard_normal() -> None:
    values = NoiseStream(KEY).gaussian(200_001)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.1
    assert abs((np.abs(values) > 2).mean() - 0.0455) < 0.003
    # Neither neighbours nor the two halves of a Box-Muller pair are related.
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(values[:100_000], values[100_000:200_000])[0, 1]) < 0.01


def test_private_streams_differ() -> None:
    assert not np.array_equal(NoiseStream.private().gaussian(8), NoiseStream.private().gaussian(8))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_one_length(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NoiseStream(bytes(length))


def test_a_stream_ends_before_it_could_repeat() -> None:
    stream = NoiseStream(KEY)
    assert len(stream.gaussian(0)) == 0
    with pytest.raises(ValueError, match="gives 0 to"):
        stream.gaussian(MAX_VALUES + 1)
    with pytest.raises(ValueError, match="gives 0 to"):
        stream.gaussian(-1)


# --- masks ---


def test_the_masks_of_two_partners_cancel() -> None:
    one, other = MaskKey(), MaskKey()
    key = one.shared(other.public, SWARM, 3, ALICE, BOB)
    assert key == other.shared(one.public, SWARM, 3, BOB, ALICE)
    mine, theirs = mask(key, ALICE, BOB, 1000, 2.5), mask(key, BOB, ALICE, 1000, 2.5)
    assert np.array_equal(mine, -theirs)
    assert abs(mine.std() - 2.5) < 0.2


@pytest.mark.parametrize(
    ("swarm", "epoch", "other"),
    [(SwarmId(bytes(32)), 3, BOB), (SWARM, 4, BOB), (SWARM, 3, PeerId("carol"))],
)
def test_a_key_is_bound_to_swarm_sum_and_both_ids(swarm: SwarmId, epoch: int, other: PeerId) -> None:
    one, two = MaskKey(), MaskKey()
    assert one.shared(two.public, SWARM, 3, ALICE, BOB) != one.shared(two.public, swarm, epoch, ALICE, other)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(32), (1).to_bytes(32, "little")])
def test_a_public_key_that_is_none_is_refused(public: bytes) -> None:
    with pytest.raises(ValueError):
        MaskKey().shared(public, SWARM, 3, ALICE, BOB)


def test_partners_agree_on_being_partners_and_are_as_many_as_planned() -> None:
    ids = [PeerId(f"peer{n}") for n in range(200)]
    chosen = np.array([[are_partners(SWARM, 1, a, b, MEAN_PARTNERS, 200) for b in ids] for a in ids])
    assert np.array_equal(chosen, chosen.T)
    assert not chosen.diagonal().any()
    assert abs(chosen.sum(axis=1).mean() - MEAN_PARTNERS) < 1.5
    later = np.array([[are_partners(SWARM, 2, a, b, MEAN_PARTNERS, 200) for b in ids] for a in ids])
    assert (chosen & later).sum() < 0.2 * chosen.sum()


def test_invented_peers_do_not_take_the_place_of_honest_partners() -> None:
    honest = [PeerId(f"peer{n}") for n in range(200)]
    before = [b for b in honest if are_partners(SWARM, 1, honest[0], b, MEAN_PARTNERS, 200)]
    # Whoever joins in whatever number: who masks whom among the others is decided by their two ids alone.
    assert before == [b for b in honest if are_partners(SWARM, 1, b, honest[0], MEAN_PARTNERS, 200)]
    assert len(before) > MIN_PARTNERS


# --- what they hide ---


def ring(n: int) -> np.ndarray:
    return np.array([(a, (a + 1) % n) for a in range(n)])


def test_mu_is_that_of_the_covariance() -> None:
    rng = np.random.default_rng(1)
    pairs = np.argwhere(np.triu(rng.random((40, 40)) < 0.3, 1))
    laplacian = np.zeros((40, 40))
    for a, b in pairs:
        laplacian[[a, b], [a, b]] += 1
        laplacian[[a, b], [b, a]] -= 1
    covariance = 4.0 * laplacian + 0.01 * np.eye(40)
    expected = math.sqrt(np.linalg.inv(covariance)[7, 7])
    assert contribution_mu(40, pairs, 7, [], 2.0, 0.1) == pytest.approx(expected, rel=1e-6)


def test_many_masks_leave_what_a_curator_would_leave() -> None:
    pairs = np.argwhere(np.triu(np.ones((30, 30)), 1))
    assert contribution_mu(30, pairs, 0, [], 1e4, 0.5) == pytest.approx(1 / (0.5 * math.sqrt(30)), rel=1e-4)


def test_whoever_colludes_hides_nothing() -> None:
    pairs = ring(10)
    # Both neighbours on the ring: nothing but the peer's own noise is left.
    assert contribution_mu(10, pairs, 0, [1, 9], 5.0, 0.5) == pytest.approx(1 / 0.5)
    one = contribution_mu(10, pairs, 0, [1], 5.0, 0.5)
    assert contribution_mu(10, pairs, 0, [], 5.0, 0.5) < one < 1 / 0.5


def test_nothing_hides_without_noise_of_the_peers_alone() -> None:
    assert math.isinf(contribution_mu(10, ring(10), 0, [], 5.0, 0.0))


def test_a_peer_is_not_private_from_itself() -> None:
    with pytest.raises(ValueError, match="itself"):
        contribution_mu(10, ring(10), 0, [0], 5.0, 0.5)


# --- the plan ---


@pytest.mark.parametrize("n", [200, 900])
@pytest.mark.parametrize("budget", [8.0, 1.0])
def test_the_plan_keeps_its_promise_for_the_worst_placed_peer(n: int, budget: float) -> None:
    """Fewest partners, three of them colluding, in random graphs of masks."""
    plan, rng = PrivacyPlan.of(budget, 1e-5, n), np.random.default_rng(n)
    for _ in range(3):
        # The colluders are not among the n honest people that the plan counts on.
        size = n + COLLUDING
        pairs = np.argwhere(np.triu(rng.random((size, size)) < MEAN_PARTNERS / size, 1))
        partners = np.bincount(pairs.ravel(), minlength=size)
        for peer in np.flatnonzero(partners >= MIN_PARTNERS)[np.argsort(partners[partners >= MIN_PARTNERS])][
            :5
        ].tolist():
            beside = [int(b if a == peer else a) for a, b in pairs if peer in (a, b)][:COLLUDING]
            for part in (plan.popularity, plan.pairs):
                assert contribution_mu(size, pairs, peer, beside, part.mask_std, part.independent_std) <= part.mu
    assert epsilon_of_mu(plan.mu, 1e-5) <= budget * (1 + 1e-9)


def test_mu_and_epsilon_are_inverse() -> None:
    for value in (0.05, 1.0, 8.0, 20.0):
        assert epsilon_of_mu(mu_of_epsilon(value, 1e-5), 1e-5) == pytest.approx(value, rel=1e-9)
    assert epsilon_of_mu(math.sqrt(7) / 2, 1e-5) == epsilon(2.0, 7, 1e-5)
    assert epsilon_of_mu(0.0, 1e-5) == 0
    assert math.isinf(epsilon_of_mu(math.inf, 1e-5))


def test_dp_accounting_agrees() -> None:
    dp_accounting = pytest.importorskip("dp_accounting", reason="pip install dp-accounting to compare with it")
    plan = PrivacyPlan.of(8.0, 1e-5, 900)
    accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
    for part in (plan.popularity, plan.pairs):
        accountant.compose(dp_accounting.GaussianDpEvent(1 / part.mu))
    assert accountant.get_epsilon(1e-5) == pytest.approx(8.0, rel=2e-3)


@pytest.mark.parametrize(
    ("epsilon_asked", "delta", "people"),
    [(0, 1e-5, 900), (-1, 1e-5, 900), (20.1, 1e-5, 900), (8, 0, 900), (8, 0.002, 900), (8, 1e-5, MIN_PEOPLE - 1)],
)
def test_a_promise_that_is_none_is_refused(epsilon_asked: float, delta: float, people: int) -> None:
    with pytest.raises(ValueError):
        PrivacyPlan.of(epsilon_asked, delta, people)


def test_the_smallest_swarm_is_accepted() -> None:
    assert PrivacyPlan.of(20, 1e-5, MIN_PEOPLE).n_people == MIN_PEOPLE


# --- eight and sixteen bits ---


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("count", [1, ROW - 1, ROW, ROW + 1, 1000])
def test_values_come_back_within_half_a_level(count: int, fine: bool) -> None:
    values = np.random.default_rng(1).normal(0, 3, (2, count)).astype(np.float32)
    found = encode(values, fine=fine)
    assert is_encoded(Levels(found.scales[0], found.levels[0]), count)
    half = found.scales.astype(np.float32).repeat(ROW, axis=-1)[:, :count] * 0.5001
    assert (np.abs(decode(found, count) - values) <= half + 1e-6).all()


def test_sixteen_bits_err_a_256th_as_much() -> None:
    values = np.random.default_rng(1).normal(0, 3, 1000).astype(np.float32)
    errors = [np.abs(decode(encode(values, fine=fine), 1000) - values).max() for fine in (False, True)]
    assert errors[1] < errors[0] / 200


@pytest.mark.parametrize("fine", [False, True])
def test_what_breaks_does_not_break_others(fine: bool) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    back = decode(encode(values, fine=fine), 4)
    assert np.isfinite(back).all()
    assert np.abs(back).max() <= MAX_MAGNITUDE * 1.01


def test_other_shapes_and_bounds_are_refused() -> None:
    good = encode(np.ones(100, np.float32))
    assert is_encoded(good, 100)
    assert not is_encoded(good, 129)
    assert not is_encoded(Levels(good.scales[:1], good.levels), 100)
    assert not is_encoded(Levels(np.full_like(good.scales, np.nan), good.levels), 100)
    assert not is_encoded(Levels(np.full_like(good.scales, 9.0), good.levels), 100)
    assert not is_encoded(Levels(-good.scales, good.levels), 100)
    assert not is_encoded(Levels(good.scales, np.full_like(good.levels, -128)), 100)
    assert not is_encoded(Levels(good.scales.astype(np.float32), good.levels), 100)
    assert not is_encoded(Levels(good.scales, good.levels.astype(np.int32)), 100)
    fine = encode(np.full(100, MAX_MAGNITUDE, np.float32), fine=True)
    assert is_encoded(fine, 100)
    coarse = encode(np.full(100, MAX_MAGNITUDE, np.float32))
    assert is_encoded(coarse, 100)
    assert not is_encoded(Levels(coarse.scales, fine.levels), 100), "a scale for eight bits"
    assert not is_encoded(Levels(fine.scales, np.full_like(fine.levels, -(2**15))), 100)

"""The audit: its arithmetic, and that it catches builds that do not keep their promise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from peer_rig import MANIFEST

from p2prec.lab.audit import attacks, canary
from p2prec.lab.audit.bound import any_epsilon, auc, gaussian_mu, lower_bound, upper_rate
from p2prec.lab.audit.observed import alone, protected, unprotected
from p2prec.manifest import Manifest, PrivacyParameters
from p2prec.peer import learner, private_sum
from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.privacy.plan import SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray

DELTA = 1e-5
KEYS = [f"item{n}" for n in range(30)]
# Small clip norms, so that a canary is as large as it may be.
ALONE: Manifest = structs.replace(
    MANIFEST,
    learning=canary.canary_learning(),
    privacy=PrivacyParameters(clip_norm=0.01, gram_clip_norm=1e-9, noise_multiplier=1.0),
)


def proven(scores: canary.Scores) -> float:
    return lower_bound(scores.inside, scores.outside, DELTA, 0.975).epsilon


def proven_of_private_sums(epsilon: float, colluders: int = 0) -> float:
    return max(
        proven(one) for one in canary.cancelling(epsilon, DELTA, colluders, 240, np.random.default_rng(1)).values()
    )


# --- arithmetic ---


@pytest.mark.parametrize(
    ("count", "n", "expected"),
    # scipy.stats.beta.ppf(0.975, count + 1, n - count)
    [(0, 100, 0.0362167), (5, 100, 0.1128349), (50, 100, 0.6016788), (99, 100, 0.9997468), (100, 100, 1.0)],
)
def test_the_upper_rate_is_clopper_and_pearsons(count: int, n: int, expected: float) -> None:
    assert upper_rate(count, n, 0.975) == pytest.approx(expected, abs=1e-6)


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0.0
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5


def test_bounds_of_rates() -> None:
    assert gaussian_mu(0.5, 0.5) == 0.0
    assert gaussian_mu(0.1586553, 0.1586553) == pytest.approx(2.0, abs=1e-5)
    assert any_epsilon(0.1, 0.1, 0.0) == pytest.approx(math.log(9))
    assert gaussian_mu(1.0, 0.0) == 0.0


def test_the_bound_lies_below_the_truth_and_not_far() -> None:
    rng, mu = np.random.default_rng(1), 1.6
    bound = lower_bound(rng.normal(mu, 1, 4000), rng.normal(0, 1, 4000), DELTA)
    truth = epsilon_of_mu(mu, DELTA)
    assert 0.75 * truth < bound.epsilon < truth
    assert bound.epsilon_point == pytest.approx(truth, rel=0.05)


def test_nothing_is_proven_where_there_is_nothing() -> None:
    rng = np.random.default_rng(1)
    assert lower_bound(rng.normal(size=2000), rng.normal(size=2000), DELTA).epsilon < 0.3


# --- honest builds ---


def test_the_promise_holds_against_three_colluding_partners() -> None:
    assert 1 < proven_of_private_sums(8.0, colluders=3) < 8


def test_noise_of_each_peer_alone_is_accounted_for() -> None:
    scores = canary.independent(ALONE, KEYS, 3, 400, np.random.default_rng(1))
    assert scores.stated_epsilon == pytest.approx(epsilon_of_mu(math.sqrt(3 * 2), DELTA))
    assert 3 < proven(scores) < scores.stated_epsilon


# --- broken ones ---


def test_without_the_noise_of_the_peer_alone_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The masks are there, so every single message looks well: only who adds all of them up sees through it.
    monkeypatch.setattr(canary, "PrivateSum", PrivateSumWithoutOwnNoise)
    assert proven_of_private_sums(2.0) > 2


def test_without_masks_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_sum, "mask", lambda key, own, other, count, std: np.zeros(count, np.float32))
    assert proven_of_private_sums(2.0) > 2


def test_a_skipped_ledger_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary.CountingLedger, "record", lambda self: 1)
    scores = canary.independent(ALONE, KEYS, 3, 400, np.random.default_rng(1))
    assert scores.stated_epsilon == 0
    assert proven(scores) > 0.5


def test_noise_on_touched_rows_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched_only(array: FloatArray, std: float, rng: np.random.Generator) -> FloatArray:
        return (array + (array != 0) * rng.normal(0, std, array.shape)).astype(np.float32)

    monkeypatch.setattr(learner, "add_gaussian", touched_only)
    scores = canary.independent(ALONE, KEYS, 1, 200, np.random.default_rng(1))
    assert proven(scores) > scores.stated_epsilon


class PrivateSumWithoutOwnNoise(private_sum.PrivateSum):
    """A build that forgot the independent noise."""

    def contribute(self, statistic: Any, mask_keys: Any, own: NoiseStream) -> None:
        plan: SumPlan = self.plan
        self.plan = replace(plan, independent_std=0.0)
        super().contribute(statistic, mask_keys, own)
        self.plan = plan


# --- attacks on people ---


def _people(rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Two kinds of people, who like different halves of 80 items."""
    kind = rng.random(120) < 0.5
    return [
        np.flatnonzero(rng.random(80) < np.where(np.arange(80) < 40, *((0.4, 0.1) if k else (0.1, 0.4)))) for k in kind
    ], kind


def test_attacks_find_everything_in_the_clear_and_nothing_behind_noise() -> None:
    rng = np.random.default_rng(3)
    people, kind = _people(rng)
    clear, hidden = unprotected(people, 80), protected(people, 80, 2.0, DELTA, 3, rng)
    # An attribute is judged on the half of the people that it was not learned from, with a standard error of .075.
    for observed, low, high, more in ((clear, 0.9, 1.0, 0.0), (hidden, 0.4, 0.6, 0.1)):
        assert low <= attacks.touched_items(observed.messages, people) <= high
        assert low <= attacks.community(observed.messages, observed.clear) <= high
        assert low <= attacks.membership(observed.messages, observed.silent, observed.clear) <= high
        assert low - more <= attacks.attribute(observed.messages, observed.clear, kind, rng) <= high + more


def test_what_a_daemon_sends_today_is_shown_for_what_it_is() -> None:
    rng = np.random.default_rng(3)
    people, _ = _people(rng)
    seen = alone(people[:40], [f"item{n}" for n in range(80)], rng)
    # A hundredth of a contribution blurs; it does not hide.
    assert attacks.touched_items(seen.messages, people[:40]) > 0.9
    assert attacks.touched_items(seen.clear, people[:40]) == 1.0


def test_an_attribute_of_few_people_is_not_audited() -> None:
    rng = np.random.default_rng(3)
    few = np.arange(100) < 39
    with pytest.raises(ValueError, match="fewer than 40"):
        attacks.attribute(np.zeros((100, 5), np.float32), np.zeros((100, 5), np.float32), few, rng)

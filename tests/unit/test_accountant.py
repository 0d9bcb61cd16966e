from __future__ import annotations

import math

import pytest

from p2prec.privacy.accountant import epsilon
from p2prec.privacy.ledger import Budget

# (noise multiplier, releases, delta, epsilon). Computed in 60 digits with mpmath from Balle & Wang 2018, theorem 8, at
# mu = sqrt(n) / sigma; where it can compute them, dp-accounting 0.6.0 agrees to its discretization:
#   accountant = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-4)
#   accountant.compose(dp_accounting.GaussianDpEvent(sigma), n); accountant.get_epsilon(delta)
REFERENCE = [
    (1, 1, 1e-5, 4.3771780956812245),  # PLD 4.37717810
    (2, 1, 1e-5, 1.9930914044151196),  # PLD 1.99309141
    (0.5, 1, 1e-5, 9.9972561464343),  # PLD 9.99725615
    (1, 10, 1e-5, 17.856586830107613),  # PLD 17.85658683
    (5, 20, 1e-5, 3.8486102825379835),  # PLD 3.84861029
    (10, 2, 1e-6, 0.5750551857799973),  # PLD 0.57505522
    (20, 1000, 1e-5, 7.511275900744782),  # PLD 7.51127590
    (100, 1, 1e-5, 0.027219419814577137),  # PLD 0.02721966
    (0.1, 4, 1e-9, 319.08196637536435),  # PLD 319.08196639
    (0.001, 1, 1e-5, 504263.89292065403),
    (1000, 7, 1e-7, 0.009550017813618191),  # PLD 0.00955184
    (1, 1, 1e-30, 11.743883025231737),
]


@pytest.mark.parametrize(("sigma", "n", "delta", "expected"), REFERENCE)
def test_epsilon_is_the_reference_rounded_up(sigma: float, n: int, delta: float, expected: float) -> None:
    found = epsilon(sigma, n, delta)
    assert expected * (1 - 1e-12) <= found <= expected * (1 + 1e-9)


def test_without_noise_nothing_is_private_and_without_release_everything() -> None:
    assert epsilon(0.0, 1, 1e-5) == math.inf
    assert epsilon(0.0, 0, 1e-5) == 0.0
    assert epsilon(1.0, 0, 1e-5) == 0.0
    assert epsilon(math.inf, 5, 1e-5) == 0.0


def test_extremes_neither_overflow_nor_fail() -> None:
    assert epsilon(1e9, 1, 1e-5) == 0.0
    assert epsilon(1e-100, 1, 1e-5) == pytest.approx(5e199, rel=1e-6)  # mu^2 / 2
    assert epsilon(1e-200, 1, 1e-5) == math.inf
    assert epsilon(1.0, 1, 1e-300) == pytest.approx(37.448847912, rel=1e-9)


def test_epsilon_never_decreases_with_releases_or_less_noise() -> None:
    by_releases = [epsilon(6.0, n, 1e-5) for n in range(200)]
    assert by_releases == sorted(by_releases)
    by_noise = [epsilon(0.01 * 1.1**k, 3, 1e-5) for k in range(120)]
    assert by_noise == sorted(by_noise, reverse=True)


@pytest.mark.parametrize(
    ("sigma", "n", "delta"), [(-1.0, 1, 1e-5), (math.nan, 1, 1e-5), (1.0, -1, 1e-5), (1.0, 1, 0.0), (1.0, 1, 1.0)]
)
def test_arguments_out_of_range_are_refused(sigma: float, n: int, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        epsilon(sigma, n, delta)


def test_a_budget_allows_contributions_up_to_its_limit_and_not_one_more() -> None:
    budget = Budget(noise_multiplier=8.0, releases_per_contribution=2, delta=1e-5, limit=8.0)
    most = budget.max_contributions()
    assert most is not None
    assert budget.epsilon_after(most) <= 8.0 < budget.epsilon_after(most + 1)
    assert budget.allows(most - 1)
    assert not budget.allows(most)


def test_both_mechanisms_of_an_implicit_contribution_are_paid_for() -> None:
    implicit = Budget(noise_multiplier=8.0, releases_per_contribution=2, delta=1e-5, limit=None)
    assert implicit.epsilon_after(5) == epsilon(8.0, 10, 1e-5)


def test_a_budget_without_noise_allows_nothing_and_without_limit_everything() -> None:
    assert Budget(0.0, 2, 1e-5, limit=8.0).max_contributions() == 0
    assert not Budget(0.0, 2, 1e-5, limit=8.0).allows(0)
    unlimited = Budget(0.0, 2, 1e-5, limit=None)
    assert unlimited.max_contributions() is None
    assert unlimited.allows(10**9)


def test_a_ledger_entry_accounts_for_the_contribution_that_follows() -> None:
    budget = Budget(noise_multiplier=8.0, releases_per_contribution=1, delta=1e-5, limit=None)
    entry = budget.entry(4, b"s" * 32, now=12.0)
    assert (entry.contribution, entry.time, entry.swarm_id, entry.releases) == (5, 12.0, b"s" * 32, 1)
    assert entry.epsilon_after == epsilon(8.0, 5, 1e-5)

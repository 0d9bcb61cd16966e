"""Our accountant, plan and ledger against Google's `dp-accounting` (p2prec[accounting]).

Its privacy loss distributions are an upper bound that a finer grid brings down, so ours, which is exact, may lie below by the
grid's width, and above by nothing but rounding.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from p2prec.manifest import Promise
from p2prec.privacy.accountant import epsilon, epsilon_of_mu
from p2prec.privacy.plan import LEAKAGE, SUMS, PrivacyPlan
from p2prec.privacy.promise import make_promise
from p2prec.privacy.sum_budget import SumBudget
from p2prec.storage.store import Store

dp_accounting = pytest.importorskip(
    "dp_accounting", reason="pip install 'p2prec[accounting]' to compare with dp-accounting"
)

GRID = 1e-3
"""Of the privacy loss; an epsilon is at most about this much too large."""


def theirs(delta: float, *events: tuple[float, int]) -> float:
    """Epsilon of Gaussian mechanisms, given as (noise multiplier, how many), by dp-accounting."""
    accountant: Any = dp_accounting.pld.PLDAccountant(value_discretization_interval=GRID)
    for noise_multiplier, count in events:
        accountant.compose(dp_accounting.GaussianDpEvent(noise_multiplier), count)
    return float(accountant.get_epsilon(delta))


def agree(ours: float, other: float) -> bool:
    return other - 2 * GRID <= ours <= other + 1e-6


@pytest.mark.parametrize(
    ("noise_multiplier", "count", "delta"),
    list(itertools.product((0.7, 1.0, 3.0, 12.0), (1, 2, 20, 300), (1e-5, 1e-7))),
)
def test_composed_gaussian_mechanisms_cost_the_same(noise_multiplier: float, count: int, delta: float) -> None:
    if count / noise_multiplier**2 > 35:
        pytest.skip("an epsilon of hundreds takes their grid minutes, and promises nothing")
    assert agree(epsilon(noise_multiplier, count, delta), theirs(delta, (noise_multiplier, count)))


@pytest.mark.parametrize(("wanted", "people"), list(itertools.product((0.5, 1.0, 2.0, 8.0, 20.0), (53, 1000))))
def test_both_sums_of_a_promise_cost_what_is_promised(wanted: float, people: int) -> None:
    promise = make_promise(wanted, 1e-5, people, 0, 10.0)
    budget = SumBudget.of(promise)
    both = [(1 / budget.mu_of(number), 1) for number in SUMS]
    assert agree(wanted, theirs(1e-5, *both))
    for number in SUMS:
        assert agree(budget.epsilon_after({number}), theirs(1e-5, both[number - 1]))


@pytest.mark.parametrize("wanted", [1.0, 8.0])
def test_the_noise_that_is_drawn_is_the_noise_that_is_accounted_for(wanted: float) -> None:
    """An observer's view is two independent Gaussian measurements of a contribution of norm 1: of the sum, whose noise is that of
    all honest people, and of all else, whose noise is the masks'. Together they must cost what the plan says."""
    plan = PrivacyPlan.of(wanted, 1e-5, 197)
    measurements = []
    for one in (plan.popularity, plan.pairs):
        measurements += [(one.independent_std * 197**0.5, 1), (one.mask_std / LEAKAGE**0.5, 1)]
    assert agree(wanted, theirs(1e-5, *measurements))


def test_what_the_ledger_holds_costs_the_same(tmp_path: Path) -> None:
    """Over two swarms: both rows of one promise, and one of another."""
    promises: list[tuple[Promise, tuple[int, ...]]] = [
        (make_promise(2.0, 1e-5, 100, 0, 10.0), (1, 2)),
        (make_promise(4.0, 1e-5, 400, 0, 10.0), (2,)),
    ]
    rows = []
    with Store.open(tmp_path / "store") as store:
        for at, (promise, numbers) in enumerate(promises):
            budget, done = SumBudget.of(promise), set[int]()
            for number in numbers:
                entry = budget.entry(number, done, bytes([at]) * 32, 0.0)
                store.append_ledger(entry)
                rows.append((entry.noise_multiplier, entry.releases))
                done.add(number)
        mu_squared = sum(total.mu_squared for total in store.ledger_totals())
    assert agree(epsilon_of_mu(mu_squared**0.5, 1e-5), theirs(1e-5, *rows))

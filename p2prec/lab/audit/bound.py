"""How much privacy an attack proves to be missing: a lower bound of epsilon, with confidence.

An attacker decides from a score whether a person took part. If a mechanism is (epsilon, delta)-private, its false alarms and
its misses cannot both be rare. Two bounds follow from the counts: for any mechanism, and (tighter, from fewer trials) along
the trade-off curve of Gaussian mechanisms, which is what ours claims to be (Nasr et al. 2023, "Tight auditing of
differentially private machine learning"). The threshold is chosen on one half of the trials and judged on the other, so that
choosing it proves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.types import DoubleArray

CONFIDENCE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class LowerBound:
    """What an attack proves, with the confidence asked for."""

    epsilon: float
    """At least this much is spent (0: nothing proven)."""
    epsilon_point: float
    """The attack's own estimate, without a margin of safety."""
    auc: float
    false_alarms: float
    """Rate at the threshold, on the half that judges."""
    misses: float
    trials: int


def auc(inside: DoubleArray, outside: DoubleArray) -> float:
    """Probability that a score of those who are in exceeds one of those who are not; ties count half. In [0, 1]."""
    everything = np.concatenate([inside, outside])
    _, inverse, counts = np.unique(everything, return_inverse=True, return_counts=True)
    # The mean rank of equal scores.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def lower_bound(inside: DoubleArray, outside: DoubleArray, delta: float, confidence: float = CONFIDENCE) -> LowerBound:
    """inside, outside: at least 2 independent scores each of people who took part, and who did not; higher says in.
    confidence: with which it holds; of several attacks on the same canaries the best holds with less (Bonferroni).
    """
    threshold = _best_threshold(inside[::2], outside[::2])
    judged_in, judged_out = inside[1::2], outside[1::2]
    misses, alarms = int((judged_in < threshold).sum()), int((judged_out >= threshold).sum())
    # Each rate may fail with half of what is left of the confidence.
    level = 1 - (1 - confidence) / 2
    most_misses = upper_rate(misses, len(judged_in), level)
    most_alarms = upper_rate(alarms, len(judged_out), level)
    spread = np.concatenate([inside - inside.mean(), outside - outside.mean()]).std()
    point = max(0.0, float(inside.mean() - outside.mean())) / float(spread) if spread > 0 else math.inf
    return LowerBound(
        epsilon=max(
            epsilon_of_mu(gaussian_mu(most_alarms, most_misses), delta), any_epsilon(most_alarms, most_misses, delta)
        ),
        epsilon_point=epsilon_of_mu(point, delta),
        auc=auc(inside, outside),
        false_alarms=alarms / len(judged_out),
        misses=misses / len(judged_in),
        trials=len(inside) + len(outside),
    )


def gaussian_mu(alarms: float, misses: float) -> float:
    """The smallest mu of a Gaussian mechanism that allows these rates: `Phi^-1(1 - alarms) - Phi^-1(misses)`, at least 0."""
    if alarms >= 1 or misses >= 1:
        return 0.0
    return max(0.0, _NORMAL.inv_cdf(1 - alarms) - _NORMAL.inv_cdf(misses))


def any_epsilon(alarms: float, misses: float, delta: float) -> float:
    """The smallest epsilon >= 0 that allows these rates, whatever the mechanism (Kairouz, Oh & Viswanath 2015)."""
    best = 0.0
    for one, other in ((alarms, misses), (misses, alarms)):
        if 1 - delta - other > 0:
            best = max(best, math.log((1 - delta - other) / one))
    return best


def upper_rate(count: int, n: int, level: float) -> float:
    """Clopper & Pearson's upper limit of a rate of which `count` of `n` were seen: the rate at which so few would be seen with
    probability 1 - level. Found by bisection of the binomial tail, in (0, 1].
    """
    if count >= n:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(count + 1)]

    def tail(rate: float) -> float:
        return sum(math.exp(log + k * math.log(rate) + (n - k) * math.log1p(-rate)) for k, log in enumerate(logs))

    low, high = count / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1 - level else (low, middle)
    return high


def _best_threshold(inside: DoubleArray, outside: DoubleArray) -> float:
    """The score at which false alarms and misses together are rarest: the best for Gaussians of one width."""
    candidates = np.sort(np.concatenate([inside, outside]))
    misses = np.searchsorted(np.sort(inside), candidates, side="left") / len(inside)
    alarms = 1 - np.searchsorted(np.sort(outside), candidates, side="left") / len(outside)
    return float(candidates[int(np.argmin(misses + alarms))])

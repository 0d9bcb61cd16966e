"""The privacy accountant: exact (epsilon, delta) of composed Gaussian mechanisms.

Every contribution is one or two Gaussian mechanisms of sensitivity C and noise sigma*C. n of them compose exactly to
one Gaussian mechanism with mu = sqrt(n)/sigma (Dong, Roth & Su 2022, "Gaussian differential privacy", cor. 3.3),
whose exact trade-off is

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)

(Balle & Wang 2018, "Improving the Gaussian mechanism", thm. 8). Neighbouring histories differ by one person's whole
history (added or removed); no amplification by subsampling or shuffling is claimed.
"""

from __future__ import annotations

import math

_SQRT2 = math.sqrt(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_FAR = 25.0
"""Beyond this many standard deviations `math.erfc` nears underflow, and eight terms of the asymptotic series are
exact."""
_RELATIVE_PRECISION = 1e-10


def epsilon(noise_multiplier: float, n_releases: int, delta: float) -> float:
    """The smallest epsilon for which `n_releases` Gaussian mechanisms are together (epsilon, delta)-differentially
    private.

    noise_multiplier: sigma, the noise standard deviation over the L2 sensitivity of each; >= 0.
    n_releases: mechanisms in all, >= 0; an implicit contribution counts twice (item rows and gram).
    delta: in (0, 1).
    Rounded up in the last of about ten digits, so never below the truth. Infinite when nothing is noised, 0 when
    nothing is released. Never decreases with n_releases nor increases with noise_multiplier. Raises ValueError
    outside these ranges.
    """
    if not noise_multiplier >= 0:
        raise ValueError(f"noise multiplier must be at least 0, not {noise_multiplier}")
    if n_releases < 0:
        raise ValueError(f"number of releases must be at least 0, not {n_releases}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, not {delta}")
    if n_releases == 0 or math.isinf(noise_multiplier):
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    return _epsilon_of_mu(math.sqrt(n_releases) / noise_multiplier, delta)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The smallest epsilon for which a Gaussian mechanism whose sensitivity is `mu` >= 0 noise standard deviations is
    (epsilon, delta)-differentially private; rounded up as in `epsilon`. Mechanisms compose: their mu^2 add up.

    Raises ValueError when mu is negative or delta outside (0, 1).
    """
    if not mu >= 0:
        raise ValueError(f"mu must be at least 0, not {mu}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, not {delta}")
    if mu == 0 or math.isinf(mu):
        return mu
    return _epsilon_of_mu(mu, delta)


def mu_of_epsilon(epsilon: float, delta: float) -> float:
    """The largest mu, rounded down in the last of about twelve digits, whose `epsilon_of_mu` is at most `epsilon` > 0."""
    if not (epsilon > 0 and 0 < delta < 1):
        raise ValueError(f"epsilon must be positive and delta between 0 and 1, not {epsilon} and {delta}")
    target, low, high = math.log(delta), 0.0, 1.0
    while log_delta(high, epsilon) <= target:
        low, high = high, high * 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if log_delta(middle, epsilon) <= target else (low, middle)
    return low


def log_delta(mu: float, epsilon: float) -> float:
    """log(delta), at `epsilon` >= 0, of a Gaussian mechanism whose sensitivity is `mu` > 0 noise standard deviations.

    Both terms of delta share the factor phi(mu/2 - epsilon/mu), since e^epsilon phi(mu/2 + epsilon/mu) is the same
    number. Taking it out leaves a difference of two Mills ratios, in which nothing overflows and no large logarithms
    cancel.
    """
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    log_density = -0.5 * near * near - _LOG_SQRT_2PI
    second = log_density + _log_mills(far)
    first = log_density + _log_mills(near) if near >= 0 else math.log1p(-0.5 * math.erfc(-near / _SQRT2))
    # first > second always; rounding may say otherwise when mu is so small that both agree to the last bit.
    return first + math.log(-math.expm1(second - first)) if first > second else -math.inf


def _epsilon_of_mu(mu: float, delta: float) -> float:
    target = math.log(delta)
    if log_delta(mu, 0.0) <= target:
        return 0.0
    low, high = 0.0, 1.0
    while log_delta(mu, high) > target:
        low, high = high, high * 2
        if math.isinf(high):
            return math.inf
    while high - low > _RELATIVE_PRECISION * high:
        middle = low + (high - low) / 2
        if log_delta(mu, middle) > target:
            low = middle
        else:
            high = middle
    return high


def _log_mills(t: float) -> float:
    """log of Mills' ratio (1 - Phi(t)) / phi(t) of the standard normal distribution, t >= 0."""
    if t < _FAR:
        return math.log(0.5 * math.erfc(t / _SQRT2)) + 0.5 * t * t + _LOG_SQRT_2PI
    # 1/t (1 - 1/t^2 + 3/t^4 - 15/t^6 + ...), Abramowitz & Stegun 26.2.12.
    series, term = 1.0, 1.0
    for k in range(1, 9):
        term *= -(2 * k - 1) / (t * t)
        series += term
    return math.log(series) - math.log(t)

"""Learning with a promise, for a whole swarm: both sums of `p2prec.model.pairs` under masks, crashes and the bits of the wire.

What a peer ends up with is its own copy of both sums, and the model that it fits to them. Beside it stands what a trusted curator
would have computed under the same promise. Peers draw their noise from NumPy's generator here, so that a seed decides the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from p2prec.lab.gossip_sum import COLUMNS_AT_ONCE, Course, Crashes, decide, decide_again, play, weights
from p2prec.lab.schedule import disjoint_batches
from p2prec.model.nearest import n_rows
from p2prec.model.pairs import (
    POPULARITY_ITEMS,
    VOID_ABOVE,
    PairModel,
    centred,
    expected_popularity,
    fit,
    n_pairs,
    n_selected,
    pack,
    pair_noise,
    pair_scores,
    popularity_noise,
    popularity_of,
    popularity_statistic,
    select,
    unpack,
)
from p2prec.privacy.plan import MEAN_PARTNERS, MIN_PARTNERS, PrivacyPlan, SumPlan
from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray

HONEST_SHARE = 0.98
"""The plan counts on the noise of so many of the participants."""
COPIES_JUDGED = 300
"""Models are fitted for so many peers' copies at most; in larger swarms the others are judged with one of these, drawn by lot."""
_SQRT_POPULARITY = math.sqrt(POPULARITY_ITEMS)


def plan_of(epsilon: float, delta: float, n_people: int) -> PrivacyPlan:
    """That of the lab's kernels and curators. Raises ValueError for a promise that is none."""
    return PrivacyPlan.of(epsilon, delta, int(HONEST_SHARE * n_people))


@dataclass(frozen=True, slots=True, eq=False)
class SumResult:
    """What a sum over the swarm came to."""

    means: FloatArray
    """(n_copies, n_columns) by the copies of some peers."""
    noise: FloatArray
    """(n_columns,) in the first of these copies: all that it has beside the mean of those who contributed."""
    course: Course
    contributors: int
    noise_ratio: float
    """Noise in the copies, over that of a trusted curator with the same promise."""
    bytes_per_peer: float
    """Sent in this sum."""
    voided: int = 0
    """How often it was mixed anew, since something had not cancelled."""
    work_per_peer: Mapping[str, float] = field(default_factory=dict)
    """By the daemon's own peers: frames sent, signatures made and verified, of frames and of what is in them."""


class PrivateSwarm:
    """N people who learn together, each from its own copy of two sums."""

    def __init__(
        self,
        histories: Sequence[IndexArray],
        n_items: int,
        epsilon: float,
        delta: float,
        rng: np.random.Generator,
        *,
        views: Sequence[IndexArray],
        rounds: int,
        crashes: Crashes,
        inherit: bool = True,
    ) -> None:
        """histories: everybody's distinct items; views: whom each can meet; rounds: of mixing, for each of both sums.

        Raises ValueError for a promise that is none (`PrivacyPlan.of`).
        """
        self.histories, self.n_items = histories, n_items
        n = len(histories)
        self.plan = plan_of(epsilon, delta, n)
        self._views, self._rounds, self._crashes, self._inherit, self._rng = views, rounds, crashes, inherit, rng
        self.copies = rng.permutation(n)[:COPIES_JUDGED]

    def learn(self, on_progress: Callable[[float], None] = lambda share: None) -> list[PairModel]:
        """The models of `copies`, in that order. on_progress: told the share of the work that is done."""
        n, plan = len(self.histories), self.plan
        votes = np.stack([popularity_statistic(items, self.n_items) for items in self.histories])
        self.popularity_sum = self._sum(
            plan.popularity,
            self.n_items,
            lambda a, b: votes[:, a:b],
            popularity_noise,
            lambda part: on_progress(part / 10),
        )
        std = plan.popularity.sum_std(n) / n
        popularities = [popularity_of(mean) for mean in self.popularity_sum.means]
        # Everybody adopts one peer's selection (protocols/privacy-v8.md), and centres by its own copy of the popularity.
        agreed = select(popularities[0], n_selected(self.n_items, n, plan.pairs.mu))
        expected = [expected_popularity(p, agreed, std * _SQRT_POPULARITY) for p in popularities]
        units = unit_histories(self.histories, agreed, expected, self.n_items)
        rows, columns = np.triu_indices(len(agreed))
        scale = np.where(rows == columns, 1.0, math.sqrt(2)).astype(np.float32)
        self.pair_sum = self._sum(
            plan.pairs,
            n_pairs(len(agreed)),
            lambda a, b: units[:, rows[a:b]] * units[:, columns[a:b]] * scale[a:b],
            lambda mean: pair_noise(mean, len(agreed)),
            lambda part: on_progress(0.1 + 0.9 * part),
        )
        pair_std = plan.pairs.sum_std(n) / n
        return [
            fit(popularity, agreed, own_expected, mean, pair_std)
            for popularity, own_expected, mean in zip(popularities, expected, self.pair_sum.means, strict=True)
        ]

    def scores(self, models: Sequence[PairModel]) -> FloatArray:
        """(n_people, n_items) each person's, by their own copy, or by one of those that were fitted."""
        return scores_by_copies(models, self.copies, self.histories)

    def _sum(
        self,
        plan: SumPlan,
        count: int,
        statistic: Callable[[int, int], FloatArray],
        noise_of: Callable[[FloatArray], float],
        on_progress: Callable[[float], None],
    ) -> SumResult:
        """statistic(a, b): columns a to b of everybody's statistic; noise_of: how much noise a mean must have in it."""
        n, rng = len(self.histories), self._rng
        pairs, contributing = mask_graph(n, rng)
        masks = Masks(disjoint_batches(rng.permutation(pairs)), contributing, int(rng.integers(2**62)))
        course = decide(self._views, self._rounds, self._crashes, rng, inherit=self._inherit)
        result = self._mixed(plan, count, statistic, masks, course, on_progress)
        if noise_of(result.means[0]) <= VOID_ABOVE * plan.sum_std(n) / n or not self._inherit:
            return result
        # Something did not cancel. What everybody contributed is mixed again, that of the dead by their guardians: all of it has
        # been sent before, so it costs nothing but the rounds.
        again = decide_again(self._views, self._rounds, course, rng)
        second = self._mixed(plan, count, statistic, masks, again, on_progress)
        return replace(second, voided=1, bytes_per_peer=result.bytes_per_peer + second.bytes_per_peer)

    def _mixed(
        self,
        plan: SumPlan,
        count: int,
        statistic: Callable[[int, int], FloatArray],
        masks: Masks,
        course: Course,
        on_progress: Callable[[float], None],
    ) -> SumResult:
        n, contributing = len(self.histories), masks.contributing
        weight = weights(course, contributing)
        # Those who crashed come back, and take over a living neighbour's copy.
        source = np.where(course.alive, np.arange(n), self._rng.choice(np.flatnonzero(course.alive), n))[self.copies]
        means, noise = np.empty((len(self.copies), count), np.float32), np.empty(count, np.float32)
        squared = 0.0
        for start in range(0, count, COLUMNS_AT_ONCE):
            end = min(count, start + COLUMNS_AT_ONCE)
            own = np.where(contributing[:, None], statistic(start, end), 0).astype(np.float32)
            block = masks.protected(plan, own, start)
            play(course, block)
            means[:, start:end] = block[source] * (plan.unit / weight[source, None])
            errors = means[:, start:end] - own[contributing].mean(axis=0)
            squared += float((errors**2).sum())
            noise[start:end] = errors[0]
            on_progress(end / count)
        ratio = math.sqrt(squared / means.size) * plan.mu * n
        shares = course.coarse_shares + course.fine_shares
        sent = ((shares + course.fine_shares) * count + shares * 2 * n_rows(count)) / n
        return SumResult(means, noise, course, int(contributing.sum()), ratio, sent)


def scores_by_copies(models: Sequence[PairModel], copies: IndexArray, histories: Sequence[IndexArray]) -> FloatArray:
    """(n_people, n_items) each person's. models: of the peers `copies`; the others are judged with one of these, by turns."""
    copy_of = np.arange(len(histories)) % len(models)
    copy_of[copies] = np.arange(len(models))
    return np.stack([pair_scores(models[copy_of[p]], items) for p, items in enumerate(histories)])


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Who masks whom in one sum, and the noise of all of it, the same whenever it is asked for."""

    batches: Sequence[IndexArray]
    """Pairs of partners, each batch without a peer in it twice."""
    contributing: BoolArray
    seed: int

    def protected(self, plan: SumPlan, own: FloatArray, start: int) -> FloatArray:
        """Everybody's protected statistics in units of the wire. own: (n_peers, n_columns) statistics, from column `start` on."""
        rng, columns = np.random.default_rng([self.seed, start]), own.shape[1]
        noise = rng.standard_normal(own.shape, np.float32) * np.float32(plan.independent_std)
        block: FloatArray = (own + np.where(self.contributing[:, None], noise, np.float32(0))) / np.float32(plan.unit)
        for pairs in self.batches:
            shared = rng.standard_normal((len(pairs), columns), np.float32)
            block[pairs[:, 0]] += shared
            block[pairs[:, 1]] -= shared
        return block


def mask_graph(n: int, rng: np.random.Generator) -> tuple[IndexArray, BoolArray]:
    """(n_pairs, 2) who masks whom, and who takes part: those with fewer than MIN_PARTNERS sit out."""
    upper = np.triu(rng.random((n, n), np.float32) < MEAN_PARTNERS / n, 1)
    pairs = np.argwhere(upper).astype(np.int64)
    contributing = np.ones(n, np.bool_)
    while True:
        few = contributing & (np.bincount(pairs.ravel(), minlength=n) < MIN_PARTNERS)
        if not few.any():
            return pairs, contributing
        contributing &= ~few
        pairs = pairs[contributing[pairs].all(axis=1)]


def unit_histories(
    histories: Sequence[IndexArray], selected: IndexArray, expected: Sequence[FloatArray], n_items: int
) -> FloatArray:
    """(n_people, n_selected) what `pair_statistic` takes the outer product of; expected: by peer, used in turn."""
    units = np.zeros((len(histories), len(selected)), np.float32)
    for person, items in enumerate(histories):
        own, activity = centred(items, selected, expected[person % len(expected)], n_items)
        norm = float(np.linalg.norm(own))
        if activity > 0 and norm > 0:
            units[person] = own / np.float32(norm)
    return units


class Draw(Protocol):
    """One draw of the noise of both sums, in standard deviations."""

    def of_popularity(self, n_items: int) -> DoubleArray:
        """(n_items,)"""

    def of_pairs(self, selected: IndexArray) -> DoubleArray:
        """(n_pairs,) packed. selected: (n_selected,) the items among which pairs are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class FreshDraw:
    rng: np.random.Generator

    def of_popularity(self, n_items: int) -> DoubleArray:
        return self.rng.standard_normal(n_items)

    def of_pairs(self, selected: IndexArray) -> DoubleArray:
        return self.rng.standard_normal(n_pairs(len(selected)))


@dataclass(frozen=True, slots=True, eq=False)
class SwarmsDraw:
    """The noise that a swarm ended up with, at a curator's size: beside the swarm a curator with this draw shows what the
    swarm's *more* noise and missing people cost, and not who of both had more luck."""

    popularity: FloatArray
    pairs: FloatArray
    """(n_pairs,) packed, of `selected`."""
    selected: IndexArray
    rng: np.random.Generator
    """For pairs of items that the swarm had not selected."""

    def of_popularity(self, n_items: int) -> DoubleArray:
        noise: DoubleArray = self.popularity / np.float64(self.popularity.std())
        return noise

    def of_pairs(self, selected: IndexArray) -> DoubleArray:
        drawn = unpack(self.rng.standard_normal(n_pairs(len(selected))).astype(np.float32), len(selected))
        _, here, there = np.intersect1d(selected, self.selected, return_indices=True)
        noise = unpack(self.pairs / self.pairs.std(), len(self.selected))
        drawn[np.ix_(here, here)] = noise[np.ix_(there, there)]
        return pack(drawn.astype(np.float32)).astype(np.float64)


def learn_centrally(
    histories: Sequence[IndexArray], n_items: int, plan: PrivacyPlan, noise: float, draw: Draw
) -> PairModel:
    """The model of both sums, computed in one place. noise: over that of a trusted curator who keeps the plan's promise."""
    n = len(histories)
    vote = np.mean([popularity_statistic(items, n_items) for items in histories], axis=0)
    std = noise / (plan.popularity.mu * n)
    popularity = popularity_of((vote + std * draw.of_popularity(n_items)).astype(np.float32))
    selected = select(popularity, n_selected(n_items, n, plan.pairs.mu))
    expected = expected_popularity(popularity, selected, std * _SQRT_POPULARITY)
    units = unit_histories(histories, selected, [expected], n_items)
    rows, columns = np.triu_indices(len(selected))
    packed = (units.T @ units)[rows, columns] / n * np.where(rows == columns, 1.0, math.sqrt(2))
    std = noise / (plan.pairs.mu * n)
    noisy = (packed + std * draw.of_pairs(selected)).astype(np.float32)
    return fit(popularity, selected, expected, noisy, std)

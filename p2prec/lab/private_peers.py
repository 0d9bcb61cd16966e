"""Both private sums by production peers: signed messages through the real codec, floods, deaths and returns, over a simulated
network (`p2prec lab run --epsilon E --engine peers`).

The same figures as of `p2prec.lab.private_swarm.PrivateSwarm` come out, by everything that a daemon does but sockets. Keys of
masks are the operating system's, so a seed decides who dies when, and the noise, but not the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.errors import UsageError
from p2prec.lab.gossip_sum import Course, Crashes
from p2prec.lab.private_swarm import COPIES_JUDGED, SumResult, scores_by_copies
from p2prec.manifest import LearningParameters, Manifest, Promise, reference_catalogue
from p2prec.model.pairs import PairModel, fit, pair_statistic, popularity_of, popularity_statistic
from p2prec.privacy.plan import COLLUDING, PAIRS, POPULARITY, PrivacyPlan
from p2prec.privacy.promise import WAITING_NOTICES, mixing_rounds
from p2prec.sim.world import SimulatedPeer, World
from p2prec.types import BoolArray, FloatArray, IndexArray, ItemKey

NEVER_S = 1e9
EXCHANGE_S, NOTICE_S = 5.0, 10.0
START_S, ENROL_S, CONTRIBUTE_S, RECOVER_S = 70, 20.0, 40.0, 120.0
"""All links stand long before the start, and everybody is awake: a tenth of a sum's time is enough to find partners."""
FEW_PARTNERS = 0.0025
"""Of the peers, who sit a sum out: the probability of fewer than MIN_PARTNERS where MEAN_PARTNERS are expected."""
CERTAINTY = 4
"""Standard deviations below the expected number of contributions that a plan counts on. With fewer nobody shows any."""
CONTRIBUTING = 0.95
"""A plan counts on so many at least: among few peers the CERTAINTY would ask for more noise than the risk is worth."""
PATIENCE = 1.5
"""Time for mixing, over what undisturbed exchanges would take."""
SLICES = 50
"""Of the simulated time, after which progress is told."""


class SimulatedPrivateSwarm:
    """N production peers with a promise. Those who crash come back after the sum, and take a living neighbour's result."""

    def __init__(
        self,
        histories: Sequence[IndexArray],
        n_items: int,
        epsilon: float,
        delta: float,
        rng: np.random.Generator,
        *,
        views: Sequence[IndexArray],
        crashes: Crashes,
        promise: Promise | None = None,
    ) -> None:
        """histories: everybody's distinct items; views: whom each has links to; crashes: of each sum, at any time of it; promise:
        of the same epsilon and delta, if not one that hurries.

        Raises ValueError for a promise that is none.
        """
        self.histories, self.n_items = histories, n_items
        n = len(histories)
        self.promise = promise or _promise(epsilon, delta, n, crashes.share)
        self.plan = PrivacyPlan.of(epsilon, delta, self.promise.n_people)
        self.copies = rng.permutation(n)[:COPIES_JUDGED]
        self._crashes, self._views, self._rng = crashes, views, rng
        catalogue = Catalogue(tuple(ItemKey(str(i)) for i in range(n_items)), tuple(str(i) for i in range(n_items)))
        manifest = Manifest(
            name="lab",
            catalogue=reference_catalogue(catalogue.canonical_csv(), n_items),
            seed=rng.bytes(32).hex(),
            learning=LearningParameters(n_factors=1),
            promise=self.promise,
        )
        self._world = World(manifest, catalogue, seed=int(rng.integers(2**31)), settings=_left_alone(n))
        self._names = [f"10.{peer >> 16}.{peer >> 8 & 255}.{peer & 255}" for peer in range(n)]
        self._runs: list[list[SimulatedPeer]] = [[self._start(peer)] for peer in range(n)]
        for peer, view in enumerate(views):
            for other in view[view > peer].tolist():
                self._world.connect(self._names[peer], self._names[other])

    def learn(self, on_progress: Callable[[float], None] = lambda share: None) -> list[PairModel]:
        """The models of `copies`, in that order. on_progress: told the share of the simulated time that is over.

        Raises UsageError if too few have contributed to a sum: by chance, among few.
        """
        promise = self.promise
        self.popularity_sum = self._sum(POPULARITY, promise.start_of(PAIRS), lambda part: on_progress(part / 2))
        end = promise.end_of(PAIRS) + 10 * promise.answer_s
        self.pair_sum = self._sum(PAIRS, end, lambda part: on_progress((1 + part) / 2))
        return [self._model(self._runs[peer][-1]) for peer in self.copies.tolist()]

    def scores(self, models: Sequence[PairModel]) -> FloatArray:
        """(n_people, n_items) each person's, by their own copy, or by one of those that were fitted."""
        return scores_by_copies(models, self.copies, self.histories)

    # ---

    def _start(self, peer: int) -> SimulatedPeer:
        return self._world.add_unseen(self._names[peer], self.histories[peer])

    def _sum(self, number: int, until: float, on_progress: Callable[[float], None]) -> SumResult:
        world, n = self._world, len(self.histories)
        alive = np.ones(n, np.bool_)
        alive[self._rng.permutation(n)[: round(self._crashes.share * n)]] = False
        start, end = self.promise.start_of(number), self.promise.start_of(number) + self.promise.end_s
        for peer in np.flatnonzero(~alive).tolist():
            at = float(self._rng.uniform(start, end))
            back = self.promise.end_of(number) + float(self._rng.uniform(1, NOTICE_S))
            world.clock.at(at, lambda peer=peer: self._crash(peer))  # type: ignore[misc]
            world.clock.at(back, lambda peer=peer: self._come_back(peer))  # type: ignore[misc]
        before, began = self._work(), world.clock.now
        for part in range(1, SLICES + 1):
            world.clock.run_until(began + (until - began) * part / SLICES)
            on_progress(part / SLICES)
        done = {name: (now - before[name]) / n for name, now in self._work().items()}
        return self._result(number, alive, done)

    def _work(self) -> dict[str, int]:
        """Of all peers since the beginning."""
        world = self._world
        return {
            "bytes": world.network.frame_bytes,
            "frames": world.network.frames,
            "signatures_made": world.signatures.made + world.stand_ins.made,
            "signatures_verified": world.signatures.asked + world.stand_ins.asked,
        }

    def _crash(self, peer: int) -> None:
        self._world.crash(self._names[peer])

    def _come_back(self, peer: int) -> None:
        self._runs[peer].append(self._start(peer))
        for other in self._views[peer].tolist():
            self._world.connect(self._names[peer], self._names[other])

    def _result(self, number: int, alive: BoolArray, work: dict[str, float]) -> SumResult:
        n = len(self.histories)
        contributing = np.array([any(number in run.ledger.sums for run in runs) for runs in self._runs])
        truth = np.zeros(0)
        for peer in np.flatnonzero(contributing).tolist():
            own = self._statistic(number, peer)
            truth = truth + own if truth.size else own.astype(np.float64)
        truth /= contributing.sum()
        last = [self._runs[peer][-1].private.results for peer in self.copies.tolist()]
        found = [results[number] for results in last if number in results]
        if not found:
            needed = self.promise.n_people + COLLUDING
            raise UsageError(
                f"sum {number} has come to nothing: {contributing.sum()} had contributed, {needed} are needed"
            )
        means = np.stack([outcome.mean for outcome in found])
        plan = self.plan.popularity if number == POPULARITY else self.plan.pairs
        errors = means - truth
        ratio = math.sqrt(float((errors**2).mean())) * plan.mu * n
        lost = sum(outcome.is_void for outcome in found)
        again = int(any(outcome.mixed_again for outcome in found))
        course = Course(alive=alive, lost=lost)
        noise = errors[0].astype(np.float32)
        return SumResult(means, noise, course, int(contributing.sum()), ratio, work.pop("bytes"), again, work)

    def _statistic(self, number: int, peer: int) -> FloatArray:
        if number == POPULARITY:
            return popularity_statistic(self.histories[peer], self.n_items)
        runs = [run.private for run in self._runs[peer] if number in run.ledger.sums]
        selected, expected = runs[0].selected, runs[0].expected
        assert selected is not None
        assert expected is not None
        return pair_statistic(self.histories[peer], selected, expected, self.n_items)

    def _model(self, peer: SimulatedPeer) -> PairModel:
        popularity, pairs = (peer.private.results[number] for number in (POPULARITY, PAIRS))
        selected, expected = peer.private.selected, peer.private.expected
        assert selected is not None
        assert expected is not None
        return fit(popularity_of(popularity.mean), selected, expected, pairs.mean, pairs.noise_std)


def _promise(epsilon: float, delta: float, n: int, crashing: float) -> Promise:
    """Of n peers, of whom so large a share crashes in each sum."""
    end_s = CONTRIBUTE_S + PATIENCE * mixing_rounds(n) * EXCHANGE_S + WAITING_NOTICES * NOTICE_S
    absent = n * (crashing * CONTRIBUTE_S / end_s + FEW_PARTNERS)
    contributing = max(CONTRIBUTING * n, n - absent - CERTAINTY * math.sqrt(absent))
    return Promise(
        epsilon=epsilon,
        delta=delta,
        n_people=int(contributing) - COLLUDING,
        start=START_S,
        second_after_s=2 * end_s - CONTRIBUTE_S + 10 * NOTICE_S,
        enrol_s=ENROL_S,
        contribute_s=CONTRIBUTE_S,
        recover_s=RECOVER_S,
        end_s=end_s,
        exchange_s=EXCHANGE_S,
        notice_s=NOTICE_S,
        answer_s=NOTICE_S,
    )


def _left_alone(n_peers: int) -> PeerSettings:
    """Peers that neither look for neighbours nor part with any: links are given."""
    return PeerSettings(
        target_neighbours=1,
        max_neighbours=min(256, n_peers),
        rotate_every_s=NEVER_S,
        peers_request_every_s=NEVER_S,
        tick_interval_s=NEVER_S,
        ping_after_s=NEVER_S,
    )

"""How well a swarm of few people recommends: `python -m p2prec.lab.small_swarms --people 100 --seeds 0-4`.

Each seed draws other people, other held-out fifths and other noise. Full ranking; means over people, each of whom
ranks by their own copy of the model. `docs/research/0001-small-swarms.md` reports what it prints.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2prec.data.demo_data import load_demo_data
from p2prec.data.histories import Histories, choose_people, split_person
from p2prec.data.interactions import TrainingPairs
from p2prec.lab.seeds import seed_range
from p2prec.lab.swarm import LabSwarm
from p2prec.lab.topology import random_views
from p2prec.manifest import CIRCLE_NOISE, LearningParameters, PrivacyParameters
from p2prec.metrics.ranking import RankingScores, ranking_scores
from p2prec.peer.learner import Learner
from p2prec.peer.quality import alone_scores
from p2prec.types import DoubleArray, FloatArray, IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The people of one seed: what each learns from, and what each is measured on."""

    item_keys: tuple[str, ...]
    train: list[IndexArray]
    times: list[DoubleArray]
    """Of `train`, or 0."""
    test: list[IndexArray]

    @classmethod
    def draw(cls, histories: Histories, n_people: int, seed: int, *, timed: bool = False) -> Task:
        """n_people at random among those with 20 interactions or more, the 1,000 most touched titles, a fifth held
        out. timed: whether peers know when things happened.
        """
        chosen = choose_people(histories, n_people, seed=seed)
        rng = np.random.default_rng([seed, 1])
        parts = [split_person(chosen.of(person), rng) for person in range(n_people)]
        return cls(
            chosen.catalogue.keys,
            [part.train.items for part in parts],
            [part.train.times if timed else np.zeros(len(part.train)) for part in parts],
            [part.test.items for part in parts],
        )

    @property
    def histories(self) -> list[TrainingPairs]:
        return [
            TrainingPairs(items, np.ones(items.size, np.float32), times)
            for items, times in zip(self.train, self.times, strict=True)
        ]

    def measure(self, scores: FloatArray | DoubleArray) -> RankingScores:
        """Mean over people; scores: (n_people, n_items), or (n_items,) for all of them."""
        rows = np.broadcast_to(scores, (len(self.train), len(self.item_keys)))
        each = [ranking_scores(*person) for person in zip(rows, self.test, self.train, strict=True)]
        return RankingScores(
            *(float(np.mean([getattr(one, name) for one in each])) for name in ("ndcg", "hit_rate", "auc"))
        )

    def popularity(self) -> RankingScores:
        """By exact counts, which no peer of a swarm knows."""
        return self.measure(np.bincount(np.concatenate(self.train), minlength=len(self.item_keys)).astype(np.float64))

    def alone(self, learning: LearningParameters, privacy: PrivacyParameters) -> RankingScores:
        """Everybody for themselves: the same kernels without neighbours."""
        rows = []
        for items in self.train:
            learner = Learner(learning, privacy, self.item_keys, bytes(32))
            learner.set_interactions(items, np.ones(items.size, np.float32))
            rows.append(alone_scores(learner, self.item_keys, bytes(32)))
        return self.measure(np.stack(rows))


def run_swarm(
    task: Task, learning: LearningParameters, privacy: PrivacyParameters, seed: int, rounds: Sequence[int], degree: int
) -> list[RankingScores]:
    """Quality after each of `rounds`, which increase. degree: neighbours that each peer picks."""
    rng = np.random.default_rng([seed, 2])
    views = random_views(len(task.train), degree, rng)
    swarm = LabSwarm(learning, privacy, task.item_keys, rng.bytes(32), task.histories, rng, views=views)
    measured = []
    for done, until in zip([0, *rounds], rounds, strict=False):
        swarm.run(until - done)
        measured.append(task.measure(swarm.scores()))
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as cache:
        data = load_demo_data(options.data, Path(cache))
    learning = LearningParameters(recency_floor=1.0)  # what is held out is of all times
    privacy = PrivacyParameters(noise_multiplier=options.noise)
    times = "with" if options.times else "without"
    print(
        f"{data.source}; {options.people} people {times} times, noise multiplier {options.noise}, seeds {options.seeds}"
    )
    print("full ranking, NDCG@10 / HR@10 / AUC; in brackets NDCG@10 over popularity's\n")
    ratios = []
    for seed in options.seeds:
        task = Task.draw(data.histories, options.people, seed, timed=options.times)
        popularity = task.popularity()
        swarm = run_swarm(task, learning, privacy, seed, options.rounds, options.degree)
        ratios.append([one.ndcg / popularity.ndcg for one in swarm])
        alone = task.alone(learning, privacy) if options.alone else None
        columns = [f"popularity {_text(popularity)}"] + ([f"alone {_text(alone)}"] if alone else [])
        columns += [
            f"round {at} {_text(one)} ({ratio:.2f}x)"
            for at, one, ratio in zip(options.rounds, swarm, ratios[-1], strict=True)
        ]
        print(f"seed {seed}: " + " | ".join(columns), flush=True)
    table = np.array(ratios)
    for at, column in zip(options.rounds, table.T, strict=True):
        print(f"round {at}: {column.mean():.3f}x on average, {column.min():.2f}x to {column.max():.2f}x")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set's folder (default: the demo's, MovieLens-latest-small)")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seeds", type=seed_range, default=range(5), help="one, or FIRST-LAST (default: 0-4)")
    parser.add_argument("--rounds", type=int, nargs="+", default=[25, 50, 80], help="when to measure")
    parser.add_argument("--noise", type=float, default=CIRCLE_NOISE, help=f"noise multiplier (default: {CIRCLE_NOISE})")
    parser.add_argument("--degree", type=int, default=8, help="neighbours that a peer picks (default: 8)")
    parser.add_argument("--times", action="store_true", help="let peers know when things happened")
    parser.add_argument("--alone", action="store_true", help="measure everybody alone as well")
    return parser.parse_args(arguments)


def _text(scores: RankingScores) -> str:
    return f"{scores.ndcg:.4f}/{scores.hit_rate:.3f}/{scores.auc:.3f}"


if __name__ == "__main__":
    main()
